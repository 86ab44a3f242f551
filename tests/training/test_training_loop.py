"""The one loop against a plain torch loop, its repeatability, and which epoch it keeps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch import nn

from medvip.errors import TrainingError
from medvip.features import FeatureTable
from medvip.training import Recipe, loop, train_model


def table(images: int, views: int = 1, classes: int = 3, seed: int = 0, dim: int = 6) -> FeatureTable:
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % classes
    centres = torch.randn(classes, dim, generator=torch.Generator().manual_seed(99))
    vectors = centres[labels][:, None] + 1.5 * torch.randn(images, views, dim, generator=random)
    return table_of(vectors, labels, classes)


def table_of(vectors: torch.Tensor, labels: torch.Tensor, classes: int) -> FeatureTable:
    names = tuple(f"{row}.png" for row in range(len(labels)))
    return FeatureTable(vectors, labels, tuple("abcde"[:classes]), names, names, names, "none")


def linear(dim: int = 6, classes: int = 3) -> nn.Linear:
    model = nn.Linear(dim, classes)
    with torch.no_grad():
        model.weight.copy_(torch.randn(classes, dim, generator=torch.Generator().manual_seed(4)))
        model.bias.zero_()
    return model


def trained(recipe: Recipe, seed: int = 1, views: int = 1, images: int = 50) -> tuple[nn.Linear, list[dict]]:
    model, history = linear(), []
    train_model(model, table(images, views), table(30, seed=5), recipe, seed, history, quiet=True)
    return model, history


def plain_loop(recipe: Recipe, seed: int, views: int, images: int) -> tuple[torch.Tensor, list[float]]:
    """Weights and losses of the same training: gradients, momentum and decay written out."""
    data = table(images, views)
    weight, bias = linear().weight.detach().double(), torch.zeros(3, dtype=torch.double)
    steps = [torch.zeros_like(weight), torch.zeros_like(bias)]
    random = torch.Generator().manual_seed(seed)
    losses, first = [], True
    for epoch in range(recipe.epochs):
        rate = (
            recipe.warmup_learning_rate
            if epoch < recipe.warmup_epochs
            else recipe.learning_rate
            * 0.5
            * (1 + math.cos(math.pi * (epoch - recipe.warmup_epochs) / recipe.epochs))
        )
        order = torch.randperm(images, generator=random)
        view = torch.randint(views, (images,), generator=random)
        total = 0.0
        for start in range(0, images, recipe.batch_size):
            batch = order[start : start + recipe.batch_size]
            x = torch.stack([data.vectors[i, view[i]] for i in batch]).double()
            y = torch.eye(3, dtype=torch.double)[data.labels[batch]]
            probabilities = torch.softmax(x @ weight.T + bias, 1)
            total += float(-(y * probabilities.log()).sum())
            error = (probabilities - y) / len(batch)
            gradients = [error.T @ x, error.sum(0)]
            for i, parameter in enumerate((weight, bias)):
                decayed = gradients[i] + recipe.weight_decay * parameter
                steps[i] = decayed if first else recipe.momentum * steps[i] + decayed
                parameter -= rate * steps[i]
            first = False
        losses.append(total / images)
    return weight, losses


@pytest.mark.parametrize(("views", "images"), [(1, 50), (1, 64), (4, 33)])
def test_it_is_a_plain_loop_of_sgd(views: int, images: int) -> None:
    recipe = Recipe(epochs=8, learning_rate=0.1, batch_size=16, select_by="last", weight_decay=0.01)
    model, history = trained(recipe, seed=3, views=views, images=images)
    weight, losses = plain_loop(recipe, 3, views, images)
    torch.testing.assert_close(model.weight.detach().double(), weight, atol=1e-5, rtol=0)
    assert [entry["loss"] for entry in history] == pytest.approx(losses, abs=1e-5)
    assert losses[-1] < 0.6 * losses[0]


def test_adamw_is_torchs() -> None:
    recipe = Recipe(
        optimizer="adamw", epochs=4, learning_rate=0.02, batch_size=50, select_by="last", weight_decay=0.1
    )
    model, _ = trained(recipe)
    data, other = table(50), linear()
    optimizer = torch.optim.AdamW(other.parameters(), lr=0.02, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
    for epoch in range(4):
        if epoch == 0:
            optimizer.param_groups[0]["lr"] = 1e-5
        optimizer.zero_grad()
        nn.functional.cross_entropy(other(data.plain), data.labels).backward()
        optimizer.step()
        if epoch == 0:
            optimizer.param_groups[0]["lr"] = 0.02
        else:
            schedule.step()
    torch.testing.assert_close(model.weight, other.weight, atol=1e-5, rtol=0)


def test_same_seed_same_bits_other_seed_others() -> None:
    recipe = Recipe(epochs=5, learning_rate=0.05, select_by="last")
    (one, first), (two, second), (three, _) = trained(recipe), trained(recipe), trained(recipe, seed=2)
    assert torch.equal(one.weight, two.weight)
    assert torch.equal(one.bias, two.bias)
    assert not torch.equal(one.weight, three.weight)
    for entry in (*first, *second):
        assert entry.pop("seconds") > 0
    assert first == second


def test_nothing_else_draws_from_the_order_of_images() -> None:
    """Torch's global generator neither matters nor moves."""
    recipe = Recipe(epochs=2, learning_rate=0.05, select_by="last")
    train, validation, models = table(50), table(30), [linear(), linear()]
    for number, model in enumerate(models):
        torch.manual_seed(number)
        before = torch.get_rng_state()
        train_model(model, train, validation, recipe, 1, [], quiet=True)
        assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(models[0].weight, models[1].weight)


