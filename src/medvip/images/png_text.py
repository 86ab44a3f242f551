"""PNG files whose texts Pillow refuses to unpack, though nothing is wrong with their pixels."""

from __future__ import annotations

import io
from typing import IO

_SIGNATURE = 8
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP"})
"""Chunks that are not needed here: texts of three kinds, and the colour profile, which is not applied."""


def is_about_texts(error: ValueError) -> bool:
    """Whether Pillow gave a PNG up because of its texts: one of more than 1 MB, or all of more than 64 MB."""
    return "MAX_TEXT_" in str(error)


def without_texts(stream: IO[bytes]) -> io.BytesIO:
    """The same PNG without its texts and its colour profile."""
    stream.seek(0)
    left = io.BytesIO()
    left.write(stream.read(_SIGNATURE))
    while len(head := stream.read(8)) == 8:
        length = int.from_bytes(head[:4], "big") + 4  # with its checksum
        if head[4:] in _TEXTS:
            stream.seek(length, io.SEEK_CUR)
        else:
            left.write(head + stream.read(length))
    return left
