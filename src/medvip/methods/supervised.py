"""Plain supervised learning, what a method without text has to be compared with.

The backbone's image tower and a linear head on its vectors, all weights learned by cross-entropy:
from the tower's pretrained weights (``fine-tuned``), or the same architecture from random ones
(``from-scratch``).

ViP's table has a "supervised" row: by its author's word (issue 10 of the code's repository) the
mean over ViT-B/16, ViT-L/14 and a ResNet-50 trained from scratch, which he agrees (issue 11) is a
weak baseline. Nothing more is published of it, so the recipes here are ours under the usual names
(``paper``: as many epochs as ViP has; ``fast``: fewer), and from-scratch is the backbone's own
architecture, not theirs. AdamW; the new head, which starts from zeros, at the recipe's rate, a
pretrained tower at a small share of it so that its knowledge survives; one slow epoch first; the
epoch by validation accuracy, as everywhere.

The rates: for the embedded tower 0.0003 was chosen among 0.00003, 0.0001 and 0.0003, its head at
ten times that, after six epochs with 8 views (one seed), by the best validation loss: 0.555, 0.506,
0.490 with 331 skin lesions of ISIC, 1.289, 1.031, 0.705 with 203 blood cells of BCCD. For a CLIP
or SigLIP nothing could be measured: 0.000009 goes by the 0.00003 at batches of 512 that the code of
Wortsman et al. (CVPR 2022, mlfoundations/wise-ft) fine-tunes CLIP with, less for our small batches.
Those from scratch were not tuned.
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
from medvip.backbones.protocol import TrainableBackbone
from medvip.errors import NotFittedError, UnsuitableBackbone, UsageError
from medvip.features import Table, require_pictures
from medvip.methods.vectors import require_every_class
from medvip.symptoms import SymptomSet
from medvip.training import Recipe, get_recipe, train_model

FINE_TUNING = Recipe(
    optimizer="adamw", learning_rate=3e-3, weight_decay=0.01, epochs=50, warmup_learning_rate=1e-4
)
FROM_SCRATCH = replace(FINE_TUNING, learning_rate=1e-3, weight_decay=0.05)

CONVOLUTION_RATE, TRANSFORMER_RATE = 0.1, 0.003
"""A pretrained tower's learning rate as a share of the head's."""


class TowerClassifier(nn.Module):
    """Image tower and linear head: pixels to logits.

    Parameters
    ----------
    tower
        Pixels to vectors [batch, dim].
    dim, classes
        Width of those vectors, and how many classes there are.
    tower_rate
        The tower's learning rate as a share of the head's, which is the recipe's.
    """

    def __init__(self, tower: nn.Module, dim: int, classes: int, tower_rate: float) -> None:
        super().__init__()
        self.tower, self.head = tower, nn.Linear(dim, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self._tower_rate = tower_rate

    def forward(self, pixels: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch class"]:
        """Logits."""
        return self.head(self.tower(pixels.to(self.head.weight.device)))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Tower and head, with their rates as multiples of the recipe's."""
        return [
            {"params": list(self.tower.parameters()), "rate_factor": self._tower_rate},
            {"params": list(self.head.parameters()), "rate_factor": 1.0},
        ]


