"""Which part of a picture is left after it was resized and cropped in its middle."""

from __future__ import annotations

import math

from PIL import Image

LONGEST = 8
"""Times the shorter side above which only what is kept is resized (see `middle_of_strip`)."""


def is_strip(size: tuple[int, int], resized: tuple[int, int]) -> bool:
    """Whether a picture is so long that enlarging all of it would make far more than is kept.

    Examples
    --------
    >>> is_strip((12000, 1), (3072000, 256)), is_strip((400, 100), (1024, 256))
    (True, False)
    """
    return max(size) > LONGEST * min(size) and min(resized) > min(size)


def middle_of_strip(
    picture: Image.Image,
    resized: tuple[int, int],
    crop: tuple[int, int],
    filter_: Image.Resampling = Image.Resampling.BICUBIC,
) -> Image.Image:
    """What resizing to `resized` and cropping the middle give, with no more pixels made than are kept.

    It equals them but for rounding, by one of 255 in rare pixels; so it is for long pictures alone, and all
    others keep their numbers to the bit. Across first, then down, as Pillow resizes a whole picture: the
    other way round differs where values are cut off at 0 or 255 in between.
    """
    left, top, right, bottom = crop_box(picture.size, resized, crop)
    # rows that a kept one is mixed from: 3 pixels of the coarser side is the widest filter's reach
    reach = 3 * math.ceil(max(1, (bottom - top) / crop[1])) + 1
    first, last = max(0, math.floor(top) - reach), min(picture.height, math.ceil(bottom) + reach)
    across = picture.resize((crop[0], last - first), filter_, box=(left, first, right, last))
    return across.resize(crop, filter_, box=(0, top - first, crop[0], bottom - first))


def crop_box(
    size: tuple[int, int], resized: tuple[int, int], crop: tuple[int, int]
) -> tuple[float, float, float, float]:
    """The middle `crop` of a picture that was resized, in pixels of the picture before.

    Parameters
    ----------
    size, resized
        Width and height before and after resizing.
    crop
        Width and height of what is cut out, its corner rounded down as Pillow users do. Where it is
        larger than the resized picture, the box ends outside: that rim was filled up.

    Returns
    -------
    tuple
        left, top, right, bottom.

    Examples
    --------
    >>> crop_box((512, 256), (448, 224), (224, 224))
    (128.0, 0.0, 384.0, 256.0)
    """
    (left, right), (top, bottom) = (_side(*lengths) for lengths in zip(size, resized, crop, strict=True))
    return left, top, right, bottom


def _side(length: int, resized: int, crop: int) -> tuple[float, float]:
    start = (resized - crop) // 2
    return start * length / resized, (start + crop) * length / resized
