"""The training classes' frequencies for every image: what any classifier has to beat."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from medvip.backbones import Backbone
from medvip.errors import NotFittedError, TrainingError
from medvip.features import FeatureTable
from medvip.symptoms import SymptomSet


class Majority:
    """Probability of a class: its share of the training images, whatever the image shows.

    Parameters
    ----------
    backbone
        Not used.
    symptoms
        Kept with the run; not used.
    """

    name: ClassVar[str] = "majority"
    needs: ClassVar[Literal["features", "pixels"]] = "features"
    uses_symptoms: ClassVar[bool] = False
    learns: ClassVar[bool] = True

    def __init__(self, backbone: Backbone, symptoms: SymptomSet | None = None) -> None:
        self.backbone, self.symptoms = backbone, symptoms
        self.classes: tuple[str, ...] = ()
        self.history: list[dict[str, Any]] = []

    def fit(self, train: FeatureTable, validation: FeatureTable, *, quiet: bool = True) -> Majority:
        """Count the training images.

        Raises
        ------
        TrainingError
            There is none.
        """
        self.classes, self.history = (), []
        if len(train) == 0:
            raise TrainingError("there is no training image", fix="give some")
        counts = torch.bincount(train.labels.cpu(), minlength=len(train.classes)).double()
        return self.load_state(train.classes, {"frequencies": counts / counts.sum()})

    def predict_proba(self, images: Float[Tensor, "image dim"]) -> Float[np.ndarray, "image class"]:
        """The frequencies, once for each image."""
        return self.state()["frequencies"].expand(len(images), -1).cpu().numpy().copy()

    def options(self) -> dict[str, Any]:
        """None."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """``frequencies`` [class]."""
        if not self.classes:
            raise NotFittedError("this majority has counted nothing yet", fix="call fit first")
        return {"frequencies": self._frequencies}

    def load_state(self, classes: tuple[str, ...], state: dict[str, Tensor]) -> Majority:
        """From ``frequencies``."""
        self.classes, self._frequencies = classes, state["frequencies"].double()
        return self
