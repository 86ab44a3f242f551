"""Pixels that no mode of Pillow's holds in full: more than 8 bits in colour or beside alpha.

Pillow keeps the upper 8 bits of such samples. Where a camera or scanner fills 12 of 16 bits, that is
almost black; here all bits are read, and brought to 0..255 by the rule for deep greyscale.
"""

from __future__ import annotations

from typing import IO, NamedTuple

import numpy as np
from PIL import Image

# What Pillow calls the samples of a PNG, and the names under which it hands out the other byte of each.
_UPPER_TO_LOWER = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}
_GREY_AND_ALPHA = "LA;16B"


class DeepPixels(NamedTuple):
    """Samples as they are in the file, and what they stand for.

    Attributes
    ----------
    values
        [height, width, channel]: 1 channel is grey, 3 are red, green and blue.
    alpha
        [height, width], or None where there is none.
    white_is_zero
        Whether the lowest value is white.
    orientation
        As EXIF numbers it, for what is still to be turned.
    left_out
        What is in the file and not in here, in words; empty: nothing.
    """

    values: np.ndarray
    alpha: np.ndarray | None = None
    white_is_zero: bool = False
    orientation: int | None = None
    left_out: str = ""


def scaled(values: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
    """Values of any number type -> uint8, lowest..highest becoming 0..255.

    The range is that of the pixels that `among` marks; all channels share it, so colours keep their order.

    Examples
    --------
    >>> scaled(np.array([[100, 200, 300]])).tolist()
    [[0, 128, 255]]
    """
    values = values.astype(np.float64)
    seen = values if among is None else values[among]
    finite = seen[np.isfinite(seen)]
    if not finite.size or finite.min() == finite.max():
        return np.zeros(values.shape, np.uint8)
    low, high = finite.min(), finite.max()
    values = np.nan_to_num(values, copy=False, nan=low, posinf=high, neginf=low).clip(low, high)
    return np.rint((values - low) / (high - low) * 255).astype(np.uint8)


def to_8_bits(pixels: DeepPixels) -> Image.Image:
    """Make samples of any depth an RGB picture, alpha over black; not turned yet.

    Of more than 8 bits: colours from their own lowest..highest value to 0..255, as deep greyscale, and
    alpha relative to its highest value, because it fills no more bits than they do. Pixels that alpha
    hides do not count. 8 bits stay as they are, those with a sign moved up by 128.
    """
    alpha = None if pixels.alpha is None else np.nan_to_num(pixels.alpha)
    if alpha is not None and not (alpha > 0).any():
        alpha = None  # nothing would be left to see: it was never filled in
    values = pixels.values
    if values.dtype == np.int8:
        values = (values.astype(np.int16) + 128).astype(np.uint8)
    elif values.dtype != np.uint8:
        values = scaled(values, None if alpha is None else alpha > 0)
    if pixels.white_is_zero and values.any():
        values = 255 - values
    if alpha is not None:
        opaque = 255 if alpha.dtype == np.uint8 else alpha.max()
        values = np.rint(values * (alpha.clip(0) / opaque)[..., None]).astype(np.uint8)
    return Image.fromarray(values[..., 0] if values.shape[2] == 1 else values).convert("RGB")


def deep_png(stream: IO[bytes], picture: Image.Image, samples: str) -> DeepPixels | None:
    """All 16 bits of a decoded PNG in colour or with alpha; None for the other kinds.

    Parameters
    ----------
    stream
        The file, which is decoded once more for the bits that Pillow left out.
    picture
        The file as Pillow decoded it.
    samples
        What Pillow called the samples before it decoded them (see `samples_of`).
    """
    if samples == _GREY_AND_ALPHA:
        pairs = _decoded_as(stream, "RGBA").astype(np.uint16)  # each byte by itself
        grey, alpha = (pairs[..., start] << 8 | pairs[..., start + 1] for start in (0, 2))
        return DeepPixels(grey[..., None], alpha)
    if samples not in _UPPER_TO_LOWER:
        return None
    values = np.asarray(picture).astype(np.uint16) << 8 | _decoded_as(stream, _UPPER_TO_LOWER[samples])
    if values.shape[2] == 4:
        return DeepPixels(values[..., :3], values[..., 3])
    clear = picture.info.get("transparency")
    alpha = None if clear is None else (values != np.array(clear)).any(2).astype(np.uint8) * 255
    return DeepPixels(values, alpha)


def deep_ppm(stream: IO[bytes], picture: Image.Image) -> DeepPixels | None:
    """All 16 bits of a binary PPM that Pillow has opened, not yet decoded; None for the other kinds."""
    tile = next(iter(getattr(picture, "tile", ())), None)
    if picture.format != "PPM" or picture.mode != "RGB" or tile is None or tile.codec_name != "ppm":
        return None
    if tile.args[-1] < 256:
        return None
    stream.seek(tile.offset)
    length = picture.width * picture.height * 3 * 2
    content = stream.read(length)
    if len(content) < length:
        raise ValueError("truncated (its pixels end too early)")
    return DeepPixels(np.frombuffer(content, ">u2").reshape(picture.height, picture.width, 3))


def samples_of(picture: Image.Image) -> str:
    """What Pillow calls the samples in the file of a PNG that is opened, not yet decoded."""
    tiles = getattr(picture, "tile", None)
    return tiles[0].args if picture.format == "PNG" and tiles and isinstance(tiles[0].args, str) else ""


def _decoded_as(stream: IO[bytes], samples: str) -> np.ndarray:
    """Bytes of a PNG's pixels, with its samples taken for others of the same length."""
    stream.seek(0)
    picture = Image.open(stream, formats=("PNG",))
    picture.tile = [tile._replace(args=samples) for tile in picture.tile]  # pyright: ignore[reportAttributeAccessIssue]
    return np.asarray(picture)
