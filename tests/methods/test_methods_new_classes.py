"""What was learned of some classes, put around others: by hand, and on the same classes again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from prompt_models import Reference, cosine_by_loop, references, softmax_by_loop
from small_models import class_vectors_by_loop, made_up, probabilities_by_loop, texts_by_transformers

import medvip
from medvip.backbones import Backbone, load_backbone
from medvip.errors import NotFittedError, SymptomError, UsageError
from medvip.features import open_pictures
from medvip.methods import METHODS, Method, create_method
from medvip.symptoms import SymptomSet
from medvip.training import Recipe

CLASSES = ("blue", "green", "red")
NEW = {"ink_blot": ["dark", "the color of ink"], "warm": ["like fire"]}
SHORT = Recipe(epochs=2, learning_rate=0.02, batch_size=8, warmup_epochs=0, select_by="last")
CARRYING = [
    ("coop", {"context": 3, "position": "middle"}),
    ("cocoop", {}),
    ("kgcoop", {}),
    ("prograd", {}),
    ("biomedcoop", {}),
    ("vpt", {"samples": 3}),
    ("vpt", {"samples": 2, "conditional": True, "init_words": ""}),
    ("vip-context-mean", {}),
    ("vip-context-max", {}),
    ("maple", {"depth": 2}),
]
each_carrying = pytest.mark.parametrize(
    ("name", "options"), CARRYING, ids=[f"{name}-{len(options)}" for name, options in CARRYING]
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


@pytest.fixture(scope="module")
def reference(tiny_clip: Path, tiny_siglip: Path) -> Callable[[str], Reference]:
    return references(tiny_clip, tiny_siglip)


@pytest.fixture
def symptoms(tiny_symptoms: dict[str, list[str]]) -> SymptomSet:
    return SymptomSet.from_mapping(tiny_symptoms)


@pytest.fixture
def new_symptoms() -> SymptomSet:
    return SymptomSet.from_mapping(NEW)


def fitted(name: str, backbone: Backbone, symptoms: SymptomSet | None, images: Path, **options) -> Method:
    learner = create_method(name, backbone, symptoms, **({"recipe": SHORT} | options))
    if learner.needs == "pixels":
        pictures = open_pictures(medvip.load_dataset(images), backbone)
        return learner.fit(pictures.train, pictures.val)
    dim = backbone.embed_dim
    return learner.fit(made_up(CLASSES, 16, dim), made_up(CLASSES, 6, dim))


def some_images(learner: Method) -> torch.Tensor:
    shape = (3, 30, 30) if learner.needs == "pixels" else (learner.backbone.embed_dim,)
    return torch.randn(5, *shape, generator=torch.Generator().manual_seed(6))


@each_carrying
def test_the_learned_classes_told_anew_get_the_same_probabilities(
    name: str, options: dict, clip: Backbone, symptoms: SymptomSet, tiny_images: Path
) -> None:
    """Also after loading, and where the seed, which all random numbers start from, is another."""
    learner = fitted(name, clip, symptoms, tiny_images, **options)
    images = some_images(learner)
    expected = learner.predict_proba(images)
    again = create_method(name, clip, symptoms, recipe=SHORT, seed=77, **options)
    again.load_state(learner.classes, learner.state())
    for method in (learner, again):
        np.testing.assert_allclose(
            method.on_new_classes(CLASSES, symptoms)(images), expected, rtol=0, atol=1e-9
        )
    backwards = learner.on_new_classes(CLASSES[::-1], symptoms)(images)
    np.testing.assert_allclose(backwards[:, ::-1], expected, atol=1e-5)


@each_carrying
def test_other_classes_leave_what_was_learned_alone(
    name: str, options: dict, clip: Backbone, symptoms: SymptomSet, new_symptoms, tiny_images: Path
) -> None:
    learner = fitted(name, clip, symptoms, tiny_images, **options)
    before = {key: tensor.clone() for key, tensor in learner.state().items()}
    images = some_images(learner)
    told = learner.on_new_classes(tuple(NEW), new_symptoms)(images)
    assert told.shape == (5, 2)
    np.testing.assert_allclose(told.sum(1), 1, atol=1e-12)
    assert learner.classes == CLASSES
    assert learner.symptoms is symptoms
    for key, tensor in learner.state().items():
        assert torch.equal(tensor, before[key]), key


@pytest.mark.parametrize("kind", ["clip", "siglip", "embedded"])
@pytest.mark.parametrize("name", ["coop", "kgcoop", "prograd", "biomedcoop"])
def test_the_learned_context_stands_before_the_new_names(
    name: str, kind: str, reference, symptoms: SymptomSet, new_symptoms: SymptomSet, tiny_images: Path
) -> None:
    """Each prompt written by hand and encoded alone by transformers."""
    one = reference(kind)
    learner = fitted(name, one.backbone, symptoms, tiny_images, context=3)
    context = learner.state()["context"]
    vectors = [one.vector(one.prompt(text, context)) for text in ("ink blot", "warm")]
    images = some_images(learner)
    scale = math.exp(one.backbone.logit_scale)
    expected = [
        softmax_by_loop([scale * cosine_by_loop(image, vector) for vector in vectors])
        for image in images.numpy()
    ]
    np.testing.assert_allclose(learner.on_new_classes(tuple(NEW), new_symptoms)(images), expected, atol=1e-4)


@pytest.mark.parametrize("context", [2, 0])
def test_vip_attends_from_the_mean_of_a_new_classes_symptoms(
    context: int, clip: Backbone, tiny_clip: Path, symptoms: SymptomSet, new_symptoms, tiny_images: Path
) -> None:
    """The paper's equation number by number, with g the mean of T."""
    name, options = ("vip", {"context": context}) if context else ("vip-merge", {})
    learner = fitted(name, clip, symptoms, tiny_images, **options)
    state = {key: tensor.numpy() for key, tensor in learner.state().items()}
    prompt = learner.state()["context_prompt"]
    texts = [
        texts_by_transformers("clip", tiny_clip, clip, [f"{line}." for line in lines], prompt)
        for lines in NEW.values()
    ]
    vectors, _ = class_vectors_by_loop(
        texts,
        np.stack([of_class.mean(0) for of_class in texts]),
        state["merge_query_projection"],
        state["merge_key_projection"],
    )
    images = some_images(learner)
    told = learner.on_new_classes(tuple(NEW), new_symptoms)(images)
    expected = probabilities_by_loop(images.numpy(), vectors, clip.logit_scale)
    np.testing.assert_allclose(told, expected, atol=1e-4)
    for key, array in state.items():
        assert np.array_equal(learner.state()[key].numpy(), array), key


