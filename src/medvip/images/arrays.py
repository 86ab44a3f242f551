"""Pictures inside a NumPy archive, addressed as ``FILE.npz#ARRAY/INDEX``.

An archive's array is decompressed once and kept while it is in use, so that reading thousands
of its pictures costs one pass. Nothing in an archive is ever unpickled.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np

from medvip.errors import DataError

_ADDRESS = re.compile(r"(?P<file>.*\.npz)#(?P<array>[^/#]+)/(?P<index>\d{1,18})", re.IGNORECASE | re.DOTALL)
_loading = Lock()


class ArrayAddress(NamedTuple):
    """One picture of an archive."""

    file: str
    array: str
    place: int


def parse_address(path: str) -> ArrayAddress | None:
    """Take ``FILE.npz#ARRAY/INDEX`` apart; None when `path` is not of that form.

    Examples
    --------
    >>> parse_address("data/pneumoniamnist.npz#val_images/7")
    ArrayAddress(file='data/pneumoniamnist.npz', array='val_images', place=7)
    >>> parse_address("data/scan.png") is None
    True
    """
    match = _ADDRESS.fullmatch(path)
    return match and ArrayAddress(match["file"], match["array"], int(match["index"]))


def address_of(path: str) -> ArrayAddress | None:
    """`parse_address`, but None too when a file really bears that name."""
    where = parse_address(path)
    return None if where and is_file(path) else where


def is_file(path: str | Path) -> bool:
    """Whether there is such a file; False for names that no file can have."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def address(file: str, array: str, index: int) -> str:
    """The reverse of `parse_address`."""
    return f"{file}#{array}/{index}"


def array_names(file: str) -> tuple[str, ...]:
    """Names of the arrays of an archive.

    Raises
    ------
    DataError
        When `file` is not a NumPy archive.
    """
    try:
        with Path(file).open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return tuple(archive.files)
    except Exception as error:
        raise _not_an_archive(file, error) from error


def load_array(file: str, name: str) -> np.ndarray:
    """One whole array of an archive, kept in memory until the file changes; read-only.

    Raises
    ------
    DataError
        When the archive or the array cannot be read.
    """
    try:
        stat = Path(file).stat()
        with _loading:
            return _load(file, name, stat.st_mtime_ns, stat.st_size)
    except KeyError as error:
        raise DataError(
            f"{file} has no array '{name}'",
            fix=f"use one of its arrays: {', '.join(array_names(file)) or 'it has none'}",
        ) from error
    except Exception as error:
        raise _not_an_archive(file, error, name) from error


@lru_cache(maxsize=4)
def _load(file: str, name: str, mtime_ns: int, size: int) -> np.ndarray:
    with Path(file).open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        array = archive[name]
    if not isinstance(array, np.ndarray):
        raise TypeError(f"'{name}' is not a NumPy array")
    array.flags.writeable = False
    return array


def load_picture(where: ArrayAddress) -> np.ndarray:
    """The values of one picture: uint8 [height, width] or [height, width, 3].

    Raises
    ------
    DataError
        When there is no such picture, or the array does not hold pictures.
    """
    array = load_array(where.file, where.array)
    require_pictures(array, where.file, where.array)
    if where.place >= len(array):
        raise DataError(
            f"{where.file}#{where.array} has {len(array)} pictures, none with the index {where.place}",
            fix="count from 0 and stay below the number of pictures",
        )
    return array[where.place]


def require_pictures(array: np.ndarray, file: str, name: str) -> None:
    """Raise DataError unless `array` is uint8 [image, height, width] or [image, height, width, 3]."""
    shaped = array.ndim == 3 or (array.ndim == 4 and array.shape[3] == 3)
    if array.dtype == np.uint8 and shaped and 0 not in array.shape[1:]:
        return
    shape = ", ".join(map(str, array.shape))
    raise DataError(
        f"{file}#{name} is {array.dtype} [{shape}], not pictures",
        fix="pictures are uint8 [image, height, width] or [image, height, width, 3]; save the array so",
    )


def _not_an_archive(file: str, error: Exception, name: str | None = None) -> DataError:
    what = f"{file}#{name}" if name else file
    lines = str(error).splitlines() or [type(error).__name__]
    return DataError(
        f"{what} cannot be read as a NumPy archive: {lines[0]}",
        fix="check that the download is complete; arrays of Python objects are never read",
    )
