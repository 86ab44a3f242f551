"""The learning rate against torch's own schedulers; recipes that make no sense are refused."""

from __future__ import annotations

import math

import pytest
import torch

from medvip.errors import UsageError
from medvip.training import RECIPES, Recipe, get_recipe


def rates_of_torch(recipe: Recipe) -> list[float]:
    """Constant warm-up, then cosine annealing counted anew, as the reference's framework runs it."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.learning_rate)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=recipe.epochs)
    rates = []
    for epoch in range(recipe.epochs):
        warming_up = epoch < recipe.warmup_epochs
        rates.append(recipe.warmup_learning_rate if warming_up else optimizer.param_groups[0]["lr"])
        optimizer.step()
        if not warming_up:
            cosine.step()
    return rates


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(),
        Recipe(warmup_epochs=0, epochs=10, learning_rate=0.05),
        Recipe(warmup_epochs=3, epochs=7, learning_rate=0.3, warmup_learning_rate=0.01),
        Recipe(epochs=1),
        *RECIPES.values(),
    ],
)
def test_the_learning_rate_is_that_of_torchs_schedulers(recipe: Recipe) -> None:
    ours = [recipe.learning_rate_at(epoch) for epoch in range(recipe.epochs)]
    assert ours == pytest.approx(rates_of_torch(recipe), rel=1e-9, abs=1e-15)


def test_the_papers_recipe_is_that_of_the_reference_code() -> None:
    paper = RECIPES["paper"]
    assert (paper.optimizer, paper.learning_rate, paper.momentum, paper.weight_decay) == (
        "sgd", 0.002, 0.9, 5e-4,
    )  # fmt: skip
    assert (paper.epochs, paper.batch_size, paper.warmup_epochs) == (50, 32, 1)
    assert (paper.warmup_learning_rate, paper.select_by) == (1e-5, "accuracy")
    assert paper.learning_rate_at(0) == 1e-5
    assert paper.learning_rate_at(1) == 0.002
    assert paper.learning_rate_at(49) == pytest.approx(0.001 * (1 + math.cos(math.pi * 48 / 50)))


def test_a_recipe_by_name_by_value_and_with_changes() -> None:
    assert get_recipe("paper") == get_recipe(Recipe()) == get_recipe({}) == Recipe()
    assert get_recipe("paper", epochs=3).epochs == 3
    assert get_recipe(Recipe(momentum=0.5), epochs=3) == Recipe(momentum=0.5, epochs=3)
    assert get_recipe({"epochs": 4, "momentum": 0.1}, epochs=3) == Recipe(momentum=0.1, epochs=3)
    assert RECIPES["paper"].epochs == 50


def checked(**values: object) -> None:
    """As a recipe checks itself; the tests' own checks of types would come before."""
    recipe = Recipe()
    for name, value in values.items():
        object.__setattr__(recipe, name, value)
    recipe.__post_init__()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: get_recipe("papr"), r"there is no recipe 'papr' \(to mend it: use one of: paper, fast\)"),
        (lambda: get_recipe("paper", epoch=3), r"a recipe has no \['epoch'\].*its values are: .*epochs"),
        (lambda: get_recipe({"lr": 1.0}), r"a recipe has no \['lr'\].*learning_rate"),
        (lambda: get_recipe("paper", epochs=0), "epochs is 0.*1 or more"),
        (lambda: Recipe(batch_size=0), "batch_size is 0.*1 or more"),
        (lambda: Recipe(learning_rate=-1.0), "learning_rate is -1.0.*0 or more"),
        (lambda: Recipe(learning_rate=math.nan), "learning_rate is nan.*finite"),
        (lambda: Recipe(weight_decay=math.inf), "weight_decay is inf.*finite"),
        (lambda: Recipe(warmup_epochs=-1), "warmup_epochs is -1.*0 or more"),
        (lambda: checked(optimizer="adam"), r"optimizer is 'adam'.*sgd.*adamw"),
        (lambda: checked(select_by="f1"), r"select_by is 'f1'.*macro_f1"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_way_out(make, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make()


def test_few_images_train_as_many_steps_as_the_recipe_wants() -> None:
    assert Recipe(epochs=20, batch_size=32, min_steps=400).for_images(601).epochs == 22
    assert Recipe(epochs=20, batch_size=32, min_steps=400).for_images(8).epochs == 400
    assert Recipe(epochs=50).for_images(8).epochs == 50
    assert get_recipe("fast", epochs=3).for_images(8).epochs == 3, "asked for is asked for"