@pytest.mark.parametrize(("name", "aggregate"), [("vip-context-mean", np.mean), ("vip-context-max", np.max)])
def test_the_learned_context_stands_before_the_new_symptoms(
    name: str, aggregate, clip: Backbone, tiny_clip: Path, symptoms: SymptomSet, new_symptoms,
    tiny_images: Path,
) -> None:  # fmt: skip
    learner = fitted(name, clip, symptoms, tiny_images, context=2)
    prompt = learner.state()["context_prompt"]
    texts = [
        texts_by_transformers("clip", tiny_clip, clip, [f"{line}." for line in lines], prompt)
        for lines in NEW.values()
    ]
    images, scale = some_images(learner), math.exp(clip.logit_scale)
    expected = [
        softmax_by_loop(
            [scale * aggregate([cosine_by_loop(image, text) for text in of_class]) for of_class in texts]
        )
        for image in images.numpy()
    ]
    np.testing.assert_allclose(learner.on_new_classes(tuple(NEW), new_symptoms)(images), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["coop", "kgcoop", "prograd", "biomedcoop"])
def test_a_context_of_each_classs_own_does_not_carry_over(
    name: str, clip: Backbone, symptoms: SymptomSet, tiny_images: Path
) -> None:
    learner = fitted(name, clip, symptoms, tiny_images, class_specific=True)
    with pytest.raises(UsageError, match="a context of its own"):
        learner.on_new_classes(CLASSES, symptoms)


@pytest.mark.parametrize("name", [name for name in METHODS if hasattr(METHODS[name], "on_new_classes")])
def test_what_is_missing_is_told(
    name: str, clip: Backbone, symptoms: SymptomSet, new_symptoms: SymptomSet, tiny_images: Path
) -> None:
    options = {"depth": 2} if name == "maple" else {}
    with pytest.raises(NotFittedError, match="call fit first"):
        create_method(name, clip, symptoms, **options).on_new_classes(tuple(NEW), new_symptoms)
    learner = fitted(name, clip, symptoms, tiny_images, **options)
    if not METHODS[name].uses_symptoms:
        assert learner.on_new_classes(tuple(NEW), None)(some_images(learner)).shape == (5, 2)
        return
    with pytest.raises(UsageError, match="needs symptoms"):
        learner.on_new_classes(tuple(NEW), None)
    with pytest.raises(SymptomError, match="ink_blot"):
        learner.on_new_classes(tuple(NEW), symptoms)
