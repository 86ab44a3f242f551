"""CoCoOp image by image and class by class, with every prompt encoded alone by transformers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from prompt_models import (
    Reference,
    StubBackbone,
    cosine_by_loop,
    gradients_by_differences,
    learned,
    references,
    softmax_by_loop,
)
from small_models import made_up

from medvip.backbones import load_backbone
from medvip.errors import UsageError
from medvip.methods import class_prompts, cocoop, create_method
from medvip.methods.cocoop import CoCoOp
from medvip.training import Recipe, get_recipe

CLASSES = ("ink", "open_sky", "red")
SHORT = Recipe(epochs=2, learning_rate=0.05, batch_size=8, warmup_epochs=0, select_by="last")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def reference(tiny_clip: Path, tiny_siglip: Path) -> Callable[[str], Reference]:
    return references(tiny_clip, tiny_siglip)


def fitted(backbone, **options) -> CoCoOp:
    options = {"recipe": SHORT} | options
    train, validation = made_up(CLASSES, 16, backbone.embed_dim), made_up(CLASSES, 6, backbone.embed_dim)
    return CoCoOp(backbone, **options).fit(train, validation)


@pytest.mark.parametrize("kind", ["clip", "siglip", "embedded"])
def test_probabilities_image_by_image(kind: str, reference) -> None:
    one = reference(kind)
    recipe = Recipe(epochs=1, batch_size=16, learning_rate=0.01, warmup_epochs=0)
    model = fitted(one.backbone, recipe=recipe, seed=2)
    state = {name: tensor.double().numpy() for name, tensor in model.state().items()}
    images = torch.randn(4, one.backbone.embed_dim, generator=torch.Generator().manual_seed(6))
    scale, expected = math.exp(one.backbone.logit_scale), []
    shifts = []
    for image in images.double().numpy():
        f = image / math.sqrt(sum(x * x for x in image))
        hidden = [
            max(0.0, float(row @ f) + bias)
            for row, bias in zip(state["meta_net.0.weight"], state["meta_net.0.bias"], strict=True)
        ]
        shift = state["meta_net.2.weight"] @ np.array(hidden) + state["meta_net.2.bias"]
        shifts.append(shift)
        context = torch.tensor(state["context"] + shift).float()
        vectors = [one.vector(one.prompt(name, context)) for name in ("ink", "open sky", "red")]
        expected.append(softmax_by_loop([scale * cosine_by_loop(image, vector) for vector in vectors]))
    np.testing.assert_allclose(model.predict_proba(images), expected, atol=1e-4)
    assert np.ptp(shifts, axis=0).max() > 1e-4


def test_the_number_of_learned_parameters() -> None:
    """M d + (D h + h) + (h d + d) with h = D / 16: published for CLIP ViT-B/16 as 35,360."""
    assert learned(CoCoOp(StubBackbone())._model(CLASSES)) == 35_360
    d, D, h = 384, 1248, 78
    expected = 7 * d + (D * h + h) + (h * d + d)
    assert learned(CoCoOp(StubBackbone(d, D), context=7)._model(CLASSES)) == expected


@pytest.fixture
def _in_double() -> Iterator[None]:
    torch.set_default_dtype(torch.double)
    yield
    torch.set_default_dtype(torch.float)


@pytest.mark.usefixtures("_in_double")
def test_gradients_reach_everything_also_in_parts(tiny_siglip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load_backbone(str(tiny_siglip), device="cpu")
    backbone._model.double()
    model = CoCoOp(backbone, init_words="", seed=2)._model(CLASSES)
    images, labels = torch.randn(5, 40, generator=torch.Generator().manual_seed(1)), torch.arange(5) % 3
    images = images.double()

    def loss() -> torch.Tensor:
        return torch.nn.functional.cross_entropy(model(images), labels)

    loss().backward()
    parameters = dict(model.named_parameters())
    assert set(parameters) == {
        "context", "meta_net.0.weight", "meta_net.0.bias", "meta_net.2.weight", "meta_net.2.bias",
    }  # fmt: skip
    gradients = {name: parameter.grad.clone() for name, parameter in parameters.items()}
    slopes = gradients_by_differences(loss, list(parameters.values()))
    for (name, gradient), slope in zip(gradients.items(), slopes, strict=True):
        assert gradient.norm() > 0, name
        assert slope == pytest.approx(gradient.norm().item(), rel=1e-3), name

    monkeypatch.setattr(class_prompts, "TEXTS_AT_ONCE", 4)  # neither an image's classes nor their multiple
    monkeypatch.setattr(cocoop, "IMAGES_AT_ONCE", 2)
    model.zero_grad()
    whole = model(images)
    loss().backward()
    for name, gradient in gradients.items():
        torch.testing.assert_close(parameters[name].grad, gradient, atol=1e-11, rtol=1e-7)
    monkeypatch.undo()
    torch.testing.assert_close(whole, model(images), atol=1e-11, rtol=1e-9)


def test_no_more_texts_at_once_than_allowed(reference, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, calls = reference("clip").backbone, []
    model = fitted(backbone)
    encode = backbone.encode_tokens
    monkeypatch.setattr(
        backbone, "encode_tokens", lambda rows, end: calls.append(len(rows)) or encode(rows, end)
    )
    monkeypatch.setattr(class_prompts, "TEXTS_AT_ONCE", 10)
    model.predict_proba(torch.randn(7, 24))
    assert calls == [10, 10, 1]


def test_it_predicts_from_its_state_alone(reference, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text encoder is needed, the tokeniser is not; and nothing is encoded before it is asked."""
    backbone = reference("clip").backbone
    model = fitted(backbone)
    images = torch.randn(4, 24, generator=torch.Generator().manual_seed(2))
    expected = model.predict_proba(images)
    monkeypatch.setattr(backbone, "tokenize", lambda _: pytest.fail("a text was read"))
    encode = backbone.encode_tokens
    monkeypatch.setattr(backbone, "encode_tokens", lambda *_: pytest.fail("it was encoded"))
    again = CoCoOp(backbone, seed=99).load_state(model.classes, model.state())
    monkeypatch.setattr(backbone, "encode_tokens", encode)
    assert np.array_equal(again.predict_proba(images), expected)
    np.testing.assert_allclose(again.predict_proba(images[1:2]), expected[1:2], atol=1e-5)


