"""Train, validation and test by group: pictures of one patient never stand in two splits."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from medvip.errors import DataError, UsageError
from medvip.images.order import require_seed, shuffled
from medvip.types import SPLITS, ImageDataset, Sample, Split

Groups = dict[str, Counter[str]]
"""Group name -> how many pictures of each class it has."""


def split_dataset(
    dataset: ImageDataset, *, fractions: tuple[float, float, float] = (0.60, 0.15, 0.25), seed: int
) -> ImageDataset:
    """Put every sample in train, val or test, whatever split it had before.

    A group goes whole into one split. Each class is shared out near the fractions of its
    pictures: off by at most twice its largest group. Every class stands in train, and in every
    other asked-for split too when it has groups enough (three for three splits), unless groups
    of several classes make that impossible. The result depends on the seed and on the names of
    the groups (of the files, where there are no groups), not on the order of the samples.

    Parameters
    ----------
    dataset
        Samples without a group are their own group.
    fractions
        Shares of train, val and test; they add up to 1 and train's is not 0.
    seed
        Another seed, another split.

    Returns
    -------
    ImageDataset
        The same samples in the same order, each with a split, and a note that says so.

    Raises
    ------
    UsageError
        When `fractions` or `seed` make no sense.

    Examples
    --------
    >>> samples = tuple(Sample(f"{c}/{i}.png", c) for c in ("mole", "nevus") for i in range(20))
    >>> dataset = split_dataset(ImageDataset("skin", ("mole", "nevus"), samples), seed=1)
    >>> [dataset.only(split).counts() for split in SPLITS]
    [{'mole': 12, 'nevus': 12}, {'mole': 3, 'nevus': 3}, {'mole': 5, 'nevus': 5}]
    >>> dataset.notes
    ('splits made 60/15/25 by image (no groups known), stratified, seed 1',)
    """
    _require_fractions(fractions)
    require_seed(seed)
    shares = dict(zip(SPLITS, fractions, strict=True))
    chosen = _allocate(_groups(dataset.samples), shares, seed)
    samples = (replace(sample, split=chosen[group_of(sample)]) for sample in dataset.samples)
    percents = "/".join(f"{100 * fraction:g}" for fraction in fractions)
    note = f"splits made {percents} {_unit(dataset.samples)}, stratified, seed {seed}"
    return dataset.with_samples(samples, note)


def make_validation(dataset: ImageDataset, *, fraction: float = 0.20, seed: int) -> ImageDataset:
    """Move a share of train's groups to val, stratified; the test samples stay as they are.

    Raises
    ------
    DataError
        When train has too few groups to give any away.
    """
    train = [sample for sample in dataset.samples if sample.split == "train"]
    shares: dict[Split, float] = {"train": 1 - fraction, "val": fraction, "test": 0.0}
    chosen = _allocate(_groups(train), shares, seed)
    if "val" not in chosen.values():
        raise DataError(
            f"{dataset.name} has no val images, and train has too few groups to make val from it",
            fix="add images, or name the val images yourself",
        )
    moved = (
        replace(sample, split=chosen[group_of(sample)]) if sample.split == "train" else sample
        for sample in dataset.samples
    )
    note = f"val made from {100 * fraction:g} % of train {_unit(train)}, stratified, seed {seed}"
    return dataset.with_samples(moved, note)


def group_of(sample: Sample) -> str:
    """The sample's group, or a name of its own when it has none."""
    return f"path:{sample.path}" if sample.group is None else f"group:{sample.group}"


def _groups(samples: Iterable[Sample]) -> Groups:
    groups: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for sample in samples:
        groups[group_of(sample)][sample.label] += 1
    return dict(groups)


def _unit(samples: Iterable[Sample]) -> str:
    known = [sample.group is not None for sample in samples]
    if all(known):
        return "by group"
    return "by group where one is known, else by image" if any(known) else "by image (no groups known)"


def _allocate(groups: Groups, shares: Mapping[Split, float], seed: int) -> dict[str, Split]:
    """Choose a split for each group; the classes with the fewest groups choose first."""
    groups_of: defaultdict[str, list[str]] = defaultdict(list)
    for group, labels in groups.items():
        for label in labels:
            groups_of[label].append(group)
    chosen: dict[str, Split] = {}
    for label in sorted(groups_of, key=lambda name: (len(groups_of[name]), name)):
        mine = groups_of[label]
        total = sum(groups[group][label] for group in mine)
        need: dict[Split, float] = {split: share * total for split, share in shares.items() if share > 0}
        for group in mine:
            if group in chosen:
                need[chosen[group]] -= groups[group][label]
        for group in shuffled((group for group in mine if group not in chosen), seed, label):
            chosen[group] = max(need, key=need.__getitem__)
            need[chosen[group]] -= groups[group][label]
    _fill_gaps(chosen, groups, groups_of, shares)
    return chosen


def _fill_gaps(
    chosen: dict[str, Split],
    groups: Groups,
    groups_of: Mapping[str, list[str]],
    shares: Mapping[Split, float],
) -> None:
    """Give each class to the splits that lack it: train always, the others where groups allow."""
    wanted: list[Split] = [split for split in SPLITS if shares[split] > 0]
    held = {label: Counter(chosen[group] for group in mine) for label, mine in groups_of.items()}
    for split in wanted:
        for label in sorted(groups_of):
            enough = split == "train" or len(groups_of[label]) >= len(wanted)
            if held[label][split] or not enough:
                continue
            spare = [
                group
                for group in groups_of[label]
                if split == "train" or all(held[other][chosen[group]] > 1 for other in groups[group])
            ]
            if spare:
                # The smallest group moves: the one that disturbs the fractions least.
                group = min(spare, key=lambda name: (groups[name].total(), name))
                for other in groups[group]:
                    held[other][chosen[group]] -= 1
                    held[other][split] += 1
                chosen[group] = split


def _require_fractions(fractions: tuple[float, float, float]) -> None:
    sane = len(fractions) == 3 and all(0 <= fraction <= 1 for fraction in fractions)
    if not sane or fractions[0] == 0 or abs(sum(fractions) - 1) > 1e-6:
        raise UsageError(
            f"the fractions of train, val and test are {fractions}",
            fix="give three numbers that add up to 1, the first above 0, such as (0.6, 0.15, 0.25)",
        )
