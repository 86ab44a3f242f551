"""What a reader of one DATA form hands on, and the words all readers share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from medvip.errors import DataError
from medvip.types import Sample, Split

_SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


class Reading(NamedTuple):
    """Samples as they are written down, and what was decided while reading them."""

    samples: list[Sample]
    notes: list[str]


def split_named(name: str) -> Split | None:
    """The split that a word stands for, or None.

    Examples
    --------
    >>> split_named("Validation"), split_named("Testing"), split_named("holdout")
    ('val', 'test', None)
    """
    return _SPLIT_NAMES.get(name.strip().casefold())


def unknown_split(where: str, names: Iterable[str]) -> DataError:
    """The error for split names that mean nothing here."""
    listed = ", ".join(f"'{name}'" for name in sorted(set(names)))
    return DataError(f"{where}: unknown split {listed}", fix="use the names train, val and test")


def counted(number: int, noun: str) -> str:
    """A number of things, in words.

    Examples
    --------
    >>> counted(1, "picture"), counted(2, "picture")
    ('1 picture', '2 pictures')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def first_few(things: Sequence[str], most: int = 5) -> str:
    """The first things of a list, and how many there are besides.

    Examples
    --------
    >>> first_few(["a", "b", "c"], 2)
    'a; b; and 1 more'
    """
    more = [f"and {len(things) - most} more"] if len(things) > most else []
    return "; ".join([*things[:most], *more])
