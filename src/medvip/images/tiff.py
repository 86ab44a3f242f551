"""TIFF files of kinds that Pillow does not read, or reads wrong.

Colour of 16 or 32 bits, channels in planes, samples with a sign, floating point of 16 or 64 bits, grey with
one more channel. Strips and tiles are unpacked by Pillow's libtiff, each as if it were a small greyscale
picture of single bytes; what these bytes mean is worked out here.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from medvip.errors import UnreadKind
from medvip.images.deep import DeepPixels

_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_REMEDY = "convert it to a TIFF or PNG of 8 or 16 bits, grey or RGB"
_COLOURS = {0: 1, 1: 1, 2: 3}
_PHOTOMETRIC_NAMES = {3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr", 8: "CIELab", 9: "ICCLab", 10: "ITULab"}
_PHOTOMETRIC_NAMES |= {32803: "raw camera sensor", 32844: "LogL", 32845: "LogLuv", 34892: "linear raw"}
_NUMBERS = {1: "u", 2: "i", 3: "f", 4: "u"}
_DEPTHS = {"u": (8, 16, 32, 64), "i": (8, 16, 32, 64), "f": (16, 32, 64)}
_NUMBER_NAMES = {
    1: "",
    2: " with a sign",
    3: " of floating point",
    5: " of complex numbers",
    6: " of complex numbers",
}
_PACKED = (5, 8, 32773, 32946, 34925, 50000)  # LZW, deflate, PackBits, deflate, LZMA, Zstandard
_MOST_CHANNELS = 8
_LARGEST_TILE = 2**22  # pixels, that a small file cannot ask for much memory
_NO_COMPRESSION, _NO_PREDICTOR, _DIFFERENCES, _FLOATS = 1, 1, 2, 3


class _Layout(NamedTuple):
    """What the tags say, checked."""

    width: int
    height: int
    channels: int
    planes: int
    dtype: np.dtype
    photometric: int
    extra: tuple[int, ...]
    compression: int
    predictor: int
    orientation: int
    chunk: tuple[int, int]
    tiled: bool
    offsets: tuple[int, ...]
    lengths: tuple[int, ...]


def is_tiff(start: bytes) -> bool:
    """Whether a file begins as TIFF does."""
    return start[:4] in _STARTS


def pillow_is_right(tags: Any) -> bool:
    """Whether Pillow, which has opened a TIFF file with these tags, also gives its pixels right."""
    bits, formats = tags.get(258, (1,)), tags.get(339, (1,))
    if max(bits) <= 8:
        return max(formats) != 2
    if tags.get(262, 1) not in _COLOURS:
        return True  # 16 bits of CMYK, which a printer's file fills
    if tags.get(277, 1) > 1:
        return False
    # libtiff turns big-endian numbers round, and Pillow most kinds of them once more
    return tags.prefix == b"II" or tags.get(259, 1) not in _PACKED


def tiff_size(stream: IO[bytes]) -> tuple[int, int]:
    """Width and height of a TIFF file's first page."""
    tags = _tags(stream)
    return tags[256], tags[257]


def read_tiff(stream: IO[bytes]) -> DeepPixels:
    """Pixels of a TIFF file's first page.

    Raises
    ------
    UnreadKind
        Its kind of pixels is not read here; says which it is.
    """
    tags = _tags(stream)
    layout = _layout(tags)
    step = layout.channels // layout.planes
    pixels = np.empty((layout.height, layout.width, layout.channels), layout.dtype.newbyteorder("="))
    for (plane, top, left), packed in zip(_places(layout), _packed(stream, layout), strict=False):
        height, width = layout.chunk
        rows = height if layout.tiled else min(height, layout.height - top)
        piece = _values(packed, layout, rows, width, step)
        room = pixels[top : top + rows, left : left + width, plane * step : (plane + 1) * step]
        room[...] = piece[: room.shape[0], : room.shape[1]]
    return _meaning(pixels, layout)


def _tags(stream: IO[bytes]) -> Any:
    """The tags of a file's first page; refuses a file that does not even tell its size."""
    stream.seek(0)
    head = stream.read(8)
    try:
        head += stream.read(8) if 43 in head[2:4] else b""
        tags = ImageFileDirectory_v2(head)
        stream.seek(tags.next)
        tags.load(stream)
        if not all(isinstance(tags[tag], int) for tag in (256, 257)):
            raise TypeError
    except Exception:
        raise ValueError("damaged at its very start: a TIFF file without a size") from None
    return tags


