"""Pictures as pixels, for what changes the image encoder: decoded batch by batch, never all in memory.

Decoding runs in threads, one batch ahead of whoever uses the batches. Views are the very ones
that `medvip.features.compute_features` would encode, made anew each time they are shown: here a
large number of them costs no more than a small one.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from medvip.backbones import Backbone
from medvip.errors import UnreadableImages, UsageError
from medvip.features.augmentation import Augmentation
from medvip.features.extraction import BATCH, MEND
from medvip.features.table import some_images
from medvip.images import content_hash, read_picture
from medvip.progress import progress_bar
from medvip.types import ImageDataset

_T = TypeVar("_T")


@dataclass(frozen=True)
class PictureTable:
    """Preprocessed pixels of the pictures of one split, with all that a `FeatureTable` says of them.

    Attributes
    ----------
    backbone
        Whose preprocessing the pixels go through.
    labels
        Class of each image, as a position in `classes`.
    classes
        Class names, sorted.
    paths, groups, contents
        Of each image: its path, its group (its path where no group is known), and the hash of
        its content.
    augmentation
        Of what kind the views are, and how many there are besides the plain picture.
    workers
        Decoding threads; the number of processors when None.
    device
        Where `batches` and `parts` put the pixels.
    """

    backbone: Backbone
    labels: Int[Tensor, " image"]
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    groups: tuple[str, ...]
    contents: tuple[str, ...]
    augmentation: Augmentation = field(default_factory=Augmentation)
    workers: int | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def fingerprint(self) -> str:
        """Of the backbone."""
        return self.backbone.fingerprint

    @property
    def views(self) -> int:
        """How many views each picture has, the plain one included."""
        return self.augmentation.views + 1

    def on(self, device: torch.device) -> PictureTable:
        """The same with labels on that device, and pixels as they come."""
        return replace(self, labels=self.labels.to(device), device=device)

    def taken(self, positions: Int[np.ndarray, "row"]) -> PictureTable:
        """Some of the images, in the order of `positions`."""
        return replace(self, **some_images(self, positions))

    def batches(
        self, order: Int[Tensor, " image"], view: Int[Tensor, " image"], size: int
    ) -> Iterator[tuple[Float[Tensor, "batch 3 size size"], Int[Tensor, " batch"]]]:
        """Pixels and labels of all pictures in `order`, image i in its view ``view[i]``.

        Raises
        ------
        UnreadableImages
            Pictures that cannot be read, all of them listed; no batch comes behind the first.
        """
        views = view.tolist()
        rows = [[(row, views[row]) for row in batch.tolist()] for batch in order.split(size)]
        for batch, pixels in zip(
            order.split(size), in_threads(self._pixels, rows, self.workers), strict=True
        ):
            yield pixels.to(self.device), self.labels[batch.to(self.labels.device)]

    def parts(self) -> Iterator[Float[Tensor, "part 3 size size"]]:
        """The pictures as they are, in their order, in as many parts as memory asks for."""
        for pixels in read_pixels(self.paths, self.backbone, workers=self.workers, quiet=True):
            yield pixels.to(self.device)

    def _pixels(self, row_and_view: tuple[int, int]) -> Float[Tensor, "3 size size"]:
        row, view = row_and_view
        picture = read_picture(self.paths[row])
        made = self.augmentation.make(picture, self.contents[row], view, self.backbone.image_size)
        return self.backbone.preprocess(made, framed=view > 0)


@dataclass(frozen=True)
class Pictures:
    """The three splits of one data set as pixels for one backbone."""

    train: PictureTable
    val: PictureTable
    test: PictureTable


def require_pictures(table: object, method: str) -> None:
    """Raise `UsageError` where a method that needs pixels is given something else."""
    if not isinstance(table, PictureTable):
        raise UsageError(
            f"{method} learns from pixels, but was given a {type(table).__name__}",
            fix="use medvip.fit, or tables of medvip.features.open_pictures",
        )


def open_pictures(
    dataset: ImageDataset,
    backbone: Backbone,
    *,
    augmentation: Augmentation | None = None,
    workers: int | None = None,
    contents: Mapping[str, str] | None = None,
) -> Pictures:
    """The pictures of a data set's three splits; only training pictures get augmented views.

    Parameters
    ----------
    dataset
        With its splits decided.
    backbone
        Whose preprocessing the pixels go through.
    augmentation
        How many augmented views a training picture has, and of what kind. None: no views.
    workers
        Decoding threads; the number of processors when None.
    contents
        Hash of each file's content by its path, where they are known; else the files are read.

    Raises
    ------
    UnreadableImages
        Files that cannot be opened, all of them listed. What they hold is read later.
    """
    known = _content_hashes([sample.path for sample in dataset], workers) if contents is None else contents

    def table(split: ImageDataset, augmentation: Augmentation) -> PictureTable:
        position = {name: index for index, name in enumerate(split.classes)}
        return PictureTable(
            backbone=backbone,
            labels=torch.tensor([position[sample.label] for sample in split], dtype=torch.long),
            classes=split.classes,
            paths=tuple(sample.path for sample in split),
            groups=tuple(sample.group or sample.path for sample in split),
            contents=tuple(known[sample.path] for sample in split),
            augmentation=augmentation,
            workers=workers,
        )

    plain = Augmentation()
    return Pictures(
        table(dataset.only("train"), augmentation or plain),
        table(dataset.only("val"), plain),
        table(dataset.only("test"), plain),
    )


def _content_hashes(paths: Sequence[str], workers: int | None) -> dict[str, str]:
    unreadable: dict[str, str] = {}

    def identity(path: str) -> str:
        try:
            return content_hash(path)
        except UnreadableImages as error:
            unreadable.update(error.reasons)
            return ""

    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        contents = dict(zip(paths, pool.map(identity, paths), strict=True))
    if unreadable:
        raise UnreadableImages(unreadable, fix=MEND)
    return contents


def read_pixels(
    paths: Sequence[str], backbone: Backbone, *, workers: int | None = None, quiet: bool = False
) -> Iterator[Float[Tensor, "part 3 size size"]]:
    """Plain pictures as the image encoder's input, a few at a time, in their order.

    Raises
    ------
    UnreadableImages
        Pictures that cannot be read, all of them listed; nothing comes behind the first.
    """

    def pixels(path: str) -> Tensor:
        return backbone.preprocess(read_picture(path))

    batches = [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]
    with progress_bar("reading pictures", len(paths), "pictures", quiet=quiet) as advance:
        for part in in_threads(pixels, batches, workers):
            yield part
            advance(len(part))


def in_threads(
    make: Callable[[_T], Tensor], batches: Iterable[Sequence[_T]], workers: int | None
) -> Iterator[Tensor]:
    """``torch.stack(map(make, batch))`` of each batch, the next one being made while one is used.

    Once a picture cannot be read no more comes out, but the rest is read too, so that the error
    at the end names all of them.
    """
    unreadable: dict[str, str] = {}
    remaining, ahead = iter(batches), deque()
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        while True:
            for batch in islice(remaining, 2 - len(ahead)):
                ahead.append([pool.submit(make, item) for item in batch])
            if not ahead:
                break
            made = []
            for future in ahead.popleft():
                try:
                    made.append(future.result())
                except UnreadableImages as error:
                    unreadable |= error.reasons
            if not unreadable:
                yield torch.stack(made)
    if unreadable:
        raise UnreadableImages(unreadable, fix=MEND)
