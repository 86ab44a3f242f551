"""ProGrad's projection in closed form, and the gradients it is made of."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from prompt_models import Reference, StubBackbone, learned
from small_models import made_up

from medvip.errors import UsageError
from medvip.methods import create_method
from medvip.methods.coop import CoOp
from medvip.methods.prograd import ProGrad, aligned
from medvip.training import Recipe, get_recipe

CLASSES = ("ink", "open_sky", "red")
SHORT = Recipe(epochs=3, learning_rate=0.05, batch_size=8, warmup_epochs=0, select_by="last")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def one(tiny_clip: Path) -> Reference:
    return Reference("clip", tiny_clip)


def fitted(method: type[CoOp], backbone, **options) -> CoOp:
    options = {"recipe": SHORT, "context": 4} | options
    train, validation = made_up(CLASSES, 24, backbone.embed_dim), made_up(CLASSES, 9, backbone.embed_dim)
    return method(backbone, **options).fit(train, validation)


numbers = st.floats(-5, 5, width=32)
pairs = st.integers(1, 6).flatmap(
    lambda n: st.tuples(st.lists(numbers, min_size=n, max_size=n), st.lists(numbers, min_size=n, max_size=n))
)


@given(pair=pairs, strength=st.sampled_from([0.0, 0.5, 0.8, 1.0]))
def test_the_projection_in_closed_form(pair: tuple[list[float], list[float]], strength: float) -> None:
    own, general = (np.array(values) for values in pair)
    found = aligned(torch.tensor(own), torch.tensor(general), strength).numpy()
    product = float(own @ general)
    if product >= 0:
        assert np.array_equal(found, own)
        return
    along = general / np.sqrt(float(general @ general))
    np.testing.assert_allclose(found, own - strength * float(own @ along) * along, atol=1e-9)
    if strength == 1.0:  # nothing is left that goes against it
        assert abs(float(found @ general)) < 1e-9 * max(1.0, float(np.abs(own).max()))
    # what is left is never longer, and the rest of it is what it was
    assert np.linalg.norm(found) <= np.linalg.norm(own) + 1e-9


def test_without_a_general_direction_nothing_is_taken_out() -> None:
    own = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(aligned(own, torch.zeros(3, 4), 1.0), own)
    assert aligned(own, -1e-30 * own, 1.0).isfinite().all()


def gradients_by_hand(model, images: torch.Tensor, labels: torch.Tensor, temperature: float):
    """Of cross-entropy and of torch's own Kullback-Leibler divergence, each in a pass of its own."""
    found = []
    normalise = torch.nn.functional.normalize
    scale = model.scale
    zero_shot = scale * normalise(images, dim=-1) @ normalise(model.hand_written, dim=-1).T
    for which in ("own", "general"):
        logits = scale * normalise(images, dim=-1) @ normalise(model.class_vectors(), dim=-1).T
        if which == "own":
            loss = torch.nn.functional.nll_loss(logits.log_softmax(-1), labels)
        else:
            loss = temperature**2 * torch.nn.functional.kl_div(
                (logits / temperature).log_softmax(-1),
                (zero_shot / temperature).softmax(-1),
                reduction="batchmean",
            )
        found.append(torch.autograd.grad(loss, model.context)[0])
    return found


@pytest.mark.parametrize("class_specific", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_gradient_is_projected_where_it_conflicts_and_coops_where_not(
    class_specific: bool, temperature: float, one: Reference
) -> None:
    conflicts = []
    for seed in range(8):
        options = {"context": 4, "init_words": "", "class_specific": class_specific, "seed": seed}
        model = ProGrad(one.backbone, temperature=temperature, **options)._model(CLASSES)
        coop = CoOp(one.backbone, **options)._model(CLASSES)
        random = torch.Generator().manual_seed(seed)
        images, labels = torch.randn(6, 24, generator=random), torch.randint(3, (6,), generator=random)
        own, general = gradients_by_hand(model, images, labels, temperature)
        loss = model.backward(images, labels)
        coops_loss = torch.nn.functional.cross_entropy(coop(images), labels)
        coops_loss.backward()
        torch.testing.assert_close(loss, coops_loss.detach())
        product = float((own.double() * general.double()).sum())
        conflicts.append(product < 0)
        if product >= 0:
            assert torch.equal(model.context.grad, coop.context.grad)
            continue
        u = general.double() / general.double().norm()
        expected = own.double() - (own.double() * u).sum() * u
        size = own.abs().max().item()
        torch.testing.assert_close(model.context.grad.double() / size, expected / size, atol=1e-4, rtol=0)
        assert not torch.allclose(model.context.grad, coop.context.grad, atol=1e-3 * size)
    assert True in conflicts
    assert False in conflicts


def test_without_strength_it_is_coop_to_the_bit(one: Reference) -> None:
    coop = fitted(CoOp, one.backbone, init_words="a photo of a").state()
    none, half, all_ = (
        fitted(ProGrad, one.backbone, strength=strength).state() for strength in (0.0, 0.5, 1.0)
    )
    assert torch.equal(none["class_vectors"], coop["class_vectors"])
    assert not torch.equal(all_["class_vectors"], coop["class_vectors"])
    assert not torch.equal(all_["class_vectors"], half["class_vectors"])


def test_it_learns(one: Reference) -> None:
    recipe = Recipe(epochs=25, learning_rate=0.05, batch_size=8, warmup_epochs=0)
    model = fitted(ProGrad, one.backbone, recipe=recipe, class_specific=True, strength=0.8)
    assert model.history[-1]["loss"] < 0.7 * model.history[0]["loss"]


def test_published_defaults() -> None:
    model = ProGrad(StubBackbone())
    options = model.options()
    assert (options["strength"], options["temperature"]) == (1.0, 1.0)
    assert (options["context"], options["init_words"]) == (16, "a photo of a")
    assert learned(model._model(CLASSES)) == 8192
    recipe = get_recipe("paper", ProGrad.recipes)
    assert (recipe.learning_rate, recipe.epochs, recipe.batch_size, recipe.select_by) == (
        0.002,
        200,
        32,
        "last",
    )
    context = model._model(CLASSES).context
    assert torch.equal(context[:12], torch.zeros(12, 512))  # the words come last
    assert torch.equal(context[12:], torch.ones(4, 512))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"strength": -0.1}, "strength is -0.1.*0 or more"),
        ({"temperature": 0.0}, "temperature is 0.0.*more than 0"),
        ({"temperature": math.nan}, "temperature is nan"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        create_method("prograd", StubBackbone(), None, **options)
