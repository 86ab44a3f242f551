"""What every method can do, so that studies, runs and commands need not know which it is."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor

from medvip.backbones import Backbone
from medvip.features import FeatureTable
from medvip.symptoms import SymptomSet


@runtime_checkable
class Method(Protocol):
    """A classifier on frozen encoders.

    Attributes
    ----------
    name
        As users write it.
    needs
        Whether `fit` wants the pictures' vectors or their pixels.
    uses_symptoms
        Whether it needs a `SymptomSet`.
    learns
        Whether it is trained, and so takes ``recipe``, ``seed`` and ``context``.
    backbone, symptoms
        What it was created with.
    classes
        Class names in the order of the columns of `predict_proba`; empty before `fit`.
    history
        One entry for each epoch; empty for what is not trained.
    """

    name: ClassVar[str]
    needs: ClassVar[Literal["features", "pixels"]]
    uses_symptoms: ClassVar[bool]
    learns: ClassVar[bool]
    backbone: Backbone
    symptoms: SymptomSet | None
    classes: tuple[str, ...]
    history: list[dict[str, float]]

    def fit(self, train: FeatureTable, validation: FeatureTable, *, quiet: bool = True) -> Method:
        """Learn from `train`; what has to be chosen is chosen on `validation`.

        `quiet`: without live progress.
        """
        ...

    def predict_proba(self, images: Float[Tensor, "image dim"]) -> Float[np.ndarray, "image class"]:
        """Probability of each class for each image; rows sum to 1.

        Raises
        ------
        NotFittedError
            Before `fit` or `load_state`.
        """
        ...

    def options(self) -> dict[str, Any]:
        """What the method was created with, as JSON."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What was learned, and nothing else but what predicting needs."""
        ...

    def load_state(self, classes: tuple[str, ...], state: dict[str, Tensor]) -> Method:
        """Back to where `state` was taken. Encodes nothing."""
        ...
