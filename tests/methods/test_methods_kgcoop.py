"""KgCoOp's loss written out, and what its weight does."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from prompt_models import Reference, StubBackbone, cosine_by_loop, gradients_by_differences, learned
from small_models import made_up

from medvip.errors import UsageError
from medvip.methods import create_method
from medvip.methods.coop import CoOp
from medvip.methods.kgcoop import KgCoOp
from medvip.training import Recipe, get_recipe

CLASSES = ("ink", "open_sky", "red")
HAND_WRITTEN = [f"a photo of a {name}." for name in ("ink", "open sky", "red")]
SHORT = Recipe(epochs=10, learning_rate=0.002, batch_size=8, select_by="last")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def clip(tiny_clip: Path) -> Reference:
    return Reference("clip", tiny_clip)


@pytest.fixture(scope="module", params=["clip", "siglip"])
def one(request: pytest.FixtureRequest, clip: Reference, tiny_siglip: Path) -> Reference:
    return Reference("siglip", tiny_siglip) if request.param == "siglip" else clip


def fitted(method: type[CoOp], backbone, **options) -> CoOp:
    options = {"recipe": SHORT, "context": 4} | options
    train, validation = made_up(CLASSES, 24, backbone.embed_dim), made_up(CLASSES, 9, backbone.embed_dim)
    return method(backbone, **options).fit(train, validation)


@pytest.mark.parametrize("weight", [8.0, 500.0])
def test_the_loss_is_cross_entropy_and_distance_to_the_hand_written_prompts(
    weight: float, one: Reference
) -> None:
    model = KgCoOp(one.backbone, context=4, weight=weight, seed=3)._model(CLASSES)
    table = made_up(CLASSES, 7, one.backbone.embed_dim, seed=5)
    loss = model.backward(table.plain, table.labels)
    assert not loss.requires_grad

    vectors = [one.vector(one.prompt(name, model.context.detach())) for name in ("ink", "open sky", "red")]
    hand_written = [one.text(text) for text in HAND_WRITTEN]
    scale, entropies = math.exp(one.backbone.logit_scale), []
    for image, label in zip(table.plain.numpy(), table.labels.tolist(), strict=True):
        logits = [scale * cosine_by_loop(image, vector) for vector in vectors]
        entropies.append(
            math.log(sum(math.exp(logit - max(logits)) for logit in logits)) + max(logits) - logits[label]
        )
    distances = [1 - cosine_by_loop(w, h) for w, h in zip(vectors, hand_written, strict=True)]
    assert weight * np.mean(distances) > 0.01
    assert loss.item() == pytest.approx(np.mean(entropies) + weight * np.mean(distances), rel=1e-3)


def test_the_distance_is_half_the_papers_squared_one(one: Reference) -> None:
    """1 - cosine of two vectors of length 1 is half their squared Euclidean distance."""
    w, h = (one.text(text) / np.linalg.norm(one.text(text)) for text in ("ink", "red"))
    assert 1 - cosine_by_loop(w, h) == pytest.approx(((w - h) ** 2).sum() / 2, rel=1e-9)


@pytest.fixture
def _in_double() -> Iterator[None]:
    torch.set_default_dtype(torch.double)
    yield
    torch.set_default_dtype(torch.float)


@pytest.mark.usefixtures("_in_double")
def test_gradients(tiny_clip: Path) -> None:
    from medvip.backbones import load_backbone

    backbone = load_backbone(str(tiny_clip), device="cpu")
    backbone._model.double()
    model = KgCoOp(backbone, seed=2, init_words="")._model(CLASSES)
    table = made_up(CLASSES, 7, 24, seed=5)
    images = table.plain.double()
    model.backward(images, table.labels)

    def loss() -> torch.Tensor:
        vectors = torch.nn.functional.normalize(model.class_vectors(), dim=-1)
        hand = torch.nn.functional.normalize(model.hand_written, dim=-1)
        logits = math.exp(backbone.logit_scale) * torch.nn.functional.normalize(images, dim=-1) @ vectors.T
        squared = (vectors - hand).square().sum(-1).mean()  # the paper's
        return torch.nn.functional.cross_entropy(logits, table.labels) + 4.0 * squared

    slope = gradients_by_differences(loss, [model.context])[0]
    assert slope == pytest.approx(model.context.grad.norm().item(), rel=1e-4)
    assert (model.context.grad.abs().amax(-1) > 1e-9).all()


def test_from_the_hand_written_words_the_distance_starts_at_nothing(one: Reference) -> None:
    words = len(one.ids("a photo of a")[1])
    table = made_up(CLASSES, 9, one.backbone.embed_dim)
    losses = [
        KgCoOp(one.backbone, context=words, weight=weight)._model(CLASSES).backward(table.plain, table.labels)
        for weight in (0.0, 1000.0)
    ]
    torch.testing.assert_close(losses[0], losses[1], atol=5e-3, rtol=0)


def test_without_weight_it_is_coop_to_the_bit_and_with_much_it_stays_near(clip: Reference) -> None:
    coop = fitted(CoOp, clip.backbone, init_words="a photo of a").state()["class_vectors"]
    without, much = (
        fitted(KgCoOp, clip.backbone, weight=weight).state()["class_vectors"] for weight in (0.0, 30.0)
    )
    assert torch.equal(without, coop)
    hand_written = torch.tensor(np.stack([clip.text(text) for text in HAND_WRITTEN])).float()
    near = [torch.cosine_similarity(vectors, hand_written).mean() for vectors in (without, much)]
    assert near[1] > near[0] + 0.1


def test_it_learns(clip: Reference) -> None:
    model = fitted(
        KgCoOp, clip.backbone, weight=1.0, recipe=Recipe(epochs=20, learning_rate=0.05, batch_size=8)
    )
    assert model.history[-1]["loss"] < 0.7 * model.history[0]["loss"]


def test_published_defaults() -> None:
    model = KgCoOp(StubBackbone())
    options = model.options()
    assert (options["weight"], options["context"], options["init_words"]) == (8.0, 4, "a photo of a")
    assert learned(model._model(CLASSES)) == 2048  # published for CLIP ViT-B/16
    recipe = get_recipe("paper", KgCoOp.recipes)
    assert (recipe.learning_rate, recipe.epochs, recipe.batch_size, recipe.select_by) == (
        0.002,
        100,
        128,
        "last",
    )


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(UsageError, match=r"weight is -1\.0.*0 or more"):
        create_method("kgcoop", StubBackbone(), None, weight=-1.0)
    with pytest.raises(UsageError, match="weight is nan"):
        create_method("kgcoop", StubBackbone(), None, weight=math.nan)
