"""The form of a folder with the paper's split file, as CoOp and its kin publish them.

``{"train": [[path, label, class name], ...], "val": ..., "test": ...}``
"""

from __future__ import annotations

import json
from pathlib import Path

from medvip.errors import DataError
from medvip.images.listed import find_files, relative_path
from medvip.images.reading import Reading, first_few, split_named, unknown_split
from medvip.types import Sample, Split

_FORM = 'it has to be {"train": [[path, label, class name], ...], "val": [...], "test": [...]}'


def read_split_json(file: Path, folder: Path, *, allow_missing: bool = False) -> Reading:
    """Read the samples that a split file lists; classes go by their names, never by their numbers.

    Raises
    ------
    DataError
        When the file is not of that form, numbers and names of classes disagree, a path stands
        twice in a split, or listed files are missing.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} cannot be read as JSON: {error}", fix="give a split file in JSON") from error
    if not isinstance(content, dict) or not all(isinstance(part, list) for part in content.values()):
        raise DataError(f"{file} is not a split file", fix=_FORM)
    strangers = [name for name in content if split_named(name) is None]
    if strangers:
        raise unknown_split(str(file), strangers)
    listed: dict[tuple[Split, str], str] = {}
    name_of: dict[int, str] = {}
    twice: list[str] = []
    for part, entries in content.items():
        split = split_named(part)
        assert split is not None
        for place, entry in enumerate(entries):
            where = f"{file}, {part}[{place}]"
            path, number, label = _entry(entry, where)
            if name_of.setdefault(number, label) != label:
                raise DataError(
                    f"{where}: class number {number} is called '{label}' here and '{name_of[number]}' before",
                    fix="give each class one number and one name",
                )
            if (split, path) in listed:
                twice.append(f"{path} ({part})")
            listed[split, path] = label
    if len(set(name_of.values())) < len(name_of):
        raise DataError(
            f"{file}: one class name has two numbers", fix="give each class one number and one name"
        )
    if twice:
        raise DataError(f"{file}: the same path twice: {first_few(twice)}", fix="list each image once")
    if not listed:
        raise DataError(f"{file} lists no images", fix=_FORM)
    paths = find_files(
        [path for _, path in listed], folder, str(file), allow_missing=allow_missing, look_around=True
    )
    samples = [
        Sample(path, label, split=split)
        for path, ((split, _), label) in zip(paths, listed.items(), strict=True)
    ]
    return Reading(sorted(samples, key=lambda sample: sample.path), [])


def _entry(entry: object, where: str) -> tuple[str, int, str]:
    match entry:
        case [str(path), int(number), str(label), *_] if label.strip():
            return relative_path(path, where), number, label.strip()
    raise DataError(f"{where} is not [path, label, class name]", fix=_FORM)
