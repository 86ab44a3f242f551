"""ViP without one of its two modules (the ablations of its paper's Table 2).

- `ViPMerge`: the merge prompt alone, on symptoms without learned context.
- `ViPContextMean`, `ViPContextMax`: the context prompt alone; the similarity of a class is the
  mean or the largest of its symptoms' similarities to the image, as in `zero_shot`.

How the paper trains them is not known here: the recipe ``paper`` is ViP's. So is the full stop that
closes every symptom (`medvip.methods.vip`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from medvip.backbones import Backbone
from medvip.errors import UsageError
from medvip.methods.prompt_method import FAST, PromptMethod
from medvip.methods.prompts import as_read, require_fitting
from medvip.methods.vip import PromptedSymptoms, ViP
from medvip.methods.zero_shot import ZeroShotSymptoms, ZeroShotSymptomsMax, cosine, probabilities
from medvip.symptoms import SymptomSet
from medvip.training import RECIPES, Recipe

Aggregate = Callable[
    [Float[Tensor, "image class symptom"], Bool[Tensor, "class symptom"]], Float[Tensor, "image class"]
]


class ViPMerge(ViP):
    """The merge prompt alone: the symptoms are encoded once, without learned context.

    Parameters
    ----------
    backbone, symptoms, full_stop, recipe, seed
        As in `ViP`.
    """

    name: ClassVar[str] = "vip-merge"
    own_options: ClassVar[tuple[str, ...]] = ("full_stop",)

    def __init__(
        self,
        backbone: Backbone,
        symptoms: SymptomSet,
        *,
        full_stop: bool = True,
        recipe: str | Recipe | dict[str, Any] = "paper",
        seed: int = 1,
    ) -> None:
        super().__init__(backbone, symptoms, context=0, full_stop=full_stop, recipe=recipe, seed=seed)


class AggregatingClassifier(PromptedSymptoms):
    """Context prompt and frozen text encoder; a class's logit aggregates its symptoms'."""

    def __init__(
        self,
        backbone: Backbone,
        symptoms: tuple[tuple[str, ...], ...],
        context: int,
        generator: torch.Generator,
        aggregate: Aggregate,
    ) -> None:
        super().__init__(backbone, symptoms, context, generator)
        self._aggregate = aggregate

    def forward(self, images: Float[Tensor, "image dim"]) -> Float[Tensor, "image class"]:
        """Logits; the text side is encoded once, however many images there are."""
        symptoms, present = self.encode_symptoms()
        similarity = cosine(images, symptoms.flatten(0, 1)).unflatten(1, present.shape)
        return math.exp(self._backbone.logit_scale) * self._aggregate(similarity, present)


class ViPContextMean(PromptMethod):
    """The context prompt alone; similarity of a class: the mean over its symptoms'.

    Parameters
    ----------
    backbone
        The frozen encoders.
    symptoms
        Of every class, by name. Classes may have different numbers of symptoms.
    context
        M, the number of learned context vectors.
    full_stop
        As in `ViP`.
    recipe, seed
        As in `PromptMethod`; ``paper`` is ViP's.
    """

    name: ClassVar[str] = "vip-context-mean"
    uses_symptoms: ClassVar[bool] = True
    recipes: ClassVar[Mapping[str, Recipe]] = {"paper": RECIPES["paper"], "fast": FAST}
    own_options: ClassVar[tuple[str, ...]] = ("context", "full_stop")
    symptoms: SymptomSet

    def __init__(
        self,
        backbone: Backbone,
        symptoms: SymptomSet,
        *,
        context: int = 4,
        full_stop: bool = True,
        recipe: str | Recipe | dict[str, Any] = "paper",
        seed: int = 1,
    ) -> None:
        if context < 1:
            raise UsageError(
                f"context is {context}, so nothing would be learned",
                fix="use 1 or more context vectors, or the method zero-shot-symptoms",
            )
        self.context, self.full_stop = context, full_stop
        super().__init__(backbone, symptoms, recipe, seed)

    def predict_proba(self, images: Float[Tensor, "image dim"]) -> Float[np.ndarray, "image class"]:
        """Softmax of the scaled, aggregated cosine similarities."""
        vectors, present = (self._fitted()[name] for name in ("symptom_vectors", "symptom_present"))
        similarity = cosine(images, vectors.flatten(0, 1)).unflatten(1, present.shape)
        return probabilities(self._aggregate(similarity, present.bool()), self.backbone.logit_scale)

    def state(self) -> dict[str, Tensor]:
        """The learned context and what follows from it, so that predicting encodes no text.

        ``context_prompt`` [context, token_dim], ``symptom_vectors`` [class, symptom, dim],
        ``symptom_present`` [class, symptom].
        """
        return super().state()

    def _model(self, classes: tuple[str, ...]) -> nn.Module:
        require_fitting(self.symptoms, self.backbone, self.context, full_stop=self.full_stop)
        by_class = self.symptoms.for_classes(classes)
        symptoms = tuple(as_read(texts, full_stop=self.full_stop) for texts in by_class)
        generator = torch.Generator().manual_seed(self.seed)
        return AggregatingClassifier(self.backbone, symptoms, self.context, generator, self._aggregate)

    def _learned(self, model: AggregatingClassifier) -> dict[str, Tensor]:
        vectors, present = model.encode_symptoms()
        return {
            "context_prompt": model.context_prompt,
            "symptom_vectors": vectors,
            "symptom_present": present,
        }

    _aggregate = staticmethod(ZeroShotSymptoms._aggregate)


class ViPContextMax(ViPContextMean):
    """The context prompt alone; similarity of a class: the largest of its symptoms'."""

    name: ClassVar[str] = "vip-context-max"

    _aggregate = staticmethod(ZeroShotSymptomsMax._aggregate)
