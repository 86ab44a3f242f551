"""Choosing a value on images that were not learned from, the same way for every method.

On the validation images; without any, by cross-validation inside the training images, where no
group stands on both sides. Never on test images: they do not come here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from medvip import confusion
from medvip.features import FeatureTable

Value = TypeVar("Value", float, int, tuple[float, float])
"""What is chosen: a number, or several at once."""

Scores = Callable[[FeatureTable, Tensor, Sequence[Value]], Iterable[Tensor]]
"""What to learn from, the images [image, dim] to score, the values: each value's scores [image, class]."""

Figures = tuple[float, float, float]
"""Macro-F1, accuracy, and the cross-entropy with its sign turned: the greater, the better."""

FOLDS = 5
"""Of the cross-validation, where every class has as many groups."""


class Selection(Generic[Value]):
    """The best value so far: by macro-F1, of equals by accuracy, of equals by cross-entropy.

    With a handful of images many values are equal by the first two. Of those that are equal by all
    three it is the smallest; a method arranges its values so that this is the most regularised one.

    Parameters
    ----------
    names
        Of the value's numbers, for `history`: ``("C",)``, ``("alpha", "beta")``.
    train, validation
        What to learn from, and what to score; no validation image: cross-validation.
    history
        Receives an entry for each value that was the best when it was tried: its numbers,
        ``val_macro_f1``, ``val_accuracy`` and ``val_loss`` (``cv_...`` by cross-validation). The
        last one holds what was chosen.
    """

    def __init__(
        self,
        names: Sequence[str],
        train: FeatureTable,
        validation: FeatureTable,
        history: list[dict[str, Any]],
    ) -> None:
        self._names, self._history = tuple(names), history
        self._split = "val" if len(validation) else "cv"
        self._parts = [(train, validation)] if len(validation) else grouped_folds(train)
        self._best: tuple[Figures, Value] | None = None

    @property
    def possible(self) -> bool:
        """Whether there is anything to choose by; not where a class has one group only."""
        return bool(self._parts)

    @property
    def figures(self) -> Figures:
        """Of the best value so far."""
        assert self._best is not None, "asked for before anything was tried"
        return self._best[0]

    def among(self, values: Sequence[Value], scores: Scores[Value]) -> Value:
        """The best of these values and of those of earlier calls."""
        for value, figures in zip(values, self._figures(values, scores), strict=True):
            if self._best is None or _better(figures, value, *self._best):
                self._best = figures, value
                numbers = value if isinstance(value, tuple) else (value,)
                entry: dict[str, Any] = dict(zip(self._names, numbers, strict=True))
                macro_f1, accuracy, minus_loss = figures
                entry |= {f"{self._split}_macro_f1": macro_f1, f"{self._split}_accuracy": accuracy}
                self._history.append(entry | {f"{self._split}_loss": -minus_loss})
        assert self._best is not None, "asked for without images to choose by, or without values"
        return self._best[1]

    def _figures(self, values: Sequence[Value], scores: Scores[Value]) -> list[Figures]:
        """The figures of each value over all held-out images together."""
        predicted: list[list[np.ndarray]] = [[] for _ in values]
        losses = np.zeros(len(values))
        for learned_from, held_out in self._parts:
            tables = scores(learned_from, held_out.plain, values)
            for index, table in enumerate(tables):
                target = held_out.labels.to(table.device)
                predicted[index].append(table.argmax(-1).cpu().numpy())
                losses[index] += float(cross_entropy(table.double(), target, reduction="sum"))
        labels = np.concatenate([held_out.labels.cpu().numpy() for _, held_out in self._parts])
        classes = len(self._parts[0][0].classes)
        return [
            (*macro_f1_and_accuracy(labels, np.concatenate(column), classes), float(-loss / len(labels)))
            for column, loss in zip(predicted, losses, strict=True)
        ]


def _better(figures: Figures, value: Value, best: Figures, best_value: Value) -> bool:
    return figures > best or (figures == best and value < best_value)


def macro_f1_and_accuracy(
    labels: Int[np.ndarray, "image"], predicted: Int[np.ndarray, "image"], classes: int
) -> tuple[float, float]:
    """Both figures; macro-F1 is the mean over the classes that have images, as for test images.

    Examples
    --------
    >>> macro_f1_and_accuracy(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    (0.6666666666666666, 0.6666666666666666)
    """
    counts = confusion.confusion_matrix(labels, predicted, classes)[None]
    return float(confusion.macro_f1(counts)[0]), float(confusion.accuracy(counts)[0])


def grouped_folds(train: FeatureTable) -> list[tuple[FeatureTable, FeatureTable]]:
    """What to learn from and what to score, fold by fold; no group is on both sides.

    At most `FOLDS`; as many as the rarest class has groups. Empty where that is one, or where no
    fold leaves images of every class to learn from. The folds follow from the table alone.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    labels, groups = train.labels.cpu().numpy(), np.array(train.groups)
    by_class = [len(set(groups[labels == label])) for label in range(len(train.classes))]
    folds = min(FOLDS, *by_class)
    if folds < 2:
        return []
    split = StratifiedGroupKFold(folds).split(np.zeros(len(labels)), labels, groups)
    return [
        (train.taken(inside), train.taken(outside))
        for inside, outside in split
        if len(set(labels[inside])) == len(train.classes) and len(outside)
    ]