class Script(nn.Module):
    """Says on each epoch's validation what the script says: one list of logits' rows an epoch."""

    def __init__(self, epochs: list[torch.Tensor]) -> None:
        super().__init__()
        self.epoch = nn.Parameter(torch.zeros(1))  # a state to recognise the kept epoch by
        self.epochs, self.shown = epochs, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            with torch.no_grad():
                self.epoch.fill_(self.shown + 1.0)
            return 0 * self.epoch + torch.zeros(len(images), 2)
        self.shown += 1
        return self.epochs[self.shown - 1]


LABELS = torch.tensor([0, 0, 0, 0, 1, 1])


def logits(predictions: list[int], sure: float) -> torch.Tensor:
    return sure * nn.functional.one_hot(torch.tensor(predictions), 2).float()


SCRIPT = [
    logits([0, 0, 0, 1, 0, 0], 1.0),  # accuracy .50
    logits([0, 0, 0, 0, 0, 0], 9.0),  # accuracy .67, one class only, sure of it: a high loss
    logits([0, 0, 1, 1, 1, 1], 1.0),  # accuracy .67 again, the best macro-F1
    logits([0, 0, 0, 0, 0, 0], 0.1),  # accuracy .67 again, unsure
    logits([0, 0, 1, 1, 1, 1], 1.0),  # the third again
    logits([1, 1, 1, 1, 0, 0], 3.0),  # all wrong
]


