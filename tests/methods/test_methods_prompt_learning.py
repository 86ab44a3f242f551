"""What every method that learns in front of the text encoder promises."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import embedded_with_any_map, made_up

from medvip.backbones import Backbone, load_backbone
from medvip.errors import NotFittedError, TrainingError
from medvip.methods import METHODS, Method, create_method
from medvip.symptoms import SymptomSet
from medvip.training import Recipe

NAMES = (
    "vip-merge", "vip-context-mean", "vip-context-max",
    "coop", "cocoop", "kgcoop", "prograd", "biomedcoop", "vpt",
)  # fmt: skip
CLASSES = ("blue", "green", "red")
SHORT = Recipe(epochs=2, learning_rate=0.02, batch_size=8, warmup_epochs=0, select_by="last")
VARIANTS = [
    *((name, {}) for name in NAMES),
    ("coop", {"class_specific": True, "position": "middle", "init_words": "a photo of a"}),
    ("prograd", {"class_specific": True, "position": "front", "strength": 0.8}),
    ("vpt", {"conditional": True, "samples": 2, "init_words": ""}),
]
each_variant = pytest.mark.parametrize(
    ("name", "options"), VARIANTS, ids=[f"{name}-{len(options)}" for name, options in VARIANTS]
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def clip(tiny_clip: Path) -> Backbone:
    return load_backbone(str(tiny_clip), device="cpu")


@pytest.fixture
def symptoms(tiny_symptoms: dict[str, list[str]]) -> SymptomSet:
    return SymptomSet.from_mapping(tiny_symptoms)


def fitted(name: str, backbone: Backbone, symptoms: SymptomSet, **options) -> Method:
    learner = create_method(name, backbone, symptoms, **({"recipe": SHORT} | options))
    train = made_up(CLASSES, 16, backbone.embed_dim, views=2)
    return learner.fit(train, made_up(CLASSES, 6, backbone.embed_dim))


@each_variant
def test_the_state_brings_everything_back_to_the_bit(
    name: str, options: dict, clip: Backbone, symptoms: SymptomSet, tmp_path: Path
) -> None:
    learner = fitted(name, clip, symptoms, seed=5, **options)
    assert isinstance(learner, Method)
    save_file(learner.state(), tmp_path / "state")
    kept = json.loads(json.dumps(learner.options()))
    again = create_method(name, clip, symptoms, **kept)
    again.load_state(learner.classes, load_file(tmp_path / "state"))
    images = torch.randn(9, clip.embed_dim, generator=torch.Generator().manual_seed(8))
    rows = learner.predict_proba(images)
    assert np.array_equal(again.predict_proba(images), rows)
    assert again.options() == learner.options()
    assert again.state().keys() == learner.state().keys()
    for key, tensor in learner.state().items():
        assert torch.equal(tensor, again.state()[key]), key
        assert not tensor.requires_grad
    assert rows.dtype == np.float64
    assert (rows >= 0).all()
    np.testing.assert_allclose(rows.sum(1), 1, atol=1e-12)
    # an image's probabilities are its own, whatever stands beside it
    np.testing.assert_allclose(learner.predict_proba(images[3:4]), rows[3:4], atol=1e-5)


@each_variant
def test_same_seed_same_bits(name: str, options: dict, clip: Backbone, symptoms: SymptomSet) -> None:
    states = []
    for number, seed in enumerate((3, 3, 4)):
        torch.manual_seed(number)  # torch's own generator does not matter
        states.append(fitted(name, clip, symptoms, seed=seed, **options).state())
    one, two, other = states
    for key, tensor in one.items():
        assert torch.equal(two[key], tensor), key
    assert any(not torch.equal(other[key], tensor) for key, tensor in one.items())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [2, 7])
def test_any_number_of_classes_and_of_symptoms(name: str, count: int, clip: Backbone) -> None:
    classes = tuple("abcdefg"[:count])
    # one symptom for the first, up to seven for the last
    symptoms = SymptomSet.from_mapping({c: [f"{c}{n}" for n in range(i + 1)] for i, c in enumerate(classes)})
    table = made_up(classes, 14, clip.embed_dim)
    learner = create_method(name, clip, symptoms, recipe=SHORT).fit(table, table)
    rows = learner.predict_proba(table.plain)
    assert rows.shape == (14, count)
    assert learner.classes == classes


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_predicted_before_fit_nor_after_a_failed_one(
    name: str, clip: Backbone, symptoms: SymptomSet
) -> None:
    learner = create_method(name, clip, symptoms, recipe=SHORT)
    table = made_up(CLASSES, 6, clip.embed_dim)
    assert learner.classes == ()
    with pytest.raises(NotFittedError, match="call fit first"):
        learner.predict_proba(table.plain)
    with pytest.raises(NotFittedError, match="call fit first"):
        learner.state()
    once = {key: tensor.clone() for key, tensor in learner.fit(table, table).state().items()}
    learner.fit(table, table)
    assert len(learner.history) == 2
    for key, tensor in once.items():
        assert torch.equal(learner.state()[key], tensor)
    ruined = made_up(CLASSES, 6, clip.embed_dim)
    ruined.vectors[0] = torch.nan
    with pytest.raises(TrainingError, match="not finite in epoch 1"):
        learner.fit(ruined, table)
    with pytest.raises(NotFittedError):
        learner.predict_proba(table.plain)


@pytest.mark.parametrize("name", NAMES)
def test_after_a_stop_the_best_epoch_before_can_predict(
    name: str, clip: Backbone, symptoms: SymptomSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medvip.training import loop

    original, calls = loop.validation_scores, []

    def ruined_at_second(model, validation):
        calls.append(1)
        return original(model, validation) | ({"val_loss": float("nan")} if len(calls) == 2 else {})

    monkeypatch.setattr(loop, "validation_scores", ruined_at_second)
    learner = create_method(name, clip, symptoms, recipe=SHORT)
    table = made_up(CLASSES, 6, clip.embed_dim)
    with pytest.raises(TrainingError, match="epoch 2"):
        learner.fit(table, table)
    assert len(learner.history) == 1
    assert np.isfinite(learner.predict_proba(table.plain)).all()


@pytest.mark.parametrize("name", NAMES)
def test_each_has_a_published_recipe_and_a_fast_one(name: str, clip: Backbone, symptoms: SymptomSet) -> None:
    method = METHODS[name]
    assert set(method.recipes) == {"paper", "fast"}
    assert method(clip, symptoms).recipe == method.recipes["paper"]
    assert method(clip, symptoms, recipe="fast").options()["recipe"] == asdict(method.recipes["fast"])


@pytest.mark.parametrize("name", ["cocoop", "vpt", "kgcoop"])
def test_on_the_embedded_backbone(name: str, symptoms: SymptomSet) -> None:
    backbone = embedded_with_any_map()
    options = {"recipe": Recipe(epochs=1, batch_size=16)} | ({"samples": 2} if name == "vpt" else {})
    learner = fitted(name, backbone, symptoms, **options)
    images = made_up(CLASSES, 4, backbone.embed_dim).plain
    np.testing.assert_allclose(learner.predict_proba(images).sum(1), 1, atol=1e-12)
