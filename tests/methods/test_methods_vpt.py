"""Variational prompts draw by draw, with every prompt encoded alone by transformers."""

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
from medvip.methods import class_prompts, create_method, vpt
from medvip.methods.vpt import VariationalPrompts, distance_to_prior
from medvip.training import Recipe, get_recipe

CLASSES = ("ink", "open_sky", "red")
NAMES = ("ink", "open sky", "red")
SHORT = Recipe(epochs=2, learning_rate=0.02, batch_size=8, warmup_epochs=0, select_by="last")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def reference(tiny_clip: Path, tiny_siglip: Path) -> Callable[[str], Reference]:
    return references(tiny_clip, tiny_siglip)


def fitted(backbone, **options) -> VariationalPrompts:
    options = {"recipe": SHORT, "samples": 3} | options
    train, validation = made_up(CLASSES, 16, backbone.embed_dim), made_up(CLASSES, 6, backbone.embed_dim)
    return VariationalPrompts(backbone, **options).fit(train, validation)


def network_by_loop(state: dict[str, np.ndarray], which: str, f: np.ndarray) -> np.ndarray:
    for layer in (0, 2, 4):
        f = state[f"posterior.{which}.{layer}.weight"] @ f + state[f"posterior.{which}.{layer}.bias"]
        if layer < 4:
            f = np.array([x if x > 0 else math.exp(x) - 1 for x in f])
    return f


