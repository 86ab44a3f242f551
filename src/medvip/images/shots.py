"""Few-shot sampling: K pictures a class, drawn afresh from the split that is there now.

Nothing is kept on disk: a cache of drawn samples goes stale when the split changes.
"""

from __future__ import annotations

from collections import defaultdict

from medvip.errors import DataError, UsageError
from medvip.images.order import require_seed, shuffled
from medvip.types import ImageDataset, Split

MOST_VAL_SHOTS = 4
"""Validation pictures a class that few-shot studies allow themselves at most."""


def few_shot(dataset: ImageDataset, shots: int, *, seed: int, val_shots: int | None = None) -> ImageDataset:
    """Keep `shots` pictures a class of train and a few of val; test stays whole.

    The draws are nested: with one seed, the one-shot set is part of the two-shot set. A class
    with fewer pictures keeps all it has, and a note says so.

    Parameters
    ----------
    dataset
        Has splits.
    shots
        Training pictures a class, from 1 up.
    seed
        Another seed, another draw.
    val_shots
        Validation pictures a class; by default ``min(shots, 4)``, as is usual in few-shot
        studies: a large validation set would be a hidden help.

    Raises
    ------
    UsageError
        When `shots`, `val_shots` or `seed` make no sense.
    DataError
        When the data set has no splits yet.

    Examples
    --------
    >>> from medvip.types import Sample
    >>> samples = tuple(
    ...     Sample(f"{split}/{c}/{i}.png", c, split=split)
    ...     for split in ("train", "val", "test") for c in ("mole", "nevus") for i in range(9)
    ... )
    >>> few = few_shot(ImageDataset("skin", ("mole", "nevus"), samples), 8, seed=1)
    >>> [few.only(split).counts() for split in ("train", "val", "test")]
    [{'mole': 8, 'nevus': 8}, {'mole': 4, 'nevus': 4}, {'mole': 9, 'nevus': 9}]
    >>> few.notes
    ('few-shot: 8 train and 4 val images a class, seed 1',)
    """
    val_shots = min(shots, MOST_VAL_SHOTS) if val_shots is None else val_shots
    for name, number in (("shots", shots), ("val_shots", val_shots)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise UsageError(f"{name} is {number!r}", fix="give a whole number, 1 or greater")
    require_seed(seed)
    if any(sample.split is None for sample in dataset.samples):
        raise DataError(
            f"{dataset.name} has images without a split, so there is no train to draw from",
            fix="call split_dataset first",
        )
    kept: set[tuple[Split, str]] = set()
    notes = [f"few-shot: {shots} train and {val_shots} val images a class, seed {seed}"]
    limits: dict[Split, int] = {"train": shots, "val": val_shots}
    for split, limit in limits.items():
        paths: defaultdict[str, list[str]] = defaultdict(list)
        for sample in dataset.samples:
            if sample.split == split:
                paths[sample.label].append(sample.path)
        for label in dataset.classes:
            drawn = shuffled(paths[label], seed, split, label)[:limit]
            kept.update((split, path) for path in drawn)
            if len(drawn) < limit:
                notes.append(f"class '{label}' has only {len(drawn)} of {limit} {split} images: all kept")
    samples = (s for s in dataset.samples if s.split == "test" or (s.split, s.path) in kept)
    return dataset.with_samples(samples, *notes)
