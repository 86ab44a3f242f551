"""The forms ``DIR/<class>/*`` and ``DIR/{train,val,test}/<class>/*``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from medvip.errors import DataError
from medvip.images.companions import (
    Companions,
    described,
    find_companion_classes,
    find_companions,
    is_companion_folder,
    is_picture_folder,
)
from medvip.images.names import plain_name
from medvip.images.reading import Reading, counted, first_few, split_named, unknown_split
from medvip.images.trees import Tree, read_tree
from medvip.types import Sample, Split

_LAYOUT = "put the images of each class in a folder of its own: DIR/<class>/image.png"
# A part of the data, and not a class: fold_1, fold2, cv-3, part 1, batch_4.
_PART = re.compile(r"(?:fold|cv|part|batch|split|set|subset|site|centre|center)[\s_.\-]*\d+", re.IGNORECASE)
# Beside the class folders these tell of the data; nobody expects them to be read as pictures.
_PAPERS = frozenset(
    {"", ".md", ".txt", ".rst", ".pdf", ".html", ".json", ".csv", ".tsv", ".yaml", ".yml", ".toml", ".bib"}
)
_TABLES = frozenset({".csv", ".tsv", ".xlsx", ".xls", ".ods"})


def read_folder(folder: Path, *, companions: bool = False) -> Reading:
    """Read a folder whose sub-folders are classes, or splits with classes in them.

    Links to folders are followed. What is not read is counted in the notes by reason: not a
    picture, hidden, a link that never ends or leads nowhere, a companion of a picture (see
    `medvip.images.companions`; with `companions` these are read).

    Raises
    ------
    DataError
        When the folder fits neither form, or its folders are not the classes.
    """
    tree = read_tree(folder)
    splits: list[tuple[Tree, Split | None]] = [(inner, split_named(inner.name)) for inner in tree.folders]
    if not any(split for _, split in splits):
        part = _read_classes(tree, None, companions)
        return Reading(part.samples, [*part.notes, *_unused_tables(tree, folder)])
    strangers = [inner.name for inner, split in splits if split is None]
    if strangers:
        raise unknown_split(f"{folder} has split folders, but also others", strangers)
    _refuse_two_of_one_split(tree)
    samples: list[Sample] = []
    notes = _notes_on_the_rest(Tree(folder, [], tree.others, tree.hidden, tree.loops, tree.nowhere), folder)
    if tree.pictures:
        notes.append(_loose(tree))
    for inner, split in splits:
        part = _read_classes(inner, split, companions)
        samples += part.samples
        notes += part.notes
    return Reading(samples, [*notes, *_unused_tables(tree, folder)])


def _read_classes(tree: Tree, split: Split | None, allow_companions: bool) -> Reading:
    folder = tree.path
    _refuse_inverted(tree)
    _refuse_two_of_one_name(tree)
    found: dict[str, str] = {}
    for inner in tree.folders:
        found |= find_companions(inner)
    found |= find_companion_classes(tree)
    if not allow_companions:
        _refuse_companions_as_classes(tree)
    _refuse_level_above(tree, found)
    samples: list[Sample] = []
    notes: list[str] = []
    for inner in tree.folders:
        everything = inner.picture_paths()
        paths = [path for path in everything if allow_companions or path not in found]
        if not everything:
            notes.append(f"folder {inner.path} holds no pictures: not taken as a class")
        samples += [Sample(path, inner.name, split=split) for path in paths]
    if not samples:
        raise _nothing_to_read(tree)
    if tree.pictures:
        notes.append(_loose(tree))
    if found:
        notes.append(_on_companions(found, folder, read=allow_companions))
    return Reading(samples, [*notes, *_notes_on_the_rest(tree, folder)])


def _on_companions(found: Companions, folder: Path, *, read: bool) -> str:
    what = described(found, folder)
    if read:
        return f"read as pictures, though they look like companions of others: {what}"
    return f"left out as companions of pictures: {what}; companions=True (--with-companions) reads them"


def _loose(tree: Tree) -> str:
    number = counted(len(tree.pictures), "picture")
    return f"{number} in {tree.path} itself left out (no class): {first_few(tree.pictures)}"


def _notes_on_the_rest(tree: Tree, folder: Path) -> list[str]:
    """What was not read and is neither a picture's companion nor loose, by reason."""
    notes: list[str] = []
    ignored = Counter(
        ending
        for inner in tree.walk()
        for ending in map(_ending, inner.others)
        if inner is not tree or ending not in _PAPERS | _TABLES
    )
    if ignored:
        number = counted(ignored.total(), "file")
        notes.append(f"{number} in {folder} ignored (not pictures): {_endings(ignored)}")
    reasons = {
        "hidden": ("hidden picture or folder", "hidden pictures or folders"),
        "loops": ("link that leads back to a folder above it", "links that lead back to a folder above them"),
        "nowhere": ("link that leads nowhere", "links that lead nowhere"),
    }
    for reason, (one, many) in reasons.items():
        names = [
            Path(inner.path, name).relative_to(folder).as_posix()
            for inner in tree.walk()
            for name in getattr(inner, reason)
        ]
        if names:
            what = one if len(names) == 1 else many
            notes.append(f"{len(names)} {what} in {folder} left out: {first_few(names)}")
    return notes


