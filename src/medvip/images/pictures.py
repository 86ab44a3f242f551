"""One file -> one RGB picture, whatever the file's own kind of pixels.

Two steps, so that files can be checked without the cost of the second: `decode` opens and
decodes, `to_rgb` makes the pixels RGB.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from medvip.errors import DataError, UnreadableImages, UnreadKind
from medvip.images.arrays import address_of, load_picture
from medvip.images.deep import DeepPixels, deep_png, deep_ppm, samples_of, scaled, to_8_bits
from medvip.images.formats import picture_formats
from medvip.images.png_text import is_about_texts, without_texts
from medvip.images.strangers import ENOUGH, stranger
from medvip.images.tiff import is_tiff, pillow_is_right, read_tiff, tiff_size

READER_VERSION = 2
"""Raised whenever a file would give other pixels than before: vectors are kept apart by it."""

MAX_PIXELS = 178_956_970
"""Pillow's own limit: a quarter of a gigabyte at 1.5 bytes a pixel."""

_COLOUR_MODES = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"})
_DEEP_MODES = frozenset({"I", "F", "I;16", "I;16B", "I;16L", "I;16N"})
_OTHER_MODES = frozenset({"LAB", "HSV"})
# tag numbers of EXIF and TIFF
_ORIENTATION, _BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 274, 258, 262, 339
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_picture(path: str, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read one picture as RGB.

    Turned as its EXIF data says; alpha over black, or left out where it
    is zero everywhere; greyscale of 16 bits or more or of floating
    point scaled from its own lowest..highest value to 0..255 (values that are not numbers are
    left out of the range and become black, +infinity white; a constant picture is black). Colour
    of 16 bits or more in PNG, TIFF and PPM the same, with one range for its three channels, and alpha
    beside it relative to its highest value. Of several frames or pages the first is read.

    Parameters
    ----------
    path
        A file of any format that Pillow reads (drawings such as EPS aside), or
        ``FILE.npz#ARRAY/INDEX``.
    max_pixels
        Width x height above which a file is refused, because a small file can unpack into
        more than the memory holds. Pillow itself refuses twice its own limit, the default here;
        to read larger pictures raise ``PIL.Image.MAX_IMAGE_PIXELS`` too.

    Returns
    -------
    Image.Image
        Mode RGB, [height, width] as the file has it.

    Raises
    ------
    UnreadableImages
        The file is missing, empty, truncated, too large, or not a picture.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = str(Path(folder, "deep.png"))
    ...     Image.fromarray(np.array([[100, 200, 300]], dtype=np.uint16)).save(file)
    ...     np.asarray(read_picture(file))[0, :, 0].tolist()
    [0, 128, 255]
    """
    where = address_of(path)
    try:
        if where:
            values = load_picture(where)
            _limit(values.shape[1], values.shape[0], max_pixels)
            return Image.fromarray(values).convert("RGB")
        with Path(path).open("rb") as stream:
            picture = decode(stream, max_pixels=max_pixels)
            rgb = to_rgb(picture)
    except Exception as error:
        mend = error.fix if isinstance(error, UnreadKind) else "replace the file with a whole picture"
        raise UnreadableImages({path: reason_of(error)}, fix=f"{mend}, or leave it out") from error
    warn_of_doubt(path, picture)
    return rgb


def decode(
    stream: IO[bytes], *, max_pixels: int = MAX_PIXELS, quick: bool = False
) -> Image.Image | DeepPixels:
    """Open and decode a picture in its own mode; raises whatever went wrong (see `reason_of`).

    With `quick` a JPEG is decoded at an eighth of its size: the whole file is still read
    through, which is enough to find it truncated, in a fraction of the time; of a PNG of 16 bits
    only the upper 8 are decoded.
    """
    if stream.seek(0, io.SEEK_END) == 0:
        raise ValueError("the file is empty")
    try:
        return _decode(stream, max_pixels, quick)
    except ValueError as error:
        if not is_about_texts(error):
            raise
    return _decode(without_texts(stream), max_pixels, quick)


def _decode(stream: IO[bytes], max_pixels: int, quick: bool) -> Image.Image | DeepPixels:
    stream.seek(0)
    try:
        picture = Image.open(stream, formats=picture_formats())
    except UnidentifiedImageError:
        stream.seek(0)
        start = stream.read(ENOUGH)
        if is_tiff(start):
            return _decode_tiff(stream, max_pixels)
        raise stranger(start) or ValueError(_kind_of_stranger(start)) from None
    _limit(picture.width, picture.height, max_pixels)
    if picture.format == "TIFF" and not pillow_is_right(_tiff_tags(picture)):
        return _decode_tiff(stream, max_pixels)
    if (colour := deep_ppm(stream, picture)) is not None:
        return colour
    if quick and picture.format == "JPEG":
        picture.draft(picture.mode, (max(1, picture.width // 8), max(1, picture.height // 8)))
    samples = samples_of(picture)
    picture.load()
    if picture.mode not in _COLOUR_MODES | _DEEP_MODES | _OTHER_MODES:
        raise ValueError(f"its pixels are of a kind that is not known here (mode {picture.mode})")
    deep = None if quick else deep_png(stream, picture, samples)
    return picture if deep is None else deep._replace(orientation=_orientation(picture))


def to_rgb(picture: Image.Image | DeepPixels) -> Image.Image:
    """Make a decoded picture RGB and turn it as its EXIF data says."""
    if isinstance(picture, DeepPixels):
        return _turned(to_8_bits(picture), picture.orientation)
    if picture.mode in _DEEP_MODES:
        grey = scaled(_deep_values(picture))
        if _tiff_tags(picture).get(_PHOTOMETRIC) == 0 and grey.any():
            grey = 255 - grey  # white is zero; Pillow turns that round for 8 bits only
        rgb = Image.fromarray(grey).convert("RGB")
    elif picture.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        rgb = ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB")
    elif picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        if rgba.getchannel("A").getextrema() == (0, 0):  # alpha was never filled in
            rgba.putalpha(255)
        rgb = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB")
    else:
        rgb = picture.convert("RGB")
    assert rgb is not None
    return _turned(rgb, _orientation(picture))


def warn_of_doubt(path: str, picture: Image.Image | DeepPixels) -> None:
    """Warn where a file can be read, but perhaps not all of what is in it.

    The same words each time, so that Python shows them once however often the file is read.
    """
    if isinstance(picture, DeepPixels):
        doubt = f"{picture.left_out} is left out" if picture.left_out else ""
    else:
        doubt = "its lower part is one flat grey, as if the file broke off" if _breaks_off(picture) else ""
    if doubt:
        warnings.warn(f"{path}: {doubt}", stacklevel=1)


def _breaks_off(picture: Image.Image) -> bool:
    """Whether a JPEG ends in the grey that stands for blocks which are not in the file.

    That grey is exactly the middle of the range, which the black and white borders of real pictures are
    not. A picture that has it at its top too was put on grey on purpose.
    """
    if picture.format not in ("JPEG", "MPO"):
        return False
    middle = 127 if picture.mode == "CMYK" else 128
    width, height = picture.size
    lower, top = (0, height - max(1, height // 16), width, height), (0, 0, width, 1)
    return _is_all(picture.crop(lower), middle) and not _is_all(picture.crop(top), middle)


def _is_all(picture: Image.Image, value: int) -> bool:
    return bool((np.asarray(picture) == value).all())


def reason_of(error: Exception) -> str:
    """Why a file cannot be read, in one short phrase."""
    if isinstance(error, UnreadKind):
        return f"{error.problem}; {error.fix}"
    if isinstance(error, DataError):
        return error.problem
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"too large: it unpacks to more pixels than Pillow's limit of {Image.MAX_IMAGE_PIXELS}"
    if isinstance(error, MemoryError):
        return "too large for the memory"
    lines = str(error).splitlines()
    text = lines[0][:200] if lines else type(error).__name__
    if any(word in text.lower() for word in ("truncated", "not enough image data", "unexpected end")):
        return f"truncated ({text})"
    return text if isinstance(error, ValueError) else f"damaged ({text})"


def _decode_tiff(stream: IO[bytes], max_pixels: int) -> DeepPixels:
    _limit(*tiff_size(stream), max_pixels)
    return read_tiff(stream)


def _turned(picture: Image.Image, orientation: int | None) -> Image.Image:
    turn = _TURNS.get(orientation or 0)
    return picture if turn is None else picture.transpose(turn)


def _limit(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ValueError(
            f"too large: {width} x {height} = {width * height} pixels, the limit is {max_pixels}"
        )
    if width * height == 0:
        raise ValueError("it has no pixels")


def _kind_of_stranger(start: bytes) -> str:
    if start.lstrip()[:1] == b"<":
        return "not a picture: it is a web page or other text with tags (a failed download?)"
    return "not a picture, or damaged at its very start"


def _orientation(picture: Image.Image) -> int | None:
    try:
        return picture.getexif().get(_ORIENTATION)
    except Exception:  # damaged camera data do not spoil the pixels
        return None


def _deep_values(picture: Image.Image) -> np.ndarray:
    """Pixel values [height, width]; 32-bit unsigned TIFF come from Pillow as signed."""
    values = np.asarray(picture)
    tags = _tiff_tags(picture)
    unsigned = tags.get(_SAMPLE_FORMAT, (1,))[0] == 1 and tags.get(_BITS_PER_SAMPLE) == (32,)
    return values.view(np.uint32) if picture.mode == "I" and tags and unsigned else values


def _tiff_tags(picture: Image.Image) -> Mapping[int, Any]:
    return getattr(picture, "tag_v2", {})
