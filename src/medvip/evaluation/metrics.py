"""The figures of one evaluation: frozen, printable, and JSON with a fixed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int


@dataclass(frozen=True)
class Estimate:
    """One figure with its 95 % interval.

    Attributes
    ----------
    value
        The figure on the images as they are. NaN when it is undefined, for example the
        sensitivity of a class that no image has.
    low, high
        The ends of the interval. NaN when `value` is, or when there is nothing to resample
        (one group only, or no resamples asked for).

    Examples
    --------
    >>> str(Estimate(0.952, 0.924, 0.976))
    '0.952 [0.924, 0.976]'
    >>> Estimate(float("nan"), float("nan"), float("nan")).to_json()
    {'value': None, 'low': None, 'high': None}
    """

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """``{"value": .., "low": .., "high": ..}``; what is undefined is None (null)."""
        named = {"value": self.value, "low": self.low, "high": self.high}
        return {name: None if math.isnan(number) else number for name, number in named.items()}

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "undefined"
        if math.isnan(self.low):
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class ClassMetrics:
    """The figures of one class against all others.

    Attributes
    ----------
    sensitivity
        Recall: how many of the class's images were found. Undefined when it has none.
    specificity
        How many of the other images were rightly not called this class.
    precision
        How many of the images called this class are. Undefined when none was called so.
    f1
        2 TP / (2 TP + FP + FN). Undefined when the class has no image.
    auroc
        One against the rest. Undefined when the class has no image, or all of them.
    support
        Number of images of the class.
    """

    sensitivity: Estimate
    specificity: Estimate
    precision: Estimate
    f1: Estimate
    auroc: Estimate
    support: int

    def to_json(self) -> dict[str, Any]:
        """The same names, with every figure as `Estimate.to_json` gives it."""
        return {
            "sensitivity": self.sensitivity.to_json(),
            "specificity": self.specificity.to_json(),
            "precision": self.precision.to_json(),
            "f1": self.f1.to_json(),
            "auroc": self.auroc.to_json(),
            "support": self.support,
        }


@dataclass(frozen=True)
class Metrics:
    """All figures of one evaluation; `medvip.evaluation.evaluate` makes it.

    Attributes
    ----------
    accuracy, macro_f1, balanced_accuracy, auroc, ece
        The headline figures, each in [0, 1]; for `ece` less is better. Macro-F1 and balanced accuracy
        are means over the classes that have images.
    per_class
        Class name -> its figures, in the order of `classes`.
    classes
        Class names: the order of the confusion matrix.
    confusion
        Number of images, rows by true class, columns by predicted class.
    images, groups, resamples
        How many images, groups (patients) and bootstrap resamples stand behind the figures.
    """

    accuracy: Estimate
    macro_f1: Estimate
    balanced_accuracy: Estimate
    auroc: Estimate
    ece: Estimate
    per_class: dict[str, ClassMetrics]
    classes: tuple[str, ...]
    confusion: Int[np.ndarray, "class class"]
    images: int
    groups: int
    resamples: int

    interval = "95 % percentile bootstrap over groups"

    def to_json(self) -> dict[str, Any]:
        """What `metrics.json` holds for one split: plain numbers, None for what is undefined."""
        return {
            "accuracy": self.accuracy.to_json(),
            "macro_f1": self.macro_f1.to_json(),
            "balanced_accuracy": self.balanced_accuracy.to_json(),
            "auroc": self.auroc.to_json(),
            "ece": self.ece.to_json(),
            "per_class": {name: figures.to_json() for name, figures in self.per_class.items()},
            "confusion_matrix": {"classes": list(self.classes), "counts": self.confusion.tolist()},
            "images": self.images,
            "groups": self.groups,
            "resamples": self.resamples,
            "interval": self.interval,
        }

    def summary(self) -> str:
        """The headline figures in one line."""
        return (
            f"accuracy {self.accuracy}, macro-F1 {self.macro_f1}, "
            f"balanced accuracy {self.balanced_accuracy}, AUROC {self.auroc}, ECE {self.ece} "
            f"({self.images} images, {self.groups} groups)"
        )

    def __str__(self) -> str:
        return self.summary()
