"""ProGrad: CoOp whose steps never go against zero-shot knowledge (Zhu et al., ICCV 2023, arXiv 2205.14865).

Two gradients of the context: g_d of the cross-entropy, g_g of the divergence from the zero-shot
prediction (with temperature T). Where they conflict, the part of g_d that goes against g_g is
taken out:

    g = g_d                                      if <g_d, g_g> >= 0
    g = g_d - strength * <g_d, u> u, u = g_g/|g_g|    otherwise.

Published settings, from the authors' code (BeierZhu/Prompt-align: trainers/prograd.py, Dassl's
trainer.py, scripts/prograd.sh, configs/trainers/ProGrad, README): strength (their lambda) 1, and 0.8
for 8 and 16 shots on three sets; T 1; M 16, its last vectors from the words of the hand-written
prompt and zeros before them, name at the end; SGD at 0.002, batch 32, half cosine after one epoch
at 1e-5, the last epoch kept; 200 epochs for 8 and 16 shots (100 for 2 and 4, 50 for 1). Their
divergence is a cross-entropy, which has the same gradient as Kullback and Leibler's. There each
data set has a hand-written prompt of its own; here all have CLIP's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from medvip.backbones import Backbone
from medvip.errors import UsageError
from medvip.methods.class_prompts import ClassPrompts, hand_written_vectors
from medvip.methods.coop import ContextClassifier, CoOp
from medvip.methods.zero_shot import cosine
from medvip.symptoms import SymptomSet
from medvip.training import Recipe


def aligned(
    gradient: Float[Tensor, "*shape"], general: Float[Tensor, "*shape"], strength: float
) -> Float[Tensor, "*shape"]:
    """`gradient` without what conflicts with `general`.

    Examples
    --------
    >>> aligned(torch.tensor([1.0, -1.0]), torch.tensor([0.0, 2.0]), 1.0)
    tensor([1., 0.])
    >>> aligned(torch.tensor([1.0, 1.0]), torch.tensor([0.0, 2.0]), 1.0)
    tensor([1., 1.])
    """
    product = (gradient * general).sum()
    if product >= 0:
        return gradient
    length = general.square().sum().clamp(min=torch.finfo(general.dtype).tiny)
    return gradient - strength * product / length * general


class AlignedClassifier(ContextClassifier):
    """A `ContextClassifier` that learns by gradients which do not conflict with zero-shot's."""

    hand_written: Float[Tensor, "class dim"]

    def __init__(
        self,
        prompts: ClassPrompts,
        context: Float[Tensor, "*own context token_dim"],
        logit_scale: float,
        hand_written: Float[Tensor, "class dim"],
        strength: float,
        temperature: float,
    ) -> None:
        super().__init__(prompts, context, logit_scale)
        self.register_buffer("hand_written", hand_written)
        self.strength, self.temperature = strength, temperature

    def to_encode(self) -> None:
        """Two gradients are compared where they reach the context, so each run encodes by itself."""
        return

    def backward(
        self, images: Float[Tensor, "image dim"], labels: Int[Tensor, " image"]
    ) -> Float[Tensor, ""]:
        """The aligned gradient; the loss is the cross-entropy."""
        logits = self(images)
        loss = nn.functional.cross_entropy(logits, labels)
        (general,) = torch.autograd.grad(self.divergence(images, logits), self.context, retain_graph=True)
        (own,) = torch.autograd.grad(loss, self.context)
        self.context.grad = aligned(own, general, self.strength)
        return loss.detach()

    def divergence(
        self, images: Float[Tensor, "image dim"], logits: Float[Tensor, "image class"]
    ) -> Float[Tensor, ""]:
        """From the zero-shot prediction: T^2 * cross-entropy of both at temperature T."""
        zero_shot = self.scale * cosine(images, self.hand_written)
        target = (zero_shot / self.temperature).softmax(-1)
        return self.temperature**2 * nn.functional.cross_entropy(logits / self.temperature, target)


class ProGrad(CoOp):
    """CoOp whose gradients are projected where they conflict with zero-shot knowledge.

    Parameters
    ----------
    backbone, symptoms, context, class_specific, position, init_words, recipe, seed
        As in `CoOp`.
    strength
        How much of a conflicting part is taken out (the paper's lambda): 1 all, 0 none (CoOp).
    temperature
        Of the divergence from the zero-shot prediction.
    """

    name: ClassVar[str] = "prograd"
    recipes: ClassVar[Mapping[str, Recipe]] = CoOp.recipes
    own_options: ClassVar[tuple[str, ...]] = (*CoOp.own_options, "strength", "temperature")

    def __init__(
        self,
        backbone: Backbone,
        symptoms: SymptomSet | None = None,
        *,
        context: int = 16,
        class_specific: bool = False,
        position: str = "end",
        init_words: str = "a photo of a",
        strength: float = 1.0,
        temperature: float = 1.0,
        recipe: str | Recipe | dict[str, Any] = "paper",
        seed: int = 1,
    ) -> None:
        if not strength >= 0:
            raise UsageError(f"strength is {strength}", fix="use 0 or more")
        if not temperature > 0:
            raise UsageError(f"temperature is {temperature}", fix="use more than 0")
        self.strength, self.temperature = strength, temperature
        super().__init__(
            backbone,
            symptoms,
            context=context,
            class_specific=class_specific,
            position=position,
            init_words=init_words,
            recipe=recipe,
            seed=seed,
        )

    def _model(self, classes: tuple[str, ...]) -> nn.Module:
        return AlignedClassifier(
            *self._prompts(classes),
            self.backbone.logit_scale,
            hand_written_vectors(self.backbone, classes, self.symptoms),
            self.strength,
            self.temperature,
        )