def posterior_by_loop(state: dict[str, np.ndarray], image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the residual for an image."""
    if "posterior.mean" in state:
        return state["posterior.mean"], np.exp(state["posterior.log_variance"]) ** 0.5
    f = image / math.sqrt(sum(x * x for x in image))
    mean, log_variance = (network_by_loop(state, which, f) for which in ("mean", "log_variance"))
    return mean, np.exp(log_variance) ** 0.5


def probabilities_by_draw(
    one: Reference, state: dict[str, np.ndarray], image: np.ndarray, draws: np.ndarray
) -> list[list[float]]:
    mean, deviation = posterior_by_loop(state, image)
    scale, rows = math.exp(one.backbone.logit_scale), []
    for draw in draws:
        context = torch.tensor(state["context"] + mean + deviation * draw).float()
        vectors = [one.vector(one.prompt(name, context)) for name in NAMES]
        rows.append(softmax_by_loop([scale * cosine_by_loop(image, vector) for vector in vectors]))
    return rows


@pytest.mark.parametrize("kind", ["clip", "siglip", "embedded"])
@pytest.mark.parametrize("conditional", [False, True])
def test_probabilities_draw_by_draw(kind: str, conditional: bool, reference) -> None:
    one = reference(kind)
    options = {} if kind != "embedded" else {"samples": 2, "recipe": Recipe(epochs=1, batch_size=16)}
    model = fitted(one.backbone, conditional=conditional, **options)
    state = {name: tensor.double().numpy() for name, tensor in model.state().items()}
    images = torch.randn(2, one.backbone.embed_dim, generator=torch.Generator().manual_seed(6))
    expected = [
        np.mean(probabilities_by_draw(one, state, image, state["draws"]), axis=0)
        for image in images.double().numpy()
    ]
    np.testing.assert_allclose(model.predict_proba(images), expected, atol=1e-4)


@pytest.mark.parametrize("conditional", [False, True])
def test_the_loss_is_the_negative_log_of_the_mean_probability_and_the_divergence(
    conditional: bool, reference
) -> None:
    one = reference("siglip")
    made = VariationalPrompts(one.backbone, conditional=conditional, samples=3, kl_weight=0.5, seed=4)
    model = made._model(CLASSES)
    table = made_up(CLASSES, 4, one.backbone.embed_dim, seed=5)
    random = torch.Generator().manual_seed(0)
    draws = torch.randn(4 if conditional else 1, 3, one.backbone.token_dim, generator=random)
    loss = model.loss(table.plain, table.labels, draws)

    state = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    terms, divergences = [], []
    for row, (image, label) in enumerate(
        zip(table.plain.double().numpy(), table.labels.tolist(), strict=True)
    ):
        own_draws = draws[row if conditional else 0].double().numpy()
        probabilities = probabilities_by_draw(one, state, image, own_draws)
        terms.append(-math.log(np.mean([row[label] for row in probabilities])))
        mean, deviation = posterior_by_loop(state, image)
        normal = torch.distributions.Normal
        divergence = torch.distributions.kl_divergence(
            normal(torch.tensor(mean), torch.tensor(deviation)), normal(0.0, 1.0)
        )
        divergences.append(divergence.mean().item())
    assert max(divergences) > 0.01
    assert loss.item() == pytest.approx(np.mean(terms) + 0.5 * np.mean(divergences), abs=1e-4)


def test_the_divergence_is_torchs() -> None:
    random = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(4, 9, generator=random), torch.randn(4, 9, generator=random)
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(distance_to_prior(mean, log_variance), expected)
    torch.testing.assert_close(distance_to_prior(torch.zeros(1, 5), torch.zeros(1, 5)), torch.tensor(0.0))


def test_the_number_of_learned_parameters() -> None:
    """M d + 2 d; conditional M d + two networks D -> h -> h -> d with h = D / 2."""
    assert learned(VariationalPrompts(StubBackbone())._model(CLASSES)) == 4 * 512 + 2 * 512
    d, D, h = 384, 1248, 624
    network = (D * h + h) + (h * h + h) + (h * d + d)
    model = VariationalPrompts(StubBackbone(d, D), conditional=True, context=7)._model(CLASSES)
    assert learned(model) == 7 * d + 2 * network


@pytest.fixture
def _in_double() -> Iterator[None]:
    torch.set_default_dtype(torch.double)
    yield
    torch.set_default_dtype(torch.float)


@pytest.mark.usefixtures("_in_double")
@pytest.mark.parametrize("conditional", [False, True])
def test_gradients_reach_everything_also_in_parts(
    conditional: bool, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load_backbone(str(tiny_clip), device="cpu")
    backbone._model.double()
    model = VariationalPrompts(backbone, conditional=conditional, samples=3, kl_weight=0.1)._model(CLASSES)
    images = torch.randn(5, 24, generator=torch.Generator().manual_seed(1)).double()
    labels = torch.arange(5) % 3
    draws = torch.randn(5 if conditional else 1, 3, 32, generator=torch.Generator().manual_seed(2)).double()

    def loss() -> torch.Tensor:
        return model.loss(images, labels, draws)

    loss().backward()
    parameters = dict(model.named_parameters())
    assert len(parameters) == (1 + 2 * 6 if conditional else 3)
    gradients = {name: parameter.grad.clone() for name, parameter in parameters.items()}
    slopes = gradients_by_differences(loss, list(parameters.values()))
    for (name, gradient), slope in zip(gradients.items(), slopes, strict=True):
        assert gradient.norm() > 0, name
        assert slope == pytest.approx(gradient.norm().item(), rel=1e-3), name
    monkeypatch.setattr(class_prompts, "TEXTS_AT_ONCE", 4)
    model.zero_grad()
    loss().backward()
    for name, gradient in gradients.items():
        torch.testing.assert_close(parameters[name].grad, gradient, atol=1e-11, rtol=1e-7)
    expected = model(images)
    monkeypatch.setattr(vpt, "IMAGES_AT_ONCE", 2)
    torch.testing.assert_close(model(images), expected, atol=1e-11, rtol=1e-9)


@pytest.mark.parametrize("conditional", [False, True])
def test_new_draws_at_each_step_fixed_ones_in_prediction_all_from_the_seed(
    conditional: bool, reference
) -> None:
    backbone = reference("clip").backbone
    table = made_up(CLASSES, 6, 24)
    losses = []
    for seed in (1, 1, 2):
        model = VariationalPrompts(backbone, conditional=conditional, samples=3, seed=seed)._model(CLASSES)
        losses.append([model.backward(table.plain, table.labels).item() for _ in range(2)])
        assert torch.equal(model(table.plain), model(table.plain))
        torch.testing.assert_close(model(table.plain).exp().sum(1), torch.ones(6))
    assert losses[0][0] != losses[0][1]
    assert losses[0] == losses[1] != losses[2]
    models = [fitted(backbone, conditional=conditional, seed=seed) for seed in (1, 1, 2)]
    one, again, other = (model.predict_proba(table.plain) for model in models)
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_only_the_conditional_form_encodes_texts_to_predict(
    reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = reference("clip").backbone
    fixed, conditional = fitted(backbone), fitted(backbone, conditional=True)
    images = torch.randn(5, 24, generator=torch.Generator().manual_seed(1))
    rows = fixed.predict_proba(images), conditional.predict_proba(images)
    calls = []
    encode = backbone.encode_tokens
    monkeypatch.setattr(backbone, "tokenize", lambda _: pytest.fail("a text was read"))
    monkeypatch.setattr(
        backbone, "encode_tokens", lambda rows, end: calls.append(len(rows)) or encode(rows, end)
    )
    for model, expected in zip((fixed, conditional), rows, strict=True):
        options = {**model.options(), "seed": 77}
        again = VariationalPrompts(backbone, **options).load_state(model.classes, model.state())
        assert calls == []
        assert np.array_equal(again.predict_proba(images), expected)
    assert calls == [5 * 3 * 3]  # images, draws, classes
    assert fixed.state()["class_vectors"].shape == (3, 3, 24)
    assert "prompts.tokens" not in fixed.state()


def test_the_shared_posteriors_texts_are_encoded_once_for_any_number_of_images(
    reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, calls = reference("clip").backbone, []
    model = VariationalPrompts(backbone, samples=3)._model(CLASSES)
    encode = backbone.encode_tokens
    monkeypatch.setattr(
        backbone, "encode_tokens", lambda rows, end: calls.append(len(rows)) or encode(rows, end)
    )
    model(torch.randn(500, 24))
    table = made_up(CLASSES, 40, 24)
    model.backward(table.plain, table.labels)
    assert calls == [9, 9]


@pytest.mark.parametrize("conditional", [False, True])
def test_it_learns(conditional: bool, reference) -> None:
    """Each step's draws make the loss jump, and one run's last epoch is chance: so the mean of two runs."""
    recipe = Recipe(epochs=50, learning_rate=0.05, batch_size=8, select_by="last")
    left = []
    for seed in (1, 2):
        model = fitted(reference("clip").backbone, recipe=recipe, conditional=conditional, seed=seed)
        left.append(model.history[-1]["val_loss"] / model.history[0]["val_loss"])
    assert sum(left) / 2 < 0.75, left


def test_published_defaults() -> None:
    made = VariationalPrompts(StubBackbone())
    options = made.options()
    assert (options["context"], options["init_words"]) == (4, "a photo of a")
    assert (options["conditional"], options["samples"], options["kl_weight"]) == (False, 10, 0.001)
    recipe = get_recipe("paper", VariationalPrompts.recipes)
    assert (recipe.learning_rate, recipe.epochs, recipe.batch_size, recipe.select_by) == (
        0.002,
        10,
        1,
        "last",
    )
    posterior = made._model(CLASSES).posterior
    assert torch.equal(posterior.mean, torch.zeros(512))
    assert 0 <= posterior.log_variance.min() < 0.1 < 0.9 < posterior.log_variance.max() < 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"context": 0}, "context is 0"),
        ({"samples": 0}, "samples is 0.*1 or more"),
        ({"kl_weight": -1.0}, r"kl_weight is -1\.0.*0 or more"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        create_method("vpt", StubBackbone(), None, **options)
