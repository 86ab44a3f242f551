"""A logit is the exact sum of its shares, and each share is what the formula says."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from medvip.backbones import Backbone, load_backbone
from medvip.errors import UsageError
from medvip.explanation import (
    ClassContributions,
    Explanation,
    LogitParts,
    can_be_explained,
    contributions,
    parts_of,
)
from medvip.explanation.contributions import SymptomShare, decision
from medvip.features import FeatureTable
from medvip.methods import ViP, create_method
from medvip.symptoms import SymptomSet
from medvip.training import Recipe

CLASSES = ("blue", "green", "red")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Models this small gain nothing from threads, and lose much where the processors are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def table(images: int, dim: int) -> FeatureTable:
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(images) % 3
    vectors = torch.randn(3, dim, generator=random)[labels] + torch.randn(images, dim, generator=random)
    names = tuple(f"{row}.png" for row in range(images))
    return FeatureTable(vectors[:, None], labels, CLASSES, names, names, names, "none")


def embedded_with_any_map() -> Backbone:
    """Real towers, a random map: computing the real one takes a while and changes nothing here."""
    from medvip.backbones.alignment import Alignment

    backbone = load_backbone("embedded", device="cpu")
    matrix = torch.randn(384, 320, generator=torch.Generator().manual_seed(0))
    backbone.__dict__["_alignment"] = Alignment({"text_mean": torch.zeros(384), "matrix": matrix})
    return backbone


@pytest.fixture(scope="module", params=["clip", "siglip", "embedded"])
def explained(request: pytest.FixtureRequest, tiny_clip: Path, tiny_siglip: Path, tiny_symptoms):
    """A trained ViP, some images, and their explanation."""
    if request.param == "embedded":
        backbone = embedded_with_any_map()
    else:
        backbone = load_backbone(str(tiny_clip if request.param == "clip" else tiny_siglip), device="cpu")
    recipe = Recipe(epochs=2, learning_rate=0.02, warmup_epochs=0, batch_size=8)
    model = ViP(backbone, SymptomSet.from_mapping(tiny_symptoms), recipe=recipe)
    train = table(16, backbone.embed_dim)
    model.fit(train, train)
    images = table(9, backbone.embed_dim).plain
    return model, images, explain(model, images)


def explain(model: ViP, images: torch.Tensor) -> list[tuple[ClassContributions, ...]]:
    symptoms = model.symptoms.for_classes(model.classes)
    return contributions(images, parts_of(model), model.classes, symptoms)


def test_the_shares_sum_to_the_logit_and_none_can_be_left_out(explained) -> None:
    _, images, found = explained
    assert len(found) == len(images)
    without_class_vector, without_one_symptom = [], []
    for one in [one for image in found for one in image]:
        shares = [symptom.share for symptom in one.symptoms]
        assert one.class_vector + sum(shares) == pytest.approx(one.logit, abs=1e-5)
        without_class_vector.append(abs(sum(shares) - one.logit))
        without_one_symptom.append(abs(one.class_vector + sum(shares[1:]) - one.logit))
    # the sum above is no empty promise: it fails when a term is dropped
    assert np.median(without_class_vector) > 1e-3
    assert np.median(without_one_symptom) > 1e-3


def worst_gap(found: list[tuple[ClassContributions, ...]]) -> float:
    """How far any class's shares are from its logit, which is not made of them."""
    return max(abs(one.class_vector + one.of_symptoms - one.logit) for image in found for one in image)


def without_class_vector(parts: LogitParts, _: torch.Tensor) -> LogitParts:
    return replace(parts, class_vector=torch.zeros_like(parts.class_vector))


def without_the_last_symptom(parts: LogitParts, _: torch.Tensor) -> LogitParts:
    kept = torch.arange(parts.present.shape[1]) < parts.present.sum(1, keepdim=True) - 1
    return replace(parts, symptoms=parts.symptoms * kept[..., None])


def without_attention(parts: LogitParts, _: torch.Tensor) -> LogitParts:
    return replace(
        parts, symptoms=parts.symptoms / torch.where(parts.present, parts.attention, 1.0)[..., None]
    )


def without_length(parts: LogitParts, lengths: torch.Tensor) -> LogitParts:
    """As if the class's vector had not been divided by its length."""
    return replace(
        parts,
        symptoms=parts.symptoms * lengths[:, None, None],
        class_vector=parts.class_vector * lengths[:, None],
    )


def with_bare_directions(parts: LogitParts, _: torch.Tensor) -> LogitParts:
    """As if symptoms had length 1."""
    lengths = parts.symptoms.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    return replace(parts, symptoms=parts.symptoms / lengths)


@pytest.mark.parametrize(
    "spoil",
    [
        without_class_vector,
        without_the_last_symptom,
        without_attention,
        without_length,
        with_bare_directions,
    ],
    ids=lambda function: function.__name__,
)
def test_the_sum_notices_whatever_is_left_out(explained, spoil) -> None:
    model, images, found = explained
    assert worst_gap(found) < 1e-5
    symptoms = model.symptoms.for_classes(model.classes)
    spoiled = spoil(parts_of(model), model.state()["class_vectors"].double().norm(dim=-1))
    assert worst_gap(contributions(images, spoiled, model.classes, symptoms)) > 1e-3


def test_the_softmax_of_the_logits_is_what_is_predicted(explained) -> None:
    model, images, found = explained
    logits = np.array([[one.logit for one in image] for image in found])
    weights = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(
        weights / weights.sum(1, keepdims=True), model.predict_proba(images), atol=1e-5
    )


