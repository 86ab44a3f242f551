"""What an evaluation is given, checked before any figure is computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medvip.errors import DataError

#: How far a row of probabilities may be from a sum of 1: room for float16, not for logits.
TOLERANCE = 1e-3


def check_inputs(
    probabilities: np.ndarray,
    labels: np.ndarray,
    classes: tuple[str, ...],
    groups: Sequence[str | None] | None = None,
) -> None:
    """Raise for anything that would make a figure false.

    The annotations leave the shapes open on purpose: checking them is what this is for.

    Parameters
    ----------
    probabilities
        To be [image, class], each row a distribution.
    labels
        To be [image], integers that index `classes`.
    classes
        At least two different names.
    groups
        To be one for each image, or None.

    Raises
    ------
    DataError
        Naming the first row, label or length that is wrong.

    Examples
    --------
    >>> check_inputs(np.array([[0.2, 0.9]]), np.array([0]), ("ill", "well"))
    Traceback (most recent call last):
    ...
    medvip.errors.DataError: probabilities of image 0 sum to 1.1 (to mend it: pass a softmax over classes)
    """
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise DataError(
            f"an evaluation needs at least two different classes, got {list(classes)}",
            fix="name each class of the data set once, in the order of the probabilities' columns",
        )
    if probabilities.ndim != 2 or probabilities.shape[1] != len(classes):
        raise DataError(
            f"probabilities have shape {probabilities.shape}, not (images, {len(classes)} classes)",
            fix="pass one row for each image and one column for each class",
        )
    if len(probabilities) == 0:
        raise DataError("there are no images to evaluate", fix="choose a split that has images")
    if labels.shape != probabilities.shape[:1]:
        raise DataError(
            f"labels have shape {labels.shape}, but there are {len(probabilities)} rows of probabilities",
            fix="pass one label for each image",
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"labels are {labels.dtype}, not integers", fix="pass the position in `classes`")
    outside = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if outside.size:
        raise DataError(
            f"label {labels[outside[0]]} of image {outside[0]} is not among the {len(classes)} classes",
            fix=f"labels go from 0 to {len(classes) - 1}",
        )
    _check_distributions(probabilities)
    if groups is not None and len(groups) != len(labels):
        raise DataError(
            f"{len(groups)} groups for {len(labels)} images", fix="pass one group (patient) for each image"
        )


def _check_distributions(probabilities: np.ndarray) -> None:
    broken = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
    if broken.size:
        raise DataError(
            f"probabilities of {broken.size} of {len(probabilities)} images are not finite, "
            f"first image {broken[0]}",
            fix="look for a model that diverged or an image of a single value",
        )
    beyond = np.flatnonzero((probabilities < -TOLERANCE).any(axis=1))
    if beyond.size:
        raise DataError(
            f"probabilities of image {beyond[0]} are below 0", fix="pass a softmax over classes, not logits"
        )
    sums = probabilities.astype(np.float64).sum(axis=1)
    wrong = np.flatnonzero(np.abs(sums - 1) > TOLERANCE)
    if wrong.size:
        raise DataError(
            f"probabilities of image {wrong[0]} sum to {sums[wrong[0]]:.4g}",
            fix="pass a softmax over classes",
        )
