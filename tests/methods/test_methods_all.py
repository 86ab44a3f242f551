"""What every method on vectors has to keep to: each test runs over all their names in the registry.

What needs pixels is in test_methods_maple.py and test_methods_supervised.py.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import forbid_texts, made_up

import medvip
from medvip.backbones import Backbone, load_backbone
from medvip.errors import MedvipError, NotFittedError, TrainingError, UsageError
from medvip.features import FeatureTable
from medvip.methods import METHODS as ALL_METHODS
from medvip.methods import Method, create_method, describe_options, options_of, tip_adapter
from medvip.symptoms import SymptomSet
from medvip.training import Recipe

CLASSES = ("blue", "green", "red")
METHODS = {name: method for name, method in ALL_METHODS.items() if method.needs == "features"}
TRAINED_STEP_BY_STEP = [name for name in METHODS if "recipe" in options_of(name)]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _coarse_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """4,000 pairs of Tip-Adapter's search would say nothing more here than 6."""
    monkeypatch.setattr(tip_adapter, "GRID", tuple((a, b) for b in (1.0, 8.0) for a in (0.5, 2.0, 9.0)))


@pytest.fixture(scope="module")
def clip(tiny_clip: Path) -> Backbone:
    return load_backbone(str(tiny_clip), device="cpu")


@pytest.fixture
def symptoms(tiny_symptoms: dict[str, list[str]]) -> SymptomSet:
    return SymptomSet.from_mapping(tiny_symptoms)


def create(name: str, backbone: Backbone, symptoms: SymptomSet | None, **options) -> Method:
    """The method, trained for two short epochs where it is trained."""
    if "recipe" in options_of(name):
        options = {"recipe": Recipe(epochs=2, learning_rate=0.02, batch_size=8, warmup_epochs=0)} | options
    return create_method(name, backbone, symptoms, **options)


def tables(images: int = 18, classes: tuple[str, ...] = CLASSES) -> tuple[FeatureTable, FeatureTable]:
    return made_up(classes, images, 24), made_up(classes, 9, 24, seed=1)


