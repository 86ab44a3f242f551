"""Audits of symptoms: against scikit-learn, transformers and literal loops, on training images alone."""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import roc_auc_score

import medvip
from medvip.backbones import Tokens
from medvip.errors import (
    DataError,
    FeatureError,
    SymptomError,
    UnreadableImages,
    UsageError,
)
from medvip.evaluation import Estimate, audit_symptoms, symptom_audit
from medvip.evaluation.bootstrap import group_weights
from medvip.evaluation.symptom_audit import centred_cosines
from medvip.evaluation.symptom_suggestions import NEAR_DUPLICATE, RARE_WORD, suggest
from medvip.symptoms import SymptomSet
from medvip.types import ImageDataset, Sample

ROOT = Path(__file__).parents[2]
SHIFT = torch.tensor([1.0, 2.0, 3.0])  # so that two grays are not parallel


class ColourBackbone:
    """An image's vector is its mean colour; a text's is looked up. It notes every picture it encodes."""

    name, fingerprint = "colour", "colour one"
    image_size, embed_dim, token_dim, context_length, start_tokens = 4, 3, 3, 40, 1
    logit_scale, device = 1.0, torch.device("cpu")

    def __init__(self, vectors: Mapping[str, Sequence[float]]) -> None:
        self.number = {text: index for index, text in enumerate(vectors, start=1)}
        self.table = torch.tensor([[0.0] * 3, *map(list, vectors.values())])
        self.seen: list[tuple[int, ...]] = []

    def preprocess(self, picture: Image.Image, *, framed: bool = False) -> torch.Tensor:
        pixels = np.asarray(picture.resize((4, 4)), dtype=np.float32)
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        colours = pixels.mean(dim=(2, 3))
        self.seen += [tuple(map(round, c)) for c in colours.tolist() if any(c)]  # blank ones fill a batch
        return colours + SHIFT

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """A start token that stands for the text, a token for every four letters of a word, an end."""
        pieces = [sum(math.ceil(len(word) / 4) for word in text.split()) for text in texts]
        ids = torch.zeros(len(texts), max(pieces) + 2, dtype=torch.long)
        ids[:, 0] = torch.tensor([self.number.get(text, 0) for text in texts])
        return Tokens(ids, torch.tensor(pieces) + 1)

    def embed_tokens(self, ids: torch.Tensor) -> torch.Tensor:
        return self.table[ids]

    def encode_tokens(self, embeddings: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        return embeddings[:, 0]


VECTORS = {
    "warm like fire": [1.0, 0.2, 0.0],
    "the color of blood": [0.9, 0.0, 0.3],
    "like fresh grass": [0.1, 1.0, 0.1],
    "cold water": [0.0, 0.3, 1.0],
    "the color of ink": [0.5, 0.6, 0.7],
}
CLASSES = {
    "red": ["warm like fire", "the color of blood"],
    "green": ["like fresh grass"],
    "blue": ["the color of ink", "cold water"],
}
CENTRES = {"red": (150, 90, 80), "green": (80, 150, 90), "blue": (90, 80, 150)}


def paint(folder: Path, seed: int = 0, images: int = 12, groups_of: int = 2, step: int = 1) -> ImageDataset:
    """Plain pictures of one colour each in three splits; colours are multiples of `step`."""
    rng = np.random.default_rng(seed)
    samples = []
    for label, split in itertools.product(CENTRES, ("train", "val", "test")):
        for index in range(images):
            colour = np.array(CENTRES[label]) + rng.normal(0, 40, 3)
            colour = tuple((colour.clip(step, 250) // step * step).astype(int).tolist())
            path = folder / f"{label}-{split}-{index}.png"
            Image.new("RGB", (5, 5), colour).save(path)
            group = f"{label}-{split}-{index // groups_of}"
            samples.append(Sample(path.as_posix(), label, group, split))
    return ImageDataset("painted", ("blue", "green", "red"), tuple(samples))


def colour_of(path: str) -> tuple[int, ...]:
    with Image.open(path) as picture:
        return tuple(picture.getpixel((0, 0)))


def audit(dataset: ImageDataset, tmp_path: Path, backbone=None, classes=None, **more):
    """With a cache of its own, so that nothing encoded before is read."""
    cache = tmp_path / f"cache{len(list(tmp_path.iterdir()))}"
    symptoms = SymptomSet.from_mapping(classes or CLASSES)
    backbone = backbone or ColourBackbone(VECTORS)
    return audit_symptoms(symptoms, dataset, backbone, cache=cache, quiet=True, **more)


# ------------------------------------------------------------------ separation


@pytest.mark.parametrize(("seed", "step"), [(0, 1), (1, 50), (2, 80)])
def test_auroc_equals_a_loop_over_all_pairs_and_scikit_learn(tmp_path, seed, step):
    """With large steps many pictures have one colour: ties within classes and across them."""
    dataset = paint(tmp_path, seed, step=step)
    training = [sample for sample in dataset if sample.split == "train"]
    vectors = np.array([colour_of(sample.path) for sample in training], dtype=np.float32) + SHIFT.numpy()
    labels = np.array([sample.label for sample in training])
    ties = 0
    for row in audit(dataset, tmp_path, resamples=0).rows:
        text = np.array(VECTORS[row.symptom])
        cosines = [float(np.dot(v, text) / np.linalg.norm(v) / np.linalg.norm(text)) for v in vectors]
        # Equal colours give equal cosines; a loop over pairs counts equal ones half.
        score = dict(zip(map(tuple, vectors.tolist()), cosines, strict=True))
        cosines = [score[tuple(v)] for v in vectors.tolist()]
        area = {}
        for name in CENTRES:
            positives = [c for c, label in zip(cosines, labels, strict=True) if label == name]
            negatives = [c for c, label in zip(cosines, labels, strict=True) if label != name]
            pairs = list(itertools.product(positives, negatives))
            ties += sum(p == n for p, n in pairs)
            area[name] = sum((p > n) + 0.5 * (p == n) for p, n in pairs) / len(pairs)
            assert area[name] == pytest.approx(roc_auc_score(labels == name, cosines))
        assert row.separation.value == pytest.approx(area[row.class_name])
        assert row.points_to_auroc == pytest.approx(max(area.values()))
        assert area[row.points_to] == pytest.approx(max(area.values()))
    assert (ties > 0) == (step > 1)


def test_where_all_pictures_are_alike_every_symptom_points_to_its_own_class(tmp_path):
    dataset = paint(tmp_path, images=13)
    for sample in dataset.only("train"):
        Image.new("RGB", (5, 5), (91, 83, 77)).save(sample.path)
    for row in audit(dataset, tmp_path).rows:
        assert (row.separation.value, row.separation.low, row.separation.high) == (0.5, 0.5, 0.5)
        assert (row.points_to, row.points_to_auroc) == (row.class_name, 0.5)
        assert "points away" not in str(row.suggestion)


def test_the_whole_way_through_transformers_and_scikit_learn(tiny_clip, tiny_images, tiny_symptoms):
    """Pictures and texts through CLIP's own classes, cosines by numpy, the area by scikit-learn."""
    import transformers

    dataset = medvip.load_dataset(tiny_images)
    symptoms = SymptomSet.from_mapping(tiny_symptoms)
    backbone = medvip.load_backbone(str(tiny_clip), device="cpu")
    made = medvip.audit_symptoms(symptoms, dataset, backbone, quiet=True, resamples=0)

    model = transformers.CLIPModel.from_pretrained(tiny_clip).eval()
    processor = transformers.CLIPImageProcessorPil.from_pretrained(tiny_clip)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_clip)
    training = [sample for sample in dataset if sample.split == "train"]
    labels = np.array([sample.label for sample in training])
    pictures = [Image.open(sample.path) for sample in training]
    texts = [row.symptom for row in made.rows]

    def unit(output) -> np.ndarray:
        vectors = output.pooler_output.double().numpy()
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    with torch.no_grad():
        images = unit(model.get_image_features(**processor(pictures, return_tensors="pt")))
        padded = tokenizer(texts, padding="max_length", max_length=77, return_tensors="pt")
        words = unit(model.get_text_features(**padded))
    centred = words - words.mean(axis=0)
    for index, row in enumerate(made.rows):
        is_class = labels == row.class_name
        pair = 1 / is_class.sum() / (~is_class).sum()  # rounding may turn a pair of almost equal ones
        expected = roc_auc_score(is_class, images @ words[index])
        assert row.separation.value == pytest.approx(expected, abs=1.5 * pair)
        other = texts.index(row.elsewhere.symptom)
        cosine = np.corrcoef(centred[[index, other]])[0, 1]
        exact = float(centred[index] @ centred[other])
        exact /= np.linalg.norm(centred[index]) * np.linalg.norm(centred[other])
        assert row.elsewhere.likeness == pytest.approx(exact, abs=1e-4), cosine
        counted = [len(tokenizer(word)["input_ids"]) - 2 for word in row.symptom.split()]
        assert row.tokens_per_word == pytest.approx(np.mean(counted))
    assert [row.class_name for row in made.rows] == ["blue"] * 3 + ["green"] * 3 + ["red"] * 2
    assert made.images == dataset.only("train").counts()


def test_the_interval_is_that_of_literally_repeated_groups():
    rng = np.random.default_rng(3)
    positives = np.arange(40) % 3 == 0
    similarity = rng.normal(0, 1, (40, 2)) + positives[:, None]
    codes = np.arange(40) // 4
    (estimate, _) = symptom_audit._separations(similarity, [positives, ~positives], codes, 60, seed=5)
    areas = []
    for counts in group_weights(codes, 60, np.random.default_rng(5)).astype(int):
        again = np.repeat(np.arange(40), counts)
        areas.append(roc_auc_score(positives[again], similarity[again, 0]))
    low, high = np.percentile(areas, [2.5, 97.5])
    assert (estimate.low, estimate.high) == pytest.approx((low, high))
    assert estimate.value == pytest.approx(roc_auc_score(positives, similarity[:, 0]))


def test_pictures_of_one_patient_make_the_interval_wider(tmp_path):
    dataset = paint(tmp_path, images=20)
    # Four copies of each training picture, of one patient or (wrongly) of four.
    copies = [replace(s, group=s.path) for s in dataset.only("train") for _ in range(4)]
    loners = [replace(s, group=f"{s.path} {number}") for number, s in enumerate(copies)]
    one, four = (audit(dataset.with_samples(tuple(s)), tmp_path) for s in (copies, loners))
    assert (one.groups, four.groups) == (60, 240)
    for wide, narrow in zip(one.rows, four.rows, strict=True):
        assert wide.separation.value == narrow.separation.value
        width = wide.separation.high - wide.separation.low
        assert width > 1.3 * (narrow.separation.high - narrow.separation.low)


def test_blocks_order_and_seed(tmp_path, monkeypatch):
    dataset = paint(tmp_path)
    first = audit(dataset, tmp_path).to_json()
    assert audit(dataset, tmp_path).to_json() == first
    mixed = np.random.default_rng(0).permutation(len(dataset))
    turned = ImageDataset("painted", ("red", "blue", "green"), tuple(dataset.samples[i] for i in mixed))
    backwards = {name: CLASSES[name] for name in reversed(CLASSES)}
    assert audit(turned, tmp_path, classes=backwards).to_json() == {
        **first,
        "images": {"blue": 12, "green": 12, "red": 12},
    }
    monkeypatch.setattr(symptom_audit, "BLOCK", 36 * 7)
    assert audit(dataset, tmp_path).to_json() == first
    other = audit(dataset, tmp_path, seed=2).to_json()
    assert other["symptoms"] != first["symptoms"]
    assert [s["auroc"]["value"] for s in other["symptoms"]] == [
        s["auroc"]["value"] for s in first["symptoms"]
    ]


def test_one_patient_or_no_resamples_give_no_interval(tmp_path):
    dataset = paint(tmp_path)
    alone = dataset.with_samples(replace(sample, group="anna") for sample in dataset)
    for made in (audit(alone, tmp_path), audit(dataset, tmp_path, resamples=0)):
        entries = json.loads(json.dumps(made.to_json(), allow_nan=False))["symptoms"]
        assert {entry["auroc"]["low"] for entry in entries} == {None}
        assert "points away" not in str([entry["suggestion"] for entry in entries])


# ------------------------------------------------------------------ training images alone


def test_no_validation_or_test_picture_is_encoded(tmp_path):
    dataset = paint(tmp_path)
    backbone = ColourBackbone(VECTORS)
    audit(dataset, tmp_path, backbone)
    colours = {split: sorted(colour_of(s.path) for s in dataset.only(split)) for split in ("train", "test")}
    assert sorted(backbone.seen) == colours["train"]
    assert not set(colours["train"]) & set(colours["test"])  # so the first line says something


def test_validation_and_test_pictures_may_be_gone_broken_or_others(tmp_path):
    dataset = paint(tmp_path)
    expected = audit(dataset, tmp_path).to_json()
    files = {split: [Path(s.path) for s in dataset.only(split)] for split in ("train", "val", "test")}
    for index, file in enumerate(files["val"] + files["test"]):
        if index % 3 == 0:
            file.unlink()
        elif index % 3 == 1:
            file.write_bytes(b"no picture")
        else:
            Image.new("RGB", (5, 5), (255, 0, 0)).save(file)
    assert audit(dataset, tmp_path).to_json() == expected
    # Labels and groups of theirs do not matter either, nor whether there are any.
    relabelled = (s if s.split == "train" else replace(s, label="red", group="x") for s in dataset)
    assert audit(dataset.with_samples(relabelled), tmp_path).to_json() == expected
    assert audit(dataset.only("train"), tmp_path).to_json() == expected
    # The same done to training pictures does not go unseen.
    Image.new("RGB", (5, 5), (255, 0, 0)).save(files["train"][-1])
    Image.new("RGB", (5, 5), (0, 0, 255)).save(files["train"][0])
    assert audit(dataset, tmp_path).to_json() != expected
    files["train"][0].unlink()
    with pytest.raises(UnreadableImages, match="1 image cannot be read"):
        audit(dataset, tmp_path)


# ------------------------------------------------------------------ likeness


def test_likeness_by_a_loop(tmp_path):
    rows = audit(paint(tmp_path), tmp_path, resamples=0).rows
    units = {text: np.array(vector) / math.hypot(*vector) for text, vector in VECTORS.items()}
    middle = sum(units.values()) / len(units)

    def like(one: str, other: str) -> float:
        a, b = units[one] - middle, units[other] - middle
        return float(a @ b / math.sqrt(float(a @ a) * float(b @ b)))

    for row in rows:
        own = [text for text in CLASSES[row.class_name] if text != row.symptom]
        others = {t: name for name, texts in CLASSES.items() if name != row.class_name for t in texts}
        if own:
            assert row.in_class is not None
            assert row.in_class.symptom == max(own, key=lambda text: like(row.symptom, text))
            assert row.in_class.likeness == pytest.approx(like(row.symptom, row.in_class.symptom), abs=1e-5)
        else:
            assert row.in_class is None
        assert row.elsewhere.symptom == max(others, key=lambda text: like(row.symptom, text))
        assert row.elsewhere.class_name == others[row.elsewhere.symptom]
        assert row.elsewhere.likeness == pytest.approx(like(row.symptom, row.elsewhere.symptom), abs=1e-5)


def test_what_all_texts_share_does_not_make_them_alike():
    """Random directions around one that all share, as text towers give them: raw cosines are high."""
    rng = np.random.default_rng(0)
    vectors = np.eye(400)[0] * 3 + rng.normal(0, 1 / 20, (30, 400))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = np.triu_indices(30, 1)
    assert (vectors @ vectors.T)[pairs].min() > 0.85
    likeness = centred_cosines(vectors)
    assert likeness[pairs].mean() == pytest.approx(-1 / 29, abs=0.003)
    assert np.abs(likeness[pairs]).max() < 0.3
    assert np.diagonal(likeness) == pytest.approx(1)


def test_equal_texts_are_alike_even_where_no_direction_is_left():
    assert centred_cosines(np.array([[1.0, 0.0], [1.0, 0.0]])).tolist() == [[1, 1], [1, 1]]
    turned = centred_cosines(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
    assert turned[1, 2] == 1
    assert turned[0, 1] == pytest.approx(-1)


# ------------------------------------------------------------------ words


def test_rare_words_and_their_tokens(tmp_path):
    vectors = dict(zip(["costophrenic haze", "12", "clear edge"], VECTORS.values(), strict=False))
    classes = {"red": ["costophrenic haze"], "green": ["12"], "blue": ["clear edge"]}
    backbone = ColourBackbone(vectors)
    rows = {row.symptom: row for row in audit(paint(tmp_path), tmp_path, backbone, classes).rows}
    rare, none, plain = rows["costophrenic haze"], rows["12"], rows["clear edge"]
    assert (rare.rarest_word, rare.zipf) == ("costophrenic", 0.0)
    assert rare.tokens_per_word == (3 + 1) / 2
    assert (none.rarest_word, none.zipf, none.tokens_per_word) == ("", 0.0, 0.0)
    assert plain.zipf > RARE_WORD
    assert plain.tokens_per_word == (2 + 1) / 2
    assert "'costophrenic' is in no list of English words" in rare.suggestion.reasons[-1]


def test_without_wordfreq_no_picture_is_encoded_first(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    backbone = ColourBackbone(VECTORS)
    with pytest.raises(SymptomError) as caught:
        audit(paint(tmp_path), tmp_path, backbone)
    assert caught.value.fix == "pip install 'medvip[words]'"
    assert backbone.seen == []


# ------------------------------------------------------------------ suggestions


def suggested(areas, likeness=None, classes=None, zipfs=None):
    """`areas`: (value, low, high) each."""
    number = len(areas)
    return suggest(
        classes or ["a"] * number,
        [f"symptom {index}" for index in range(number)],
        [Estimate(*area) for area in areas],
        np.eye(number) if likeness is None else np.array(likeness, dtype=float),
        [("word", 5.0 if zipfs is None else zipfs[index]) for index in range(number)],
    )


GOOD, UNSURE, AWAY, WORSE = (0.8, 0.7, 0.9), (0.45, 0.4, 0.5), (0.4, 0.35, 0.49), (0.2, 0.1, 0.3)


def test_only_a_whole_interval_below_a_half_points_away():
    one, two, three = suggested([GOOD, UNSURE, AWAY])
    assert [s.action for s in (one, two, three)] == ["keep", "keep", "drop"]
    assert one.reasons == two.reasons == ()
    assert three.reasons == ("it points away from its class: AUROC 0.400 [0.350, 0.490]",)


def test_the_best_of_a_class_that_points_away_is_kept_and_it_is_said():
    made = suggested([WORSE, AWAY, WORSE, GOOD], classes=["a", "a", "a", "b"])
    assert [s.action for s in made] == ["drop", "keep", "drop", "keep"]
    assert "points away" in made[1].reasons[0]
    assert "kept as the best of its class" in made[1].reasons[1]


def test_of_near_duplicates_the_best_stays():
    alike = [[1, 0.9, 0], [0.9, 1, 0], [0, 0, 1]]
    made = suggested([(0.6, 0.5, 0.7), GOOD, GOOD], alike)
    assert [s.action for s in made] == ["drop", "keep", "keep"]
    assert (
        made[0].reasons[0]
        == "it says nearly the same as 'symptom 1', which separates better (likeness +0.90)"
    )
    # Not between classes, and not below the threshold.
    assert {s.action for s in suggested([GOOD, GOOD, GOOD], alike, classes=["a", "b", "a"])} == {"keep"}
    just = NEAR_DUPLICATE - 1e-6
    assert {s.action for s in suggested([GOOD, GOOD], [[1, just], [just, 1]])} == {"keep"}


def test_only_what_stays_makes_its_duplicates_leave():
    """1 repeats 0, 2 repeats 1 but not 0: once 1 has left, 2 repeats nothing."""
    chain = [[1, 0.8, 0], [0.8, 1, 0.8], [0, 0.8, 1]]
    areas = [(0.9, 0.8, 1.0), (0.8, 0.7, 0.9), (0.7, 0.6, 0.8)]
    assert [s.action for s in suggested(areas, chain)] == ["keep", "drop", "keep"]
    # What points away makes nothing leave, though its AUROC be the higher.
    pair = [[1, 0.8], [0.8, 1]]
    assert [s.action for s in suggested([AWAY, (0.39, 0.2, 0.6)], pair)] == ["drop", "keep"]


def test_rare_words_are_to_be_said_otherwise():
    made = suggested([GOOD, GOOD, AWAY], zipfs=[1.99, 2.0, 0.0])
    assert [s.action for s in made] == ["reword", "keep", "drop"]
    assert made[0].reasons == ("'word' is rare (Zipf frequency 1.99): say it in plain words",)
    assert len(made[2].reasons) == 2


AREAS = (
    st.tuples(*[st.floats(0, 1)] * 3)
    .map(lambda three: tuple(sorted(three)))
    .map(lambda t: (t[1], t[0], t[2]))
)


@given(st.lists(st.tuples(st.sampled_from("abc"), AREAS), min_size=1, max_size=9), st.randoms())
def test_no_class_loses_all_and_nothing_leaves_without_a_reason(symptoms, random):
    number = len(symptoms)
    likeness = np.eye(number)
    for one, other in itertools.combinations(range(number), 2):
        likeness[one, other] = likeness[other, one] = random.uniform(-1, 1)
    classes = [name for name, _ in symptoms]
    made = suggested([area for _, area in symptoms], likeness, classes)
    for name in set(classes):
        ours = [s for s, owner in zip(made, classes, strict=True) if owner == name]
        assert any(suggestion.action != "drop" for suggestion in ours)
    staying = [i for i, suggestion in enumerate(made) if suggestion.action != "drop"]
    for one, other in itertools.combinations(staying, 2):
        assert classes[one] != classes[other] or likeness[one, other] < NEAR_DUPLICATE
    assert all(suggestion.reasons for suggestion in made if suggestion.action == "drop")


# ------------------------------------------------------------------ as a whole


def test_the_audit_says_what_it_was_made_from(tmp_path):
    dataset = paint(tmp_path)
    made = audit(dataset, tmp_path, seed=7)
    document = json.loads(json.dumps(made.to_json(), allow_nan=False))
    assert document["dataset"] == "painted"
    assert document["split"] == "train"
    assert document["images"] == {"blue": 12, "green": 12, "red": 12}
    assert document["groups"] == 18
    assert document["backbone"] == {"name": "colour", "fingerprint": "colour one"}
    assert document["symptoms_digest"] == SymptomSet.from_mapping(CLASSES).digest
    assert (document["seed"], document["resamples"]) == (7, 1000)
    assert "a reason to look, not a verdict" in document["caution"]
    listed = [(entry["class"], entry["symptom"]) for entry in document["symptoms"]]
    assert listed == [(name, text) for name in sorted(CLASSES) for text in CLASSES[name]]
    with pytest.raises(AttributeError):
        made.rows[0].symptom = "another"  # type: ignore[misc]


def test_what_cannot_be_audited(tmp_path):
    dataset = paint(tmp_path)
    with pytest.raises(SymptomError, match="no symptoms for 'red'"):
        audit(dataset, tmp_path, classes={"green": ["like fresh grass"], "blue": ["cold water"]})
    with pytest.raises(SymptomError, match="already"):
        audit(dataset, tmp_path, classes={**CLASSES, "red": ["warm like fire", "Warm like fire."]})
    with pytest.raises(UsageError, match="-1 resamples"):
        audit(dataset, tmp_path, resamples=-1)
    without = [s for s in dataset if (s.label, s.split) != ("green", "train")]
    with pytest.raises(DataError, match="painted has no training image of class 'green'"):
        audit(dataset.with_samples(tuple(without)), tmp_path)
    broken = ColourBackbone({**VECTORS, "cold water": [math.nan, 0.0, 0.0]})
    with pytest.raises(FeatureError, match="not finite for 'cold water'"):
        audit(dataset, tmp_path, broken)


@pytest.mark.parametrize("table", ["table", "followed", "likeness"])
def test_the_page_shows_the_tables_of_the_committed_results(table):
    text = (ROOT / f"benchmarks/results/symptom_audits/{table}.md").read_text(encoding="utf-8")
    assert text.strip() in (ROOT / "docs/symptom-audit.md").read_text(encoding="utf-8")
