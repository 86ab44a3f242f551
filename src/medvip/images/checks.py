"""What would make results false is refused here, by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from medvip.errors import DataError, LeakageError
from medvip.images.names import plain_name
from medvip.images.reading import first_few
from medvip.images.splitting import group_of
from medvip.types import SPLITS, Sample, Split

Hashes = Mapping[str, str]
"""Path -> content hash."""

Show = Callable[[str], str]
"""Path -> how it is written in a message."""


def unify_classes(samples: Sequence[Sample]) -> tuple[list[Sample], list[str]]:
    """Labels that look the same become one, and a note says which were stored in several ways.

    Merged rather than refused: they are in different splits or in the lines of a table, where the
    one name that all of them show can mean one class only.
    """
    stored: defaultdict[str, set[str]] = defaultdict(set)
    for sample in samples:
        stored[plain_name(sample.label)].add(sample.label)
    notes = [
        f"class '{name}' is stored in {len(forms)} ways (blanks at its end, or how accents are stored): "
        "taken as one class"
        for name, forms in sorted(stored.items())
        if len(forms) > 1
    ]
    return [_labelled(sample, plain_name(sample.label)) for sample in samples], notes


def _labelled(sample: Sample, label: str) -> Sample:
    return sample if sample.label == label else replace(sample, label=label)


def require_classes(samples: Sequence[Sample], name: str) -> None:
    """Raise DataError unless there are two classes or more, clearly told apart by name."""
    classes = sorted({sample.label for sample in samples})
    if not classes:
        raise DataError(f"{name} has no images left", fix="add readable images")
    if len(classes) == 1:
        raise DataError(
            f"{name} has one class only, '{classes[0]}': there is nothing to tell apart",
            fix="add the images of another class, or give the folder whose sub-folders are the classes",
        )
    spelled: dict[str, str] = {}
    for label in classes:
        other = spelled.setdefault(" ".join(label.casefold().split()), label)
        if other != label:
            raise DataError(
                f"{name}: the classes '{other}' and '{label}' differ only in how they are written",
                fix="write one class one way everywhere",
            )


def refuse_contradictions(samples: Iterable[Sample], hashes: Hashes, show: Show = str) -> None:
    """Raise DataError when the same picture, by content, stands under two labels."""
    wrong = []
    for twins in _by_content(samples, hashes):
        labels = {sample.label: sample for sample in reversed(twins)}
        if len(labels) > 1:
            wrong.append(" = ".join(f"{show(labels[label].path)} ({label})" for label in sorted(labels)))
    if wrong:
        noun = "picture stands" if len(wrong) == 1 else "pictures stand"
        raise DataError(
            f"{len(wrong)} {noun} under two labels: {first_few(wrong)}",
            fix="find out which label is right and remove the other copy",
        )


def find_leaks(samples: Sequence[Sample], hashes: Hashes, show: Show = str) -> LeakageError | None:
    """The same picture, or the same group, in two splits; None when there is none."""
    pictures = []
    for twins in _by_content(samples, hashes):
        one_of = {sample.split: sample for sample in reversed(twins)}
        if len(one_of) > 1:
            pictures.append(" = ".join(f"{show(one_of[s].path)} ({s})" for s in SPLITS if s in one_of))
    splits_of: defaultdict[str, set[Split | None]] = defaultdict(set)
    for sample in samples:
        if sample.group is not None:
            splits_of[sample.group].add(sample.split)
    groups = [
        f"{group} ({', '.join(split for split in SPLITS if split in splits)})"
        for group, splits in sorted(splits_of.items())
        if len(splits) > 1
    ]
    found = []
    if pictures:
        noun = "picture stands" if len(pictures) == 1 else "pictures stand"
        found.append(f"{len(pictures)} {noun} in two splits: {first_few(pictures)}")
    if groups:
        noun = "group stands" if len(groups) == 1 else "groups stand"
        found.append(f"{len(groups)} {noun} in two splits: {first_few(groups)}")
    if not found:
        return None
    return LeakageError(
        "; ".join(found),
        fix="leave each picture and each group in one split, or, where a published split is so, "
        "allow it with allow_leakage=True (--allow-leakage): the run then records it",
    )


def require_splits(samples: Sequence[Sample], name: str, needs: Sequence[Split]) -> None:
    """Raise DataError unless each split of `needs` has samples, and train, if needed, all classes."""
    there = {sample.split for sample in samples}
    lacking = [split for split in needs if split not in there]
    if lacking:
        present = ", ".join(split for split in SPLITS if split in there)
        fixes = {
            "train": "name the images to learn from as train",
            "val": "name some train images as val",
            "test": "keep some images apart as test; where val exists, it can be renamed test, "
            "and val is then made from train",
        }
        fix = fixes[lacking[0]]
        if there == {"train"}:
            fix = "take the split names away, and splits are made 60/15/25"
        raise DataError(f"{name} has no {' and no '.join(lacking)} images, only {present}", fix=fix)
    if "train" in needs:
        learned = {sample.label for sample in samples if sample.split == "train"}
        unseen = sorted({sample.label for sample in samples} - learned)
        if unseen:
            names = ", ".join(f"'{label}'" for label in unseen)
            raise DataError(
                f"{name}: no train images of {names}, which other splits hold",
                fix="add train images of each class (folder names have to be alike), or leave the class out",
            )


def absent_classes(samples: Sequence[Sample], splits: Iterable[Split]) -> list[str]:
    """Notes on classes that a split has no image of."""
    labels = sorted({sample.label for sample in samples})
    pairs = {(sample.split, sample.label) for sample in samples}
    return [
        f"class '{label}' has no {split} images"
        for split in splits
        for label in labels
        if (split, label) not in pairs
    ]


def count_copies(samples: Iterable[Sample], hashes: Hashes) -> int:
    """Pictures beyond the first of each content."""
    return sum(len(twins) - 1 for twins in _by_content(samples, hashes))


def join_copies(samples: Sequence[Sample], hashes: Hashes) -> list[Sample]:
    """Put the copies of one picture into one group, so that made splits cannot part them.

    Whole groups that share a picture become one group, called by the first name among them.
    """
    leader: dict[str, str] = {}

    def find(key: str) -> str:
        while (up := leader.setdefault(key, key)) != key:
            leader[key] = key = leader[up]
        return key

    for twins in _by_content(samples, hashes):
        for sample in twins[1:]:
            one, other = sorted((find(group_of(twins[0])), find(group_of(sample))))
            leader[other] = one
    joined: defaultdict[str, set[str]] = defaultdict(set)
    for key in list(leader):
        joined[find(key)].add(key)
    names = {}
    for keys in joined.values():
        if len(keys) > 1:
            known = sorted(key.removeprefix("group:") for key in keys if key.startswith("group:"))
            names.update(dict.fromkeys(keys, known[0] if known else f"copies of {min(keys)[5:]}"))
    return [
        replace(sample, group=names[group_of(sample)]) if group_of(sample) in names else sample
        for sample in samples
    ]


def _by_content(samples: Iterable[Sample], hashes: Hashes) -> list[list[Sample]]:
    """Samples that share their content, two or more together."""
    alike: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        alike[hashes[sample.path]].append(sample)
    return [twins for twins in alike.values() if len(twins) > 1]
