"""Whether one method is better than another: on the same test images, and over data sets.

On one data set, patients are resampled once and every method is measured on the same resamples,
so that what makes a resample easy or hard cancels in the difference (the paired bootstrap); and
McNemar's test asks whether the images that only one of two methods gets right are as many on
either side. Over data sets, methods are compared by their mean rank (Friedman's test, in the form of
Iman and Davenport, and Nemenyi's critical difference; Demšar 2006, *Statistical Comparisons of
Classifiers over Multiple Data Sets*).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from medvip import confusion
from medvip.evaluation import calibration, ranking
from medvip.evaluation.bootstrap import percentile_interval

FIGURES = ("accuracy", "macro_f1", "balanced_accuracy", "auroc", "ece")
"""The headline figures of `medvip.evaluation.Metrics`, by the names they have there."""
NOISE = 1e-12
"""Differences of figures below come from rounding."""


def figures_on(
    probabilities: Float[np.ndarray, "image class"],
    labels: Int[np.ndarray, "image"],
    weights: Float[np.ndarray, "resample image"],
) -> dict[str, Float[np.ndarray, "resample"]]:
    """The headline figures of every resample.

    Parameters
    ----------
    probabilities
        One distribution over classes for each image.
    labels
        The column of each image's true class.
    weights
        How often each image counts in each resample (`medvip.evaluation.bootstrap.group_weights`).
        Give the same ones for all methods that are to be compared.

    Returns
    -------
    dict
        By the names of `FIGURES`; NaN where a resample cannot define a figure.

    Examples
    --------
    >>> probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.4, 0.6], [0.6, 0.4]])
    >>> found = figures_on(probabilities, np.array([0, 0, 1, 1]), np.ones((1, 4)))
    >>> found["accuracy"].tolist(), found["auroc"].tolist()
    ([0.75], [1.0])
    """
    predictions = probabilities.argmax(axis=1)
    matrices = confusion.confusion_matrices(labels, predictions, weights, probabilities.shape[1])
    confidence = np.clip(probabilities.max(axis=1), 0, 1)
    return {
        "accuracy": confusion.accuracy(matrices),
        "macro_f1": confusion.macro_f1(matrices),
        "balanced_accuracy": confusion.balanced_accuracy(matrices),
        "auroc": ranking.macro_auroc(ranking.one_vs_rest_auroc(probabilities, labels, weights)),
        "ece": calibration.expected_calibration_error(confidence, predictions == labels, weights),
    }


@dataclass(frozen=True)
class Difference:
    """A figure of one method less that of another, on the same images.

    Attributes
    ----------
    value
        The difference on the images as they are.
    low, high
        95 % percentile interval of the paired bootstrap; NaN without resamples.
    p
        Two-sided, of the difference divided by its standard error, the standard deviation over the
        resamples, taken as normal (Efron and Tibshirani 1993, *An Introduction to the Bootstrap*,
        chapters 6 and 13). Shares of resamples would not do: the smallest of 1000 is 0.002, which
        no correction for many tests leaves significant. NaN for fewer than two resamples.
    """

    value: float
    low: float
    high: float
    p: float


def paired_difference(
    first: float,
    second: float,
    first_resampled: Float[np.ndarray, "resample"],
    second_resampled: Float[np.ndarray, "resample"],
) -> Difference:
    """A figure of two methods, compared on the same resamples.

    Parameters
    ----------
    first, second
        The figure of either method on the images as they are.
    first_resampled, second_resampled
        On the same resamples, one by one. Resamples in which one is undefined are left out.

    Examples
    --------
    >>> found = paired_difference(0.8, 0.7, np.array([0.8, 0.9, 0.7]), np.array([0.7, 0.7, 0.6]))
    >>> round(found.p, 3)                           # 0.1 / 0.058 standard errors
    0.083
    """
    apart = first_resampled - second_resampled
    apart = apart[~np.isnan(apart)]
    interval = percentile_interval(first - second, apart)
    p = math.nan
    if apart.size > 1 and not math.isnan(interval.value):
        error = float(apart.std(ddof=1))
        if error > NOISE:
            p = math.erfc(abs(interval.value) / error / math.sqrt(2))
        else:  # all resamples differ alike
            p = float(abs(interval.value) <= NOISE)
    return Difference(interval.value, interval.low, interval.high, p)


@dataclass(frozen=True)
class McNemar:
    """McNemar's exact test: images that only one of two methods gets right.

    Attributes
    ----------
    first_only, second_only
        How many images only the one and only the other method gets right.
    p
        Two-sided, exact. It takes images as independent, whatever patient they are of.
    """

    first_only: int
    second_only: int
    p: float


def mcnemar_exact(first_right: Bool[np.ndarray, "image"], second_right: Bool[np.ndarray, "image"]) -> McNemar:
    """Compare which images two methods get right.

    Examples
    --------
    >>> mcnemar_exact(np.array([True] * 9 + [False]), np.array([False] * 9 + [True]))
    McNemar(first_only=9, second_only=1, p=0.021484375)
    """
    from scipy.stats import binom

    first_only = int((first_right & ~second_right).sum())
    second_only = int((second_right & ~first_right).sum())
    # Under the null hypothesis each falls to either side like a coin, so the tails are equal.
    tail = binom.cdf(min(first_only, second_only), first_only + second_only, 0.5)
    return McNemar(first_only, second_only, min(1.0, 2 * float(tail)))


def combined_over_seeds(p_values: Sequence[float]) -> float:
    """One p-value from those of several seeds on the same test images: twice their median.

    The seeds' tests share their images, so they are not independent. Twice the median holds
    whatever the dependence (Rüger 1978; Vovk and Wang 2020, *Combining p-values via averaging*).
    One p-value alone stays as it is.

    Examples
    --------
    >>> combined_over_seeds([0.01, 0.02, 0.6]), combined_over_seeds([0.3])
    (0.04, 0.3)
    """
    if len(p_values) == 1:
        return p_values[0]
    return min(1.0, 2 * float(np.median(p_values)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values of a family of tests (Holm 1979); those that are NaN are not of the family.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted = [math.nan] * len(p_values)
    family = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    largest = 0.0
    for place, (p, index) in enumerate(family):
        largest = max(largest, min(1.0, (len(family) - place) * p))
        adjusted[index] = largest
    return adjusted


def ranks(values: Float[np.ndarray, "set method"]) -> Float[np.ndarray, "set method"]:
    """Rank of each method on each data set: 1 for the highest value, equals share their mean rank.

    Examples
    --------
    >>> ranks(np.array([[0.7, 0.9, 0.7], [0.1, 0.2, 0.3]])).tolist()
    [[2.5, 1.0, 2.5], [3.0, 2.0, 1.0]]
    """
    from scipy.stats import rankdata

    return np.asarray(rankdata(-values, axis=1), dtype=np.float64)


def friedman_p(values: Float[np.ndarray, "set method"]) -> float:
    """P-value of Friedman's test that all methods rank alike, by Iman and Davenport's F (1980).

    On few data sets Friedman's own chi-square finds too little. Where all data sets agree F is
    infinite; the p-value is then, as it is at least in every case, 1 / (methods!)^(sets - 1), the
    chance of agreeing by chance. NaN for fewer than three methods or two data sets, and where all
    values are equal.

    Examples
    --------
    >>> friedman_p(np.array([[0.1, 0.2, 0.3], [0.5, 0.6, 0.7]])) == 1 / 6
    True
    """
    from scipy.stats import f, friedmanchisquare

    sets, methods = values.shape
    if methods < 3 or sets < 2 or (values == values[:, :1]).all():
        return math.nan
    chi_square = float(friedmanchisquare(*values.T).statistic)
    least = 1 / math.factorial(methods) ** (sets - 1)
    rest = sets * (methods - 1) - chi_square
    if rest <= NOISE:
        return least
    statistic = (sets - 1) * chi_square / rest
    return max(least, float(f.sf(statistic, methods - 1, (methods - 1) * (sets - 1))))


def critical_difference(methods: int, sets: int, alpha: float = 0.05) -> float:
    """Difference of mean ranks above which two methods differ (Nemenyi 1963).

    q sqrt(k (k + 1) / (6 N)) for k methods on N data sets, q the upper quantile of the
    studentized range with infinite degrees of freedom, divided by sqrt(2).

    Examples
    --------
    >>> round(critical_difference(4, 14), 2)                    # Demšar's example
    1.25
    """
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1 - alpha, methods, np.inf)) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * sets))
