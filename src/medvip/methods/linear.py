"""What all methods are whose logits are linear in the image vector of length 1."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from medvip.backbones import Backbone
from medvip.errors import NotFittedError
from medvip.features import FeatureTable
from medvip.methods.class_texts import TextKind, class_texts, require_text
from medvip.methods.vectors import require_every_class, unit
from medvip.symptoms import SymptomSet


class LinearMethod(ABC):
    """Logits W f + b of the image vector f of length 1; a method says how W and b are learned.

    Parameters
    ----------
    backbone
        The frozen encoders.
    symptoms
        Kept with the run; not used.
    """

    name: ClassVar[str]
    needs: ClassVar[Literal["features", "pixels"]] = "features"
    uses_symptoms: ClassVar[bool] = False
    learns: ClassVar[bool] = True

    def __init__(self, backbone: Backbone, symptoms: SymptomSet | None = None) -> None:
        self.backbone, self.symptoms = backbone, symptoms
        self.classes: tuple[str, ...] = ()
        self.history: list[dict[str, Any]] = []
        self._state: dict[str, Tensor] = {}

    @abstractmethod
    def learn(
        self, train: FeatureTable, validation: FeatureTable
    ) -> tuple[Float[Tensor, "class dim"], Float[Tensor, " class"]]:
        """W and b."""

    def fit(self, train: FeatureTable, validation: FeatureTable, *, quiet: bool = True) -> LinearMethod:
        """Learn from `train`; what has to be chosen is chosen on `validation`.

        Raises
        ------
        TrainingError
            A class has no training image.
        """
        self.classes, self.history, self._state = (), [], {}
        require_every_class(train)
        weights, bias = self.learn(train, validation)
        return self.load_state(train.classes, {"weights": weights, "bias": bias})

    @torch.no_grad()
    def predict_proba(self, images: Float[Tensor, "image dim"]) -> Float[np.ndarray, "image class"]:
        """Softmax of the logits, in double precision."""
        if not self._state:
            raise NotFittedError(f"this {self.name} has learned nothing yet", fix="call fit first")
        weights, bias = self._state["weights"], self._state["bias"]
        return (unit(images.to(weights.device)) @ weights.T + bias).softmax(-1).cpu().numpy()

    def options(self) -> dict[str, Any]:
        """None."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """``weights`` [class, dim] and ``bias`` [class]."""
        if not self._state:
            raise NotFittedError(f"this {self.name} has learned nothing yet", fix="call fit first")
        return dict(self._state)

    def load_state(self, classes: tuple[str, ...], state: dict[str, Tensor]) -> LinearMethod:
        """From ``weights`` and ``bias``."""
        self.classes = classes
        self._state = {name: state[name].double().to(self.backbone.device) for name in ("weights", "bias")}
        return self

    def unit(self, vectors: Float[Tensor, "*any dim"]) -> Float[Tensor, "*any dim"]:
        """At length 1, where the backbone computes."""
        return unit(vectors.to(self.backbone.device))

    def vectors(self, table: FeatureTable) -> Float[Tensor, "image_and_view dim"]:
        """To learn from: every view of every picture at length 1, where the backbone computes."""
        return self.unit(table.vectors).flatten(0, 1)

    def labels(self, table: FeatureTable) -> Int[Tensor, " image_and_view"]:
        """The class of each of `vectors`."""
        return table.labels.to(self.backbone.device).repeat_interleave(table.views)


class LinearTextMethod(LinearMethod):
    """A linear method that starts from one text vector a class.

    Parameters
    ----------
    backbone
        The frozen encoders.
    symptoms
        For ``text="symptoms"``, and for plain class names where it has some; may be None.
    text
        Whether a class's text is its name (as published) or its symptoms.
    """

    def __init__(
        self, backbone: Backbone, symptoms: SymptomSet | None = None, *, text: TextKind = "names"
    ) -> None:
        super().__init__(backbone, symptoms)
        require_text(text, symptoms)
        self.text: TextKind = text

    def options(self) -> dict[str, Any]:
        """``text``."""
        return {"text": self.text}

    def text_vectors(self, classes: tuple[str, ...]) -> Float[Tensor, "class dim"]:
        """Of each class, of length 1."""
        return class_texts(self.backbone, self.symptoms, classes, self.text).to(self.backbone.device)
