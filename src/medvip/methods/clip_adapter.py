"""CLIP-Adapter: a small bottleneck on the image vector, blended with it.

Gao et al., *CLIP-Adapter: Better Vision-Language Models with Feature Adapters* (arXiv 2110.04544,
IJCV 2024). On the image side, with the image vector v as the encoder gives it,

    v' = ratio * relu(W_up relu(W_down v)) + (1 - ratio) * v,
    logits = exp(logit_scale) * cosine(v', text),

W_down [dim / reduction, dim] and W_up [dim, dim / reduction] without bias. Reduction 4 and ratio 0.2
are those of the authors' released `clip_adapter.py`; the paper searches the ratio per data set. That
code leaves optimiser and schedule to its framework's configuration, which is not released, and the
paper's own rate could not be looked up. So the recipe ``paper`` is put together from others: CoOp's
optimiser and schedule (SGD, momentum 0.9, batches of 32, one warm-up epoch, 200 epochs), and the
learning rate that LP++'s authors give CLIP-Adapter in their comparison (0.01, there without momentum).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from medvip.backbones import Backbone
from medvip.errors import NotFittedError, UsageError
from medvip.features import FeatureTable
from medvip.methods.class_texts import TextKind, class_texts, require_text
from medvip.methods.vectors import require_every_class
from medvip.methods.zero_shot import cosine, probabilities
from medvip.symptoms import SymptomSet
from medvip.training import RECIPES, Recipe, get_recipe, train_model

PAPER = Recipe(learning_rate=0.01, epochs=200)


class Adapter(nn.Module):
    """ratio * relu(W_up relu(W_down v)) + (1 - ratio) * v."""

    def __init__(
        self, dim: int, reduction: int, ratio: float, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.ratio = ratio
        narrow = max(1, dim // reduction)
        self.down = nn.Parameter(torch.empty(narrow, dim))
        self.up = nn.Parameter(torch.empty(dim, narrow))
        for weight in (self.down, self.up):  # as nn.Linear starts
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator)

    def forward(self, images: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """The adapted image vectors."""
        adapted = ((images @ self.down.T).relu() @ self.up.T).relu()
        return self.ratio * adapted + (1 - self.ratio) * images


class AdaptedClassifier(nn.Module):
    """Image vectors to logits through the adapter."""

    texts: Float[Tensor, "class dim"]

    def __init__(self, adapter: Adapter, texts: Float[Tensor, "class dim"], logit_scale: float) -> None:
        super().__init__()
        self.adapter, self._factor = adapter, math.exp(logit_scale)
        self.register_buffer("texts", texts)

    def forward(self, images: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch class"]:
        """exp(logit_scale) * cosine of the adapted image with each class's text."""
        return self._factor * cosine(self.adapter(images.to(self.texts.device)), self.texts)


class ClipAdapter:
    """A learned bottleneck between the frozen image encoder and the class texts.

    In training, images show one of their views at a time.

    Parameters
    ----------
    backbone
        The frozen encoders.
    symptoms
        For ``text="symptoms"``, and for plain class names where it has some; may be None.
    text
        Whether a class's text is its name (as published) or its symptoms.
    ratio
        Share of the adapted vector, in [0, 1].
    reduction
        How many times narrower the bottleneck is than the vector.
    recipe
        How to train: ``"paper"``, ``"fast"`` or a `medvip.training.Recipe`.
    seed
        Of the initial weights and of the order of the images.
    """

    name: ClassVar[str] = "clip-adapter"
    needs: ClassVar[Literal["features", "pixels"]] = "features"
    uses_symptoms: ClassVar[bool] = False
    learns: ClassVar[bool] = True
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "paper": PAPER,
        "fast": replace(RECIPES["fast"], text_every=1),
    }

    def __init__(
        self,
        backbone: Backbone,
        symptoms: SymptomSet | None = None,
        *,
        text: TextKind = "names",
        ratio: float = 0.2,
        reduction: int = 4,
        recipe: str | Recipe | dict[str, Any] = "paper",
        seed: int = 1,
    ) -> None:
        require_text(text, symptoms)
        if not 0 <= ratio <= 1:
            raise UsageError(f"ratio is {ratio}", fix="use a number from 0 to 1")
        if reduction < 1:
            raise UsageError(f"reduction is {reduction}", fix="use a whole number, 1 or more")
        self.backbone, self.symptoms = backbone, symptoms
        self.text: TextKind = text
        self.ratio, self.reduction, self.seed = float(ratio), reduction, seed
        self.recipe = get_recipe(recipe, self.recipes)
        self.classes: tuple[str, ...] = ()
        self.history: list[dict[str, Any]] = []
        self._state: dict[str, Tensor] = {}

    def fit(self, train: FeatureTable, validation: FeatureTable, *, quiet: bool = True) -> ClipAdapter:
        """Learn the bottleneck by cross-entropy; keep the best epoch on `validation`.

        Raises
        ------
        TrainingError
            A class has no training image, or the loss is not finite; the best epoch before that
            is kept.
        """
        self.classes, self.history, self._state = (), [], {}
        require_every_class(train)
        texts = class_texts(self.backbone, self.symptoms, train.classes, self.text).float()
        generator = torch.Generator().manual_seed(self.seed)
        adapter = Adapter(self.backbone.embed_dim, self.reduction, self.ratio, generator)
        model = AdaptedClassifier(adapter, texts, self.backbone.logit_scale).to(self.backbone.device)
        try:
            train_model(model, train, validation, self.recipe, self.seed, self.history, quiet=quiet)
        finally:
            if any("best" in entry for entry in self.history):
                state = {"down": adapter.down, "up": adapter.up, "class_vectors": model.texts}
                self.load_state(
                    train.classes, {name: value.detach().clone() for name, value in state.items()}
                )
        return self

    @torch.no_grad()
    def predict_proba(self, images: Float[Tensor, "image dim"]) -> Float[np.ndarray, "image class"]:
        """Softmax over the classes of exp(logit_scale) * cosine(v', text)."""
        state = self.state()
        adapter = Adapter(self.backbone.embed_dim, self.reduction, self.ratio).to(self.backbone.device)
        adapter.load_state_dict({"down": state["down"], "up": state["up"]})
        adapted = adapter(images.to(self.backbone.device))
        return probabilities(cosine(adapted, state["class_vectors"]), self.backbone.logit_scale)

    def options(self) -> dict[str, Any]:
        """``text``, ``ratio``, ``reduction``, ``recipe`` and ``seed``."""
        numbers = {"ratio": self.ratio, "reduction": self.reduction, "seed": self.seed}
        return {"text": self.text, "recipe": asdict(self.recipe), **numbers}

    def state(self) -> dict[str, Tensor]:
        """``down`` [narrow, dim], ``up`` [dim, narrow] and ``class_vectors`` [class, dim]."""
        if not self._state:
            raise NotFittedError("this clip-adapter has learned nothing yet", fix="call fit first")
        return dict(self._state)

    def load_state(self, classes: tuple[str, ...], state: dict[str, Tensor]) -> ClipAdapter:
        """From what `state` gave."""
        self.classes = classes
        self._state = {name: tensor.to(self.backbone.device) for name, tensor in state.items()}
        return self
