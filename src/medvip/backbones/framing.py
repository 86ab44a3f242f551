"""Which part of a picture is left after it was resized and cropped in its middle."""

from __future__ import annotations


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
