"""Resampling patients instead of images: images of one patient resemble each other.

Resampling images would take ten pictures of one patient for ten independent ones and give
intervals that are too narrow. So groups are drawn with replacement, all their images with
them (the cluster bootstrap; Davison and Hinkley 1997, *Bootstrap Methods and their
Application*, section 3.8). A resample is kept as a weight for each image, how often its group
was drawn, so that a figure over all resamples is one array operation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from medvip.evaluation.metrics import Estimate


def group_codes(groups: Sequence[str | None] | None, images: int) -> Int[np.ndarray, "image"]:
    """Number the groups in the order in which they first appear.

    Parameters
    ----------
    groups
        The group of each image; None, for one image or for all, is a group of its own.
    images
        Number of images.

    Returns
    -------
    Int[np.ndarray, "image"]
        From 0 to the number of groups - 1.

    Examples
    --------
    >>> group_codes(["anna", None, "anna", None], 4).tolist()
    [0, 1, 0, 2]
    """
    if groups is None:
        return np.arange(images)
    numbers: dict[object, int] = {}
    keys = [("image", i) if group is None else ("group", group) for i, group in enumerate(groups)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys])


def group_weights(
    codes: Int[np.ndarray, "image"], resamples: int, rng: np.random.Generator
) -> Float[np.ndarray, "resample image"]:
    """How often each image is in each resample of the groups.

    Parameters
    ----------
    codes
        The group of each image, numbered from 0.
    resamples
        How many resamples to draw.
    rng
        Where chance comes from.

    Returns
    -------
    Float[np.ndarray, "resample image"]
        Whole numbers; the same for all images of a group.

    Examples
    --------
    >>> weights = group_weights(np.array([0, 0, 1, 2]), 100, np.random.default_rng(1))
    >>> bool((weights[:, 0] == weights[:, 1]).all()), set(weights[:, 1:].sum(axis=1).tolist())
    (True, {3.0})
    """
    groups = int(codes.max()) + 1
    drawn = rng.multinomial(groups, np.full(groups, 1 / groups), size=resamples)
    return drawn.astype(np.float64)[:, codes]


def percentile_interval(value: float, resampled: Float[np.ndarray, "resample"]) -> Estimate:
    """The middle 95 % of a resampled figure, around its value on the images as they are.

    Resamples in which the figure is undefined (NaN) are left out. The interval is not moved to
    contain `value`: for a figure that resampling biases (the calibration error grows, because
    repeated images look miscalibrated together) it can lie beside it.

    Parameters
    ----------
    value
        The figure on the images as they are.
    resampled
        The figure on each resample; may be empty.

    Returns
    -------
    Estimate
        With NaN ends when `value` is undefined or there is no resample.

    Examples
    --------
    >>> str(percentile_interval(0.5, np.linspace(0, 1, 101)))
    '0.500 [0.025, 0.975]'
    """
    defined = resampled[~np.isnan(resampled)]
    if np.isnan(value) or defined.size == 0:
        return Estimate(float(value), float("nan"), float("nan"))
    low, high = np.percentile(defined, [2.5, 97.5])
    return Estimate(float(value), float(low), float(high))
