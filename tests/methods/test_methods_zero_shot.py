"""Zero-shot by names and by symptoms against plain loops over single texts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import made_up, probabilities_by_loop, texts_by_transformers

from medvip.backbones import load_backbone
from medvip.methods import create_method
from medvip.symptoms import SymptomSet

NO_CONTEXT = torch.zeros(0, 32)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Models this small gain nothing from threads, and lose much where the processors are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=["clip", "siglip"])
def model(request: pytest.FixtureRequest, tiny_clip: Path, tiny_siglip: Path):
    """A backbone, and its texts [text, dim] by transformers alone."""
    folder = tiny_clip if request.param == "clip" else tiny_siglip
    backbone = load_backbone(str(folder), device="cpu")
    return backbone, lambda texts: texts_by_transformers(request.param, folder, backbone, texts, NO_CONTEXT)


def fit(name: str, backbone, symptoms: SymptomSet | None, classes: tuple[str, ...]):
    table = made_up(classes, 9, backbone.embed_dim)
    return create_method(name, backbone, symptoms).fit(table, table)


def test_names(model) -> None:
    backbone, encode = model
    classes = ("cold_water", "ink", "red-fox")
    texts = ["a photo of a cold water.", "a photo of a ink.", "a photo of a red fox."]
    images = made_up(classes, 12, backbone.embed_dim, seed=4).plain
    expected = probabilities_by_loop(images.numpy(), encode(texts), backbone.logit_scale)
    np.testing.assert_allclose(
        fit("zero-shot-names", backbone, None, classes).predict_proba(images), expected, atol=1e-5
    )
    plain = SymptomSet.from_mapping({name: ["leafy"] for name in classes}, names={"ink": "spot of ink"})
    expected = probabilities_by_loop(
        images.numpy(), encode([texts[0], "a photo of a spot of ink.", texts[2]]), backbone.logit_scale
    )
    np.testing.assert_allclose(
        fit("zero-shot-names", backbone, plain, classes).predict_proba(images), expected, atol=1e-5
    )


@pytest.mark.parametrize(
    ("name", "aggregate"), [("zero-shot-symptoms", np.mean), ("zero-shot-symptoms-max", np.max)]
)
def test_symptoms(model, name: str, aggregate, tiny_symptoms: dict[str, list[str]]) -> None:
    backbone, encode = model
    classes = ("blue", "green", "red")
    images = made_up(classes, 12, backbone.embed_dim, seed=4).plain.numpy().astype(float)
    texts = {label: encode([f"{text}." for text in tiny_symptoms[label]]) for label in classes}
    rows = []
    for f in images:
        logits = []
        for label in classes:
            cosines = [f @ t / np.linalg.norm(f) / np.linalg.norm(t) for t in texts[label]]
            logits.append(math.exp(backbone.logit_scale) * aggregate(cosines))
        weights = np.exp(np.array(logits) - max(logits))
        rows.append(weights / weights.sum())
    for symptoms in (tiny_symptoms, dict(reversed(tiny_symptoms.items()))):
        learner = fit(name, backbone, SymptomSet.from_mapping(symptoms), classes)
        found = learner.predict_proba(torch.tensor(images).float())
        np.testing.assert_allclose(found, rows, atol=1e-5)


def test_a_class_whose_symptoms_all_speak_against_it_can_have_a_negative_maximum(tiny_clip: Path) -> None:
    """Absent symptoms must not enter the maximum as zeros."""
    backbone = load_backbone(str(tiny_clip), device="cpu")
    symptoms = SymptomSet.from_mapping({"few": ["leafy"], "many": ["cold water", "the color of ink"]})
    learner = fit("zero-shot-symptoms-max", backbone, symptoms, ("few", "many"))
    vectors = learner.state()["symptom_vectors"]
    against = -vectors[0, 0][None]
    alone = math.exp(backbone.logit_scale) * -1.0
    other = max(
        math.exp(backbone.logit_scale) * torch.cosine_similarity(against, vectors[1, i][None]).item()
        for i in range(2)
    )
    expected = 1 / (1 + math.exp(other - alone))
    assert learner.predict_proba(against)[0, 0] == pytest.approx(expected, abs=1e-5)
