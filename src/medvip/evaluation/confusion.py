"""Figures that follow from the confusion matrix alone."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


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


def accuracy(confusion: Float[np.ndarray, "resample class class"]) -> Float[np.ndarray, "resample"]:
    """Share of images on the diagonal.

    Examples
    --------
    >>> accuracy(np.array([[[3.0, 1.0], [0.0, 4.0]]])).tolist()
    [0.875]
    """
    return _ratio(np.trace(confusion, axis1=1, axis2=2), confusion.sum(axis=(1, 2)))


def sensitivity(confusion: Float[np.ndarray, "resample class class"]) -> Float[np.ndarray, "resample class"]:
    """TP / (TP + FN) of each class, also called recall; NaN for a class without images.

    Examples
    --------
    >>> sensitivity(np.array([[[3.0, 1.0], [0.0, 4.0]]])).tolist()
    [[0.75, 1.0]]
    """
    return _ratio(_diagonal(confusion), confusion.sum(axis=2))


def specificity(confusion: Float[np.ndarray, "resample class class"]) -> Float[np.ndarray, "resample class"]:
    """TN / (TN + FP) of each class; NaN when all images are of the class.

    Examples
    --------
    >>> specificity(np.array([[[3.0, 1.0], [0.0, 4.0]]])).tolist()
    [[1.0, 0.75]]
    """
    others = confusion.sum(axis=(1, 2))[:, None] - confusion.sum(axis=2)
    false_positives = confusion.sum(axis=1) - _diagonal(confusion)
    return _ratio(others - false_positives, others)


def precision(confusion: Float[np.ndarray, "resample class class"]) -> Float[np.ndarray, "resample class"]:
    """TP / (TP + FP) of each class; NaN for a class that was never predicted.

    Examples
    --------
    >>> precision(np.array([[[3.0, 1.0], [0.0, 4.0]]])).tolist()
    [[1.0, 0.8]]
    """
    return _ratio(_diagonal(confusion), confusion.sum(axis=1))


def f1(confusion: Float[np.ndarray, "resample class class"]) -> Float[np.ndarray, "resample class"]:
    """2 TP / (2 TP + FP + FN) of each class; 0 for a class neither present nor predicted.

    Examples
    --------
    >>> f1(np.array([[[3.0, 1.0], [0.0, 0.0]]])).round(3).tolist()
    [[0.857, 0.0]]
    """
    either = confusion.sum(axis=1) + confusion.sum(axis=2)
    return np.nan_to_num(_ratio(2 * _diagonal(confusion), either), nan=0.0)


def macro_f1(confusion: Float[np.ndarray, "resample class class"]) -> Float[np.ndarray, "resample"]:
    """Mean F1 over all classes of the data set, also those that a resample lacks (they give 0).

    As scikit-learn's ``f1_score(average="macro", labels=all classes, zero_division=0)``.

    Examples
    --------
    >>> macro_f1(np.array([[[3.0, 1.0], [0.0, 0.0]]])).round(3).tolist()
    [0.429]
    """
    return f1(confusion).mean(axis=1)


def balanced_accuracy(confusion: Float[np.ndarray, "resample class class"]) -> Float[np.ndarray, "resample"]:
    """Mean sensitivity over the classes that have images.

    Examples
    --------
    >>> balanced_accuracy(np.array([[[3.0, 1.0], [0.0, 4.0]]])).tolist()
    [0.875]
    """
    found = sensitivity(confusion)
    present = ~np.isnan(found)
    return _ratio(np.where(present, found, 0).sum(axis=1), present.sum(axis=1))


def _diagonal(confusion: np.ndarray) -> np.ndarray:
    return np.diagonal(confusion, axis1=1, axis2=2)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Part / whole, NaN where whole is 0."""
    defined = whole > 0
    return np.where(defined, part / np.where(defined, whole, 1), np.nan)
