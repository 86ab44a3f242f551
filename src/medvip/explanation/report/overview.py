"""Symptoms over many images: how much each is looked at, and for which class it speaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from medvip.explanation.contributions import ClassContributions


@dataclass(frozen=True)
class SymptomLine:
    """One symptom over all images.

    Attributes
    ----------
    symptom, attention
        Its words, and the merge prompt's weight, the same for every image.
    own, others
        Mean share in its class's logit, over the images of its class and over all others; NaN where
        there are none.
    by_class
        The same over the images of each true class, by name.
    """

    symptom: str
    attention: float
    own: float
    others: float
    by_class: dict[str, float]

    @property
    def difference(self) -> float:
        """By how much it speaks for its class more on images of its class."""
        return self.own - self.others


@dataclass(frozen=True)
class ClassOverview:
    """The symptoms of one class, and its class vector.

    Attributes
    ----------
    class_name
        Which.
    symptoms
        In the order of the symptom file.
    class_vector
        The class vector's mean shares, as a line that no symptom explains.
    class_vector_part
        How much of what the logit is added up from is the class vector's: the mean over images of
        its absolute share over the sum of all absolute shares, in [0, 1].
    """

    class_name: str
    symptoms: tuple[SymptomLine, ...]
    class_vector: SymptomLine
    class_vector_part: float


@dataclass(frozen=True)
class SymptomOverview:
    """All classes.

    Attributes
    ----------
    classes
        In the run's order.
    images
        How many images the means are over.
    decided_by_class_vector
        The share of images whose predicted class would not be the same if the class vectors' shares
        were taken out of all logits: their decisions rest on what no symptom explains.
    """

    classes: tuple[ClassOverview, ...]
    images: int
    decided_by_class_vector: float


def overview(
    explained: Sequence[Sequence[ClassContributions]], labels: Int[np.ndarray, "image"]
) -> SymptomOverview:
    """Sum up the shares of many images.

    Parameters
    ----------
    explained
        For each image, what each class's logit is made of.
    labels
        The position of each image's true class among them.

    Examples
    --------
    >>> from medvip.explanation.contributions import SymptomShare
    >>> def shares(red, blue):
    ...     return [ClassContributions(name, 1.0 + share, 1.0, (SymptomShare(name, share, 1.0, 0.1),))
    ...             for name, share in (("red", red), ("blue", blue))]
    >>> found = overview([shares(3.0, 1.0), shares(1.0, 2.0)], np.array([0, 1]))
    >>> line = found.classes[0].symptoms[0]
    >>> line.own, line.others, found.classes[0].class_vector_part, found.decided_by_class_vector
    (3.0, 1.0, 0.375, 0.0)
    """
    names = [part.class_name for part in explained[0]]
    logits = np.array([[part.logit for part in image] for image in explained])
    of_class_vector = np.array([[part.class_vector for part in image] for image in explained])
    classes = []
    for c, name in enumerate(names):
        shares = np.array([[s.share for s in image[c].symptoms] for image in explained])
        columns = np.column_stack([shares, of_class_vector[:, c]])
        size = np.abs(columns)
        first = explained[0][c].symptoms
        lines = [
            _line(words, attention, columns[:, i], labels, c, names)
            for i, (words, attention) in enumerate(
                [*((symptom.symptom, symptom.attention) for symptom in first), ("class vector", 1.0)]
            )
        ]
        part = size[:, -1] / np.maximum(size.sum(axis=1), 1e-12)
        classes.append(ClassOverview(name, tuple(lines[:-1]), lines[-1], float(part.mean())))
    without = (logits - of_class_vector).argmax(axis=1)
    changed = without != logits.argmax(axis=1)
    return SymptomOverview(tuple(classes), len(explained), float(changed.mean()))


def _line(
    words: str,
    attention: float,
    shares: np.ndarray,
    labels: Int[np.ndarray, "image"],
    own: int,
    names: Sequence[str],
) -> SymptomLine:
    def mean(which: np.ndarray) -> float:
        return float(shares[which].mean()) if which.any() else float("nan")

    by_class = {name: mean(labels == c) for c, name in enumerate(names)}
    return SymptomLine(words, attention, mean(labels == own), mean(labels != own), by_class)
