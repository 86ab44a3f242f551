"""Base to novel: learn half of the classes, then tell the other half apart by name or symptoms alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from medvip.features import Table
from medvip.methods.method import Predict
from medvip.symptoms import SymptomSet
from medvip.symptoms.class_names import match_names

FEWEST = 4
"""Classes: fewer leave no two to tell apart on either side."""


@runtime_checkable
class OnNewClasses(Protocol):
    """What a method offers, besides `medvip.methods.Method`, if what it learned carries over.

    A prompt method does: its learned context goes around any class's name.
    """

    def on_new_classes(self, classes: tuple[str, ...], symptoms: SymptomSet | None) -> Predict:
        """A function from images to probabilities over these classes, which `fit` never saw."""
        ...


def can_name_new_classes(method: type, options: Mapping[str, Any]) -> bool:
    """Whether a method with these options can tell classes apart that it has not learned from images.

    Where each class has a context of its own, it has none for others.

    Examples
    --------
    >>> from medvip.methods import GDA, CoOp, ZeroShotNames
    >>> can_name_new_classes(ZeroShotNames, {}), can_name_new_classes(GDA, {})
    (True, False)
    >>> [can_name_new_classes(CoOp, {"class_specific": own}) for own in (False, True)]
    [True, False]
    """
    return not method.learns or (
        hasattr(method, "on_new_classes") and not options.get("class_specific", False)
    )


def halves(classes: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Base and novel classes: sorted by name, the first half (the larger one) is base.

    Examples
    --------
    >>> halves(("d", "a", "c", "b", "e"))
    (('a', 'b', 'c'), ('d', 'e'))
    """
    ordered = tuple(sorted(classes))
    middle = math.ceil(len(ordered) / 2)
    return ordered[:middle], ordered[middle:]


def of_classes(table: Table, classes: tuple[str, ...]) -> Table:
    """The images of some classes, labelled by their positions in `classes`."""
    labels = table.labels.cpu().numpy()
    new = np.array([classes.index(name) if name in classes else -1 for name in table.classes])
    part = table.taken(np.flatnonzero(new[labels] >= 0))
    return replace(part, classes=classes, labels=torch.from_numpy(new)[part.labels])


def symptoms_of(symptoms: SymptomSet | None, classes: tuple[str, ...]) -> SymptomSet | None:
    """The symptoms of some classes alone."""
    if symptoms is None:
        return None
    matched = match_names(classes, symptoms.classes, where=symptoms.origin, allow_extra=True)
    kept = set(matched.values())
    return replace(
        symptoms,
        classes={name: texts for name, texts in symptoms.classes.items() if name in kept},
        names={name: plain for name, plain in symptoms.names.items() if name in kept},
    )


def on_new_classes(
    fitted: Any, create_again: Callable[[SymptomSet | None], Any], symptoms: SymptomSet | None,
    train: Table, classes: tuple[str, ...],
) -> Predict:  # fmt: skip
    """How a method that learned the base classes predicts the novel ones.

    Parameters
    ----------
    fitted
        The method after `fit` on the base classes.
    create_again
        Makes the same method anew; for one that learns nothing, which is simply given other classes.
    symptoms
        Of the novel classes.
    train
        Any table of the same backbone; none of its images is looked at.
    classes
        The novel ones.
    """
    if isinstance(fitted, OnNewClasses):
        return fitted.on_new_classes(classes, symptoms)
    without_images = replace(train.taken(np.array([], dtype=np.int64)), classes=classes)
    return create_again(symptoms).fit(without_images, without_images).predict_proba


def harmonic_mean(base: float, novel: float) -> float:
    """2 / (1 / base + 1 / novel); 0 where one of them is.

    Examples
    --------
    >>> harmonic_mean(0.5, 1.0), harmonic_mean(0.0, 1.0)
    (0.6666666666666666, 0.0)
    """
    return 2 * base * novel / (base + novel) if base + novel > 0 else 0.0
