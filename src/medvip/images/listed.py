"""Where the files are that a split file lists: paths relative to the data folder, never out of it."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from medvip.errors import DataError
from medvip.images.arrays import is_file
from medvip.images.names import Listings, in_other_form, plain_name
from medvip.images.reading import first_few

_DRIVE = re.compile(r"[A-Za-z]:")
_PROBES = 200


def relative_path(text: str, where: str, folder: Path | None = None) -> str:
    r"""A listed path in one form: relative, with ``/``, without ``.`` and ``..``.

    An absolute path that lies in `folder` is taken from there on.

    Raises
    ------
    DataError
        When the path is empty, or leads out of the folder.

    Examples
    --------
    >>> relative_path("./nevus\\a.png", "split.csv, line 2")
    'nevus/a.png'
    """
    path = posixpath.normpath(text.strip().replace("\\", "/"))
    if not text.strip() or path == ".":
        raise DataError(f"{where}: the path is empty", fix="give each image its path in the data folder")
    if folder is not None and path.startswith("/"):
        path = _below(path, folder)
    if path.startswith(("/", "../")) or path == ".." or _DRIVE.match(path):
        raise DataError(
            f"{where}: the path '{text}' leads out of the data folder",
            fix="write paths relative to the data folder, and put the images in it",
        )
    return path


def _below(path: str, folder: Path) -> str:
    """An absolute path as one from the folder on, if it lies in it, also by what links lead to."""
    for root in (os.path.abspath(folder), os.path.realpath(folder)):  # noqa: PTH100
        prefix = f"{plain_name(Path(root).as_posix())}/"
        if plain_name(path).startswith(prefix):
            return plain_name(path).removeprefix(prefix)
    return path


def find_files(
    paths: Sequence[str], folder: Path, listed_in: str, *, allow_missing: bool, look_around: bool = False
) -> list[str]:
    """Join listed paths with the place where the files are: `folder`, or near it.

    With `look_around`, the place is the one, of `folder`, its direct sub-folders, and `folder`
    when the paths begin with its own name, where most of the files are. Names that say
    ``images`` are preferred among equals. A name that looks the same but is stored in another
    way, accents and blanks around it, is the same name.

    Raises
    ------
    DataError
        When files are missing: says how many and which first. With `allow_missing`, only when
        all are.
    """
    places: list[Callable[[str], Path]] = [folder.joinpath]
    if look_around:
        prefix = f"{folder.resolve().name}/"
        if paths and all(path.startswith(prefix) for path in paths):
            places.append(lambda path: folder / path.removeprefix(prefix))
        inner = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        inner.sort(key=lambda path: path.name.casefold() != "images")
        places += [path.joinpath for path in inner]
    listings: Listings = {}
    probes = paths[:: max(1, len(paths) // _PROBES)]
    place = max(places, key=lambda join: sum(is_file(in_other_form(join(path), listings)) for path in probes))
    files = [in_other_form(place(path), listings, is_file) for path in paths]
    missing = [path for path, file in zip(paths, files, strict=True) if not is_file(file)]
    if missing and (not allow_missing or len(missing) == len(paths)):
        raise DataError(
            f"{len(missing)} of the {len(paths)} files listed in {listed_in} are not in {folder}: "
            f"{first_few(missing)}",
            fix="give the folder that the listed paths start from, or put the files there",
        )
    return [file.as_posix() for file in files]
