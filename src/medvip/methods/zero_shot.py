"""Classifying without training: by class names, or by symptoms (mean or max over a class's).

The paper's Fig. 3 compares the two; its Table 2 compares mean and max with the merge prompt. The authors'
code has neither, so symptoms are closed with a full stop as its ViP closes them (`medvip.methods.vip`):
then what is learned is all that tells `vip` and its ablations from these.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from medvip.backbones import Backbone
from medvip.backbones.protocol import encode_texts
from medvip.errors import NotFittedError
from medvip.features import FeatureTable
from medvip.methods.prompts import as_read, padded_by_class, require_fitting
from medvip.symptoms import SymptomSet, spoken

TEMPLATE = "a photo of a {}."
"""CLIP's own hand-written template (Radford et al. 2021)."""


class ZeroShotNames:
    """Probability of a class from the similarity between the image and "a photo of a <name>.".

    Parameters
    ----------
    backbone
        The frozen encoders.
    symptoms
        Only for its plain class names, where it has some; may be None.
    """

    name: ClassVar[str] = "zero-shot-names"
    needs: ClassVar[Literal["features", "pixels"]] = "features"
    uses_symptoms: ClassVar[bool] = False
    learns: ClassVar[bool] = False

    def __init__(self, backbone: Backbone, symptoms: SymptomSet | None = None) -> None:
        self.backbone, self.symptoms = backbone, symptoms
        self.classes: tuple[str, ...] = ()
        self.history: list[dict[str, float]] = []

    def fit(self, train: FeatureTable, validation: FeatureTable, *, quiet: bool = True) -> ZeroShotNames:
        """Encode the class names; no image is looked at."""
        names = [self.symptoms.plain_name(name) if self.symptoms else spoken(name) for name in train.classes]
        vectors = encode_texts(self.backbone, [TEMPLATE.format(name) for name in names])
        return self.load_state(train.classes, {"class_vectors": vectors})

    def predict_proba(self, images: Float[Tensor, "image dim"]) -> Float[np.ndarray, "image class"]:
        """Softmax of the scaled cosine similarities."""
        _require_fitted(self)
        similarity = cosine(images, self._vectors)
        return probabilities(similarity, self.backbone.logit_scale)

    def options(self) -> dict[str, Any]:
        """None."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """``class_vectors`` [class, dim]."""
        _require_fitted(self)
        return {"class_vectors": self._vectors}

    def load_state(self, classes: tuple[str, ...], state: dict[str, Tensor]) -> ZeroShotNames:
        """From ``class_vectors``."""
        self.classes, self._vectors = classes, state["class_vectors"].to(self.backbone.device)
        return self


class ZeroShotSymptoms:
    """Similarity of a class: the mean over its symptoms' similarities to the image.

    Parameters
    ----------
    backbone
        The frozen encoders.
    symptoms
        Of every class, by name.
    full_stop
        Whether symptoms are closed with a full stop, as in `ViP`.
    """

    name: ClassVar[str] = "zero-shot-symptoms"
    needs: ClassVar[Literal["features", "pixels"]] = "features"
    uses_symptoms: ClassVar[bool] = True
    learns: ClassVar[bool] = False

    def __init__(self, backbone: Backbone, symptoms: SymptomSet, *, full_stop: bool = True) -> None:
        self.backbone, self.symptoms, self.full_stop = backbone, symptoms, full_stop
        self.classes: tuple[str, ...] = ()
        self.history: list[dict[str, float]] = []

    def fit(self, train: FeatureTable, validation: FeatureTable, *, quiet: bool = True) -> ZeroShotSymptoms:
        """Encode the symptoms; no image is looked at."""
        require_fitting(self.symptoms, self.backbone, context=0, full_stop=self.full_stop)
        by_class = self.symptoms.for_classes(train.classes)
        texts = as_read((text for texts in by_class for text in texts), full_stop=self.full_stop)
        vectors = encode_texts(self.backbone, texts)
        padded, present = padded_by_class(vectors, [len(texts) for texts in by_class])
        return self.load_state(train.classes, {"symptom_vectors": padded, "symptom_present": present})

    def predict_proba(self, images: Float[Tensor, "image dim"]) -> Float[np.ndarray, "image class"]:
        """Softmax of the scaled, aggregated cosine similarities."""
        _require_fitted(self)
        similarity = cosine(images, self._vectors.flatten(0, 1)).unflatten(1, self._present.shape)
        return probabilities(self._aggregate(similarity, self._present), self.backbone.logit_scale)

    def options(self) -> dict[str, Any]:
        """``full_stop``."""
        return {"full_stop": self.full_stop}

    def state(self) -> dict[str, Tensor]:
        """``symptom_vectors`` [class, symptom, dim] and ``symptom_present`` [class, symptom]."""
        _require_fitted(self)
        return {"symptom_vectors": self._vectors, "symptom_present": self._present}

    def load_state(self, classes: tuple[str, ...], state: dict[str, Tensor]) -> ZeroShotSymptoms:
        """From ``symptom_vectors`` and ``symptom_present``."""
        self.classes = classes
        self._vectors = state["symptom_vectors"].to(self.backbone.device)
        self._present = state["symptom_present"].bool().to(self.backbone.device)
        return self

    @staticmethod
    def _aggregate(
        similarity: Float[Tensor, "image class symptom"], present: Bool[Tensor, "class symptom"]
    ) -> Float[Tensor, "image class"]:
        return (similarity * present).sum(-1) / present.sum(-1)


class ZeroShotSymptomsMax(ZeroShotSymptoms):
    """Similarity of a class: the largest of its symptoms' similarities to the image."""

    name: ClassVar[str] = "zero-shot-symptoms-max"

    @staticmethod
    def _aggregate(
        similarity: Float[Tensor, "image class symptom"], present: Bool[Tensor, "class symptom"]
    ) -> Float[Tensor, "image class"]:
        return similarity.masked_fill(~present, -torch.inf).amax(-1)


def cosine(
    images: Float[Tensor, "image dim"], texts: Float[Tensor, "text dim"]
) -> Float[Tensor, "image text"]:
    """Cosine similarity of every image with every text."""
    normalised = nn.functional.normalize(images.to(texts.device), dim=-1)
    return normalised @ nn.functional.normalize(texts, dim=-1).T


def probabilities(
    similarity: Float[Tensor, "image class"], logit_scale: float
) -> Float[np.ndarray, "image class"]:
    """Softmax of ``exp(logit_scale) * similarity`` in double precision, so that rows sum to 1."""
    return (math.exp(logit_scale) * similarity.double()).softmax(-1).cpu().numpy()


def _require_fitted(method: ZeroShotNames | ZeroShotSymptoms) -> None:
    if not method.classes:
        raise NotFittedError(f"this {method.name} has encoded no class yet", fix="call fit first")
