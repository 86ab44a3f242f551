"""Tip-Adapter, CLIP-Adapter and the concept bottleneck against loops, torch's optimisers and optimality."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics import f1_score
from small_models import made_up, texts_by_transformers

from medvip.backbones import Backbone, load_backbone
from medvip.errors import TrainingError, UsageError
from medvip.features import FeatureTable
from medvip.methods import ClipAdapter, ConceptBottleneck, TipAdapter, TipAdapterF, create_method, tip_adapter
from medvip.methods.tip_adapter import ALPHAS, BETAS, GRID
from medvip.symptoms import SymptomSet
from medvip.training import Recipe

CLASSES = ("blue", "green", "red")


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
def names(clip: Backbone, tiny_clip: Path) -> np.ndarray:
    texts = [f"a photo of a {name}." for name in CLASSES]
    vectors = texts_by_transformers("clip", tiny_clip, clip, texts, torch.zeros(0, 32)).astype(float)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def noisy(images: int, seed: int, views: int = 1) -> FeatureTable:
    table = made_up(CLASSES, images, 24, views=views, seed=seed)
    random = torch.Generator().manual_seed(seed + 100)
    table.vectors.add_(1.5 * torch.randn(table.vectors.shape, generator=random))
    return table


def nothing(like: FeatureTable) -> FeatureTable:
    return like.taken(np.zeros(0, dtype=int))


def of_length_1(vectors) -> np.ndarray:
    found = np.asarray(vectors, dtype=float)
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


def tip_by_loop(images, keys, labels, texts, scale: float, alpha: float, beta: float) -> np.ndarray:
    """The paper's sum, key by key."""
    table = []
    for f in of_length_1(images):
        logits = [scale * float(f @ t) for t in texts]
        for key, label in zip(keys, labels, strict=True):
            logits[label] += alpha * math.exp(-beta * (1 - float(f @ key)))
        table.append(logits)
    return np.array(table)


def test_the_grid_is_the_widest_of_the_released_ones() -> None:
    """i * (30 - 0.1) / steps + 0.1, for i from 0."""
    np.testing.assert_allclose(BETAS, [i * 29.9 / 200 + 0.1 for i in range(200)])
    np.testing.assert_allclose(ALPHAS, [i * 29.9 / 20 + 0.1 for i in range(20)])
    assert sorted(GRID) == sorted((alpha, beta) for alpha in ALPHAS for beta in BETAS)


