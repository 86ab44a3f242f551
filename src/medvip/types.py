"""The few frozen dataclasses that the rooms hand to each other.

Axis words, the same everywhere: batch, class, symptom, token, context, dim, layer, patch,
view, seed, image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class Sample:
    """One picture with what is known of it.

    Attributes
    ----------
    path
        Where the picture is: a file, or ``FILE.npz#ARRAY/INDEX`` for one picture of an array.
        `medvip.images.read_picture` opens either.
    label
        Its class, by name.
    group
        Pictures of one group (a patient, a lesion) never stand in two splits. None when
        nothing is known: then each picture is its own group.
    split
        ``"train"``, ``"val"``, ``"test"``, or None when not yet decided.
    further
        What else its table says of it, as (column, cell) pairs: sex, age, site. Nothing learns from
        it; figures are told apart by it.
    """

    path: str
    label: str
    group: str | None = None
    split: Split | None = None
    further: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class ImageDataset:
    """Pictures with labels, groups and splits. Immutable: filtering makes a new one.

    Attributes
    ----------
    name
        For messages and tables: the folder's or file's name.
    classes
        Class names, sorted. Everything else refers to a class by its name.
    samples
        The pictures.
    notes
        What was decided on the way and has to be said aloud: "splits made 60/15/25 by group,
        seed 1", "2 unreadable images left out: ...". A run records them.
    """

    name: str
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def only(self, split: Split) -> ImageDataset:
        """The samples of one split; classes and notes stay."""
        return self.with_samples(s for s in self.samples if s.split == split)

    def with_samples(self, samples: Iterator[Sample] | tuple[Sample, ...], *notes: str) -> ImageDataset:
        """The same data set with other samples, and `notes` added to its notes."""
        return replace(self, samples=tuple(samples), notes=self.notes + notes)

    def counts(self) -> dict[str, int]:
        """Number of samples of each class, in the order of `classes`."""
        counted = dict.fromkeys(self.classes, 0)
        for sample in self.samples:
            counted[sample.label] += 1
        return counted