def test_the_network_has_torchs_own_distribution_and_leaves_torchs_generator_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    model = CoCoOp(StubBackbone(512, 1024))._model(CLASSES)
    assert torch.equal(torch.get_rng_state(), before)
    for ours, torchs in (
        (model.meta_net[0], torch.nn.Linear(1024, 64)),
        (model.meta_net[2], torch.nn.Linear(64, 512)),
    ):
        for name in ("weight", "bias"):
            mine, its = getattr(ours, name), getattr(torchs, name)
            assert mine.shape == its.shape
            assert mine.std().item() == pytest.approx(its.std().item(), rel=0.25)
            assert mine.abs().max().item() == pytest.approx(its.abs().max().item(), rel=0.1)


def test_it_learns(reference) -> None:
    recipe = Recipe(epochs=20, learning_rate=0.05, batch_size=8, warmup_epochs=0, select_by="last")
    model = fitted(reference("clip").backbone, recipe=recipe)
    assert model.history[-1]["loss"] < 0.7 * model.history[0]["loss"]


def test_published_defaults() -> None:
    options = CoCoOp(StubBackbone()).options()
    assert (options["context"], options["init_words"]) == (4, "a photo of a")
    recipe = get_recipe("paper", CoCoOp.recipes)
    assert (recipe.learning_rate, recipe.epochs, recipe.batch_size, recipe.select_by) == (
        0.002,
        10,
        1,
        "last",
    )


def test_no_context_is_refused() -> None:
    with pytest.raises(UsageError, match=r"context is 0.*1 or more"):
        create_method("cocoop", StubBackbone(), None, context=0)
