"""Pictures in, vectors out: what is kept is read, what is missing is computed and kept.

Decoding runs in threads while the encoder works, and what is finished is kept every few
seconds: a killed run goes on where it was. Vectors are kept from whole batches only: the last
bits of a vector depend on the size of its batch, and a run must not depend on what was encoded
before it.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from medvip.backbones import Backbone
from medvip.errors import FeatureError, MedvipError, UnreadableImages
from medvip.features.augmentation import Augmentation
from medvip.features.store import FeatureStore
from medvip.features.table import Features, FeatureTable
from medvip.images import content_hash, read_picture
from medvip.progress import progress_bar
from medvip.types import ImageDataset

BATCH = 32
KEEP_SECONDS = 5.0
MEND = "mend or remove the files"


def compute_features(
    dataset: ImageDataset,
    backbone: Backbone,
    *,
    augmentation: Augmentation | None = None,
    cache: Path | None = None,
    workers: int | None = None,
    quiet: bool = False,
) -> Features:
    """Vectors of a data set's three splits; only training pictures get augmented views.

    Parameters
    ----------
    dataset
        With its splits decided.
    backbone
        The frozen encoders.
    augmentation
        How many augmented views a training picture gets, and of what kind. None: no views.
    cache
        Folder to keep vectors in, instead of the user's cache folder.
    workers
        Decoding threads; the number of processors when None.
    quiet
        Without a progress bar.

    Raises
    ------
    UnreadableImages
        Pictures that cannot be read, all of them listed.
    """
    augmentation = augmentation or Augmentation()
    store = FeatureStore(backbone.fingerprint, cache)
    unreadable: dict[str, str] = {}

    def table(split: ImageDataset, views: int) -> FeatureTable | None:
        paths = [sample.path for sample in split]
        try:
            vectors, contents = _vectors(
                paths, backbone, store, augmentation, views, workers, quiet, fill=True
            )
        except UnreadableImages as error:  # go on, to name those of the other splits too
            unreadable.update(error.reasons)
            return None
        position = {name: index for index, name in enumerate(split.classes)}
        return FeatureTable(
            vectors=vectors,
            labels=torch.tensor([position[sample.label] for sample in split], dtype=torch.long),
            classes=split.classes,
            paths=tuple(paths),
            groups=tuple(sample.group or sample.path for sample in split),
            contents=contents,
            fingerprint=backbone.fingerprint,
        )

    train = table(dataset.only("train"), augmentation.views)
    val = table(dataset.only("val"), 0)
    test = table(dataset.only("test"), 0)
    if train is None or val is None or test is None:
        raise UnreadableImages(unreadable, fix=MEND)
    return Features(train, val, test)


def encode_paths(
    paths: Sequence[str],
    backbone: Backbone,
    *,
    cache: Path | None = None,
    workers: int | None = None,
    quiet: bool = False,
) -> Float[Tensor, "image dim"]:
    """Vectors of plain pictures, read from the cache or computed.

    Whole batches are kept; a rest of fewer pictures is neither kept nor filled up, so that one
    picture costs what one picture costs.

    Raises
    ------
    UnreadableImages
        Pictures that cannot be read, all of them listed.
    """
    store = FeatureStore(backbone.fingerprint, cache)
    return _vectors(paths, backbone, store, Augmentation(), 0, workers, quiet, fill=False)[0][:, 0]


@dataclass
class _Task:
    """A picture some of whose views are not kept yet."""

    content: str
    path: str
    views: list[int]


def _vectors(
    paths: Sequence[str],
    backbone: Backbone,
    store: FeatureStore,
    augmentation: Augmentation,
    views: int,
    workers: int | None,
    quiet: bool,
    *,
    fill: bool,
) -> tuple[Float[Tensor, "image view dim"], tuple[str, ...]]:
    """Vectors [image, 1 + views, dim] and content hashes, in the order of `paths`."""
    workers = workers or os.cpu_count() or 1
    unreadable: dict[str, str] = {}

    def identity(path: str) -> str:
        try:
            return content_hash(path)
        except UnreadableImages as error:
            unreadable.update(error.reasons)
            return ""

    with ThreadPoolExecutor(workers) as pool:
        contents = tuple(pool.map(identity, paths))
    known = [store.load(augmentation.key(view), contents) for view in range(views + 1)]
    tasks = [
        _Task(content, path, missing)
        for content, path in dict(zip(contents, paths, strict=True)).items()
        if content and (missing := [view for view in range(views + 1) if content not in known[view]])
    ]
    if tasks:
        unreadable |= _compute(tasks, known, backbone, store, augmentation, workers, quiet, fill)
    if unreadable:
        raise UnreadableImages(unreadable, fix=MEND)
    if not paths:
        return torch.empty(0, views + 1, backbone.embed_dim), ()
    rows = [torch.stack([known[view][content] for view in range(views + 1)]) for content in contents]
    return torch.stack(rows), contents


def _compute(
    tasks: list[_Task],
    known: list[dict[str, Tensor]],
    backbone: Backbone,
    store: FeatureStore,
    augmentation: Augmentation,
    workers: int,
    quiet: bool,
    fill: bool,
) -> dict[str, str]:
    """Compute what `tasks` name into `known` and the store; returns what cannot be read, and why.

    With `fill` the last batch is filled up with blank pictures, so that it counts as whole.
    """
    unsaved: list[dict[str, Tensor]] = [{} for _ in known]
    unreadable: dict[str, str] = {}
    last_kept = time.monotonic()

    def keep() -> None:
        for view, vectors in enumerate(unsaved):
            store.add(augmentation.key(view), vectors)
            vectors.clear()

    def pixels(task: _Task) -> list[tuple[_Task, int, Tensor]]:
        picture = read_picture(task.path)
        views = (augmentation.make(picture, task.content, view, backbone.image_size) for view in task.views)
        return [
            (task, view, backbone.preprocess(made, framed=view > 0))
            for view, made in zip(task.views, views, strict=True)
        ]

    total = sum(len(task.views) for task in tasks)
    try:
        with progress_bar("encoding pictures", total, "pictures", quiet=quiet) as advance:
            for batch in _batches(_decoded(tasks, pixels, workers, unreadable)):
                pixels_of_batch = torch.stack([item[2] for item in batch])
                if fill and len(batch) < BATCH:
                    blank = pixels_of_batch.new_zeros(BATCH - len(batch), *pixels_of_batch.shape[1:])
                    pixels_of_batch = torch.cat([pixels_of_batch, blank])
                whole = len(pixels_of_batch) == BATCH
                vectors = backbone.encode_images(pixels_of_batch)[: len(batch)].float().cpu()
                finite = vectors.isfinite().all(1).tolist()
                for (task, view, _), vector, good in zip(batch, vectors, finite, strict=True):
                    if not good:
                        raise FeatureError(
                            f"the backbone {backbone.name} gives numbers that are not finite for {task.path}",
                            fix="check the picture, and the model's weights with another picture",
                        )
                    known[view][task.content] = vector.clone()
                    if whole:
                        unsaved[view][task.content] = known[view][task.content]
                advance(len(batch))
                if time.monotonic() - last_kept > KEEP_SECONDS:
                    keep()
                    last_kept = time.monotonic()
    finally:
        keep()
    return unreadable


def _decoded(tasks, pixels, workers: int, unreadable: dict[str, str]) -> Iterator[tuple[_Task, int, Tensor]]:
    """Preprocessed views, decoded ahead in threads, never more than a few batches of them."""
    tasks_ahead = max(1, 2 * BATCH // max(len(task.views) for task in tasks))
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[tuple[_Task, Future]] = deque()
        remaining = iter(tasks)
        while True:
            for task in islice(remaining, tasks_ahead - len(ahead)):
                ahead.append((task, pool.submit(pixels, task)))
            if not ahead:
                return
            task, future = ahead.popleft()
            try:
                yield from future.result()
            except MedvipError as error:
                unreadable[task.path] = error.problem


def _batches(items: Iterator[tuple[_Task, int, Tensor]]) -> Iterator[list[tuple[_Task, int, Tensor]]]:
    while batch := list(islice(items, BATCH)):
        yield batch