class SupervisedMethod:
    """Image tower and linear head, all weights learned; the backbone itself stays as it is.

    Pictures are shown in the views that their table has, one at a time. No view is kept, so ask
    for many (``--views 100``); without, all epochs show the plain pictures.

    Parameters
    ----------
    backbone
        Its image tower is copied.
    symptoms
        Kept with the run; not used.
    recipe
        How to train: ``"paper"``, ``"fast"`` or a `medvip.training.Recipe`.
    seed
        Of random weights, of what is left out at random, and of the order of images and views.

    Raises
    ------
    UnsuitableBackbone
        The backbone's image tower cannot be had as a module to be trained.
    """

    name: ClassVar[str]
    needs: ClassVar[Literal["features", "pixels"]] = "pixels"
    uses_symptoms: ClassVar[bool] = False
    learns: ClassVar[bool] = True
    recipes: ClassVar[Mapping[str, Recipe]]
    pretrained: ClassVar[bool]
    tower_rate: float | None = 1.0

    def __init__(
        self,
        backbone: Backbone,
        symptoms: SymptomSet | None,
        recipe: str | Recipe | dict[str, Any],
        seed: int,
    ) -> None:
        if not isinstance(backbone, TrainableBackbone):
            raise UnsuitableBackbone(
                f"the backbone {backbone.name} does not give its image tower to be trained",
                fix="use --backbone embedded, a CLIP or a SigLIP, or a method on frozen features",
            )
        self._trainable: TrainableBackbone = backbone
        self.backbone, self.symptoms, self.seed = backbone, symptoms, seed
        self.recipe = get_recipe(recipe, self.recipes)
        self.classes: tuple[str, ...] = ()
        self.history: list[dict[str, Any]] = []
        self._model: TowerClassifier | None = None

    def fit(self, train: Table, validation: Table, *, quiet: bool = True) -> SupervisedMethod:
        """Train tower and head; keep the epoch that the recipe chooses on `validation`.

        Random numbers are drawn from torch's global generator, seeded for the time being and put
        back as it was.

        Raises
        ------
        UsageError
            The tables hold vectors.
        TrainingError
            A class has no training image, or the loss is not finite; the best epoch before that
            is kept.
        """
        self.classes, self.history, self._model = (), [], None
        require_pictures(train, self.name)
        require_every_class(train)
        with torch.random.fork_rng(self._cuda()):
            torch.manual_seed(self.seed)
            model = self._new_model(len(train.classes), pretrained=self.pretrained)
            try:
                train_model(model, train, validation, self.recipe, self.seed, self.history, quiet=quiet)
            finally:
                if any("best" in entry for entry in self.history):
                    self.classes, self._model = train.classes, model.eval()
        return self

    @torch.no_grad()
    def predict_proba(self, images: Float[Tensor, "image 3 size size"]) -> Float[np.ndarray, "image class"]:
        """Softmax of the logits, in double precision."""
        return self._fitted()(images).double().softmax(-1).cpu().numpy()

    def state(self) -> dict[str, Tensor]:
        """All weights: those of the tower under ``tower.``, and ``head.weight`` and ``head.bias``."""
        return {name: tensor.detach() for name, tensor in self._fitted().state_dict().items()}

    def load_state(self, classes: tuple[str, ...], state: dict[str, Tensor]) -> SupervisedMethod:
        """From what `state` gave."""
        with torch.random.fork_rng(self._cuda()):  # random weights are drawn, and overwritten
            model = self._new_model(len(classes), pretrained=False)
        model.load_state_dict(state)
        self.classes, self._model = classes, model.eval()
        return self

    def options(self) -> dict[str, Any]:
        """``recipe`` and ``seed``."""
        return {"recipe": asdict(self.recipe), "seed": self.seed}

    def _new_model(self, classes: int, *, pretrained: bool) -> TowerClassifier:
        tower = self._trainable.image_tower(pretrained=pretrained)
        rate = usual_rate(tower) if self.tower_rate is None else self.tower_rate
        model = TowerClassifier(tower, self._trainable.tower_dim, classes, rate)
        return model.to(self.backbone.device)

    def _fitted(self) -> TowerClassifier:
        if self._model is None:
            raise NotFittedError(f"this {self.name} has learned nothing yet", fix="call fit first")
        return self._model

    def _cuda(self) -> list[torch.device]:
        """The devices besides the processor whose generator is used."""
        return [self.backbone.device] if self.backbone.device.type == "cuda" else []


def usual_rate(tower: nn.Module) -> float:
    """What is usual for fine-tuning such a tower, as a share of the head's learning rate."""
    transformer = any(isinstance(module, nn.LayerNorm) for module in tower.modules())
    return TRANSFORMER_RATE if transformer else CONVOLUTION_RATE


class FineTuned(SupervisedMethod):
    """The backbone's image tower, fine-tuned from its pretrained weights.

    Parameters
    ----------
    backbone, symptoms, recipe, seed
        See `SupervisedMethod`.
    tower_rate
        The tower's learning rate as a share of the recipe's, which is the head's. None: 0.1 for
        a convolutional tower, 0.003 for a transformer.
    """

    name: ClassVar[str] = "fine-tuned"
    pretrained: ClassVar[bool] = True
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "paper": FINE_TUNING,
        "fast": replace(FINE_TUNING, epochs=10, min_steps=100),
    }

    def __init__(
        self,
        backbone: Backbone,
        symptoms: SymptomSet | None = None,
        *,
        tower_rate: float | None = None,
        recipe: str | Recipe | dict[str, Any] = "paper",
        seed: int = 1,
    ) -> None:
        if tower_rate is not None and not (math.isfinite(tower_rate) and tower_rate >= 0):
            raise UsageError(f"tower_rate is {tower_rate}", fix="use a finite number, 0 or more")
        super().__init__(backbone, symptoms, recipe, seed)
        self.tower_rate = tower_rate

    def options(self) -> dict[str, Any]:
        """``tower_rate``, ``recipe`` and ``seed``."""
        return {"tower_rate": self.tower_rate, **super().options()}


class FromScratch(SupervisedMethod):
    """The architecture of the backbone's image tower, trained from random weights.

    A few hundred pictures are too few for that: it is here to show what a "supervised" row of
    this kind is worth.

    Parameters
    ----------
    backbone, symptoms, recipe, seed
        See `SupervisedMethod`.
    """

    name: ClassVar[str] = "from-scratch"
    pretrained: ClassVar[bool] = False
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "paper": FROM_SCRATCH,
        "fast": replace(FROM_SCRATCH, epochs=20, min_steps=200),
    }

    def __init__(
        self,
        backbone: Backbone,
        symptoms: SymptomSet | None = None,
        *,
        recipe: str | Recipe | dict[str, Any] = "paper",
        seed: int = 1,
    ) -> None:
        super().__init__(backbone, symptoms, recipe, seed)
