"""A model's own backward pass in the one loop, and recipes of a method's own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from medvip.errors import UsageError
from medvip.features import FeatureTable
from medvip.training import RECIPES, Recipe, get_recipe, train_model


def table(images: int, seed: int = 0) -> FeatureTable:
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % 3
    vectors = torch.randn(images, 1, 6, generator=random) + labels[:, None, None]
    names = tuple(f"{row}.png" for row in range(images))
    return FeatureTable(vectors, labels, ("a", "b", "c"), names, names, names, "none")


class OwnBackward(nn.Module):
    """Leaves the gradient that it was given, and remembers what it was shown."""

    def __init__(self, gradient: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 6))
        self.gradient, self.shown = gradient, []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images @ self.weight.T

    def backward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        assert self.training
        assert self.weight.grad is None, "nothing is left of the step before"
        self.weight.grad = self.gradient.clone()
        self.shown.append((images, labels))
        return torch.tensor(float(len(self.shown)))


def test_a_models_own_backward_decides_its_gradients_and_its_loss() -> None:
    gradient = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
    model, history = OwnBackward(gradient), []
    train = table(10)
    recipe = Recipe(
        epochs=2,
        learning_rate=0.1,
        momentum=0.0,
        weight_decay=0.0,
        batch_size=4,
        warmup_epochs=0,
        select_by="last",
    )
    train_model(model, train, table(6), recipe, 1, history, quiet=True)
    rates = [recipe.learning_rate_at(epoch) for epoch in range(2)]
    torch.testing.assert_close(model.weight.data, -sum(3 * rate for rate in rates) * gradient)
    assert [len(images) for images, _ in model.shown] == [4, 4, 2, 4, 4, 2]
    assert [entry["loss"] for entry in history] == pytest.approx(
        [(4 * 1 + 4 * 2 + 2 * 3) / 10, (4 * 4 + 4 * 5 + 2 * 6) / 10]
    )
    for images, labels in model.shown:  # each image beside its own label
        rows = [int((train.plain - image).norm(dim=1).argmin()) for image in images]
        assert labels.tolist() == train.labels[rows].tolist()


def test_without_one_the_loss_is_cross_entropy_of_the_logits() -> None:
    class Plain(OwnBackward):
        backward = None

    class Written(OwnBackward):
        def backward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            loss = -self(images).log_softmax(-1)[torch.arange(len(labels)), labels].mean()
            loss.backward()
            return loss.detach()

    runs = []
    for kind in (Plain, Written):
        model, history = kind(torch.zeros(1)), []
        train_model(model, table(20), table(6), Recipe(epochs=3), 1, history, quiet=True)
        runs.append((model.weight.data, [entry["loss"] for entry in history]))
    torch.testing.assert_close(runs[0][0], runs[1][0])
    assert runs[0][1] == pytest.approx(runs[1][1])


def test_names_are_looked_for_among_a_methods_own_recipes() -> None:
    own = {"paper": Recipe(epochs=7), "slow": Recipe(epochs=900)}
    assert get_recipe("paper", own).epochs == 7
    assert get_recipe("slow", own, learning_rate=0.5) == replace(own["slow"], learning_rate=0.5)
    assert get_recipe("paper") == RECIPES["paper"]
    assert get_recipe(Recipe(epochs=3), own).epochs == 3
    with pytest.raises(UsageError, match=r"no recipe 'fast'.*use one of: paper, slow"):
        get_recipe("fast", own)
