"""Figures that follow from the confusion matrix alone, for validation scores and for test figures alike.

A class is present where it has true images. What is asked of a class that is not present (its sensitivity,
its F1) is undefined, and the means over classes are over those that are present.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, Num


def confusion_matrix(
    labels: Int[np.ndarray, "image"], predictions: Int[np.ndarray, "image"], classes: int
) -> Int[np.ndarray, "class class"]:
    """Count the images, rows by true class, columns by predicted class.

    Examples
    --------
    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    return np.bincount(labels * classes + predictions, minlength=classes**2).reshape(classes, classes)


def confusion_matrices(
    labels: Int[np.ndarray, "image"],
    predictions: Int[np.ndarray, "image"],
    weights: Float[np.ndarray, "resample image"],
    classes: int,
) -> Float[np.ndarray, "resample class class"]:
    """Weighted counts, rows by true class, columns by predicted class.

    Parameters
    ----------
    labels, predictions
        From 0 to `classes` - 1.
    weights
        How often each image counts in each resample.
    classes
        Number of classes.

    Returns
    -------
    Float[np.ndarray, "resample class class"]
        Each matrix sums to its resample's total weight.

    Examples
    --------
    >>> labels, predictions = np.array([0, 0, 1]), np.array([0, 1, 1])
    >>> confusion_matrices(labels, predictions, np.array([[1.0, 2.0, 3.0]]), 2).tolist()
    [[[1.0, 2.0], [0.0, 3.0]]]
    """
    cells = np.zeros((len(labels), classes * classes))
    cells[np.arange(len(labels)), labels * classes + predictions] = 1
    return (weights @ cells).reshape(-1, classes, classes)


def accuracy(confusion: Num[np.ndarray, "resample class class"]) -> Float[np.ndarray, "resample"]:
    """Share of images on the diagonal.

    Examples
    --------
    >>> accuracy(np.array([[[3.0, 1.0], [0.0, 4.0]]])).tolist()
    [0.875]
    """
    return _ratio(np.trace(confusion, axis1=1, axis2=2), confusion.sum(axis=(1, 2)))


def sensitivity(confusion: Num[np.ndarray, "resample class class"]) -> Float[np.ndarray, "resample class"]:
    """TP / (TP + FN) of each class, also called recall; NaN for a class without images.

    Examples
    --------
    >>> sensitivity(np.array([[[3.0, 1.0], [0.0, 4.0]]])).tolist()
    [[0.75, 1.0]]
    """
    return _ratio(_diagonal(confusion), confusion.sum(axis=2))


def specificity(confusion: Num[np.ndarray, "resample class class"]) -> Float[np.ndarray, "resample class"]:
    """TN / (TN + FP) of each class; NaN when all images are of the class.

    Examples
    --------
    >>> specificity(np.array([[[3.0, 1.0], [0.0, 4.0]]])).tolist()
    [[1.0, 0.75]]
    """
    others = confusion.sum(axis=(1, 2))[:, None] - confusion.sum(axis=2)
    false_positives = confusion.sum(axis=1) - _diagonal(confusion)
    return _ratio(others - false_positives, others)


def precision(confusion: Num[np.ndarray, "resample class class"]) -> Float[np.ndarray, "resample class"]:
    """TP / (TP + FP) of each class; NaN for a class that was never predicted.

    Examples
    --------
    >>> precision(np.array([[[3.0, 1.0], [0.0, 4.0]]])).tolist()
    [[1.0, 0.8]]
    """
    return _ratio(_diagonal(confusion), confusion.sum(axis=1))


def f1(confusion: Num[np.ndarray, "resample class class"]) -> Float[np.ndarray, "resample class"]:
    """2 TP / (2 TP + FP + FN) of each class; NaN for a class without images, also where it was predicted.

    Without images of its own a class has TP = 0 whatever the classifier does: a 0 there would be about who
    is in the resample. Images wrongly called so are missed by their own classes, whose F1 they lower.

    Examples
    --------
    >>> f1(np.array([[[3.0, 1.0], [0.0, 4.0]], [[3.0, 1.0], [0.0, 0.0]]])).round(3).tolist()
    [[0.857, 0.889], [0.857, nan]]
    """
    of_class = confusion.sum(axis=2)
    found = _ratio(2 * _diagonal(confusion), confusion.sum(axis=1) + of_class)
    return np.where(of_class > 0, found, np.nan)


def macro_f1(confusion: Num[np.ndarray, "resample class class"]) -> Float[np.ndarray, "resample"]:
    """Mean F1 over the classes that have images.

    As scikit-learn's ``f1_score(average="macro", labels=np.unique(true labels))``.

    Examples
    --------
    >>> macro_f1(np.array([[[3.0, 1.0], [0.0, 0.0]]])).round(3).tolist()
    [0.857]
    """
    return _mean_of_defined(f1(confusion))


def balanced_accuracy(confusion: Num[np.ndarray, "resample class class"]) -> Float[np.ndarray, "resample"]:
    """Mean sensitivity over the classes that have images.

    Examples
    --------
    >>> balanced_accuracy(np.array([[[3.0, 1.0], [0.0, 4.0]]])).tolist()
    [0.875]
    """
    return _mean_of_defined(sensitivity(confusion))


def _mean_of_defined(of_class: np.ndarray) -> np.ndarray:
    """Mean over the classes, NaN where none is defined."""
    defined = ~np.isnan(of_class)
    return _ratio(np.where(defined, of_class, 0).sum(axis=1), defined.sum(axis=1))


def _diagonal(confusion: np.ndarray) -> np.ndarray:
    return np.diagonal(confusion, axis1=1, axis2=2)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Part / whole, NaN where whole is 0."""
    defined = whole > 0
    return np.where(defined, part / np.where(defined, whole, 1), np.nan)
