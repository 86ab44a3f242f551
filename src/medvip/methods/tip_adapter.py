"""Tip-Adapter: zero-shot plus a cache of the training images, and its fine-tuned form.

Zhang et al., *Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification* (ECCV 2022,
arXiv 2207.09519). With all vectors of length 1, keys F (one training image each) and their one-hot
classes L,

    logits = exp(logit_scale) * f T^t + alpha * exp(-beta (1 - f F^t)) L.

alpha and beta are searched on validation images. Tip-Adapter-F also trains the keys, by cross-entropy
from where they stand: AdamW, learning rate 0.001 with a cosine schedule, 20 epochs, batches of 256, at
fixed alpha and beta, and searches both afterwards.

These numbers are those of the authors' released `main.py`, `utils.py` and `configs/`. There:

- a key is the mean vector of ten augmented views; here of all views that there are, the plain one too;
- the search takes 200 values of beta and 20 of alpha, equally spaced from 0.1 to an end that depends
  on the data set (7 and 3 for ImageNet, 30 and 30 for aircraft); here to the widest, 30 and 30;
- the factor of zero-shot is 100, here the backbone's; AdamW's epsilon is 1e-4, here PyTorch's;
  the rate falls after each step, here after each epoch;
- Tip-Adapter-F is trained at an alpha set by hand for each data set (1.17 for ImageNet to 5) and a
  beta of 1; here once at ImageNet's and once at those that Tip-Adapter has found, and the validation
  images choose between the two;
- the best epoch of Tip-Adapter-F is chosen on test images, here on validation images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from medvip.backbones import Backbone
from medvip.errors import NotFittedError
from medvip.features import FeatureTable
from medvip.methods.class_texts import TextKind, class_texts, require_text
from medvip.methods.selection import Figures, Selection
from medvip.methods.vectors import one_hot, require_every_class, unit
from medvip.symptoms import SymptomSet
from medvip.training import Recipe, get_recipe, train_model

BETAS = tuple(float(value) for value in np.linspace(0.1, 30, 200, endpoint=False))
ALPHAS = tuple(float(value) for value in np.linspace(0.1, 30, 20, endpoint=False))
GRID = tuple((alpha, beta) for beta in BETAS for alpha in ALPHAS)
START = 1.17, 1.0
"""alpha and beta that Tip-Adapter-F is trained at (ImageNet's), and wherever nothing can be chosen by."""

NOTHING_TO_CHOOSE_BY: Figures = 0.0, 0.0, -math.inf

PAPER = Recipe(
    optimizer="adamw",
    learning_rate=0.001,
    weight_decay=0.01,  # AdamW's default, which the released code leaves
    epochs=20,
    batch_size=256,
    warmup_epochs=0,
)


class TipAdapter:
    """Zero-shot plus a cache of the training images; nothing is trained.

    A key is the mean of an image's views. alpha and beta are chosen on the validation images,
    without any by cross-validation in the training images; 1.17 and 1 where a class has images of
    one group only.

    Parameters
    ----------
    backbone
        The frozen encoders.
    symptoms
        For ``text="symptoms"``, and for plain class names where it has some; may be None.
    text
        Whether a class's text is its name (as published) or its symptoms.
    """

    name: ClassVar[str] = "tip-adapter"
    needs: ClassVar[Literal["features", "pixels"]] = "features"
    uses_symptoms: ClassVar[bool] = False
    learns: ClassVar[bool] = True

    def __init__(
        self, backbone: Backbone, symptoms: SymptomSet | None = None, *, text: TextKind = "names"
    ) -> None:
        require_text(text, symptoms)
        self.backbone, self.symptoms = backbone, symptoms
        self.text: TextKind = text
        self.classes: tuple[str, ...] = ()
        self.history: list[dict[str, Any]] = []
        self._state: dict[str, Tensor] = {}

    def fit(self, train: FeatureTable, validation: FeatureTable, *, quiet: bool = True) -> TipAdapter:
        """Keep the training images as keys, choose alpha and beta.

        Raises
        ------
        TrainingError
            A class has no training image.
        """
        self.classes, self.history, self._state = (), [], {}
        require_every_class(train)
        texts = class_texts(self.backbone, self.symptoms, train.classes, self.text)
        chosen, _ = self._search(train, validation, texts, self.history)
        return self._keep(train, texts, self._keys(train), chosen)

    def predict_proba(self, images: Float[Tensor, "image dim"]) -> Float[np.ndarray, "image class"]:
        """Softmax of zero-shot and cache added up."""
        state = self.state()
        vectors = unit(images.to(self.backbone.device))
        values = one_hot(state["cache_labels"], len(self.classes))
        alpha, beta = state["alpha"], state["beta"]
        cached = cache_logits(vectors @ state["cache_keys"].double().T, values, beta)
        return (self._zero_shot(vectors, state["class_vectors"]) + alpha * cached).softmax(-1).cpu().numpy()

    def options(self) -> dict[str, Any]:
        """``text``."""
        return {"text": self.text}

    def state(self) -> dict[str, Tensor]:
        """The cache, the text and two numbers.

        ``cache_keys`` [key, dim], ``cache_labels`` [key], ``class_vectors`` [class, dim], ``alpha``
        and ``beta``.
        """
        if not self._state:
            raise NotFittedError(f"this {self.name} has kept no image yet", fix="call fit first")
        return dict(self._state)

    def load_state(self, classes: tuple[str, ...], state: dict[str, Tensor]) -> TipAdapter:
        """From what `state` gave."""
        self.classes = classes
        self._state = {name: tensor.to(self.backbone.device) for name, tensor in state.items()}
        return self

    def _keep(
        self,
        train: FeatureTable,
        texts: Float[Tensor, "class dim"],
        keys: Float[Tensor, "key dim"],
        chosen: tuple[float, float],
    ) -> TipAdapter:
        alpha, beta = (torch.tensor(value, dtype=torch.float64) for value in chosen)
        state = {"cache_keys": keys.float(), "cache_labels": train.labels, "class_vectors": texts}
        return self.load_state(train.classes, state | {"alpha": alpha, "beta": beta})

    def _keys(self, train: FeatureTable) -> Float[Tensor, "key dim"]:
        return unit(train.vectors.to(self.backbone.device).mean(1))

    def _zero_shot(
        self, vectors: Float[Tensor, "image dim"], texts: Float[Tensor, "class dim"]
    ) -> Float[Tensor, "image class"]:
        return math.exp(self.backbone.logit_scale) * vectors @ texts.to(vectors.dtype).T

    def _search(
        self,
        train: FeatureTable,
        validation: FeatureTable,
        texts: Float[Tensor, "class dim"],
        history: list[dict[str, Any]],
        keys: Float[Tensor, "key dim"] | None = None,
    ) -> tuple[tuple[float, float], Figures]:
        """The chosen alpha and beta, and their figures; with these keys, or with each part's own."""
        texts = texts.to(self.backbone.device)

        def scores(
            part: FeatureTable, images: Float[Tensor, "image dim"], pairs: Sequence[tuple[float, float]]
        ) -> Iterator[Float[Tensor, "image class"]]:
            vectors = unit(images.to(self.backbone.device))
            affinity = vectors @ (self._keys(part) if keys is None else keys.double()).T
            values = one_hot(part.labels.to(affinity.device), len(part.classes))
            zero_shot = self._zero_shot(vectors, texts)
            cached, known = zero_shot, None
            for alpha, beta in pairs:
                if beta != known:
                    cached, known = cache_logits(affinity, values, beta), beta
                yield zero_shot + alpha * cached

        selection = Selection[tuple[float, float]](("alpha", "beta"), train, validation, history)
        if not selection.possible:
            return START, NOTHING_TO_CHOOSE_BY
        return selection.among(GRID, scores), selection.figures


class TipAdapterF(TipAdapter):
    """Tip-Adapter with trained keys.

    In training, images show one of their views at a time. The keys are trained twice, from two
    pairs of alpha and beta, and `history` is that of the one that is kept. Without validation
    images the recipe has to keep the last epoch (``select_by="last"``), and alpha and beta are
    those that cross-validation gives Tip-Adapter.

    Parameters
    ----------
    backbone, symptoms, text
        As in `TipAdapter`.
    recipe
        How to train the keys: ``"paper"``, ``"fast"`` (the same but for how the epoch is chosen: it
        is fast) or a `medvip.training.Recipe`.
    seed
        Of the order of the images.
    """

    name: ClassVar[str] = "tip-adapter-f"
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "paper": PAPER,
        "fast": replace(PAPER, select_by="macro_f1", min_validation=50),
    }

    def __init__(
        self,
        backbone: Backbone,
        symptoms: SymptomSet | None = None,
        *,
        text: TextKind = "names",
        recipe: str | Recipe | dict[str, Any] = "paper",
        seed: int = 1,
    ) -> None:
        super().__init__(backbone, symptoms, text=text)
        self.recipe, self.seed = get_recipe(recipe, self.recipes), seed

    def fit(self, train: FeatureTable, validation: FeatureTable, *, quiet: bool = True) -> TipAdapterF:
        """Train the keys, then choose alpha and beta; the better of two starts.

        Raises
        ------
        TrainingError
            A class has no training image, or the loss is not finite; the best epoch before that
            is kept.
        """
        self.classes, self.history, self._state = (), [], {}
        require_every_class(train)
        texts = class_texts(self.backbone, self.symptoms, train.classes, self.text)
        found, _ = self._search(train, validation, texts, [])
        best = None
        for start in dict.fromkeys([START, found] if len(validation) else [found]):
            model, history = self._cache(train, texts, start), []
            try:
                train_model(model, train, validation, self.recipe, self.seed, history, quiet=quiet)
            finally:
                if any("best" in entry for entry in history):
                    keys = model.keys.detach().clone()
                    chosen, figures = found, NOTHING_TO_CHOOSE_BY
                    if len(validation):
                        chosen, figures = self._search(train, validation, texts, history, keys)
                    if best is None or figures > best:
                        best, self.history = figures, history
                        self._keep(train, texts, keys, chosen)
        return self

    def _cache(
        self, train: FeatureTable, texts: Float[Tensor, "class dim"], start: tuple[float, float]
    ) -> TrainedCache:
        values = one_hot(train.labels, len(train.classes))
        zero_shot = texts * math.exp(self.backbone.logit_scale)
        model = TrainedCache(self._keys(train), values, zero_shot, *start)
        return model.float().to(self.backbone.device)

    def options(self) -> dict[str, Any]:
        """``text``, ``recipe`` and ``seed``."""
        return {"text": self.text, "recipe": asdict(self.recipe), "seed": self.seed}


