"""CoCoOp: context that depends on the image (Zhou et al., CVPR 2022, arXiv 2203.05557).

A small network makes one token of each normalised image vector f, which is added to every vector
of the context, so each image has prompts, and class vectors, of its own:

    r(f) = W_2 relu(W_1 f + b_1) + b_2,          W_1 [dim/16, dim], W_2 [token_dim, dim/16]
    [start, p_1 + r(f) ... p_M + r(f), name, ".", end].

The logit of a class is exp(logit_scale) * cosine(image, its own prompt); training is cross-entropy.

Published settings, from the authors' code (KaiyangZhou/CoOp: trainers/cocoop.py,
configs/trainers/CoCoOp/vit_b16_c4_ep10_batch1_ctxv1.yaml): M 4 from "a photo of a", name at the
end; SGD at 0.002, batch 1, 10 epochs with a half cosine after one at 1e-5, the last epoch kept.
Their precision is 16 bits, here it is 32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from medvip.backbones import Backbone
from medvip.methods.class_prompts import (
    ClassPrompts,
    initial_context,
    plain_names,
    require_context,
    seeded_linear,
)
from medvip.methods.prompt_method import FAST, PromptMethod
from medvip.symptoms import SymptomSet
from medvip.training import Recipe

IMAGES_AT_ONCE = 256
"""Each image has class vectors of its own; more images are classified in parts of this many."""


class ImageContextClassifier(nn.Module):
    """Context plus a token from the image, frozen text encoder: image vectors to logits."""

    def __init__(
        self,
        prompts: ClassPrompts,
        context: Float[Tensor, "context token_dim"],
        image_dim: int,
        logit_scale: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.prompts = prompts
        self.context = nn.Parameter(context)
        self.scale = math.exp(logit_scale)
        hidden = max(1, image_dim // 16)
        self.meta_net = nn.Sequential(
            seeded_linear(image_dim, hidden, generator),
            nn.ReLU(),
            seeded_linear(hidden, context.shape[-1], generator),
        )

    def forward(self, images: Float[Tensor, "image dim"]) -> Float[Tensor, "image class"]:
        """Logits; every image with prompts of its own."""
        images = nn.functional.normalize(images.to(self.context.device), dim=-1)
        return torch.cat([self._logits(part) for part in images.split(IMAGES_AT_ONCE)])

    def class_vectors(self, images: Float[Tensor, "image dim"]) -> Float[Tensor, "image class dim"]:
        """Of each class for each of the normalised image vectors."""
        contexts = self.context + self.meta_net(images)[:, None]
        classes = len(self.prompts.tokens)
        return self.prompts(contexts[:, None].expand(-1, classes, -1, -1))

    def _logits(self, images: Float[Tensor, "image dim"]) -> Float[Tensor, "image class"]:
        vectors = nn.functional.normalize(self.class_vectors(images), dim=-1)
        return self.scale * torch.einsum("id,icd->ic", images, vectors)


class CoCoOp(PromptMethod):
    """Classifies images by class names in a context that each image shifts.

    Classes have no fixed vectors: predicting encodes all class names anew for every image, so
    it needs the text encoder too (loaded when first asked) and takes as long as training does.

    Parameters
    ----------
    backbone
        The frozen encoders.
    symptoms
        Only for its plain class names, where it has some; may be None.
    context
        M, the number of learned vectors.
    init_words
        Words whose tokens the vectors start from; none: small noise.
    recipe, seed
        See `PromptMethod`.
    """

    name: ClassVar[str] = "cocoop"
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "paper": Recipe(epochs=10, batch_size=1, select_by="last"),
        # A step costs as many texts as images times classes, so a larger batch spares nothing.
        "fast": replace(FAST, learning_rate=0.03, epochs=1, batch_size=4),
    }
    own_options: ClassVar[tuple[str, ...]] = ("context", "init_words")

    def __init__(
        self,
        backbone: Backbone,
        symptoms: SymptomSet | None = None,
        *,
        context: int = 4,
        init_words: str = "a photo of a",
        recipe: str | Recipe | dict[str, Any] = "paper",
        seed: int = 1,
    ) -> None:
        require_context(context)
        self.context, self.init_words = context, init_words
        super().__init__(backbone, symptoms, recipe, seed)

    def predict_proba(self, images: Float[Tensor, "image dim"]) -> Float[np.ndarray, "image class"]:
        """Softmax over the classes of exp(logit_scale) * cosine(image, the image's own prompt)."""
        state = self._fitted()
        prompts = ClassPrompts.of_tensors(self.backbone, state)
        model = self._classifier(prompts, state["context"], torch.Generator()).to(self.backbone.device)
        model.load_state_dict(state)
        with torch.no_grad():
            return model(images).double().softmax(-1).cpu().numpy()

    def state(self) -> dict[str, Tensor]:
        """What was learned, and the embedded class names, which are encoded anew for each image.

        Learned: ``context`` [context, token_dim], and ``meta_net.0`` and ``meta_net.2``, weight
        and bias of its two layers. Of the class names: ``prompts.tokens``, ``prompts.end`` and
        ``prompts.order`` (see `ClassPrompts`).
        """
        return super().state()

    def _model(self, classes: tuple[str, ...]) -> nn.Module:
        names = plain_names(classes, self.symptoms)
        prompts = ClassPrompts.of_names(self.backbone, names, self.context)
        generator = torch.Generator().manual_seed(self.seed)
        context = initial_context(self.backbone, self.init_words, self.context, None, generator)
        return self._classifier(prompts, context, generator)

    def _classifier(
        self,
        prompts: ClassPrompts,
        context: Float[Tensor, "context token_dim"],
        generator: torch.Generator,
    ) -> ImageContextClassifier:
        return ImageContextClassifier(
            prompts, context, self.backbone.embed_dim, self.backbone.logit_scale, generator
        )

    def _learned(self, model: ImageContextClassifier) -> dict[str, Tensor]:
        return model.state_dict()
