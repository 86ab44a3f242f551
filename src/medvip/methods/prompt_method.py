"""What all methods that learn vectors in front of the text encoder share: fit, keep, restore."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from medvip.backbones import Backbone
from medvip.errors import NotFittedError, TrainingError
from medvip.features import Table
from medvip.methods.method import Method, Predict
from medvip.methods.prompts import require_symptoms
from medvip.methods.zero_shot import cosine, probabilities
from medvip.symptoms import SymptomSet
from medvip.training import RECIPES, Recipe, Training, get_recipe, train_together

FAST = replace(RECIPES["fast"], learning_rate=0.1, epochs=5, min_steps=100, text_every=1)
"""``fast`` where all that is learned is inside the text encoder, so that every step has to run it."""


class PromptMethod:
    """A method whose learned tensors are a small module's, trained by the one loop.

    A method says what its module is (`_model`), what of it is kept (`_learned`), and, where
    classes have no fixed vectors, how it predicts.

    Parameters
    ----------
    backbone
        The frozen encoders.
    symptoms
        What the method needs of them is its own matter; may be None.
    recipe
        How to train: ``"paper"`` (the method's own paper), ``"fast"`` (ours), or a
        `medvip.training.Recipe`.
    seed
        Of the initial vectors and of the order of the images.

    Attributes
    ----------
    recipes
        The method's recipes by name.
    own_options
        Names of its options besides ``recipe`` and ``seed``; each is an attribute too.
    """

    name: ClassVar[str]
    needs: ClassVar[Literal["features", "pixels"]] = "features"
    uses_symptoms: ClassVar[bool] = False
    learns: ClassVar[bool] = True
    recipes: ClassVar[Mapping[str, Recipe]]
    own_options: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        backbone: Backbone,
        symptoms: SymptomSet | None,
        recipe: str | Recipe | dict[str, Any],
        seed: int,
    ) -> None:
        self.backbone, self.symptoms, self.seed = backbone, symptoms, seed
        self.recipe = get_recipe(recipe, self.recipes)
        self.classes: tuple[str, ...] = ()
        self.history: list[dict[str, float]] = []
        self._state: dict[str, Tensor] = {}

    def fit(self, train: Table, validation: Table, *, quiet: bool = True) -> PromptMethod:
        """Learn on `train`; keep the epoch that the recipe chooses on `validation`.

        Raises
        ------
        UsageError, SymptomError
            The prompts are too long for the text encoder, or symptoms do not fit the classes.
        TrainingError
            The loss is not finite; the best epoch before that is kept.
        """
        (error,) = fit_together([self], [(train, validation)], quiet=quiet)
        if error:
            raise error
        return self

    def predict_proba(self, images: Float[Tensor, "image dim"]) -> Float[np.ndarray, "image class"]:
        """Softmax over the classes of exp(logit_scale) * cosine(image, class vector)."""
        similarity = cosine(images, self._fitted()["class_vectors"])
        return probabilities(similarity, self.backbone.logit_scale)

    def on_new_classes(self, classes: tuple[str, ...], symptoms: SymptomSet | None) -> Predict:
        """How to tell apart classes that `fit` never saw: what was learned goes around their texts.

        Parameters
        ----------
        classes
            By name, in the order of the columns.
        symptoms
            Of these classes, for a method that uses any; for others, their plain names if given.

        Raises
        ------
        NotFittedError
            Before `fit` or `load_state`.
        UsageError, SymptomError
            What the new classes need is missing, or too long for the text encoder.
        """
        self._fitted()
        if self.uses_symptoms:
            require_symptoms(self.name, symptoms)
        other = type(self)(self.backbone, symptoms, **self.options())
        model = other._model(classes).to(self.backbone.device)
        self._carry_over(model)
        other._keep(classes, model)
        return other.predict_proba

    def options(self) -> dict[str, Any]:
        """What it was created with; ``recipe`` in full."""
        own = {name: getattr(self, name) for name in self.own_options}
        return {**own, "recipe": asdict(self.recipe), "seed": self.seed}

    def state(self) -> dict[str, Tensor]:
        """What was learned, and what follows from it so that predicting encodes no text."""
        return dict(self._fitted())

    def load_state(self, classes: tuple[str, ...], state: dict[str, Tensor]) -> PromptMethod:
        """From what `state` gave. Encodes nothing."""
        self.classes = classes
        self._state = {name: tensor.to(self.backbone.device) for name, tensor in state.items()}
        return self

    def _model(self, classes: tuple[str, ...]) -> nn.Module:
        """A fresh module for these classes, as `train_model` takes it."""
        raise NotImplementedError

    def _learned(self, model: Any) -> dict[str, Tensor]:
        """What is kept of a trained module."""
        return {"context": model.context, "class_vectors": model.class_vectors()}

    @torch.no_grad()
    def _carry_over(self, model: Any) -> None:
        """Put what was learned into a fresh module for other classes."""
        state = self._fitted()
        for name, parameter in model.named_parameters():
            parameter.copy_(state[name])

    @torch.no_grad()
    def _keep(self, classes: tuple[str, ...], model: nn.Module) -> None:
        learned = self._learned(model)
        self.load_state(classes, {name: tensor.detach().clone() for name, tensor in learned.items()})

    def _fitted(self) -> dict[str, Tensor]:
        if not self._state:
            raise NotFittedError(f"this {self.name} has learned nothing yet", fix="call fit first")
        return self._state


def fit_together(
    methods: Sequence[PromptMethod], data: Sequence[tuple[Table, Table]], *, quiet: bool = True
) -> list[TrainingError | None]:
    """`PromptMethod.fit` of several runs of one method at once, with the numbers of each alone.

    What their text encoder has to encode, it encodes as one batch. Order of floating-point sums
    apart, nothing of a run depends on the others.

    Parameters
    ----------
    methods
        The same but for recipe and seed.
    data
        Training and validation images of each.
    quiet
        Without live progress.

    Returns
    -------
    list
        For each what `fit` would have raised, or None.

    Raises
    ------
    UsageError, SymptomError
        The prompts are too long for the text encoder, or symptoms do not fit the classes.
    ValueError
        The methods differ in more than recipe and seed, or the data in their classes.
    """
    if len({_alike(method, train) for method, (train, _) in zip(methods, data, strict=True)}) > 1:
        raise ValueError("the runs differ in more than recipe, seed and images")
    trainings = []
    for method, (train, validation) in zip(methods, data, strict=True):
        method.classes, method.history, method._state = (), [], {}
        model = method._model(train.classes).to(method.backbone.device)
        trainings.append(Training(model, train, validation, method.recipe, method.seed, method.history))
    try:
        train_together(trainings, quiet=quiet)
    finally:
        for method, training in zip(methods, trainings, strict=True):
            if any("best" in entry for entry in method.history):
                method._keep(training.train.classes, training.model)
    return [training.error for training in trainings]


def fit_all(
    methods: Sequence[Method], data: Sequence[tuple[Any, Any]], *, quiet: bool = True
) -> list[TrainingError | None]:
    """Fit each of several runs of one method on its own images; together where `fit_together` can.

    Returns
    -------
    list
        For each the `TrainingError` that stopped it, or None.
    """
    prompted = [method for method in methods if isinstance(method, PromptMethod)]
    if len(prompted) == len(methods):
        return fit_together(prompted, data, quiet=quiet)
    errors: list[TrainingError | None] = []
    for method, tables in zip(methods, data, strict=True):
        try:
            method.fit(*tables, quiet=quiet)
            errors.append(None)
        except TrainingError as error:
            errors.append(error)
    return errors


def _alike(method: PromptMethod, train: Table) -> tuple[Any, ...]:
    """What runs must have in common to share a text encoder."""
    own = {name: value for name, value in method.options().items() if name not in ("recipe", "seed")}
    symptoms = method.symptoms and method.symptoms.digest
    return type(method), id(method.backbone), symptoms, train.classes, repr(own)
