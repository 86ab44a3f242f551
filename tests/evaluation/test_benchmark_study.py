"""A study file is read strictly: every mistake says where it stands and how to mend it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from benchmark_studies import draw_images, method, write_study
from hypothesis import given, settings
from hypothesis import strategies as st

from medvip.errors import MedvipError, UsageError
from medvip.evaluation.benchmark import load_study, plan_study
from medvip.evaluation.benchmark.cells import Cell, cells_of, file_name
from medvip.evaluation.benchmark.rows import full_options
from medvip.evaluation.benchmark.study import read_study
from medvip.training import RECIPES

HEAD = 'name = "a"\nseeds = [1]\n'
DATA = '[[data]]\npath = "x"\n'
VIP = '[[method]]\nname = "vip"\n'
STUDIES = Path(__file__).parents[2] / "benchmarks" / "studies"


@pytest.mark.parametrize(
    ("text", "where", "fix"),
    [
        ("name = 'a", "s.toml is not TOML", "mend that line"),
        (HEAD + "shot = [1]\n" + DATA + VIP, "there is no key 'shot'", "did you mean shots?"),
        ('name = "a"\n' + DATA + VIP, "seeds is missing", "write seeds = ..."),
        (HEAD + VIP, "data is missing", "write data"),
        (HEAD.replace("[1]", '["1"]') + DATA + VIP, "seeds: item 1 is '1'", "write a whole number"),
        (HEAD.replace("[1]", "[true]") + DATA + VIP, "seeds: item 1 is True", "write a whole number"),
        (HEAD.replace("[1]", "[-1]") + DATA + VIP, "seeds: item 1 is -1", "write a greater number"),
        (HEAD.replace("[1]", "[]") + DATA + VIP, "seeds is []", "write at least one"),
        (HEAD.replace("[1]", "[1, 1]") + DATA + VIP, "1 stands there twice", "give each once"),
        (HEAD + "shots = [0]\n" + DATA + VIP, "shots: item 1 is 0", '1 or greater, or "all"'),
        (HEAD + 'shots = ["few"]\n' + DATA + VIP, "shots: item 1 is 'few'", '1 or greater, or "all"'),
        (HEAD + "shots = 16\n" + DATA + VIP, "shots is 16", "write a list"),
        (HEAD + 'base_to_novel = "yes"\n' + DATA + VIP, "base_to_novel is 'yes'", "write true or false"),
        (
            HEAD + DATA + "splitfile = 1\n" + VIP,
            "[[data]] 1 ('x'): there is no key 'splitfile'",
            "split_file",
        ),
        (HEAD + DATA + 'flip = "no"\n' + VIP, "[[data]] 1 ('x'): flip is 'no'", "write true or false"),
        (HEAD + DATA + DATA + VIP, "[[data]]: 'x' stands there twice", "a label of its own"),
        (HEAD + DATA + VIP + VIP, "[[method]]: 'vip' stands there twice", "a label of its own"),
        (HEAD + DATA + VIP + 'tunee = "x"', "[[method]] 1 ('vip'): there is no key 'tunee'", "tune?"),
        (HEAD + DATA + VIP + "options = 1", "[[method]] 1 ('vip'): options is 1", "write a table"),
        (HEAD + DATA + VIP + "tune = { context = 4 }", "('vip'), tune: context is 4", "write a list"),
        (HEAD + DATA + VIP + "tune = { context = [] }", "tune: context is []", "at least one"),
        (HEAD + DATA + VIP + "options = { seed = 1 }", "the study sets the seed", "write it in seeds"),
        (
            HEAD + DATA + VIP + "tune = { context = [1, 2, 3], a = [1, 2, 3] }",
            "9 combinations, the study's budget is 8",
            "raise the budget",
        ),
        (HEAD + DATA + VIP + "shots = [4]", "('vip'), shots: there is no 4", "use one of: all"),
        (HEAD + 'reference = "ViP"\n' + DATA + VIP, "reference: there is no 'ViP'", "vip"),
        (HEAD + 'curves = ["vip", "coop"]\n' + DATA + VIP, "curves: there is no 'coop'", "vip"),
        (HEAD + DATA + VIP + 'of = "vip"', "'of' belongs to label-permutation", "write name"),
        (HEAD + DATA + VIP + method("label-permutation"), "which needs it", "the label of another row"),
        (
            HEAD + DATA + VIP + method("label-permutation", of='"vi"'),
            "[[method]] 2 ('label-permutation of vi'), of: there is no 'vi'",
            "did you mean vip?",
        ),
        (
            HEAD + DATA + VIP + method("label-permutation", of='"vip"', options="{ context = 2 }"),
            "has the options and symptoms of the row it is of",
            "remove them",
        ),
        (HEAD + DATA + VIP + 'label = "a\\u001b[31m"', "cannot stand in a table", "one printable line"),
        (HEAD + DATA + VIP + 'label = "a\\u202eb"', "cannot stand in a table", "one printable line"),
        (HEAD + DATA + VIP + 'label = " a"', "cannot stand in a table", "one printable line"),
        ('name = "a"\ndata = "x"\nmethod = 1\n', "data is 'x'", "[[data]], [[method]]"),
    ],
)
def test_a_mistake_is_told_with_place_and_mend(text: str, where: str, fix: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_study(text, "s.toml")
    assert where in caught.value.problem
    assert caught.value.problem.startswith("s.toml")
    assert fix in caught.value.fix
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_misspelt_key_is_told_before_what_is_missing_for_it() -> None:
    with pytest.raises(UsageError, match="there is no key 'seed'") as caught:
        read_study('name = "a"\nseed = [1]\n' + DATA + VIP, "s.toml")
    assert caught.value.fix == "did you mean seeds? and 1 more mistake"


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=80) | st.sampled_from([HEAD, DATA, VIP]).flatmap(lambda s: st.text().map(s.__add__)))
def test_no_text_makes_it_stumble(text: str) -> None:
    mistake = None
    try:
        read_study(text, "s.toml")
    except UsageError as error:
        mistake = error
    assert mistake is None or mistake.fix


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_that_cannot_be_read(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match="cannot be read"):
        load_study(file)


@pytest.mark.parametrize(
    ("name", "given", "problem", "fix"),
    [
        ("vip", {"contxt": 4}, "vip has no option 'contxt'", "did you mean context?"),
        ("vip", {"context": "4"}, "context of vip is '4'", "valid integer"),
        ("vip", {"context": True}, "context of vip is True", "valid integer"),
        ("gda", {"text": "pictures"}, "text of gda is 'pictures'", "'names' or 'symptoms'"),
        ("vip", {"recipe": "quick"}, "there is no recipe 'quick'", "paper, fast"),
        ("vip", {"recipe": 3}, "recipe of vip is 3", "use one of: paper, fast"),
        ("vip", {"recipe": {"from": "fast", "epoch": 3}}, "a recipe has no ['epoch']", "epochs"),
        ("vip", {"recipe.epochs": 0}, "epochs is 0", "1 or more"),
        ("linear-probe", {"recipe.epochs": 1}, "linear-probe has no option 'recipe.epochs'", "leave it out"),
        ("trivial-cues", {"C": 1}, "trivial-cues has no option 'C'", "leave it out"),
        ("vipp", {}, "there is no method 'vipp'", "vip"),
    ],
)
def test_options_are_checked_by_name_and_kind(name: str, given: dict, problem: str, fix: str) -> None:
    with pytest.raises(UsageError) as caught:
        full_options(name, given)
    assert problem in caught.value.problem
    assert fix in caught.value.fix


def test_all_options_are_there_with_the_recipes_numbers() -> None:
    """So that a changed default or recipe makes another run, and never reuses an old one."""
    options = full_options("vip", {"recipe": "fast"})
    assert options["context"] == 4
    assert options["recipe"]["learning_rate"] == RECIPES["fast"].learning_rate
    assert full_options("vip", {"recipe": {"from": "fast"}}) == options
    changed = full_options("vip", {"recipe": {"from": "fast"}, "recipe.learning_rate": 0.5})
    assert changed["recipe"] == options["recipe"] | {"learning_rate": 0.5}
    assert json.loads(json.dumps(changed)) == changed


def test_every_run_is_listed_once() -> None:
    text = 'name = "a"\nseeds = [1, 2, 3]\nshots = [4, "all"]\nbackbones = ["embedded", "org/clip"]\n' + DATA
    rows = ["vip", "majority", "trivial-cues", "linear-probe", "zero-shot-names"]
    study = read_study(
        text + "".join(map(method, rows)) + method("label-permutation", of='"linear-probe"'), "s"
    )
    by_row: dict[str, list[Cell]] = {}
    for cell in cells_of(study):
        by_row.setdefault(cell.row, []).append(cell)
    counts = {row: len(cells) for row, cells in by_row.items()}
    assert counts == {
        "vip": 2 * 2 * 3,
        "majority": 1,  # of all training pictures, whatever the shots
        "trivial-cues": 3 + 1,  # no backbone; on all pictures nothing is random
        "linear-probe": 2 * (3 + 1),
        "zero-shot-names": 2,  # learns nothing: once for each backbone
        "label-permutation of linear-probe": 2 * 2 * 3,  # the permutation is random
    }
    paths = [cell.path for cells in by_row.values() for cell in cells]
    assert len(set(paths)) == len(paths)


def test_a_row_may_leave_shots_out() -> None:
    text = HEAD + "shots = [1, 2, 4]\n" + DATA + VIP + "shots = [4]\n" + method("gda")
    shots = {
        row: [c.shots for c in cells_of(read_study(text, "s")) if c.row == row] for row in ("vip", "gda")
    }
    assert shots == {"vip": [4], "gda": [1, 2, 4]}


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1, max_size=90), st.text(min_size=1, max_size=90))
def test_labels_make_harmless_and_different_file_names(one: str, other: str) -> None:
    for label in (one, other):
        name = file_name(label)
        assert name not in ("", ".", "..")
        assert not set(name) & set('/\\\0:*?"<>| ')
        assert not name.startswith((".", "-"))
        assert len(name) <= 90
    assert (file_name(one) == file_name(other)) == (one == other)


# ------------------------------------------------------------------ the plan


@pytest.fixture
def place(tmp_path: Path) -> Path:
    draw_images(tmp_path / "colours")
    return tmp_path


def plan(study: Path, data: Path | None = None):
    return plan_study(load_study(study), study.parent, data)


def test_a_plan_needs_no_weights(place: Path, tiny_clip: Path) -> None:
    bare = place / "bare-clip"
    bare.mkdir()
    shutil.copy(tiny_clip / "config.json", bare)
    study = write_study(place, bare, method("vip") + method("majority") + method("zero-shot-names"))
    made = plan(study)
    assert made.problems == ()
    assert made.states(place / "out") == {"to do": 4 + 1 + 1}
    assert not (place / "out").exists()


def test_all_that_is_missing_is_told_at_once(place: Path) -> None:
    rows = method("vip", options="{ context = -1 }") + method("gda") + method("zero-shot-symptoms")
    data = """
