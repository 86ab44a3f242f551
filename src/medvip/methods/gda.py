"""GDA: Gaussian discriminant analysis blended with zero-shot, no training.

Wang et al., *A Hard-to-Beat Baseline for Training-free CLIP-based Adaptation* (ICLR 2024, arXiv
2402.04087). The images of every class are taken as normal with the class's own mean mu and one
covariance for all, so that by Bayes the logits are linear (their Eq. 3, equal priors):

    w = P mu,   b = -mu^T P mu / 2.

The inverse covariance P comes from few images in many dimensions by their Eq. 4, an empirical Bayes
ridge estimator, with N vectors, D dimensions and the covariance S about the class means:

    P = D ((N - 1) S + trace(S) I)^-1.

The result is added to zero-shot: logits = exp(logit_scale) * cosine(image, text) + alpha (W f + b),
alpha from 0.0001, 0.001 ... 100 on validation images. Equations, list and fallback (0.1) were checked
against the authors' released `main_few_shots.py`; the numbers of the equations are those in the
caption of the paper's Figure 1. There the factor of zero-shot is 100, CLIP's own scale; here it is
the backbone's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from medvip.features import FeatureTable
from medvip.methods.linear import LinearTextMethod
from medvip.methods.selection import Selection
from medvip.methods.vectors import class_means

ALPHAS = tuple(10.0**power for power in range(-4, 3))
DEFAULT_ALPHA = 0.1
"""Where nothing can be chosen by: the value that the released code starts with."""


class GDA(LinearTextMethod):
    """Gaussian discriminant analysis with one covariance, added to zero-shot.

    Each augmented view counts as one more image, as in the released code. Where all classes have
    one vector only there is no covariance, and zero-shot is what remains.
    """

    name: ClassVar[str] = "gda"

    def learn(
        self, train: FeatureTable, validation: FeatureTable
    ) -> tuple[Float[Tensor, "class dim"], Float[Tensor, " class"]]:
        """Zero-shot and GDA added up at the chosen alpha."""
        text = math.exp(self.backbone.logit_scale) * self.text_vectors(train.classes)

        def scores(
            part: FeatureTable, images: Float[Tensor, "image dim"], values: Sequence[float]
        ) -> Iterator[Float[Tensor, "image class"]]:
            vectors = self.unit(images)
            zero_shot, visual = vectors @ text.T, self._visual(part, vectors)
            for alpha in values:
                yield zero_shot + alpha * visual

        selection = Selection[float](("alpha",), train, validation, self.history)
        alpha = selection.among(ALPHAS, scores) if selection.possible else DEFAULT_ALPHA
        weights, bias = self._gaussian(train)
        return text + alpha * weights, alpha * bias

    def _visual(
        self, train: FeatureTable, vectors: Float[Tensor, "image dim"]
    ) -> Float[Tensor, "image class"]:
        weights, bias = self._gaussian(train)
        return vectors @ weights.T + bias

    def _gaussian(self, train: FeatureTable) -> tuple[Float[Tensor, "class dim"], Float[Tensor, " class"]]:
        vectors, labels = self.vectors(train), self.labels(train)
        means = class_means(vectors, labels, len(train.classes))
        precision = ridge_precision(vectors - means[labels])
        weights = means @ precision
        return weights, -(weights * means).sum(-1) / 2


def ridge_precision(centred: Float[Tensor, "image dim"]) -> Float[Tensor, "dim dim"]:
    """D ((N - 1) S + trace(S) I)^-1 of vectors about their class means; 0 where they do not spread.

    Examples
    --------
    >>> ridge_precision(torch.tensor([[1.0], [-1.0]]))
    tensor([[0.2500]])
    """
    images, dim = centred.shape
    scatter = centred.T @ centred
    trace = scatter.trace() / (images - 1)
    if not trace > torch.finfo(centred.dtype).eps:
        return torch.zeros_like(scatter)
    identity = torch.eye(dim, dtype=centred.dtype, device=centred.device)
    return dim * torch.linalg.inv(scatter + trace * identity)
