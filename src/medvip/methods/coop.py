"""CoOp: context optimisation (Zhou et al., IJCV 2022, arXiv 2109.01134).

The words around a class name become M learned vectors, one context for all classes or one for
each:

    [start, p_1 ... p_M, name, ".", end]                            position "end"
    [start, p_1 ... p_(M/2), name, p_(M/2 + 1) ... p_M, ".", end]   "middle"
    [start, name, p_1 ... p_M, ".", end]                            "front"

The logit of a class is exp(logit_scale) * cosine(image, prompt); training is cross-entropy.

Published settings, from the authors' code (KaiyangZhou/CoOp: train.py, configs/trainers/CoOp,
COOP.md, README): M 16, one context for all, name at the end, N(0, 0.02) or the words "a photo of
a" to start from; SGD at 0.002, batch 32, half cosine after one epoch at 1e-5, the last epoch kept;
200 epochs for 8 and 16 shots (100 for 2 and 4 shots, 50 for 1 shot and for ImageNet).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medvip.backbones import Backbone
from medvip.errors import UsageError
from medvip.methods.class_prompts import ClassPrompts, initial_context, plain_names, require_context
from medvip.methods.method import Predict
from medvip.methods.prompt_method import FAST, PromptMethod
from medvip.methods.zero_shot import cosine
from medvip.symptoms import SymptomSet
from medvip.training import Prompted, Recipe


class ContextClassifier(Prompted):
    """Learned context, frozen text encoder: image vectors to logits."""

    def __init__(
        self, prompts: ClassPrompts, context: Float[Tensor, "*own context token_dim"], logit_scale: float
    ) -> None:
        super().__init__()
        self.prompts = prompts
        self.context = nn.Parameter(context)
        self.scale = math.exp(logit_scale)

    def class_vectors(self) -> Float[Tensor, "class dim"]:
        """All classes in one batch, once for each value of the context."""
        return self.encoded()

    def learned_vectors(self) -> Float[Tensor, "*own context token_dim"]:
        """The context."""
        return self.context

    def encode_runs(
        self, learned: Float[Tensor, "run *own context token_dim"]
    ) -> Float[Tensor, "run class dim"]:
        """All classes of all runs in one batch."""
        return self.prompts(torch.stack([self.prompts.for_each_class(context) for context in learned]))

    def forward(self, images: Float[Tensor, "image dim"]) -> Float[Tensor, "image class"]:
        """Logits; the classes are encoded once, however many images there are."""
        return self.scale * cosine(images, self.class_vectors())


class CoOp(PromptMethod):
    """Classifies images by class names in learned context.

    Parameters
    ----------
    backbone
        The frozen encoders.
    symptoms
        Only for its plain class names, where it has some; may be None.
    context
        M, the number of learned vectors.
    class_specific
        Whether each class learns vectors of its own.
    position
        Where the name stands: ``"end"``, ``"middle"`` or ``"front"``.
    init_words
        Words whose tokens the vectors start from; none: small noise.
    recipe, seed
        See `PromptMethod`.

    Examples
    --------
    >>> from medvip import load_backbone
    >>> CoOp(load_backbone("embedded"), init_words="a photo of a", context=4) # doctest: +SKIP
    """

    name: ClassVar[str] = "coop"
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "paper": Recipe(epochs=200, select_by="last"),
        "fast": FAST,
    }

    own_options: ClassVar[tuple[str, ...]] = ("context", "class_specific", "position", "init_words")

    def __init__(
        self,
        backbone: Backbone,
        symptoms: SymptomSet | None = None,
        *,
        context: int = 16,
        class_specific: bool = False,
        position: str = "end",
        init_words: str = "",
        recipe: str | Recipe | dict[str, Any] = "paper",
        seed: int = 1,
    ) -> None:
        require_context(context, position)
        self.context, self.class_specific = context, class_specific
        self.position, self.init_words = position, init_words
        super().__init__(backbone, symptoms, recipe, seed)

    def on_new_classes(self, classes: tuple[str, ...], symptoms: SymptomSet | None) -> Predict:
        """As `PromptMethod.on_new_classes`; only a context that all classes share carries over.

        Raises
        ------
        UsageError
            Each class learned a context of its own.
        """
        if self.class_specific:
            raise UsageError(
                "each class learned a context of its own, so there is none for new classes",
                fix="learn one context for all: class_specific = false",
            )
        return super().on_new_classes(classes, symptoms)

    def _model(self, classes: tuple[str, ...]) -> nn.Module:
        return ContextClassifier(*self._prompts(classes), self.backbone.logit_scale)

    def _prompts(
        self, classes: tuple[str, ...]
    ) -> tuple[ClassPrompts, Float[Tensor, "*own context token_dim"]]:
        """The prompts of these classes, and the context to start from."""
        names = plain_names(classes, self.symptoms)
        prompts = ClassPrompts.of_names(self.backbone, names, self.context, self.position)
        generator = torch.Generator().manual_seed(self.seed)
        own = len(classes) if self.class_specific else None
        return prompts, initial_context(self.backbone, self.init_words, self.context, own, generator)
