"""What a run learns from: vectors from the cache or pictures, a few of them drawn, labels permuted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch

from medvip.errors import FeatureError
from medvip.evaluation.benchmark.plan import ImageSet
from medvip.features import Augmentation, Features, FeatureTable, Pictures, Table
from medvip.features.store import FeatureStore
from medvip.images import few_shot
from medvip.images.order import shuffled
from medvip.types import ImageDataset

Splits = Features | Pictures
"""The three splits of one data set: as vectors, or as pictures for a method that needs pixels."""

AnySplits = TypeVar("AnySplits", bound=Splits)


def stored_features(
    image_set: ImageSet, fingerprint: str, augmentation: Augmentation, cache: Path | None = None
) -> Features:
    """The vectors of a data set, from the cache alone: what `compute_features` gives once they are there.

    Parameters
    ----------
    image_set
        With the content hash of each picture.
    fingerprint
        Of the backbone (or of the trivial cues).
    augmentation
        How many views training pictures have.
    cache
        Instead of the user's cache folder.

    Raises
    ------
    FeatureError
        Some are not there.
    """
    store = FeatureStore(fingerprint, cache)
    content_of = image_set.content_of

    def table(split: ImageDataset, views: int) -> FeatureTable:
        contents = tuple(content_of[sample.path] for sample in split)
        known = [store.load(augmentation.key(view), contents) for view in range(views + 1)]
        missing = {content for content in contents for view in known if content not in view}
        if missing:
            raise FeatureError(
                f"{len(missing)} pictures of {image_set.label} have no vectors in {store.folder}",
                fix="run again: they are computed first",
            )
        vectors = [torch.stack([view[content] for view in known]) for content in contents]
        return FeatureTable(
            vectors=torch.stack(vectors) if vectors else torch.empty(0, views + 1, 1),
            labels=torch.tensor([split.classes.index(sample.label) for sample in split], dtype=torch.long),
            classes=split.classes,
            paths=tuple(sample.path for sample in split),
            groups=tuple(sample.group or sample.path for sample in split),
            contents=contents,
            fingerprint=fingerprint,
        )

    dataset = image_set.dataset
    return Features(
        table(dataset.only("train"), augmentation.views),
        table(dataset.only("val"), 0),
        table(dataset.only("test"), 0),
    )


def drawn(
    splits: AnySplits, dataset: ImageDataset, shots: int | Literal["all"] | None, seed: int | None
) -> AnySplits:
    """The pictures that `few_shot` draws, taken out of all.

    Parameters
    ----------
    splits, dataset
        Of the whole data set.
    shots
        A class; ``"all"`` and None change nothing.
    seed
        Of the draw.
    """
    if shots is None or shots == "all":
        return splits
    assert seed is not None, "a draw needs a seed"
    few = few_shot(dataset, shots, seed=seed)
    return replace(
        splits, train=_kept(splits.train, few.only("train")), val=_kept(splits.val, few.only("val"))
    )


def with_permuted_labels(splits: AnySplits, seed: int) -> AnySplits:
    """Training labels in a random order, and validation labels too, so that nothing can be chosen by them.

    Each class keeps its number of images. Test labels stay.
    """
    return replace(
        splits, train=_permuted(splits.train, seed, "train"), val=_permuted(splits.val, seed, "val")
    )


def _permuted(table: Table, seed: int, split: str) -> Table:
    width = len(str(len(table)))
    order = shuffled((f"{row:0{width}}" for row in range(len(table))), seed, "permuted labels", split)
    return replace(table, labels=table.labels[torch.tensor([int(row) for row in order], dtype=torch.long)])


def _kept(table: Table, dataset: ImageDataset) -> Table:
    row_of = {path: row for row, path in enumerate(table.paths)}
    return table.taken(np.array([row_of[sample.path] for sample in dataset], dtype=np.int64))
