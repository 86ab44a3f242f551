"""Symptoms over many images: how much each is looked at, and for which class it speaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from medvip.explanation.contributions import Explanation


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
        The class vector's mean shares, which no symptom explains; None for methods without one.
    """

    class_name: str
    symptoms: tuple[SymptomLine, ...]
    class_vector: SymptomLine | None

    @property
    def lines(self) -> tuple[SymptomLine, ...]:
        """All parts of the logit."""
        return self.symptoms if self.class_vector is None else (*self.symptoms, self.class_vector)


def overview(
    explained: Sequence[Explanation], labels: Int[np.ndarray, "image"], *, class_vectors: bool = True
) -> tuple[ClassOverview, ...]:
    """Sum up the shares of many images, class by class.

    Parameters
    ----------
    explained
        What each image's logits are made of; at least one.
    labels
        The position of each image's true class among the explanations' classes.
    class_vectors
        Whether the method has any.

    Examples
    --------
    >>> from medvip.explanation.contributions import ClassContributions, SymptomShare
    >>> def shares(red, blue):
    ...     parts = [ClassContributions(name, 1.0 + share, 1.0, (SymptomShare(name, share, 1.0, 0.1),))
    ...              for name, share in (("red", red), ("blue", blue))]
    ...     return Explanation("a.png", "red", {"red": 0.5, "blue": 0.5}, tuple(parts))
    >>> red, blue = overview([shares(3.0, 1.0), shares(1.0, 2.0)], np.array([0, 1]))
    >>> line = red.symptoms[0]
    >>> line.own, line.others, line.difference, red.class_vector.difference
    (3.0, 1.0, 2.0, 0.0)
    """
    names = [part.class_name for part in explained[0].classes]
    found = []
    for c, name in enumerate(names):
        of_class = [one.classes[c] for one in explained]
        shares = np.array([[symptom.share for symptom in part.symptoms] for part in of_class])
        lines = [
            _line(symptom.symptom, symptom.attention, shares[:, i], labels, c, names)
            for i, symptom in enumerate(of_class[0].symptoms)
        ]
        rest = np.array([part.class_vector for part in of_class])
        vector = _line("class vector", 1.0, rest, labels, c, names) if class_vectors else None
        found.append(ClassOverview(name, tuple(lines), vector))
    return tuple(found)


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
