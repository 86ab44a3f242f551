"""Expected calibration error: whether a confidence of 80 % means right in 80 of 100 cases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from medvip.evaluation.bootstrap import percentile_interval
from medvip.evaluation.metrics import Estimate

BINS = 15


def confidence_bins(confidence: Float[np.ndarray, "image"], bins: int = BINS) -> Int[np.ndarray, "image"]:
    """The bin of each confidence: equal widths, each bin without its lower and with its upper end.

    Examples
    --------
    >>> confidence_bins(np.array([0.0, 0.5, 0.51, 1.0]), bins=2).tolist()
    [0, 0, 1, 1]
    """
    edges = np.linspace(0, 1, bins + 1)
    return np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)


def expected_calibration_error(
    confidence: Float[np.ndarray, "image"],
    correct: Bool[np.ndarray, "image"],
    weights: Float[np.ndarray, "resample image"],
    bins: int = BINS,
) -> Float[np.ndarray, "resample"]:
    """Mean distance between confidence and accuracy over bins of confidence.

    sum over bins of (images in bin / all images) * |accuracy in bin - mean confidence in bin|,
    with 15 bins of equal width on the predicted class's probability (Guo et al. 2017, *On
    Calibration of Modern Neural Networks*). On few images it is biased upwards.

    Parameters
    ----------
    confidence
        Probability of the predicted class, in [0, 1].
    correct
        Whether the prediction is right.
    weights
        How often each image counts in each resample; each row has a positive sum.
    bins
        Number of bins.

    Returns
    -------
    Float[np.ndarray, "resample"]
        In [0, 1]; 0 is perfect.

    Examples
    --------
    >>> confidence, correct = np.array([0.9, 0.9, 0.6]), np.array([True, False, True])
    >>> expected_calibration_error(confidence, correct, np.ones((1, 3))).round(4).tolist()
    [0.4]
    """
    gaps = np.zeros((len(confidence), bins))
    gaps[np.arange(len(confidence)), confidence_bins(confidence, bins)] = correct - confidence
    return np.abs(weights @ gaps).sum(axis=1) / weights.sum(axis=1)


@dataclass(frozen=True)
class ConfidenceBin:
    """The images whose confidence lies in one bin.

    Attributes
    ----------
    low, high
        Ends of the bin.
    images
        How many there are; never 0.
    confidence
        Their mean confidence.
    accuracy
        The share of them that is right.
    """

    low: float
    high: float
    images: int
    confidence: float
    accuracy: Estimate


def reliability(
    confidence: Float[np.ndarray, "image"],
    correct: Bool[np.ndarray, "image"],
    weights: Float[np.ndarray, "resample image"],
    bins: int = BINS,
) -> tuple[ConfidenceBin, ...]:
    """What the calibration error is made of: confidence beside accuracy, bin by bin.

    Parameters
    ----------
    confidence
        Probability of the predicted class, in [0, 1].
    correct
        Whether the prediction is right.
    weights
        How often each image counts in each resample, for the intervals.
    bins
        Number of bins; those without images are left out.

    Examples
    --------
    >>> confidence, correct = np.array([0.9, 0.9, 0.6]), np.array([True, False, True])
    >>> bins = reliability(confidence, correct, np.ones((1, 3)))
    >>> [(one.images, one.confidence, one.accuracy.value) for one in bins]
    [(1, 0.6, 1.0), (2, 0.9, 0.5)]
    """
    bin_of = confidence_bins(confidence, bins)
    found = []
    for number in sorted(set(bin_of.tolist())):
        inside = bin_of == number
        total = weights[:, inside].sum(axis=1)
        right = weights[:, inside & correct].sum(axis=1)
        shares = np.where(total > 0, right / np.where(total > 0, total, 1), np.nan)
        found.append(
            ConfidenceBin(
                low=number / bins,
                high=(number + 1) / bins,
                images=int(inside.sum()),
                confidence=float(confidence[inside].mean()),
                accuracy=percentile_interval(float(correct[inside].mean()), shares),
            )
        )
    return tuple(found)
