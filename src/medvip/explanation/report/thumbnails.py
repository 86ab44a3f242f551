"""Pictures made small enough to stand inside a page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image

QUALITY = 80


@dataclass(frozen=True)
class Thumbnail:
    """A small picture as text.

    Attributes
    ----------
    source
        ``data:image/jpeg;base64,...``, as the ``src`` of an ``img``.
    width, height
        In pixels.
    """

    source: str
    width: int
    height: int


def thumbnail(picture: Image.Image, side: int, quality: int = QUALITY) -> Thumbnail:
    """`picture` as a JPEG whose longer side is `side` pixels at most; smaller ones keep their size.

    Nothing but the pixels goes in: no camera data, no place, no date.

    Examples
    --------
    >>> small = thumbnail(Image.new("RGB", (400, 200)), 100)
    >>> small.width, small.height, small.source[:23]
    (100, 50, 'data:image/jpeg;base64,')
    """
    small = picture.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    bare = Image.new("RGB", small.size)
    bare.paste(small)
    buffer = io.BytesIO()
    bare.save(buffer, format="JPEG", quality=quality, optimize=True)
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Thumbnail(f"data:image/jpeg;base64,{encoded}", bare.width, bare.height)
