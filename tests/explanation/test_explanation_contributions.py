"""A logit is the exact sum of its shares, and each share is what the formula says."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from medvip.backbones import Backbone, load_backbone
from medvip.errors import UsageError
from medvip.explanation import ClassContributions, Explanation, contributions
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
    matrix = torch.randn(384, 1280, generator=torch.Generator().manual_seed(0))
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
    return contributions(images, model.state(), model.backbone.logit_scale, model.classes, symptoms)


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


def test_what_is_no_vip_cannot_be_explained(explained, tiny_symptoms) -> None:
    model, images, _ = explained
    symptoms = SymptomSet.from_mapping(tiny_symptoms)
    other = create_method("zero-shot-symptoms", model.backbone, symptoms)
    other.load_state(
        CLASSES, {"symptom_vectors": torch.ones(3, 3, 2), "symptom_present": torch.ones(3, 3).bool()}
    )
    with pytest.raises(UsageError, match="only runs of the method vip can be explained"):
        contributions(images, other.state(), 1.0, CLASSES, symptoms.for_classes(CLASSES))
