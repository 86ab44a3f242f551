"""The forms ``DIR/<class>/*`` and ``DIR/{train,val,test}/<class>/*``."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from medvip.errors import DataError
from medvip.images.formats import has_picture_name
from medvip.images.reading import Reading, counted, first_few, split_named, unknown_split
from medvip.types import Sample, Split

_LAYOUT = "put the images of each class in a folder of its own: DIR/<class>/image.png"


def read_folder(folder: Path) -> Reading:
    """Read a folder whose sub-folders are classes, or splits with classes in them.

    Files and folders whose name begins with a dot are passed over without a word; files that
    are not pictures are counted in the notes.

    Raises
    ------
    DataError
        When the folder fits neither form.
    """
    inner = _subfolders(folder)
    splits: dict[Path, Split | None] = {path: split_named(path.name) for path in inner}
    if not any(splits.values()):
        return _read_classes(folder, None)
    strangers = [path.name for path in inner if splits[path] is None]
    if strangers:
        raise unknown_split(f"{folder} has split folders, but also others", strangers)
    samples: list[Sample] = []
    notes: list[str] = []
    for path, split in splits.items():
        part = _read_classes(path, split)
        samples += part.samples
        notes += part.notes
    return Reading(samples, notes)


def _read_classes(folder: Path, split: Split | None) -> Reading:
    samples: list[Sample] = []
    notes: list[str] = []
    ignored: Counter[str] = Counter()
    loose = [path.name for path in _files(folder) if has_picture_name(path)]
    for class_folder in _subfolders(folder):
        pictures = _pictures_below(class_folder, ignored)
        if not pictures:
            notes.append(f"folder {class_folder} holds no pictures: not taken as a class")
        samples += [Sample(path, class_folder.name, split=split) for path in pictures]
    if not samples:
        what = f"{counted(len(loose), 'picture')}, but none in a class folder" if loose else "no pictures"
        ignored.update(_ending(path.name) for path in _files(folder) if not has_picture_name(path))
        what += _endings(" (other files: {})", ignored)
        advice = _LAYOUT
        if ".dcm" in ignored:
            advice = "export the DICOM files as PNG, and " + _LAYOUT
        elif ".npz" in ignored:
            advice = "give the .npz file itself"
        raise DataError(f"{folder} holds {what}", fix=advice)
    if loose:
        notes.append(
            f"{counted(len(loose), 'picture')} in {folder} itself left out (no class): {first_few(loose)}"
        )
    if ignored:
        notes.append(
            _endings(f"{counted(ignored.total(), 'file')} in {folder} ignored (not pictures): {{}}", ignored)
        )
    return Reading(samples, notes)


def _pictures_below(class_folder: Path, ignored: Counter[str]) -> list[str]:
    pictures: list[str] = []
    for where, folders, names in os.walk(class_folder):
        folders[:] = sorted(name for name in folders if not _hidden(name))
        inverted = [name for name in folders if split_named(name)]
        if inverted and Path(where) == class_folder:
            raise DataError(
                f"{class_folder} is a class folder with split folders inside: {', '.join(inverted)}",
                fix="turn the order round: DIR/train/<class>/image.png",
            )
        for name in sorted(names):
            if _hidden(name):
                continue
            if has_picture_name(name):
                pictures.append(Path(where, name).as_posix())
            else:
                ignored[_ending(name)] += 1
    return pictures


def _endings(text: str, ignored: Counter[str]) -> str:
    listed = ", ".join(f"{number} {ending}" for ending, number in sorted(ignored.items()))
    return text.format(listed) if listed else ""


def _ending(name: str) -> str:
    return Path(name).suffix.lower() or "without an ending"


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in {"__MACOSX", "Thumbs.db", "desktop.ini"}


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not _hidden(path.name))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not _hidden(path.name))