def test_every_number_is_the_formulas(explained, tiny_symptoms: dict[str, list[str]]) -> None:
    model, images, found = explained
    state = {name: tensor.double().numpy() for name, tensor in model.state().items()}
    scale = math.exp(model.backbone.logit_scale)
    for f, image in zip(images.double().numpy(), found, strict=True):
        f = f / np.linalg.norm(f)
        assert [one.class_name for one in image] == list(CLASSES)
        for c, one in enumerate(image):
            s = state["class_vectors"][c]
            assert one.logit == pytest.approx(scale * f @ s / np.linalg.norm(s), abs=1e-6)
            g = state["merge_query"][c]
            assert one.class_vector == pytest.approx(scale * f @ g / np.linalg.norm(s), abs=1e-6)
            assert [symptom.symptom for symptom in one.symptoms] == tiny_symptoms[one.class_name]
            assert sum(symptom.attention for symptom in one.symptoms) == pytest.approx(1, abs=1e-6)
            for i, symptom in enumerate(one.symptoms):
                t = state["symptom_vectors"][c, i]
                assert symptom.attention == pytest.approx(state["symptom_attention"][c, i])
                assert symptom.similarity == pytest.approx(f @ t / np.linalg.norm(t), abs=1e-6)
                expected = scale * symptom.attention * (f @ t) / np.linalg.norm(s)
                assert symptom.share == pytest.approx(expected, abs=1e-6)


def test_the_length_of_an_images_vector_changes_nothing(explained) -> None:
    model, images, found = explained
    for one, other in zip(explain(model, 37.0 * images)[0], found[0], strict=True):
        assert one.logit == pytest.approx(other.logit, abs=1e-4)
        assert one.symptoms[0].share == pytest.approx(other.symptoms[0].share, abs=1e-4)


def test_an_explanation_is_plain_json(explained) -> None:
    _, _, found = explained
    explanation = Explanation("a.png", "blue", {"blue": 0.5, "green": 0.25, "red": 0.25}, found[0])
    read = json.loads(json.dumps(explanation.to_json()))
    assert read["prediction"] == "blue"
    assert [one["class_name"] for one in read["classes"]] == list(CLASSES)
    assert read["classes"][2]["symptoms"][0]["share"] == found[0][2].symptoms[0].share


@pytest.mark.parametrize("name", ["zero-shot-symptoms-max", "zero-shot-names", "linear-probe"])
def test_what_is_no_sum_over_symptoms_cannot_be_explained(explained, tiny_symptoms, name: str) -> None:
    other = create_method(name, explained[0].backbone, SymptomSet.from_mapping(tiny_symptoms))
    assert not can_be_explained(other)
    with pytest.raises(UsageError, match=r"only runs of the methods vip.* can be explained"):
        parts_of(other)


@pytest.mark.parametrize("name", ["zero-shot-symptoms", "vip-context-mean", "vip-merge"])
def test_other_sums_over_symptoms_can_be(explained, tiny_symptoms, name: str) -> None:
    """Against what the method itself predicts, which knows nothing of parts."""
    model, images, _ = explained
    options = {} if name.startswith("zero") else {"recipe": model.recipe}
    other = create_method(name, model.backbone, SymptomSet.from_mapping(tiny_symptoms), **options)
    train = table(16, model.backbone.embed_dim)
    other.fit(train, train)
    found = contributions(images, parts_of(other), CLASSES, model.symptoms.for_classes(CLASSES))
    logits = np.array([[one.of_symptoms + one.class_vector for one in image] for image in found])
    weights = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(
        weights / weights.sum(1, keepdims=True), other.predict_proba(images), atol=1e-5
    )
    if name != "vip-merge":
        assert all(one.class_vector == 0 for image in found for one in image)
        assert "all of it from symptoms" in decision(found[0]).in_words()


# ------------------------------------------------------------------ what decides


def one_class(name: str, class_vector: float, *shares: float) -> ClassContributions:
    symptoms = tuple(SymptomShare(f"{name} {i}", share, 0.5, 0.1) for i, share in enumerate(shares))
    return ClassContributions(name, class_vector + sum(shares), class_vector, symptoms)


def test_the_lead_splits_into_two_parts(explained) -> None:
    for image in explained[2]:
        decided = decision(image)
        logits = sorted(one.logit for one in image)
        assert decided.margin == pytest.approx(logits[-1] - logits[-2])
        assert decided.from_symptoms + decided.from_class_vector == pytest.approx(decided.margin, abs=1e-5)
        assert decided.class_vector_part == pytest.approx(decided.from_class_vector / decided.margin)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ((1.0, 2.0), (0.5, 0.5), "which no symptom explains (25 %)"),
        ((2.0, 0.0), (0.0, 0.5), "By symptoms alone it would be b"),
        ((0.0, 3.0), (1.0, 0.5), "speaks against it"),
        ((0.0, 3.0), (0.0, 0.5), "all of it from symptoms"),
    ],
)
def test_the_lead_in_words(first, second, said: str) -> None:
    decided = decision([one_class("b", *second), one_class("a", *first)])
    assert (decided.prediction, decided.runner_up) == ("a", "b")
    assert said in decided.in_words()


def test_a_third_class_may_be_what_the_symptoms_alone_would_name() -> None:
    decided = decision([one_class("a", 5.0, 0.0), one_class("b", 4.0, -1.0), one_class("c", -4.0, 2.0)])
    assert (decided.prediction, decided.runner_up, decided.symptoms_alone) == ("a", "b", "c")
    assert decision([one_class("a", 1.0, 1.0), one_class("b", 1.0, 1.0)]).class_vector_part is None
