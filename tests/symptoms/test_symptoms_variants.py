"""The four kinds of knowledge: what is shipped, what is made, what is written, and the study's tables."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import statistics
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from medvip.errors import SymptomError
from medvip.symptoms import (
    KINDS,
    Provenance,
    SymptomSet,
    check_symptoms,
    knowledge_variants,
    ready_made,
    save_variants,
)

SHIPPED = ("melanoma-nevus", "paediatric-pneumonia")
MADE_UP = KINDS[:-1]


def test_the_kinds_are_the_four_of_the_paper():
    assert KINDS == ("out-of-domain", "useless", "opposite", "symptoms")


# ------------------------------------------------------------------ what is shipped


def digest_by_hand(symptoms: SymptomSet) -> str:
    classes = {name: list(texts) for name, texts in sorted(symptoms.classes.items())}
    content = json.dumps({"classes": classes, "modality": symptoms.modality}, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


@pytest.mark.parametrize("kind", MADE_UP)
@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_variant(name: str, kind: str):
    real = SymptomSet.load(name)
    made = knowledge_variants(real)[kind]
    assert check_symptoms(made) == []
    assert (made.modality, made.names) == (real.modality, real.names)
    assert set(made.classes) == set(real.classes)
    for class_name, texts in made.classes.items():
        for ours, theirs in zip(texts, real.classes[class_name], strict=True):
            number = len(theirs.split())
            assert 0.6 * number <= len(ours.split()) <= 1.4 * number, (ours, theirs)
            assert len(re.findall("[^a-z ,:'-]", ours)) == 0
    said = made.provenance
    assert said.method == "drafted by a language model for an ablation, not reviewed by a clinician"
    assert said.note is not None
    assert said.note.startswith(f"{kind}: ")
    assert digest_by_hand(real) in said.note
    assert said.note.endswith("not to be used for anything else")
    assert said.reviewed_by is None


@pytest.mark.parametrize("name", SHIPPED)
def test_the_real_symptoms_are_left_as_they_are(name: str):
    real = SymptomSet.load(name)
    variants = knowledge_variants(real)
    assert tuple(variants) == KINDS
    assert variants["symptoms"] is real


def test_no_text_is_used_twice():
    sets = [made for name in SHIPPED for made in knowledge_variants(SymptomSet.load(name)).values()]
    texts = [text for made in sets for texts in made.classes.values() for text in texts]
    assert len(texts) == len(set(texts)) == 2 * 4 * 8


@pytest.mark.parametrize("name", SHIPPED)
def test_food_says_nothing_that_a_symptom_says(name: str):
    variants = knowledge_variants(SymptomSet.load(name))
    words = {
        kind: set(re.findall("[a-z]+", " ".join(text for texts in made.classes.values() for text in texts)))
        for kind, made in variants.items()
    }
    little = {"a", "an", "and", "at", "in", "of", "on", "or", "over", "the", "with"}
    others = words["symptoms"] | words["useless"] | words["opposite"]
    assert words["out-of-domain"] & others <= little


@pytest.mark.parametrize("name", SHIPPED)
def test_useless_texts_say_the_same_of_both_classes_in_other_words(name: str):
    """Position by position the classes share what is spoken of, and never the sentence."""
    first, second = knowledge_variants(SymptomSet.load(name))["useless"].classes.values()
    little = {"a", "and", "by", "from", "in", "of", "on", "that", "the", "which", "is", "to", "along"}
    for one, other in zip(first, second, strict=True):
        assert one != other
        assert set(one.split()) & set(other.split()) - little, (one, other)


REVERSED = {
    "melanoma-nevus": {
        "melanoma": [
            ("lopsided", "balanced"),
            ("jagged", "smooth"),
            ("several", "only one"),
            ("uneven dark", "even pale"),
        ],
        "nevus": [
            ("matching", "mismatched"),
            ("smooth", "rough"),
            ("one even", "many uneven"),
            ("regular fine", "irregular coarse"),
        ],
    },
    "paediatric-pneumonia": {
        "normal": [
            ("dark, clear", "bright, cloudy"),
            ("sharp", "blurred"),
            ("thin, fine", "thick, coarse"),
            ("sharp, clean", "blunt, hazy"),
        ],
        "pneumonia": [
            ("white cloudy", "clear black"),
            ("hazy gray", "crisp black"),
            ("blurred", "sharp"),
            ("thick white", "thin black"),
        ],
    },
}


@pytest.mark.parametrize("name", SHIPPED)
def test_each_opposite_stands_where_its_symptom_stood(name: str):
    real = SymptomSet.load(name)
    opposite = knowledge_variants(real)["opposite"]
    for class_name, pairs in REVERSED[name].items():
        rows = zip(pairs, real.classes[class_name], opposite.classes[class_name], strict=True)
        for (said, reversed_), symptom, text in rows:
            assert said in symptom
            assert reversed_ in text


# ------------------------------------------------------------------ which set a variant belongs to


def test_variants_are_found_by_what_the_symptoms_say(tmp_path: Path):
    real = SymptomSet.load("melanoma-nevus")
    copy = tmp_path / "mine.json"
    replace(real, names={}, provenance=replace(real.provenance, author="somebody")).save(copy)
    assert knowledge_variants(SymptomSet.load(copy))["useless"] == knowledge_variants(real)["useless"]


@pytest.mark.parametrize("name", sorted(set(ready_made()) - set(SHIPPED)))
def test_other_sets_need_a_writer(name: str):
    with pytest.raises(SymptomError, match=f"no variants of ready-made set {name}") as caught:
        knowledge_variants(SymptomSet.load(name))
    assert (
        "use melanoma-nevus or paediatric-pneumonia, or name a language model with --model"
        in caught.value.fix
    )


def test_one_changed_word_makes_another_set():
    real = SymptomSet.load("melanoma-nevus")
    classes = {**real.classes, "nevus": ("one blue shade", *real.classes["nevus"][1:])}
    with pytest.raises(SymptomError, match="brings no variants of these symptoms"):
        knowledge_variants(SymptomSet.from_mapping(classes, modality=real.modality))


def test_a_writer_is_asked_also_where_something_is_shipped():
    shipped = knowledge_variants(SymptomSet.load("melanoma-nevus"))
    asked = []

    def write(symptoms: SymptomSet, kind: str) -> SymptomSet:
        asked.append(kind)
        return shipped[kind]

    assert tuple(knowledge_variants(SymptomSet.load("melanoma-nevus"), write=write)) == KINDS
    assert asked == list(KINDS[:-1])


# ------------------------------------------------------------------ what is written


REAL = SymptomSet.from_mapping(
    {"red": ["warm", "like fire"], "blue": ["cold"]},
    modality="square",
    names={"red": "reddish square"},
    provenance=Provenance("A. Doctor", "written by hand", "2026-01-02", reviewed_by="B. Doctor"),
)


def prefixed(symptoms: SymptomSet, kind: str) -> SymptomSet:
    classes = {name: [f"{kind} {text}" for text in texts] for name, texts in symptoms.classes.items()}
    return SymptomSet.from_mapping(classes, provenance=Provenance("a model", "asked", "2026-01-03"))


def test_a_writer_is_asked_for_each_kind_in_turn_and_its_answers_are_labelled():
    asked = []

    def write(symptoms: SymptomSet, kind: str) -> SymptomSet:
        asked.append((symptoms.digest, kind))
        return prefixed(symptoms, kind)

    variants = knowledge_variants(REAL, write=write)
    assert asked == [(REAL.digest, kind) for kind in MADE_UP]
    assert tuple(variants) == KINDS
    assert variants["symptoms"] is REAL
    for kind in MADE_UP:
        made = variants[kind]
        assert made.classes["red"] == (f"{kind} warm", f"{kind} like fire")
        assert (made.modality, made.names) == ("square", {"red": "reddish square"})
        assert made.provenance.author == "a model"
        assert made.provenance.note is not None
        assert made.provenance.note.startswith(f"{kind}: ")
        assert digest_by_hand(REAL) in made.provenance.note


def test_a_writers_own_note_is_kept_and_a_review_of_the_real_set_is_not():
    def write(symptoms: SymptomSet, kind: str) -> SymptomSet:
        return replace(prefixed(symptoms, kind), provenance=replace(REAL.provenance, note="my note"))

    for kind in MADE_UP:
        said = knowledge_variants(REAL, write=write)[kind].provenance
        assert said.note is not None
        assert said.note.startswith(f"{kind}: ")
        assert said.note.endswith("; my note")
        assert said.reviewed_by is None


@pytest.mark.parametrize("own", ["useless of another set", f"made of {REAL.digest}"])
def test_half_a_label_is_none(own: str):
    def write(symptoms: SymptomSet, kind: str) -> SymptomSet:
        return replace(prefixed(symptoms, kind), provenance=Provenance("m", own, "unknown"))

    note = knowledge_variants(REAL, write=write)["useless"].provenance.note or ""
    assert note.startswith("useless: ")
    assert digest_by_hand(REAL) in note


def test_a_shipped_variant_of_symptoms_that_have_changed_since_is_refused(monkeypatch: pytest.MonkeyPatch):
    of_the_lungs = knowledge_variants(SymptomSet.load("paediatric-pneumonia"))["opposite"].provenance
    monkeypatch.setattr(
        "medvip.symptoms.variants._ready_made",
        lambda name, kind: replace(prefixed(SymptomSet.load(name), kind), provenance=of_the_lungs),
    )
    with pytest.raises(SymptomError, match="the variant 'out-of-domain' was made from other symptoms"):
        knowledge_variants(SymptomSet.load("melanoma-nevus"))


def test_a_writer_that_says_all_itself_is_not_repeated():
    def write(symptoms: SymptomSet, kind: str) -> SymptomSet:
        said = Provenance("m", "asked", "unknown", note=f"{kind} of {symptoms.digest}")
        return replace(prefixed(symptoms, kind), provenance=said)

    assert knowledge_variants(REAL, write=write)["useless"].provenance.note == f"useless of {REAL.digest}"


@pytest.mark.parametrize(
    ("classes", "problem"),
    [
        ({"red": ["a", "b"]}, r"symptoms for 'red' \(2\), not for 'blue' \(1\), 'red' \(2\)"),
        ({"red": ["a", "b"], "green": ["c"]}, r"symptoms for 'green' \(1\), 'red' \(2\), not for"),
        ({"red": ["a", "b"], "blue": ["c"], "green": ["d"]}, r"not for 'blue' \(1\), 'red' \(2\)"),
        ({"red": ["a"], "blue": ["c"]}, r"'red' \(1\), not for 'blue' \(1\), 'red' \(2\)"),
        ({"red": ["a", "b"], "blue": ["c", "d"]}, r"'blue' \(2\), 'red' \(2\), not for"),
        ({"red": ["a", " "], "blue": ["c"]}, "it is empty"),
        ({"red": ["a", "A."], "blue": ["c"]}, "stands in this class already"),
        (
            {"red": ["a", "Like fire!"], "blue": ["c"]},
            "'useless', class 'red': 'Like fire!' is a real symptom",
        ),
        ({"red": ["a", "cold"], "blue": ["c"]}, "class 'red': 'cold' is a real symptom"),
    ],
)
def test_a_written_variant_that_cannot_be_compared_is_refused(classes: dict, problem: str):
    def write(symptoms: SymptomSet, kind: str) -> SymptomSet:
        return SymptomSet.from_mapping(classes) if kind == "useless" else prefixed(symptoms, kind)

    with pytest.raises(SymptomError, match=problem) as caught:
        knowledge_variants(REAL, write=write)
    assert caught.value.fix


def test_a_writer_that_gives_no_set_is_refused():
    with pytest.raises(SymptomError, match="the variant 'out-of-domain': an object where a SymptomSet is"):
        knowledge_variants(REAL, write=lambda symptoms, kind: {"red": ["a"]})  # pyright: ignore[reportArgumentType]


def test_symptoms_with_errors_are_refused_before_anybody_is_asked():
    asked = []

    def write(symptoms: SymptomSet, kind: str) -> SymptomSet:
        asked.append(kind)
        return symptoms

    with pytest.raises(SymptomError, match="stands in this class already"):
        knowledge_variants(SymptomSet.from_mapping({"a1": ["x", "X"], "b1": ["y"]}), write=write)
    assert asked == []


names = st.text("abcdefgh", min_size=2, max_size=6)
sets = st.dictionaries(
    names, st.lists(names, min_size=1, max_size=4, unique=True), min_size=2, max_size=4
).map(SymptomSet.from_mapping)


@given(real=sets)
def test_any_set_keeps_its_shape(real: SymptomSet):
    for made in knowledge_variants(real, write=prefixed).values():
        assert {name: len(texts) for name, texts in made.classes.items()} == {
            name: len(texts) for name, texts in real.classes.items()
        }
        assert SymptomSet.from_json(made.to_json()) == made


# ------------------------------------------------------------------ on disk


VARIANTS = knowledge_variants(REAL, write=prefixed)
FILES = {"out-of-domain.json", "useless.json", "opposite.json", "symptoms.json"}


def snapshot(place: Path) -> dict[str, str | None]:
    return {
        str(path.relative_to(place)): path.read_text() if path.is_file() else None
        for path in place.rglob("*")
    }


def test_four_files_are_written_and_read_back(tmp_path: Path):
    folder = save_variants(VARIANTS, tmp_path / "deep" / "kinds")
    assert {path.name for path in folder.iterdir()} == FILES
    for kind in KINDS:
        assert SymptomSet.load(folder / f"{kind}.json") == VARIANTS[kind]
    assert [path.name for path in folder.parent.iterdir()] == ["kinds"]


def test_an_earlier_folder_is_replaced_only_when_told_to(tmp_path: Path):
    (tmp_path / "kinds").mkdir()
    folder = save_variants(VARIANTS, tmp_path / "kinds")  # an empty folder is nobody's
    before = snapshot(tmp_path)
    others = knowledge_variants(SymptomSet.load("melanoma-nevus"))
    with pytest.raises(SymptomError, match="is there already"):
        save_variants(others, folder)
    assert snapshot(tmp_path) == before
    save_variants(others, folder, force=True)
    assert SymptomSet.load(folder / "opposite.json") == others["opposite"]
    assert {path.name for path in tmp_path.iterdir()} == {"kinds"}


def own_symptoms(place: Path) -> None:
    place.mkdir()
    (place / "symptoms.json").write_text("{}")


def one_file_more(place: Path) -> None:
    save_variants(VARIANTS, place)
    (place / "notes.txt").write_text("mine")


def folders_of_the_same_names(place: Path) -> None:
    for name in FILES:
        (place / name).mkdir(parents=True)


def a_file(place: Path) -> None:
    place.write_text("mine")


def a_link(place: Path) -> None:
    save_variants(VARIANTS, place.with_name("elsewhere"))
    place.symlink_to(place.with_name("elsewhere"))


def a_link_to_nothing(place: Path) -> None:
    place.symlink_to(place.with_name("nowhere"))


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    "there",
    [own_symptoms, one_file_more, folders_of_the_same_names, a_file, a_link, a_link_to_nothing],
)
def test_what_somebody_else_wrote_is_never_replaced(tmp_path: Path, there, force: bool):
    place = tmp_path / "kinds"
    there(place)
    before = snapshot(tmp_path)
    with pytest.raises(SymptomError) as caught:
        save_variants(VARIANTS, place, force=force)
    assert "choose another folder" in caught.value.fix
    assert snapshot(tmp_path) == before


def test_the_folder_one_is_in_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in (".", tmp_path):
        with pytest.raises(SymptomError, match="the folder you are in"):
            save_variants(VARIANTS, name, force=True)
    assert snapshot(tmp_path) == {}


def test_all_four_or_nothing(tmp_path: Path):
    broken = {**VARIANTS, "symptoms": SymptomSet.from_mapping({"red": []})}  # the last to be written
    with pytest.raises(SymptomError, match="list of symptoms is empty"):
        save_variants(broken, tmp_path / "kinds")
    with pytest.raises(SymptomError, match="are not the four kinds"):
        save_variants({"useless": VARIANTS["useless"]}, tmp_path / "kinds")
    assert snapshot(tmp_path) == {}


@pytest.mark.parametrize("name", ["file/kinds", "nul\0"])
def test_a_place_where_nothing_can_be_written(tmp_path: Path, name: str):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SymptomError, match="cannot be written"):
        save_variants(VARIANTS, tmp_path / name)
    assert snapshot(tmp_path) == {"file": "mine"}


# ------------------------------------------------------------------ the study

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results/knowledge_kinds"
RUNS = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("*/*.json"))]


@pytest.fixture(scope="module")
def study():
    specification = importlib.util.spec_from_file_location(
        "knowledge_kinds", ROOT / "benchmarks/knowledge_kinds.py"
    )
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["knowledge_kinds"] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    yield module
    del sys.modules["knowledge_kinds"]


def rows_of(table: str) -> dict[tuple[str, str, str], list[str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {(row[0], row[1], row[2]): row[3:] for row in cells}


def name_of(run: dict) -> str:
    shots = f"{run['shots']} shots" if run["shots"] else None
    return ", ".join(str(part) for part in (run["method"], run["recipe"], shots) if part)


def test_the_document_shows_both_tables_of_the_committed_results():
    tables = (RESULTS / "table.md").read_text().strip().split("\n\n")
    document = (ROOT / "docs/knowledge-kinds.md").read_text()
    assert len(tables) == 2
    for table in tables:
        assert f"\n\n{table}\n\n" in document


def test_every_run_was_made_from_the_texts_that_are_shipped():
    sets = {"kermany_cxr_pneumonia": "paediatric-pneumonia", "isic_uda1_melanoma_nevus": "melanoma-nevus"}
    wanted = {
        (folder, kind): made.digest
        for folder, name in sets.items()
        for kind, made in knowledge_variants(SymptomSet.load(name)).items()
    }
    seeds = defaultdict(list)
    for run in RUNS:
        assert run["symptoms"] == wanted[run["set"], run["kind"]]
        seeds[run["set"], run["kind"], name_of(run)].append(run["seed"])
    assert len(seeds) == 2 * 4 * 5
    for (_, _, setting), given_seeds in seeds.items():
        assert sorted(given_seeds, key=str) == ([None] if "zero-shot" in setting else [1, 2, 3])


def test_the_table_holds_the_means_of_figures_that_another_library_finds_too():
    values = defaultdict(list)
    for run in RUNS:
        labels, odds = np.array(run["labels"]), np.array(run["log_odds"])
        found = {
            "accuracy": accuracy_score(labels, odds > 0),
            "macro_f1": f1_score(labels, odds > 0, average="macro"),
            "auroc": roc_auc_score(labels, odds),
        }
        for figure, value in found.items():
            assert run["test"][figure]["value"] == pytest.approx(value, abs=1e-4)
        values[run["set"], name_of(run), run["kind"]].append([run["test"][f]["value"] for f in found])
    table = rows_of((RESULTS / "table.md").read_text().split("\n\n")[0])
    assert set(table) == set(values)
    for row, cells in table.items():
        columns = [[run[i] for run in values[row]] for i in range(3)]
        assert [cell.split(" ± ")[0] for cell in cells] == [f"{statistics.mean(c):.3f}" for c in columns]
        if len(values[row]) > 1:
            assert [cell.split(" ± ")[1] for cell in cells] == [f"{statistics.stdev(c):.3f}" for c in columns]


def test_the_differences_are_those_of_the_first_table():
    first, second = map(rows_of, (RESULTS / "table.md").read_text().split("\n\n"))
    assert len(second) == 2 * 3 * 5
    for (images, setting, kind), cells in second.items():
        for cell, ours, theirs in zip(
            cells, first[images, setting, kind], first[images, setting, "symptoms"], strict=True
        ):
            difference, low, high = map(float, re.findall(r"[+-]\d\.\d{3}", cell))
            assert difference == pytest.approx(float(ours[:5]) - float(theirs[:5]), abs=0.0011)
            assert low <= difference <= high
            assert cell.startswith("**") == cell.endswith("**") == (low > 0 or high < 0)


def test_what_the_document_counts_is_what_the_tables_hold():
    """Intervals without zero: altogether, trained on all images, and on a few."""
    _, second = map(rows_of, (RESULTS / "table.md").read_text().split("\n\n"))
    signs = defaultdict(list)
    for (_, setting, _), cells in second.items():
        amount = "few" if "shots" in setting else "no" if "zero-shot" in setting else "all"
        signs[amount] += [cell.strip("*")[0] if cell.startswith("**") else "" for cell in cells]
    assert {amount: len(given_signs) for amount, given_signs in signs.items()} == {
        "no": 18,
        "few": 36,
        "all": 36,
    }
    document = " ".join((ROOT / "docs/knowledge-kinds.md").read_text().split())
    number = sum(sign != "" for given_signs in signs.values() for sign in given_signs)
    assert f"{number} of the 90 intervals do not hold zero" in document
    assert not any(signs["all"])
    assert "none has an interval without zero" in document
    better, worse = signs["few"].count("+"), signs["few"].count("-")
    assert f"{better + worse} have an interval without zero: in {better} of them another kind" in document
    assert f"better than the symptoms, in {worse} worse" in document


def test_the_intervals_are_over_patients_drawn_alike_for_both_sides(study, monkeypatch):
    """Against a naive loop that repeats images and asks another library."""
    monkeypatch.setattr(study, "RESAMPLES", 40)
    random = np.random.default_rng(5)
    labels = np.array([0, 0, 0, 1, 1, 1, 0, 1, 0, 1])
    groups = np.array([0, 0, 1, 1, 2, 3, 4, 4, 5, 6])
    sides = [
        [
            {"seed": seed, "labels": labels.tolist(), "groups": groups.tolist(), "log_odds": odds.tolist()}
            for seed, odds in enumerate(random.normal(labels - 0.5, 1.0, (3, 10)))
        ]
        for _ in range(2)
    ]
    estimates = study.differences(*sides)

    drawn = np.random.default_rng(1).multinomial(7, np.full(7, 1 / 7), size=40)
    found = []
    for counts in [np.ones(7, int), *drawn]:
        chosen = [i for i in range(10) for _ in range(counts[groups[i]])]
        truth = labels[chosen]
        means = []
        for side in sides:
            odds = [np.array(run["log_odds"])[chosen] for run in side]
            one_class = len(set(truth)) < 2
            means.append(
                [
                    np.mean([accuracy_score(truth, o > 0) for o in odds]),
                    np.mean(
                        [
                            f1_score(truth, o > 0, labels=[0, 1], average="macro", zero_division=0)
                            for o in odds
                        ]
                    ),
                    np.nan if one_class else np.mean([roc_auc_score(truth, o) for o in odds]),
                ]
            )
        found.append(np.subtract(*means))
    for estimate, column in zip(estimates, np.array(found).T, strict=True):
        assert estimate.value == pytest.approx(column[0])
        low, high = np.nanpercentile(column[1:], [2.5, 97.5])
        assert (estimate.low, estimate.high) == (pytest.approx(low), pytest.approx(high))


def test_runs_on_other_images_are_not_compared(study):
    run = {"seed": 1, "labels": [0, 1], "groups": [0, 1], "log_odds": [0.1, 0.2]}
    for changed in ({"seed": 2}, {"labels": [1, 0]}, {"groups": [0, 0]}):
        with pytest.raises(SystemExit, match="cannot be compared"):
            study.differences([run | changed], [run])