@pytest.mark.parametrize(
    ("select_by", "kept", "bests"),
    [
        ("accuracy", 2, [1, 2]),
        ("macro_f1", 3, [1, 2, 3]),
        ("loss", 3, [1, 3]),
        ("last", 6, [1, 2, 3, 4, 5, 6]),
    ],
)
def test_the_best_epoch_is_kept_the_earliest_of_equals(select_by, kept: int, bests: list[int]) -> None:
    model, history = Script(SCRIPT), []
    vectors = table_of(torch.zeros(6, 1, 1), LABELS, 2)
    recipe = Recipe(epochs=6, learning_rate=0.0, warmup_learning_rate=0.0, select_by=select_by)
    train_model(model, vectors, vectors, recipe, 1, history, quiet=True)
    assert model.epoch.item() == kept
    assert [entry["epoch"] for entry in history if entry.get("best")] == bests
    assert [entry["epoch"] for entry in history] == [1, 2, 3, 4, 5, 6]
    for entry, said in zip(history, SCRIPT, strict=True):
        predicted, target = said.argmax(1).numpy(), LABELS.numpy()
        assert entry["val_accuracy"] == pytest.approx(np.mean(predicted == target))
        assert entry["val_macro_f1"] == pytest.approx(f1_score(target, predicted, average="macro"))
        log_sum = np.log(np.exp(said.double().numpy()).sum(1))
        assert entry["val_loss"] == pytest.approx(np.mean(log_sum - said.numpy()[range(6), target]), abs=1e-5)


@pytest.mark.parametrize(("least", "kept"), [(6, 3), (7, 6)])
def test_few_validation_images_choose_nothing(least: int, kept: int) -> None:
    model, vectors = Script(SCRIPT), table_of(torch.zeros(6, 1, 1), LABELS, 2)
    recipe = Recipe(epochs=6, learning_rate=0.0, select_by="macro_f1", min_validation=least)
    train_model(model, vectors, vectors, recipe, 1, [], quiet=True)
    assert model.epoch.item() == kept


def test_of_equal_macro_f1_and_accuracy_the_lower_loss_decides() -> None:
    surer = [logits([0, 0, 1, 1, 1, 1], sureness) for sureness in (3.0, 0.8, 9.0)]
    model, vectors = Script(surer), table_of(torch.zeros(6, 1, 1), LABELS, 2)
    recipe = Recipe(epochs=3, learning_rate=0.0, warmup_learning_rate=0.0, select_by="macro_f1")
    history: list[dict[str, Any]] = []
    train_model(model, vectors, vectors, recipe, 1, history, quiet=True)
    losses = [entry["val_loss"] for entry in history]
    assert model.epoch.item() == 1 + losses.index(min(losses)) == 2


def test_validation_macro_f1_is_over_the_classes_that_have_images() -> None:
    """As for test images: the third class has no validation image, is called once, and is in no mean."""
    predicted = [0, 0, 0, 1, 1, 2]
    said = nn.functional.one_hot(torch.tensor(predicted), 3).float()
    found = loop.validation_scores(Script([said]), table_of(torch.zeros(6, 1, 1), LABELS, 3))
    expected = f1_score(LABELS, predicted, labels=[0, 1], average="macro")
    assert found["val_macro_f1"] == pytest.approx(expected)


def test_validation_looks_at_plain_pictures_only() -> None:
    train, validation = table(20, views=3), table(12, views=2)
    changed = validation.vectors.clone()
    changed[:, 1] = 1e6
    runs: list[list[dict[str, Any]]] = [[], []]
    for history, vectors in zip(runs, (validation.vectors, changed), strict=True):
        other = table_of(vectors, validation.labels, 3)
        train_model(linear(), train, other, Recipe(epochs=2), 1, history, quiet=True)
    assert [e["val_loss"] for e in runs[0]] == [e["val_loss"] for e in runs[1]]


