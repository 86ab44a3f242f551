"""Where a similarity lies among the training images: a run keeps quantiles, and no image's own number.

A cosine of 0.03 says little to anyone; "higher than in 94 % of the training images" does. What is
kept of the training images is one short row of quantiles for each symptom, with nothing that says
whose they are. Neighbouring quantiles are at least `IMAGES_A_STEP` ranks apart, and so are the
outermost from the lowest and highest similarity, which are not kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

IMAGES_A_STEP = 5
MOST_QUANTILES = 99


@dataclass(frozen=True)
class SimilarityQuantiles:
    """Quantiles of each symptom's cosine similarity over the training images.

    Attributes
    ----------
    values
        Increasing along the last axis: of q quantiles the k-th (from 1) is that of level k / (q + 1).
        Zeros where a class has no further symptom.
    """

    values: Float[Tensor, "class symptom quantile"]

    @property
    def levels(self) -> Float[np.ndarray, "quantile"]:
        """Of the quantiles, in (0, 1)."""
        number = self.values.shape[-1]
        return np.arange(1, number + 1) / (number + 1)

    def percentiles(
        self, similarities: Float[Tensor, "image class symptom"]
    ) -> Float[np.ndarray, "image class symptom"]:
        """Per cent of the training images whose similarity is lower, interpolated between quantiles.

        Never below the first level nor above the last: what lies farther out is not known.

        Examples
        --------
        >>> seen = SimilarityQuantiles(torch.tensor([[[0.125, 0.25, 0.375]]]))
        >>> seen.percentiles(torch.tensor([[[0.3125]], [[0.9]]])).ravel().tolist()
        [62.5, 75.0]
        """
        given, levels = similarities.double().cpu().numpy(), 100 * self.levels
        found = np.empty_like(given)
        for c, i in np.ndindex(given.shape[1:]):
            found[:, c, i] = np.interp(given[:, c, i], self.values[c, i].double().cpu().numpy(), levels)
        return found


def similarity_quantiles(
    similarities: Float[Tensor, "image class symptom"], present: Bool[Tensor, "class symptom"]
) -> SimilarityQuantiles | None:
    """What a run keeps of its training images; None of fewer than two steps' worth of them.

    Examples
    --------
    >>> seen = similarity_quantiles(torch.linspace(0, 1, 101)[:, None, None], torch.ones(1, 1).bool())
    >>> seen.values.shape, round(float(seen.values[0, 0, 9]), 2)
    (torch.Size([1, 1, 19]), 0.5)
    """
    number = min(MOST_QUANTILES, (len(similarities) - 1) // IMAGES_A_STEP - 1)
    if number < 1:
        return None
    levels = np.arange(1, number + 1) / (number + 1)
    values = np.quantile(similarities.double().cpu().numpy(), levels, axis=0)  # [quantile, class, symptom]
    kept = torch.from_numpy(np.moveaxis(values, 0, -1)) * present.cpu()[..., None]
    return SimilarityQuantiles(kept.float().contiguous())
