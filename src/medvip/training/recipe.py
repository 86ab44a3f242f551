"""How to train: every number of it in one frozen place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from medvip.errors import UsageError

Optimizer = Literal["sgd", "adamw"]
Selection = Literal["accuracy", "macro_f1", "loss", "last"]


@dataclass(frozen=True)
class Recipe:
    """Optimiser, schedule and model selection.

    Attributes
    ----------
    optimizer
        ``"sgd"`` or ``"adamw"``.
    learning_rate, momentum, weight_decay
        Of the optimiser; `momentum` is SGD's.
    epochs, batch_size
        Passes over the training images, and images a step.
    min_steps
        Where those passes make fewer steps (few images), there are as many passes as this takes.
    warmup_epochs, warmup_learning_rate
        The first epochs run at this constant rate; then a half cosine of `epochs` epochs starts
        at its top, so it ends a little above zero (as in the reference code).
    select_by
        Which validation score decides the epoch that is kept; the earliest of equals. With
        ``"macro_f1"`` accuracy decides between equals, and then the loss: with a handful of
        validation images many epochs are equal. ``"last"`` keeps the last epoch.
    min_validation
        Fewer validation images than these choose nothing: the last epoch is kept.
    text_every
        Every how many steps the text is encoded anew and what is learned inside the text
        encoder (the context prompt) takes a step. 1: always, as the paper does. Methods that
        learn nothing outside the text encoder encode at every step, whatever this says.
    """

    optimizer: Optimizer = "sgd"
    learning_rate: float = 0.002
    momentum: float = 0.9
    weight_decay: float = 5e-4
    epochs: int = 50
    batch_size: int = 32
    min_steps: int = 0
    warmup_epochs: int = 1
    warmup_learning_rate: float = 1e-5
    select_by: Selection = "accuracy"
    min_validation: int = 0
    text_every: int = 1

    def __post_init__(self) -> None:
        if self.optimizer not in get_args(Optimizer):
            raise UsageError(f"optimizer is {self.optimizer!r}", fix=f"use one of {get_args(Optimizer)}")
        if self.select_by not in get_args(Selection):
            raise UsageError(f"select_by is {self.select_by!r}", fix=f"use one of {get_args(Selection)}")
        whole = {"epochs": 1, "batch_size": 1, "text_every": 1, "min_steps": 0, "min_validation": 0}
        for name, least in whole.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise UsageError(f"{name} is {value}", fix=f"use a whole number, {least} or more")
        for name in ("learning_rate", "momentum", "weight_decay", "warmup_epochs", "warmup_learning_rate"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
                raise UsageError(f"{name} is {value}", fix="use a finite number, 0 or more")

    def for_images(self, images: int) -> Recipe:
        """The recipe with as many epochs as `min_steps` asks for with that many images.

        Examples
        --------
        >>> Recipe(epochs=20, batch_size=32, min_steps=100).for_images(64).epochs
        50
        """
        steps_an_epoch = math.ceil(images / self.batch_size)
        return replace(self, epochs=max(self.epochs, math.ceil(self.min_steps / steps_an_epoch)))

    def learning_rate_at(self, epoch: int) -> float:
        """Rate of one epoch, counted from 0.

        Examples
        --------
        >>> [Recipe().learning_rate_at(epoch) for epoch in (0, 26)]
        [1e-05, 0.001]
        """
        if epoch < self.warmup_epochs:
            return self.warmup_learning_rate
        return self.learning_rate * (1 + math.cos(math.pi * (epoch - self.warmup_epochs) / self.epochs)) / 2


RECIPES: dict[str, Recipe] = {
    "paper": Recipe(),
    "fast": Recipe(
        learning_rate=0.01,
        epochs=20,
        min_steps=400,
        warmup_epochs=0,
        select_by="macro_f1",
        min_validation=50,
        text_every=16,
    ),
}
"""ViP's. ``paper``: the reference code's settings for ViT-B/16. ``fast``: ours (docs/recipes.md)."""


def get_recipe(
    recipe: str | Recipe | dict[str, Any], among: Mapping[str, Recipe] = RECIPES, **changes: Any
) -> Recipe:
    """A recipe by name, or as it is or from its fields; `changes` replace single values.

    Names are looked for in `among`: each method has recipes of its own, under the same names.
    Epochs that are asked for are the epochs that run: they set ``min_steps`` to 0.

    Raises
    ------
    UsageError
        No such recipe, no such field, or a value out of range.
    """
    if isinstance(recipe, str):
        if recipe not in among:
            raise UsageError(f"there is no recipe {recipe!r}", fix=f"use one of: {', '.join(among)}")
        recipe = among[recipe]
    known = {field.name for field in fields(Recipe)}
    given = {**(recipe if isinstance(recipe, dict) else {}), **changes}
    if unknown := given.keys() - known:
        raise UsageError(
            f"a recipe has no {sorted(unknown)}", fix=f"its values are: {', '.join(sorted(known))}"
        )
    if "epochs" in changes:
        given = {"min_steps": 0, **given}
    base = recipe if isinstance(recipe, Recipe) else Recipe()
    return replace(base, **given)