def new_images(seed: int = 5) -> torch.Tensor:
    return torch.randn(11, 24, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", METHODS)
def test_it_keeps_the_protocol(name: str, clip: Backbone, symptoms: SymptomSet) -> None:
    model = create(name, clip, symptoms)
    assert isinstance(model, Method)
    assert model.name == name
    assert model.classes == ()
    with pytest.raises(NotFittedError, match="call fit first"):
        model.predict_proba(new_images())
    with pytest.raises(NotFittedError):
        model.state()
    assert model.fit(*tables()) is model
    assert model.classes == CLASSES
    for entry in model.history:
        json.dumps(entry, allow_nan=False)
    if "recipe" in options_of(name):
        assert set(METHODS[name].recipes) == {"paper", "fast"}
        assert describe_options(name)["recipe"].default == "paper"


@pytest.mark.parametrize("name", METHODS)
def test_its_options_are_its_parameters_and_survive_json(
    name: str, clip: Backbone, symptoms: SymptomSet
) -> None:
    model = create(name, clip, symptoms)
    options = json.loads(json.dumps(model.options()))
    assert options.keys() == options_of(name)
    assert create_method(name, clip, symptoms, **options).options() == model.options()
    assert all(option.default is not inspect.Parameter.empty for option in describe_options(name).values())


@pytest.mark.parametrize("name", METHODS)
def test_rows_sum_to_1_in_double_precision(name: str, clip: Backbone, symptoms: SymptomSet) -> None:
    images = torch.cat([new_images(), 1e4 * new_images(6), 1e-4 * new_images(7)])
    table = create(name, clip, symptoms).fit(*tables()).predict_proba(images)
    assert table.dtype == np.float64
    assert table.shape == (33, 3)
    assert (table >= 0).all()
    np.testing.assert_allclose(table.sum(1), 1, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_the_state_predicts_the_same_bits_without_encoding_a_text(
    name: str, clip: Backbone, symptoms: SymptomSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = create(name, clip, symptoms).fit(*tables())
    before, state = fitted.predict_proba(new_images()), fitted.state()
    assert all(isinstance(tensor, torch.Tensor) for tensor in state.values())
    restored = create_method(name, clip, symptoms, **fitted.options())
    if not needs_text_to_predict(name):
        forbid_texts(monkeypatch, clip)
    restored.load_state(CLASSES, {key: tensor.clone() for key, tensor in state.items()})
    np.testing.assert_array_equal(restored.predict_proba(new_images()), before)
    assert restored.state().keys() == state.keys()


def needs_text_to_predict(name: str) -> bool:
    """CoCoOp's prompts depend on the image, so it encodes text for every prediction, by its nature."""
    return name == "cocoop"


@pytest.mark.parametrize("name", METHODS)
def test_a_run_folder_brings_it_back(
    name: str, clip: Backbone, symptoms: SymptomSet, tiny_images: Path, tmp_path: Path
) -> None:
    options = {}
    if "recipe" in options_of(name):
        options["recipe"] = Recipe(epochs=2, learning_rate=0.02, batch_size=8, warmup_epochs=0)
    dataset = medvip.load_dataset(tiny_images)
    run = medvip.fit(dataset, clip, symptoms, method=name, out=tmp_path / "run", quiet=True, **options)
    paths = [sample.path for sample in dataset.only("test")][:4]
    loaded = medvip.load_run(tmp_path / "run", backbone=clip)
    assert loaded.method.name == name
    np.testing.assert_allclose(loaded.predict_proba(paths), run.predict_proba(paths), rtol=1e-12)
    assert loaded.method.history == json.loads(json.dumps(run.method.history))
    assert loaded.metrics["test"] == run.metrics["test"]


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_gives_the_same_bits(name: str, clip: Backbone, symptoms: SymptomSet) -> None:
    first, second = (create(name, clip, symptoms).fit(*tables()) for _ in range(2))
    assert first.state().keys() == second.state().keys()
    for key, tensor in first.state().items():
        assert torch.equal(tensor, second.state()[key]), key
    np.testing.assert_array_equal(first.predict_proba(new_images()), second.predict_proba(new_images()))


@pytest.mark.parametrize("name", METHODS)
def test_one_image_a_class_is_enough(name: str, clip: Backbone, symptoms: SymptomSet) -> None:
    train, validation = tables()
    table = (
        create(name, clip, symptoms).fit(train.taken(np.arange(3)), validation).predict_proba(new_images())
    )
    np.testing.assert_allclose(table.sum(1), 1, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_validation_may_lack_a_class_and_training_may_be_uneven(
    name: str, clip: Backbone, symptoms: SymptomSet
) -> None:
    train, validation = tables(30)
    uneven = np.flatnonzero((train.labels.numpy() == 0) | (np.arange(30) < 6))
    without = np.flatnonzero(validation.labels.numpy() != 1)
    model = create(name, clip, symptoms).fit(train.taken(uneven), validation.taken(without))
    table = model.predict_proba(new_images())
    assert table.shape == (11, 3)
    np.testing.assert_allclose(table.sum(1), 1, atol=1e-12)


@pytest.mark.parametrize("classes", [("blue", "red"), ("blue", "green", "red", "violet", "white")])
@pytest.mark.parametrize("name", METHODS)
def test_any_number_of_classes(name: str, classes: tuple[str, ...], clip: Backbone) -> None:
    symptoms = SymptomSet.from_mapping(
        {label: [f"as {label} as can be", f"{label} all over"] for label in classes}
    )
    model = create(name, clip, symptoms).fit(*tables(4 * len(classes), classes))
    assert model.predict_proba(new_images()).shape == (11, len(classes))


@pytest.mark.parametrize("name", METHODS)
def test_without_validation_images(name: str, clip: Backbone, symptoms: SymptomSet) -> None:
    """Chosen by cross-validation, or refused with the way out by what is trained epoch by epoch."""
    train = tables()[0]
    nothing = train.taken(np.zeros(0, dtype=int))
    if "recipe" in options_of(name):
        with pytest.raises(TrainingError, match="choose the last epoch"):
            create(name, clip, symptoms).fit(train, nothing)
        options = {"recipe": Recipe(epochs=2, batch_size=8, select_by="last")}
    else:
        options = {}
    model = create(name, clip, symptoms, **options).fit(train, nothing)
    assert model.predict_proba(new_images()).shape == (11, 3)
    assert not any(key.startswith("val_") for entry in model.history for key in entry)


@pytest.mark.parametrize("name", METHODS)
def test_a_picture_is_judged_alone(name: str, clip: Backbone, symptoms: SymptomSet) -> None:
    """A row's probabilities do not depend on the other rows."""
    model = create(name, clip, symptoms).fit(*tables())
    together = model.predict_proba(new_images())
    alone = np.concatenate([model.predict_proba(image[None]) for image in new_images()])
    np.testing.assert_allclose(alone, together, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in METHODS if "text" in options_of(name)])
def test_symptoms_can_take_the_place_of_names(name: str, clip: Backbone, symptoms: SymptomSet) -> None:
    by_name, by_symptoms = (
        create(name, clip, symptoms, text=text).fit(*tables()) for text in ("names", "symptoms")
    )
    assert not np.allclose(
        by_name.predict_proba(new_images()), by_symptoms.predict_proba(new_images()), atol=1e-6
    )
    with pytest.raises(UsageError, match="no symptoms are given"):
        create(name, clip, None, text="symptoms")
    create(name, clip, None)
    others = SymptomSet.from_mapping({"cat": ["furry"], "dog": ["loud"]})
    with pytest.raises(MedvipError, match="blue"):
        create(name, clip, others, text="symptoms").fit(*tables())


@pytest.mark.parametrize("name", [name for name in METHODS if not METHODS[name].uses_symptoms])
def test_what_needs_no_symptoms_does_without(name: str, clip: Backbone) -> None:
    assert create(name, clip, None).fit(*tables()).predict_proba(new_images()).shape == (11, 3)


@pytest.mark.parametrize("name", TRAINED_STEP_BY_STEP)
def test_recipes_go_by_name_and_single_values(name: str, clip: Backbone, symptoms: SymptomSet) -> None:
    for recipe in ("paper", "fast"):
        model = create_method(name, clip, symptoms, recipe=recipe)
        assert model.options()["recipe"] == asdict(METHODS[name].recipes[recipe])
    changed = replace(METHODS[name].recipes["paper"], epochs=3)
    assert create_method(name, clip, symptoms, recipe=changed).options()["recipe"]["epochs"] == 3


def test_options_of_a_method_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="did you mean 'linear-probe'"):
        options_of("linear-prob")
    assert options_of("tip-adapter") == {"text"}
    assert options_of("clip-adapter") == {"text", "ratio", "reduction", "recipe", "seed"}