def _layout(tags: Any) -> _Layout:
    """Check the tags of a file and put them in order; refuses what is not read."""
    bits, formats = tags.get(258, (1,)), tags.get(339, (1,))
    photometric, channels = tags.get(262, 1), tags.get(277, 1)
    what = f"{channels} channel{'s' * (channels != 1)} of {bits[0]} bits{_NUMBER_NAMES.get(formats[0], '')}"
    if len(set(bits)) > 1 or len(set(formats)) > 1:
        raise _refused(f"channels of different kinds ({', '.join(map(str, bits))} bits)")
    if photometric not in _COLOURS:
        raise _refused(f"{what}, {_PHOTOMETRIC_NAMES.get(photometric, f'photometric kind {photometric}')}")
    number = _NUMBERS.get(formats[0], "")
    if bits[0] not in _DEPTHS.get(number, ()) or tags.get(266, 1) != 1:
        raise _refused(what)
    extra = channels - _COLOURS[photometric]
    if extra < 0 or channels > _MOST_CHANNELS or (photometric != 2 and extra > 1):
        raise _refused(f"{what} of which it does not say which are red, green and blue")
    if tags.get(259, 1) not in (_NO_COMPRESSION, *_PACKED):
        raise _refused(f"{what} in compression {tags.get(259)}")
    tiled = 324 in tags
    where, sizes = (324, 325) if tiled else (273, 279)
    chunk = (tags[323], tags[322]) if tiled else (min(tags.get(278, tags[257]), tags[257]), tags[256])
    if min(chunk) < 1 or where not in tags or sizes not in tags:
        raise ValueError("damaged (a TIFF file that does not say where its pixels are)")
    if chunk[0] * chunk[1] > tags[256] * tags[257] + _LARGEST_TILE:
        raise ValueError("damaged (its tiles are far larger than the picture)")
    return _Layout(
        width=tags[256],
        height=tags[257],
        channels=channels,
        planes=channels if tags.get(284, 1) == 2 else 1,
        dtype=np.dtype(f"{'<' if tags.prefix == b'II' else '>'}{number}{bits[0] // 8}"),
        photometric=photometric,
        extra=tags.get(338, ()),
        compression=tags.get(259, 1),
        predictor=tags.get(317, _NO_PREDICTOR),
        orientation=tags.get(274, 1),
        chunk=chunk,
        tiled=tiled,
        offsets=tags[where],
        lengths=tags[sizes],
    )


def _refused(what: str) -> UnreadKind:
    return UnreadKind(f"a TIFF file of a kind that is not read here: {what}", fix=_REMEDY)


def _places(layout: _Layout) -> Iterator[tuple[int, int, int]]:
    """Plane, top and left of each strip or tile."""
    height, width = layout.chunk
    for plane in range(layout.planes):
        for top in range(0, layout.height, height):
            for left in range(0, layout.width, width):
                yield plane, top, left


def _packed(stream: IO[bytes], layout: _Layout) -> Iterator[bytes]:
    """Each strip or tile as it is in the file."""
    rows, columns = (
        -(-whole // part) for whole, part in zip((layout.height, layout.width), layout.chunk, strict=True)
    )
    number = rows * columns * layout.planes
    if min(len(layout.offsets), len(layout.lengths)) < number:
        raise ValueError(f"truncated ({number} strips or tiles are needed, {len(layout.offsets)} are listed)")
    for offset, length in zip(layout.offsets, layout.lengths, strict=False):
        stream.seek(offset)
        packed = stream.read(length)
        if len(packed) < length:
            raise ValueError("truncated (a strip or tile lies beyond the file's end)")
        yield packed


def _values(packed: bytes, layout: _Layout, rows: int, width: int, step: int) -> np.ndarray:
    """Samples [row, column, channel] of one strip or tile."""
    size = layout.dtype.itemsize
    unpacked = _unpacked(packed, layout.compression, width * step * size, rows)
    if layout.predictor == _FLOATS:
        # bytes of the same weight stand together, the heaviest first, and each is a difference
        steps = np.frombuffer(unpacked, np.uint8).reshape(rows, width * size, step)
        weights = np.cumsum(steps, axis=1, dtype=np.uint8).reshape(rows, size, width * step)
        return (
            np.ascontiguousarray(weights.transpose(0, 2, 1))
            .view(layout.dtype.newbyteorder(">"))
            .reshape(rows, width, step)
        )
    values = np.frombuffer(unpacked, layout.dtype).reshape(rows, width, step)
    if layout.predictor == _DIFFERENCES:
        whole = np.dtype(f"u{size}")
        steps = values.astype(layout.dtype.newbyteorder("=")).view(whole)
        return np.cumsum(steps, axis=1, dtype=whole).view(layout.dtype.newbyteorder("="))
    return values


def _unpacked(packed: bytes, compression: int, width: int, height: int) -> bytes:
    """The bytes of a strip or tile, which Pillow takes for a greyscale picture of its own."""
    if compression == _NO_COMPRESSION:
        unpacked = packed[: width * height]
    else:
        numbers = {256: width, 257: height, 258: 8, 259: compression, 262: 1, 273: 8, 277: 1, 278: height}
        numbers[279] = len(packed)
        packed += bytes(len(packed) % 2)
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, number) for tag, number in numbers.items())
        directory = struct.pack("<H", len(numbers)) + entries + bytes(4)
        file = b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + directory
        unpacked = Image.open(io.BytesIO(file), formats=("TIFF",)).tobytes()
    if len(unpacked) < width * height:
        raise ValueError("truncated (a strip or tile is too short)")
    return unpacked


def _meaning(pixels: np.ndarray, layout: _Layout) -> DeepPixels:
    """Tell colours, alpha and what else there is apart."""
    colours = _COLOURS[layout.photometric]
    extra = layout.extra or ((2,) if layout.channels == 4 else ())  # four without a word are RGBA to all
    # 1: colours are multiplied by alpha already, so they lie over black; 2: not yet
    alpha = pixels[..., colours] if layout.channels > colours and extra[:1] == (2,) else None
    unnamed = layout.channels > colours and extra[:1] not in ((1,), (2,))
    left_out = "a further channel of which the file does not say what it is" if unnamed else ""
    return DeepPixels(pixels[..., :colours], alpha, layout.photometric == 0, layout.orientation, left_out)