[[data]]
path = "nowhere"
[[data]]
path = "colours"
symptoms = "melanoma-nevus"
[[data]]
path = "colours"
name = "no symptoms"
[[data]]
path = "colours"
name = "no split"
split_file = "split.json"
"""
    study = write_study(place, "no such model", rows, data=data)
    problems = dict(plan(study).problems)
    told = "\n".join(problems)
    for piece in (
        "backbone no such model: there is no folder",
        "nowhere does not exist",
        "data colours:",
        "row zero-shot-symptoms on no symptoms: the method 'zero-shot-symptoms' needs symptoms",
        "split.json does not exist",
    ):
        assert piece in told
    (fix,) = [fix for problem, fix in problems.items() if "zero-shot-symptoms on no symptoms" in problem]
    assert fix.startswith("write symptoms = ")
    for fix in problems.values():
        assert fix


def test_a_value_out_of_range_is_found_before_anything_runs(place: Path) -> None:
    study = write_study(place, "embedded", method("vip", tune="{ context = [4, -2] }"))
    assert [problem for problem, _ in plan(study).problems] == ["row vip on colours: context is -2"]


def test_paths_are_found_below_data_first(place: Path) -> None:
    elsewhere = place / "elsewhere"
    draw_images(elsewhere / "colours", classes=2)
    study = write_study(place, "embedded", method("majority"))
    study.write_text(study.read_text().replace('symptoms = "symptoms.json"', ""))
    assert len(plan(study).sets["colours"].dataset.classes) == 4
    assert len(plan(study, elsewhere).sets["colours"].dataset.classes) == 2


def test_what_decides_the_numbers_decides_the_digest(place: Path, tmp_path: Path) -> None:
    def digests(rows: str, data: str = "", folder: Path = place) -> set[str]:
        file = write_study(folder, "embedded", rows, data=f'[[data]]\npath = "colours"\n{data}')
        return {run.digest for run in plan(file).runs}

    plain = digests(method("vip"), 'symptoms = "symptoms.json"')
    assert digests(method("vip", label='"another name"'), 'symptoms = "symptoms.json"') == plain
    assert not plain & digests(method("vip", options="{ context = 2 }"), 'symptoms = "symptoms.json"')
    assert not plain & digests(method("vip"), 'symptoms = "symptoms.json"\nviews = 2')
    assert digests(method("vip"), 'symptoms = "symptoms.json"\ncompanions = true') == plain
    lines = read = (place / "colours" / "split.csv").read_text()
    (place / "colours" / "split.csv").write_text(
        lines.replace("blue/17.png,blue,test", "blue/17.png,blue,val")
    )
    moved = digests(method("vip"), 'symptoms = "symptoms.json"\nallow_leakage = true')
    assert not plain & moved
    (place / "colours" / "split.csv").write_text(read)
    there = tmp_path / "moved"
    there.mkdir()
    shutil.copytree(place / "colours", there / "colours")
    assert digests(method("vip"), 'symptoms = "symptoms.json"', there) == plain


def test_a_row_may_have_symptoms_of_its_own(place: Path) -> None:
    others = {name: [f"{name} in a corner"] for name in ("blue", "green", "red", "white")}
    (place / "others.json").write_text(json.dumps(others))
    rows = method("vip") + method("vip", label='"other"', symptoms='"others.json"')
    rows += method("label-permutation", of='"other"')
    runs = plan(write_study(place, "embedded", rows)).runs
    own = {run.cell.row: run.symptoms.classes for run in runs if run.symptoms}
    assert own["other"] == own["label-permutation of other"] == {k: tuple(v) for k, v in others.items()}
    assert own["vip"] != own["other"]
    assert len({run.settings["symptoms"]["digest"] for run in runs}) == 2
    assert len({run.digest for run in runs}) == len(runs)
    (place / "others.json").write_text(json.dumps({"blue": ["x"], "red": ["y"]}))
    problems = [problem for problem, _ in plan(write_study(place, "embedded", rows)).problems]
    assert any("row other on colours" in problem for problem in problems)


@pytest.mark.parametrize("file", sorted(STUDIES.glob("*.toml")), ids=lambda file: file.stem)
def test_the_studies_that_come_along_are_well_formed(file: Path) -> None:
    study = load_study(file)
    made = plan_study(study, file.parent, Path("/nowhere"))
    about_data = [problem for problem, _ in made.problems if problem.startswith("data ")]
    assert [p for p, _ in made.problems if p not in about_data] == []
    assert len(about_data) == len(study.data)
    assert len(list(cells_of(study))) > 0


def test_methods_on_pixels_are_planned_without_their_backbone(place: Path) -> None:
    """Whether it suits them shows when it is loaded; a value out of its range shows now."""
    rows = method("maple") + method("fine-tuned") + method("from-scratch")
    made = plan(write_study(place, "embedded", rows))
    assert made.problems == ()
    assert {run.impossible for run in made.runs} == {None}
    wrong = (
        method("maple", options="{ depth = 0 }")
        + method("maple", label='"wordless"', options="{ context = 0 }")
        + method("fine-tuned", options="{ tower_rate = -1.0 }")
    )
    told = [problem for problem, _ in plan(write_study(place, "embedded", wrong)).problems]
    assert told == [
        "row maple on colours: depth is 0",
        "row wordless on colours: context is 0",
        "row fine-tuned on colours: tower_rate is -1.0",
    ]


def test_what_cannot_be_told_of_new_classes_is_known_before_any_run(place: Path) -> None:
    rows = [
        method("coop"),
        method("coop", label='"own context"', options="{ class_specific = true }"),
        method("coop", label='"either"', tune="{ class_specific = [false, true] }"),
        *map(method, ("vip", "vip-merge", "maple", "fine-tuned", "linear-probe", "zero-shot-names")),
    ]
    head = "seeds = [1]\nshots = [2]\nbase_to_novel = true"
    made = plan(write_study(place, "embedded", "".join(rows), head=head))
    assert {run.impossible for run in made.runs if run.cell.task == "all-classes"} == {None}
    cannot = {run.cell.row for run in made.runs if run.impossible is not None}
    assert cannot == {"own context", "either", "fine-tuned", "linear-probe"}


def test_a_study_that_is_not_there(place: Path) -> None:
    with pytest.raises(MedvipError):
        load_study(place / "nowhere.toml")