def _unused_tables(tree: Tree, folder: Path) -> Iterator[str]:
    tables = [name for name in tree.others if _ending(name) in _TABLES]
    if tables:
        yield (
            f"{first_few(tables)} in {folder} not read: classes come from the folders "
            "(a table is read when it is called split.csv, or with split_file, --split-file)"
        )


def _nothing_to_read(tree: Tree) -> DataError:
    what = "no pictures"
    if tree.pictures:
        what = f"{counted(len(tree.pictures), 'picture')}, but none in a class folder"
    ignored = Counter(_ending(name) for inner in tree.walk() for name in inner.others)
    what += f" (other files: {_endings(ignored)})" if ignored else ""
    advice = _LAYOUT
    if ".dcm" in ignored:
        advice = "export the DICOM files as PNG, and " + _LAYOUT
    elif ".npz" in ignored:
        advice = "give the .npz file itself"
    return DataError(f"{tree.path} holds {what}", fix=advice)


def _refuse_two_of_one_split(tree: Tree) -> None:
    names: dict[Split | None, list[str]] = {}
    for inner in tree.folders:
        names.setdefault(split_named(inner.name), []).append(inner.name)
    for split, mine in names.items():
        if len(mine) > 1:
            raise DataError(
                f"{tree.path} has several folders for {split}: {', '.join(mine)}",
                fix="put their images in one of them, or give a folder that has one for each split",
            )


def _refuse_inverted(tree: Tree) -> None:
    """Raise DataError when splits lie inside what should be a class."""
    for inner in tree.folders:
        splits = [deeper for deeper in inner.folders if split_named(deeper.name)]
        if not splits:
            continue
        fix = "turn the order round: DIR/train/<class>/image.png"
        if len(splits) == len(inner.folders) and all(deeper.folders for deeper in splits):
            fix = f"give {inner.path}, if its split folders hold the classes; else " + fix
        names = ", ".join(deeper.name for deeper in splits)
        raise DataError(f"{inner.path} is a class folder with split folders inside: {names}", fix=fix)


def _refuse_two_of_one_name(tree: Tree) -> None:
    """Raise DataError for folders side by side that nobody can tell apart by their names."""
    names: dict[str, str] = {}
    for inner in tree.folders:
        other = names.setdefault(plain_name(inner.name), inner.name)
        if other != inner.name:
            raise DataError(
                f"{tree.path}: two folders are called '{plain_name(inner.name)}', apart from blanks at the "
                f"end or how accents are stored ({other!a}, {inner.name!a})",
                fix="put their images in one folder, or give them names that can be told apart",
            )


def _refuse_companions_as_classes(tree: Tree) -> None:
    """Raise DataError for ``images/`` and ``masks/`` in the place of classes."""
    pictures = [inner for inner in tree.folders if is_picture_folder(inner)]
    companions = [inner for inner in tree.folders if is_companion_folder(inner)]
    if not (pictures and companions) or len(pictures) + len(companions) < len(tree.folders):
        return
    names = ", ".join(inner.name for inner in tree.folders)
    fix = _LAYOUT
    if len(pictures) == 1 and len(pictures[0].folders) > 1:
        fix = f"give {pictures[0].path}"
    raise DataError(
        f"{tree.path} holds pictures and their companions, not classes: {names}",
        fix=f"{fix}; if these are the classes, read them with companions=True (--with-companions)",
    )


def _refuse_level_above(tree: Tree, companions: Companions) -> None:
    """Raise DataError when the folders are a level above the classes, as folds or sites are.

    Seen by this: all of them have sub-folders of the same names, two or more, and no pictures
    beside those. Where the folders are numbered parts, two names in common are enough.
    """
    shown: list[str] = []
    names_in: list[set[str]] = []
    for inner in tree.folders:
        real = [path for path in inner.picture_paths() if path not in companions]
        if not real:
            continue
        if any(Path(path).parent == inner.path for path in real):
            return
        places = {Path(path).relative_to(inner.path).parts[0] for path in real}
        shown.append(inner.name)
        names_in.append({plain_name(name).casefold() for name in places})
    if len(names_in) < 2:
        return
    common = set.intersection(*names_in)
    alike = all(names == common for names in names_in) or all(map(_PART.fullmatch, shown))
    if len(common) < 2 or not alike:
        return
    raise DataError(
        f"{tree.path}: all of its folders ({first_few(shown)}) have the same sub-folders "
        f"({first_few(sorted(common))}) and no pictures beside them: these look like the classes",
        fix=f"give one of the folders, such as {tree.path / shown[0]}, or put {tree.path}/<class>/image.png "
        f"together from all; if {first_few(shown)} are the classes, list the images in a split.csv "
        "(path,label)",
    )


def _endings(ignored: Counter[str]) -> str:
    return ", ".join(
        f"{number} {ending or 'without an ending'}" for ending, number in sorted(ignored.items())
    )


def _ending(name: str) -> str:
    return Path(name).suffix.lower()
