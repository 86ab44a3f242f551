"""The ROC curve, and the area under it over all resamples at once."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int


def auroc(
    scores: Float[np.ndarray, "image"],
    positive: Bool[np.ndarray, "image"],
    weights: Float[np.ndarray, "resample image"],
) -> Float[np.ndarray, "resample"]:
    """How often a positive image scores above a negative one, ties counting half.

    That share is the area under the ROC curve (Hanley and McNeil 1982). The scores are sorted
    once; each resample is then one cumulative sum over the weights.

    Parameters
    ----------
    scores
        Higher means more positive; any range.
    positive
        Which images are.
    weights
        How often each image counts in each resample.

    Returns
    -------
    Float[np.ndarray, "resample"]
        In [0, 1]; NaN where a resample has no positive or no negative image.

    Examples
    --------
    >>> scores, positive = np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True])
    >>> auroc(scores, positive, np.ones((1, 4))).tolist()
    [0.875]
    """
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    positives = np.add.reduceat(weights[:, order] * positive[order], starts, axis=1)
    negatives = np.add.reduceat(weights[:, order] * ~positive[order], starts, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives / 2
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    won = (positives * below).sum(axis=1)
    return np.where(pairs > 0, won / np.where(pairs > 0, pairs, 1), np.nan)


def one_vs_rest_auroc(
    probabilities: Float[np.ndarray, "image class"],
    labels: Int[np.ndarray, "image"],
    weights: Float[np.ndarray, "resample image"],
) -> Float[np.ndarray, "resample class"]:
    """The AUROC of each class against all others.

    Parameters
    ----------
    probabilities
        In [0, 1].
    labels
        The column of each image's true class.
    weights
        How often each image counts in each resample.

    Returns
    -------
    Float[np.ndarray, "resample class"]
        NaN where a resample lacks the class or has nothing else.

    Examples
    --------
    >>> probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]])
    >>> one_vs_rest_auroc(probabilities, np.array([0, 1, 1]), np.ones((1, 3))).tolist()
    [[1.0, 1.0]]
    """
    columns = range(probabilities.shape[1])
    return np.stack([auroc(probabilities[:, c], labels == c, weights) for c in columns], axis=1)


def macro_auroc(per_class: Float[np.ndarray, "resample class"]) -> Float[np.ndarray, "resample"]:
    """Mean over the classes for which it is defined; NaN when it is for none.

    For two classes, whose two AUROCs are equal, this is the ordinary AUROC.

    Examples
    --------
    >>> macro_auroc(np.array([[0.8, 0.6, np.nan]])).round(3).tolist()
    [0.7]
    """
    defined = ~np.isnan(per_class)
    number = defined.sum(axis=1)
    total = np.where(defined, per_class, 0).sum(axis=1)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def roc_curve(
    scores: Float[np.ndarray, "image"], positive: Bool[np.ndarray, "image"]
) -> tuple[Float[np.ndarray, "point"], Float[np.ndarray, "point"]]:
    """Shares of the negative and of the positive images at or above each threshold, from (0, 0) to (1, 1).

    Parameters
    ----------
    scores
        Higher means more positive; any range.
    positive
        Which images are.

    Returns
    -------
    tuple
        1 - specificity and sensitivity; both NaN throughout where there is no such image.

    Examples
    --------
    >>> false, true = roc_curve(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True]))
    >>> false.tolist(), true.tolist()
    ([0.0, 0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0])
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True])
    shares = []
    for which in (~positive, positive):
        counted = np.r_[0, np.cumsum(which[order])[ends]].astype(np.float64)
        shares.append(counted / which.sum() if which.any() else np.full(len(counted), np.nan))
    return shares[0], shares[1]


def sensitivity_at(
    specificity: float, scores: Float[np.ndarray, "image"], positive: Bool[np.ndarray, "image"]
) -> float:
    """The best sensitivity of a threshold that keeps at least this specificity; NaN where undefined.

    The threshold is chosen on these very images, so it promises a little too much for others.

    Examples
    --------
    >>> scores, positive = np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True])
    >>> sensitivity_at(0.9, scores, positive), sensitivity_at(0.5, scores, positive)
    (0.5, 1.0)
    """
    false, true = roc_curve(scores, positive)
    if np.isnan(false).any() or np.isnan(true).any():
        return float("nan")
    return float(true[false <= 1 - specificity + 1e-12].max())
