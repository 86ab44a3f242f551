"""What every method can do, so that studies, runs and commands need not know which it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor

from medvip.backbones import Backbone
from medvip.symptoms import SymptomSet

Predict = Callable[[Float[Tensor, "image *input"]], Float[np.ndarray, "image class"]]
"""From images (vectors or pixels) to the probability of each class."""


@runtime_checkable
class Method(Protocol):
    """A classifier on a backbone.

    Attributes
    ----------
    name
        As users write it.
    needs
        Whether `fit` wants the pictures' vectors or their pixels.
    uses_symptoms
        Whether it needs a `SymptomSet`.
    learns
        Whether it looks at the training images. What options it takes, `options_of` says.
    backbone, symptoms
        What it was created with.
    classes
        Class names in the order of the columns of `predict_proba`; empty before `fit`.
    history
        One entry for each epoch, and for each value that was the best when it was tried; empty for
        what neither is trained nor chooses.
    """

    name: ClassVar[str]
    needs: ClassVar[Literal["features", "pixels"]]
    uses_symptoms: ClassVar[bool]
    learns: ClassVar[bool]
    backbone: Backbone
    symptoms: SymptomSet | None
    classes: tuple[str, ...]
    history: list[dict[str, Any]]

    def fit(self, train: Any, validation: Any, *, quiet: bool = True) -> Method:
        """Learn from `train`; what has to be chosen is chosen on `validation`.

        Both are a `FeatureTable`, or a `PictureTable` where `needs` says "pixels".
        `quiet`: without live progress.
        """
        ...

    def predict_proba(self, images: Float[Tensor, "image *input"]) -> Float[np.ndarray, "image class"]:
        """Probability of each class for each image (its vector or its pixels); rows sum to 1.

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
