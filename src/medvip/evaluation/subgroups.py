"""Figures of the images of each sex, age, site: a good mean can hide a group that fares badly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from medvip.evaluation.measure import evaluate
from medvip.evaluation.metrics import Metrics

FEW_IMAGES = 20
"""A subgroup with fewer says next to nothing, and is marked."""
MOST_VALUES = 12
"""A column of text with more different cells is no division into groups, rather a name of each image."""
PARTS = 4
"""Into how many parts of about equal size numbers are cut, where there are more different ones."""
NOT_GIVEN = "not given"


@dataclass(frozen=True)
class Subgroup:
    """The images with one value of one column.

    Attributes
    ----------
    name
        The value, or from where to where the numbers go.
    metrics
        On these images alone.
    """

    name: str
    metrics: Metrics

    @property
    def few(self) -> bool:
        """Whether there are too few images to say anything."""
        return self.metrics.images < FEW_IMAGES


@dataclass(frozen=True)
class Division:
    """One column's subgroups, or why it has none.

    Attributes
    ----------
    column
        Its name.
    subgroups
        Each image is in one of them. Empty when the column does not divide the images.
    why_not
        Why that is so; empty when it does.
    """

    column: str
    subgroups: tuple[Subgroup, ...]
    why_not: str = ""


def measure_subgroups(
    probabilities: Float[np.ndarray, "image class"],
    labels: Int[np.ndarray, "image"],
    classes: tuple[str, ...],
    columns: Mapping[str, Sequence[str]],
    *,
    groups: Sequence[str | None] | None = None,
) -> tuple[Division, ...]:
    """Measure the images of each value of each column by themselves.

    Parameters
    ----------
    probabilities, labels, classes, groups
        As `evaluate` takes them.
    columns
        Name -> the cell of each image. An empty cell is a subgroup of its own, "not given". Numbers
        with more than `PARTS` different values are cut into parts of about as many images each.

    Returns
    -------
    tuple
        In the order of `columns`.

    Examples
    --------
    >>> probabilities, labels = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.array([0, 1, 1])
    >>> (sex,) = measure_subgroups(probabilities, labels, ("a", "b"), {"sex": ["f", "m", "m"]})
    >>> [(part.name, part.metrics.accuracy.value, part.few) for part in sex.subgroups]
    [('f', 1.0, True), ('m', 0.5, True)]
    """
    divisions = []
    for column, cells in columns.items():
        names = _parts([cell.strip() for cell in cells])
        order = list(dict.fromkeys(names[i] for i in _sorted(cells)))
        if len(order) < 2:
            divisions.append(Division(column, (), f"all images have the same value ({order[0]})"))
            continue
        if len(order) > MOST_VALUES:
            divisions.append(Division(column, (), f"{len(order)} different values"))
            continue
        subgroups = []
        for name in order:
            inside = np.array([own == name for own in names])
            metrics = evaluate(
                probabilities[inside],
                labels[inside],
                classes,
                groups=None if groups is None else [groups[i] for i in np.flatnonzero(inside).tolist()],
            )
            subgroups.append(Subgroup(name, metrics))
        divisions.append(Division(column, tuple(subgroups)))
    return tuple(divisions)


def _parts(cells: Sequence[str]) -> list[str]:
    """The subgroup of each cell: the cell itself, or the stretch of numbers that it lies in."""
    numbers = [_number(cell) for cell in cells]
    given = np.array([n for n, cell in zip(numbers, cells, strict=True) if cell and n is not None])
    all_numbers = all(n is not None for n, cell in zip(numbers, cells, strict=True) if cell)
    if not all_numbers or len(set(given.tolist())) <= PARTS:
        return [cell or NOT_GIVEN for cell in cells]
    edges = np.unique(np.quantile(given, np.linspace(0, 1, PARTS + 1)[1:-1], method="lower"))
    part_of = np.searchsorted(edges, given, side="left")
    named = {
        part: f"{given[part_of == part].min():g} to {given[part_of == part].max():g}"
        for part in set(part_of.tolist())
    }
    return [NOT_GIVEN if n is None else named[int(np.searchsorted(edges, n, side="left"))] for n in numbers]


def _sorted(cells: Sequence[str]) -> list[int]:
    """Images in the order of their cells: numbers by size, then text, then empty cells."""

    def key(position: int) -> tuple[bool, bool, float, str]:
        cell = cells[position].strip()
        number = _number(cell)
        return not cell, number is None, number or 0.0, cell

    return sorted(range(len(cells)), key=key)


def _number(cell: str) -> float | None:
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