class TrainedCache(nn.Module):
    """Image vectors to logits, with learned keys at fixed alpha and beta."""

    values: Float[Tensor, "key class"]
    zero_shot: Float[Tensor, "class dim"]

    def __init__(
        self,
        keys: Float[Tensor, "key dim"],
        values: Float[Tensor, "key class"],
        zero_shot: Float[Tensor, "class dim"],
        alpha: float,
        beta: float,
    ) -> None:
        super().__init__()
        self.keys = nn.Parameter(keys.clone())
        self.register_buffer("values", values)
        self.register_buffer("zero_shot", zero_shot)
        self._alpha, self._beta = alpha, beta

    def forward(self, images: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch class"]:
        """Zero-shot and cache added up."""
        vectors = nn.functional.normalize(images.to(self.keys.device), dim=-1)
        cached = cache_logits(vectors @ self.keys.T, self.values, self._beta)
        return vectors @ self.zero_shot.T + self._alpha * cached


def cache_logits(
    affinity: Float[Tensor, "image key"], values: Float[Tensor, "key class"], beta: float | Tensor
) -> Float[Tensor, "image class"]:
    """exp(-beta (1 - affinity)) summed over each class's keys.

    Examples
    --------
    >>> cache_logits(torch.tensor([[1.0, 1.0, 0.0]]), torch.eye(2)[[0, 0, 1]], 0.0)
    tensor([[2., 1.]])
    """
    return torch.exp(-beta * (1 - affinity)) @ values
