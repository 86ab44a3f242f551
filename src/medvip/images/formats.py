"""Which files count as pictures.

Pillow also registers formats that it cannot read by itself: stubs for scientific containers,
and drawings that start an outside program (EPS runs Ghostscript). Those are no pictures here.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import PurePath

from PIL import Image

NOT_PICTURES = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
COMMON_FIRST = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP")


@lru_cache(maxsize=1)
def picture_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read, the common ones first."""
    Image.init()
    common = [name for name in COMMON_FIRST if name in Image.OPEN]
    others = [name for name in Image.ID if name not in NOT_PICTURES and name not in common]
    return (*common, *others)


@lru_cache(maxsize=1)
def picture_extensions() -> frozenset[str]:
    """File name endings of those formats, in lower case, with their dot."""
    readable = set(picture_formats())
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in readable)


def has_picture_name(path: str | PurePath) -> bool:
    """Whether a file's name ends like a picture's.

    Examples
    --------
    >>> has_picture_name("scan.JPEG"), has_picture_name("scan.dcm"), has_picture_name("notes.txt")
    (True, False, False)
    """
    return PurePath(path).suffix.lower() in picture_extensions()