def diverging(model: nn.Module, epochs_before: int, steps_an_epoch: int = 1) -> nn.Module:
    """The weights become infinite after the last step of an epoch."""
    calls = 0

    def ruin(gradient: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return gradient * (math.inf if calls == (epochs_before + 1) * steps_an_epoch else 1.0)

    model.weight.register_hook(ruin)
    return model


@pytest.mark.parametrize("select_by", ["accuracy", "loss", "last"])
def test_a_loss_that_is_not_finite_stops_and_the_best_before_is_kept(select_by: str) -> None:
    recipe = Recipe(epochs=9, learning_rate=0.05, batch_size=64, select_by=select_by)
    model, history = diverging(linear(), 4), []
    with pytest.raises(
        TrainingError, match=r"not finite in epoch 5 .*the best epoch before is kept"
    ) as caught:
        train_model(model, table(50), table(30, seed=5), recipe, 1, history, quiet=True)
    assert "lower the learning rate" in str(caught.value)
    assert [entry["epoch"] for entry in history] == [1, 2, 3, 4]
    best = max(entry["epoch"] for entry in history if entry.get("best"))
    expected, _ = trained_for(best)
    torch.testing.assert_close(model.weight, expected, atol=1e-6, rtol=0)


def trained_for(epochs: int) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    """Weights after the first epochs of nine."""
    model, weights = linear(), []
    history: list[dict[str, Any]] = []
    recipe = Recipe(epochs=9, learning_rate=0.05, batch_size=64, select_by="last")
    original = loop.validation_scores

    def remember(model: nn.Module, validation: FeatureTable) -> dict[str, float]:
        weights.append(model.weight.detach().clone())
        return original(model, validation)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "validation_scores", remember)
        train_model(model, table(50), table(30, seed=5), recipe, 1, history, quiet=True)
    return weights[epochs - 1], history


def test_weights_ruined_in_the_very_first_epoch_are_not_the_best() -> None:
    """Validation accuracy of NaN is that of class 0: more than nothing, and still worthless."""
    model, history = diverging(linear(), 0), []
    before = model.weight.detach().clone()
    with pytest.raises(TrainingError, match="not finite in epoch 1"):
        train_model(model, table(50), table(30), Recipe(batch_size=64), 1, history, quiet=True)
    assert history == []
    assert torch.equal(model.weight, before)


def test_without_validation_ruined_weights_are_noticed_too() -> None:
    model, history = diverging(linear(), 1), []
    recipe = Recipe(epochs=2, batch_size=64, select_by="last")
    with pytest.raises(TrainingError, match="not finite in epoch 2"):
        train_model(model, table(50), table(0), recipe, 1, history, quiet=True)
    assert model.weight.isfinite().all()


def test_extreme_vectors_stop_training() -> None:
    train = table(20)
    train.vectors[3, 0, 2] = math.nan
    with pytest.raises(TrainingError, match="check the vectors"):
        train_model(linear(), train, table(9), Recipe(), 1, [], quiet=True)


def test_an_interrupted_training_leaves_the_best_so_far() -> None:
    class Interrupted(list):
        def append(self, entry: dict) -> None:
            super().append(entry)
            if len(self) == 3:
                raise KeyboardInterrupt

    model, history = linear(), Interrupted()
    recipe = Recipe(epochs=9, learning_rate=0.05, batch_size=64, select_by="last")
    with pytest.raises(KeyboardInterrupt):
        train_model(model, table(50), table(30, seed=5), recipe, 1, history, quiet=True)
    assert torch.equal(model.weight, trained_for(3)[0])


@pytest.mark.parametrize(
    ("train", "validation", "select_by", "said"),
    [
        (0, 5, "accuracy", "0 training and 5 validation"),
        (5, 0, "accuracy", "5 training and 0 validation.*select_by = last"),
        (0, 0, "last", "0 training and 0 validation"),
    ],
)
def test_without_images_it_does_not_start(train: int, validation: int, select_by, said: str) -> None:
    history: list[dict[str, Any]] = []
    with pytest.raises(TrainingError, match=said):
        train_model(
            linear(), table(train), table(validation), Recipe(select_by=select_by), 1, history, quiet=True
        )
    assert history == []


def test_without_validation_the_last_epoch_can_be_kept() -> None:
    history: list[dict[str, Any]] = []
    train_model(linear(), table(9), table(0), Recipe(epochs=2, select_by="last"), 1, history, quiet=True)
    assert [set(entry) for entry in history] == [{"epoch", "learning_rate", "loss", "best", "seconds"}] * 2
