"""Expected calibration error: whether a confidence of 80 % means right in 80 of 100 cases."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

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
