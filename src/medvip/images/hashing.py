"""A picture's identity by content, whatever it is called and wherever it lies."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from medvip.errors import UnreadableImages
from medvip.images.arrays import address_of, load_picture
from medvip.images.pictures import reason_of


def content_hash(path: str) -> str:
    """SHA-256 of a file's bytes, or, for a picture in an array, of its shape, type and values.

    Raises
    ------
    UnreadableImages
        When the file or the picture cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "a.png")
    ...     _ = file.write_bytes(b"abc")
    ...     content_hash(str(file))[:8]
    'ba7816bf'
    """
    where = address_of(path)
    try:
        if where:
            return hash_array(load_picture(where))
        with Path(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except Exception as error:
        raise UnreadableImages({path: reason_of(error)}, fix="put the file back, or leave it out") from error


def hash_array(values: np.ndarray) -> str:
    """SHA-256 of an array's shape, type and values, in C order."""
    digest = hashlib.sha256(f"{values.shape}{values.dtype.str}".encode())
    digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