@pytest.mark.parametrize("views", [1, 3])
def test_tip_adapter_by_loop(
    clip: Backbone, names: np.ndarray, views: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = tuple((alpha, beta) for beta in (0.5, 4.0, 20.0) for alpha in (0.3, 2.0, 15.0))
    monkeypatch.setattr(tip_adapter, "GRID", grid)
    train, validation, images = noisy(20, 0, views), noisy(20, 1), noisy(7, 2).plain
    keys = of_length_1(
        [np.mean([view.numpy().astype(float) for view in image], axis=0) for image in train.vectors]
    )
    labels, y, scale = train.labels.tolist(), validation.labels.numpy(), math.exp(clip.logit_scale)

    def key(pair: tuple[float, float]):
        predicted = tip_by_loop(validation.plain, keys, labels, names, scale, *pair).argmax(1)
        f1 = f1_score(y, predicted, labels=range(3), average="macro", zero_division=0)
        return -round(float(f1), 12), -(predicted == y).mean(), pair

    best = min(grid, key=key)
    model = TipAdapter(clip).fit(train, validation)
    assert (model.history[-1]["alpha"], model.history[-1]["beta"]) == best
    expected = softmax(tip_by_loop(images, keys, labels, names, scale, *best), 1)
    np.testing.assert_allclose(model.predict_proba(images), expected, atol=1e-5)


def test_tip_adapter_without_anything_to_choose_by_takes_imagenets_numbers(
    clip: Backbone, names: np.ndarray
) -> None:
    train, images = noisy(3, 0).taken(np.arange(3)), noisy(5, 1).plain
    model = TipAdapter(clip).fit(train, nothing(train))
    keys, scale = of_length_1(train.plain), math.exp(clip.logit_scale)
    expected = softmax(tip_by_loop(images, keys, train.labels.tolist(), names, scale, 1.17, 1.0), 1)
    np.testing.assert_allclose(model.predict_proba(images), expected, atol=1e-5)


def test_tip_adapter_f_trains_its_keys_as_torchs_adamw_does(
    clip: Backbone, names: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full batches, so that the order of the images says nothing; one pair, so that one start is left."""
    monkeypatch.setattr(tip_adapter, "GRID", ((2.0, 3.0),))
    monkeypatch.setattr(tip_adapter, "START", (2.0, 3.0))
    train, validation, images = noisy(20, 0), noisy(9, 1), noisy(7, 2).plain
    recipe = Recipe(
        "adamw", 0.01, weight_decay=0.01, epochs=4, batch_size=20, warmup_epochs=0, select_by="last"
    )
    model = TipAdapterF(clip, recipe=recipe).fit(train, validation)
    F, T, Y = torch.tensor(of_length_1(train.plain)), torch.tensor(names), train.labels
    keys = torch.nn.Parameter(F.clone())
    optimizer = torch.optim.AdamW([keys], lr=0.01, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
    one_hot = torch.eye(3, dtype=torch.float64)[Y]
    for _ in range(4):
        logits = math.exp(clip.logit_scale) * F @ T.T + 2.0 * torch.exp(-3.0 * (1 - F @ keys.T)) @ one_hot
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, Y).backward()
        optimizer.step()
        schedule.step()
    found = model.state()["cache_keys"].double()
    assert (found - F).abs().max() > 0.01, "nothing was trained"
    np.testing.assert_allclose(found, keys.detach(), atol=2e-4)
    scale = math.exp(clip.logit_scale)
    expected = softmax(tip_by_loop(images, found.numpy(), Y.tolist(), names, scale, 2.0, 3.0), 1)
    np.testing.assert_allclose(model.predict_proba(images), expected, atol=1e-5)


def test_tip_adapter_f_keeps_the_start_that_validation_prefers(
    clip: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the two comes first."""
    weak, strong = (0.1, 1.0), (8.0, 6.0)
    monkeypatch.setattr(tip_adapter, "GRID", (weak, strong))
    search = TipAdapter._search

    def fitted(published: tuple[float, float], found: tuple[float, float]) -> TipAdapterF:
        def searched(self, train, validation, texts, history, keys=None):
            """Before the training it finds `found`; after it, it searches."""
            return (
                (found, (0.0, 0.0)) if keys is None else search(self, train, validation, texts, history, keys)
            )

        monkeypatch.setattr(tip_adapter, "START", published)
        monkeypatch.setattr(TipAdapter, "_search", searched)
        recipe = Recipe("adamw", 0.01, epochs=3, batch_size=8, warmup_epochs=0)
        return TipAdapterF(clip, recipe=recipe).fit(noisy(30, 5), noisy(30, 6))

    def figures(model: TipAdapterF) -> tuple[float, float]:
        return model.history[-1]["val_macro_f1"], model.history[-1]["val_accuracy"]

    one, other = fitted(weak, weak), fitted(strong, strong)
    assert figures(one) != figures(other)
    better = max(one, other, key=figures)
    for both in (fitted(weak, strong), fitted(strong, weak)):
        assert figures(both) == figures(better)
        assert torch.equal(both.state()["cache_keys"], better.state()["cache_keys"])
        assert [entry.get("epoch") for entry in both.history].count(1) == 1, "the history of one training"


def test_tip_adapter_f_without_validation_images(clip: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tip_adapter, "GRID", ((0.5, 1.0), (8.0, 6.0)))
    train = noisy(18, 0)
    with pytest.raises(TrainingError, match="select_by = last"):
        TipAdapterF(clip).fit(train, nothing(train))
    recipe = Recipe("adamw", 0.01, epochs=2, batch_size=8, select_by="last")
    model = TipAdapterF(clip, recipe=recipe).fit(train, nothing(train))
    chosen = TipAdapter(clip).fit(train, nothing(train)).history[-1]
    assert float(model.state()["alpha"]) == chosen["alpha"]
    assert float(model.state()["beta"]) == chosen["beta"]


def test_clip_adapter_by_loop(clip: Backbone, names: np.ndarray) -> None:
    recipe = Recipe(learning_rate=0.05, epochs=3, batch_size=8, select_by="last")
    model = ClipAdapter(clip, ratio=0.3, reduction=5, recipe=recipe).fit(noisy(24, 0), noisy(9, 1))
    down, up = (model.state()[name].numpy().astype(float) for name in ("down", "up"))
    assert (down.shape, up.shape) == ((24 // 5, 24), (24, 24 // 5))
    rows, images = [], noisy(6, 2).plain
    for v in images.numpy().astype(float):
        hidden = [max(0.0, sum(w * x for w, x in zip(line, v, strict=True))) for line in down]
        wide = [max(0.0, sum(w * h for w, h in zip(line, hidden, strict=True))) for line in up]
        adapted = np.array([0.3 * a + 0.7 * x for a, x in zip(wide, v, strict=True)])
        cosines = [adapted @ t / math.sqrt(adapted @ adapted) for t in names]
        rows.append(softmax([math.exp(clip.logit_scale) * c for c in cosines]))
    np.testing.assert_allclose(model.predict_proba(images), rows, atol=1e-5)


def test_clip_adapter_learns_as_torchs_own_layers_do(clip: Backbone, names: np.ndarray) -> None:
    train = noisy(20, 0)
    recipe = Recipe(learning_rate=0.05, epochs=4, batch_size=20, warmup_epochs=0, select_by="last")
    model = ClipAdapter(clip, recipe=recipe, seed=7).fit(train, noisy(9, 1))
    start = (
        ClipAdapter(clip, recipe=replace(recipe, learning_rate=0.0), seed=7).fit(train, noisy(9, 1)).state()
    )
    layers = torch.nn.Sequential(
        torch.nn.Linear(24, 6, bias=False),
        torch.nn.ReLU(),
        torch.nn.Linear(6, 24, bias=False),
        torch.nn.ReLU(),
    ).double()
    with torch.no_grad():
        layers[0].weight.copy_(start["down"])
        layers[2].weight.copy_(start["up"])
    # as torch's own layers start: uniform within 1 / sqrt(inputs)
    for weight, inputs in ((start["down"], 24), (start["up"], 6)):
        assert 0.7 / math.sqrt(inputs) < float(weight.abs().max()) <= 1 / math.sqrt(inputs)
    optimizer = torch.optim.SGD(layers.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
    V, T = train.plain.double(), torch.tensor(names)
    for _ in range(4):
        adapted = torch.nn.functional.normalize(0.2 * layers(V) + 0.8 * V, dim=-1)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(math.exp(clip.logit_scale) * adapted @ T.T, train.labels).backward()
        optimizer.step()
        schedule.step()
    state = model.state()
    assert (state["down"] - start["down"]).abs().max() > 1e-3, "nothing was trained"
    np.testing.assert_allclose(state["down"], layers[0].weight.detach(), atol=1e-5)
    np.testing.assert_allclose(state["up"], layers[2].weight.detach(), atol=1e-5)


def test_clip_adapter_with_a_ratio_of_0_is_zero_shot(clip: Backbone) -> None:
    train, images = noisy(12, 0), noisy(5, 1).plain
    adapter = ClipAdapter(clip, ratio=0.0, recipe=Recipe(epochs=1)).fit(train, noisy(9, 1))
    zero_shot = create_method("zero-shot-names", clip, None).fit(train, train)
    np.testing.assert_allclose(adapter.predict_proba(images), zero_shot.predict_proba(images), atol=1e-6)


@pytest.mark.parametrize("wrong", [{"ratio": 1.2}, {"ratio": -0.1}, {"ratio": math.nan}, {"reduction": 0}])
def test_clip_adapter_refuses_what_makes_no_sense(clip: Backbone, wrong: dict) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        ClipAdapter(clip, **wrong)


@pytest.fixture
def symptoms(tiny_symptoms: dict[str, list[str]]) -> SymptomSet:
    return SymptomSet.from_mapping(tiny_symptoms)


def similarities(
    clip: Backbone, folder: Path, symptoms: dict[str, list[str]], images: torch.Tensor
) -> np.ndarray:
    texts = [text for name in CLASSES for text in symptoms[name]]
    vectors = texts_by_transformers("clip", folder, clip, texts, torch.zeros(0, 32))
    return of_length_1(images) @ of_length_1(vectors).T


@pytest.mark.parametrize("classes", [2, 3])
def test_concept_bottleneck_is_at_the_optimum_of_its_sparse_loss(
    clip: Backbone, tiny_clip: Path, tiny_symptoms: dict[str, list[str]], classes: int
) -> None:
    """Where a weight is 0 the loss's slope is at most 1/C, elsewhere it is 1/C against the weight's sign."""
    names = CLASSES[:classes]
    symptoms = {name: tiny_symptoms[name] for name in names}
    padded = {name: symptoms.get(name, []) for name in CLASSES}
    train, validation, images = (
        made_up(names, count, 24, seed=seed) for count, seed in ((60, 0), (30, 1), (7, 2))
    )
    for table, noise in ((train, 2), (validation, 9), (images, 2)):  # so that a strong penalty is the best
        generator = torch.Generator().manual_seed(8)
        table.vectors.add_(noise * torch.randn(table.vectors.shape, generator=generator))
    model = ConceptBottleneck(clip, SymptomSet.from_mapping(symptoms)).fit(train, validation)
    C, state = model.history[-1]["C"], model.state()
    concepts = similarities(clip, tiny_clip, padded, train.plain)
    mean, std = concepts.mean(0), concepts.std(0)
    X, Y, W = (concepts - mean) / std, np.eye(classes)[train.labels.numpy()], state["weights"].numpy()
    error = softmax(X @ W.T + state["bias"].numpy(), 1) - Y
    slopes = C * error.T @ X
    learned = slice(1, 2) if classes == 2 else slice(None)
    for slope, weight in zip(slopes[learned].ravel(), W[learned].ravel(), strict=True):
        if weight == 0:
            assert abs(slope) <= 1.02
        else:
            assert slope == pytest.approx(-math.copysign(1, weight), abs=0.02)
    np.testing.assert_allclose(error.sum(0), 0, atol=0.02 * len(train))  # the bias is not penalised
    standardised = (similarities(clip, tiny_clip, padded, images.plain) - mean) / std
    expected = softmax(standardised @ W.T + state["bias"].numpy(), 1)
    np.testing.assert_allclose(model.predict_proba(images.plain), expected, atol=1e-4)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_concept_bottleneck_chooses_its_strength_on_validation_images(
    clip: Backbone, tiny_clip: Path, tiny_symptoms: dict[str, list[str]], symptoms: SymptomSet
) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, validation = noisy(60, 0), noisy(40, 1)
    X, V = (similarities(clip, tiny_clip, tiny_symptoms, table.plain) for table in (train, validation))
    y = validation.labels.numpy()

    def key(C: float):
        regression = LogisticRegression(C=C, l1_ratio=1.0, solver="saga", max_iter=2000, random_state=1)
        predicted = make_pipeline(StandardScaler(), regression).fit(X, train.labels.numpy()).predict(V)
        f1 = f1_score(y, predicted, labels=range(3), average="macro", zero_division=0)
        return -round(float(f1), 12), -(predicted == y).mean(), C

    best = min((10 ** (step / 2) for step in range(-6, 7)), key=key)
    model = ConceptBottleneck(clip, symptoms).fit(train, validation)
    assert model.history[-1]["C"] == pytest.approx(best)
    assert model.history[-1]["val_macro_f1"] == pytest.approx(-key(best)[0])


def test_a_strong_penalty_leaves_symptoms_out(
    clip: Backbone, symptoms: SymptomSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    for strength in (0.05, 100.0):
        monkeypatch.setattr("medvip.methods.concept_bottleneck.STRENGTHS", (strength,))
        model = ConceptBottleneck(clip, symptoms).fit(noisy(60, 0), noisy(30, 1))
        counts.append(int((model.state()["weights"] != 0).any(0).sum()))
    assert counts[0] < counts[1]
