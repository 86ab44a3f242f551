"""Pixels of more than 8 bits in colour, and kinds of TIFF that Pillow does not read or reads wrong.

Files are written by hand here, so that no reader checks itself.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medvip.errors import MedvipError, UnreadableImages
from medvip.images import read_picture
from medvip.images.inspection import inspect

RNG = np.random.default_rng(3)
DIM = RNG.integers(300, 4096, (40, 33, 3), dtype=np.uint16)
"""12 bits used of 16."""

FORMATS = {"u": 1, "i": 2, "f": 3}


def stretched(values: np.ndarray) -> np.ndarray:
    values = values.astype(float)
    return np.rint((values - values.min()) / (values.max() - values.min()) * 255)


def pixels(path: Path) -> np.ndarray:
    picture = read_picture(str(path))
    assert picture.mode == "RGB"
    assert not inspect([str(path)], workers=1).reasons
    return np.asarray(picture).astype(int)


def refusal(path: Path) -> str:
    with pytest.raises(UnreadableImages) as caught:
        read_picture(str(path))
    assert str(path) in inspect([str(path)]).reasons
    assert "\n" not in str(caught.value)
    return str(caught.value)


def png(path: Path, values: np.ndarray, colour_type: int, *chunks: tuple[bytes, bytes]) -> Path:
    """A PNG of 16 bits."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    written = b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + written)
    return path


def packed(content: bytes, width: int, compression: int) -> bytes:
    """A strip, packed; for LZW Pillow packs it as a greyscale picture."""
    if compression in (8, 32946):
        return zlib.compress(content)
    if compression == 32773:
        parts = [content[start : start + 128] for start in range(0, len(content), 128)]
        return b"".join(bytes([len(part) - 1]) + part for part in parts)
    if compression == 5:
        stream = io.BytesIO()
        height = len(content) // width
        Image.frombytes("L", (width, height), content).save(
            stream, "TIFF", compression="tiff_lzw", tiffinfo={278: height}
        )
        with Image.open(stream) as picture:
            offset, length = picture.tag_v2[273][0], picture.tag_v2[279][0]
        return stream.getvalue()[offset : offset + length]
    return content


def differences(values: np.ndarray) -> np.ndarray:
    """What TIFF calls horizontal differencing."""
    whole = values.view(f"u{values.dtype.itemsize}")
    return np.concatenate([whole[:, :1], np.diff(whole, axis=1)], axis=1)


def float_differences(values: np.ndarray) -> np.ndarray:
    """Bytes of like weight side by side, the heaviest first, then differences of neighbours."""
    rows, width, channels = values.shape
    heavy_first = values.astype(values.dtype.newbyteorder(">")).reshape(rows, -1).view(np.uint8)
    by_weight = heavy_first.reshape(rows, width * channels, -1).transpose(0, 2, 1).reshape(rows, -1)
    steps = by_weight.copy()
    steps[:, channels:] -= by_weight[:, :-channels]
    return steps


def tiff(
    path: Path,
    values: np.ndarray,
    *,
    order: str = "<",
    planar: int = 1,
    photometric: int | None = None,
    compression: int = 1,
    predictor: int = 1,
    tile: tuple[int, int] | None = None,
    rows_per_strip: int | None = None,
    **further: Any,
) -> Path:
    """A TIFF of any kind; `further` are tags such as ``t338=[2]``."""
    values = values if values.ndim == 3 else values[..., None]
    height, width, channels = values.shape
    if photometric is None:
        photometric = 2 if channels >= 3 else 1
    planes = [values] if planar == 1 else [values[..., k : k + 1] for k in range(channels)]
    part_height, part_width = tile or (rows_per_strip or height, width)
    parts = []
    for plane in planes:
        for top in range(0, height, part_height):
            for left in range(0, width, part_width):
                piece = plane[top : top + part_height, left : left + part_width]
                if tile:
                    room = [(0, part_height - piece.shape[0]), (0, part_width - piece.shape[1]), (0, 0)]
                    piece = np.pad(piece, room, mode="edge")
                if predictor == 3:
                    content = float_differences(piece).tobytes()
                else:
                    piece = differences(piece) if predictor == 2 else piece
                    content = piece.astype(piece.dtype.newbyteorder(order)).tobytes()
                parts.append(packed(content, len(content) // piece.shape[0], compression))
    lengths = [len(part) for part in parts]
    offsets = [8 + sum(lengths[:k]) for k in range(len(parts))]
    bits = [8 * values.dtype.itemsize] * channels
    tags = {256: [width], 257: [height], 258: bits, 259: [compression], 262: [photometric]}
    tags |= {277: [channels], 284: [planar], 317: [predictor]}
    tags |= {339: [FORMATS[values.dtype.kind]] * channels}
    tags |= {322: [part_width], 323: [part_height], 324: offsets, 325: lengths} if tile else {}
    tags |= {} if tile else {273: offsets, 278: [part_height], 279: lengths}
    tags |= {int(name[1:]): content for name, content in further.items()}
    body = b"".join(parts)
    body += bytes(len(body) % 2)
    entries, outside, start = b"", b"", 8 + len(body) + 2 + 12 * len(tags) + 4
    for tag, numbers in sorted(tags.items()):
        content = b"".join(struct.pack(order + "I", number) for number in numbers)
        entries += struct.pack(order + "HHI", tag, 4, len(numbers))
        entries += content if len(numbers) == 1 else struct.pack(order + "I", start + len(outside))
        outside += content if len(numbers) > 1 else b""
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8 + len(body))
    directory = struct.pack(order + "H", len(tags)) + entries + bytes(4)
    path.write_bytes(head + body + directory + outside)
    return path


# ------------------------------------------------------------------ PNG of 16 bits


def test_16_bit_colour_png_is_stretched_from_the_range_of_all_three_channels(tmp_path):
    found = pixels(png(tmp_path / "a.png", DIM, 2))
    np.testing.assert_array_equal(found, stretched(DIM))
    assert (found.min(), found.max()) == (0, 255)


def test_16_bit_grey_is_the_same_picture_alone_with_alpha_and_as_colour(tmp_path):
    grey = DIM[..., :1]
    opaque = np.full_like(grey, 65535)
    alone = pixels(png(tmp_path / "l.png", grey, 0))
    np.testing.assert_array_equal(pixels(png(tmp_path / "la.png", np.dstack([grey, opaque]), 4)), alone)
    np.testing.assert_array_equal(pixels(png(tmp_path / "rgb.png", np.repeat(grey, 3, 2), 2)), alone)
    path = tmp_path / "l.tif"
    np.testing.assert_array_equal(pixels(tiff(path, grey[..., 0])), alone)


@pytest.mark.parametrize("most", [4095, 65535])
def test_16_bit_alpha_is_relative_to_its_highest_value(tmp_path, most):
    alpha = np.full(DIM.shape[:2], most, np.uint16)
    alpha[:, :10] = most // 2
    found = pixels(png(tmp_path / "rgba.png", np.dstack([DIM, alpha]), 6))
    np.testing.assert_allclose(found[:, 10:], stretched(DIM)[:, 10:], atol=0)
    np.testing.assert_allclose(found[:, :10], stretched(DIM)[:, :10] / 2, atol=1)


def test_hidden_16_bit_colours_do_not_count(tmp_path):
    alpha = np.full(DIM.shape[:2], 65535, np.uint16)
    alpha[0] = 0
    values = DIM.copy()
    values[0] = 65535
    found = pixels(png(tmp_path / "rgba.png", np.dstack([values, alpha]), 6))
    np.testing.assert_array_equal(found[1:], stretched(DIM[1:]))
    assert found[0].max() == 0


def test_16_bit_alpha_that_is_zero_everywhere_is_ignored(tmp_path):
    found = pixels(png(tmp_path / "rgba.png", np.dstack([DIM, np.zeros_like(DIM[..., 0])]), 6))
    np.testing.assert_array_equal(found, stretched(DIM))


def test_one_transparent_16_bit_colour_is_told_by_all_its_bits(tmp_path):
    values = np.array([[[260, 520, 780], [261, 520, 780], [4000, 4000, 4000]]], np.uint16)
    path = png(tmp_path / "rgb.png", values, 2, (b"tRNS", struct.pack(">HHH", 261, 520, 780)))
    np.testing.assert_array_equal(pixels(path)[0], [[0, 18, 35], [0, 0, 0], [255, 255, 255]])


def test_16_bit_colour_png_is_turned(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    path = png(tmp_path / "turned.png", DIM, 2, (b"eXIf", exif.tobytes()[6:]))
    np.testing.assert_array_equal(pixels(path), np.rot90(stretched(DIM), -1))


@pytest.mark.parametrize("most", [4095, 65535])
def test_16_bit_colour_ppm(tmp_path, most):
    path = tmp_path / "a.ppm"
    path.write_bytes(b"P6\n33 40\n%d\n" % most + DIM.astype(">u2").tobytes())
    np.testing.assert_array_equal(pixels(path), stretched(DIM))
    path.write_bytes(path.read_bytes()[:-2000])
    assert "truncated" in refusal(path)


# ------------------------------------------------------------------ TIFF


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("compression", [1, 5, 8, 32773])
@pytest.mark.parametrize("parts", [{}, {"rows_per_strip": 7}, {"tile": (16, 16)}])
def test_16_bit_colour_in_any_arrangement(tmp_path, order, planar, compression, parts):
    path = tiff(tmp_path / "a.tif", DIM, order=order, planar=planar, compression=compression, **parts)
    np.testing.assert_array_equal(pixels(path), stretched(DIM))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("compression", [5, 8])
def test_differences_are_added_up(tmp_path, order, planar, compression):
    path = tiff(tmp_path / "a.tif", DIM, order=order, planar=planar, compression=compression, predictor=2)
    np.testing.assert_array_equal(pixels(path), stretched(DIM))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
@pytest.mark.parametrize("predictor", [1, 3])
def test_floating_point(tmp_path, order, kind, predictor):
    for values in (RNG.normal(0, 5, (20, 17)).astype(kind), RNG.normal(0, 5, (20, 17, 3)).astype(kind)):
        path = tiff(tmp_path / "f.tif", values, order=order, compression=8, predictor=predictor)
        wanted = stretched(values)
        wanted = np.repeat(wanted[..., None], 3, 2) if values.ndim == 2 else wanted
        np.testing.assert_allclose(pixels(path), wanted, atol=0 if kind == "f8" else 1)


def test_floats_that_are_no_numbers_are_left_out_of_the_range(tmp_path):
    values = np.array([[0, 1, 2, 4], [np.nan, np.inf, -np.inf, 3]])
    found = pixels(tiff(tmp_path / "f.tif", values))[..., 0]
    np.testing.assert_array_equal(found, [[0, 64, 128, 255], [0, 255, 0, 191]])


@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "i8", "u4", "u8"])
def test_whole_numbers_of_any_depth(tmp_path, kind):
    values = RNG.integers(-100, 101, (9, 7)) + (100 if kind[0] == "u" else 0)
    found = pixels(tiff(tmp_path / "n.tif", values.astype(kind)))
    np.testing.assert_array_equal(found[..., 1], values + 128 if kind == "i1" else stretched(values))


def test_8_bits_in_two_channels_are_not_stretched(tmp_path):
    values = RNG.integers(100, 120, (9, 7, 2), dtype=np.uint8)
    with pytest.warns(UserWarning, match="a further channel"):
        found = np.asarray(read_picture(str(tiff(tmp_path / "two.tif", values))))
    np.testing.assert_array_equal(found[..., 0], values[..., 0])


def test_white_is_zero_in_what_pillow_does_not_read(tmp_path):
    values = DIM[..., 0]
    found = pixels(tiff(tmp_path / "w.tif", values, order=">", photometric=0))
    np.testing.assert_array_equal(found[..., 0], 255 - stretched(values))


def test_alpha_of_a_16_bit_tiff(tmp_path):
    alpha = np.full(DIM.shape[:2], 65535, np.uint16)
    alpha[:, :10] = 32768
    values = np.dstack([DIM, alpha])
    straight = pixels(tiff(tmp_path / "s.tif", values, t338=[2]))
    np.testing.assert_allclose(straight[:, :10], stretched(DIM)[:, :10] / 2, atol=1)
    np.testing.assert_array_equal(pixels(tiff(tmp_path / "m.tif", values, t338=[1])), stretched(DIM))
    grey = pixels(tiff(tmp_path / "la.tif", values[..., 2:], t338=[2]))
    np.testing.assert_array_equal(grey[:, 10:, 0], stretched(DIM[..., 2])[:, 10:])


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_tiff_is_turned_once(tmp_path, orientation):
    turned = np.rot90(stretched(DIM), {1: 0, 3: 2, 6: -1, 8: 1}[orientation])
    np.testing.assert_array_equal(pixels(tiff(tmp_path / "t.tif", DIM, t274=[orientation])), turned)


@pytest.mark.parametrize(
    ("values", "further", "named"),
    [
        (
            RNG.integers(0, 99, (9, 7, 5), dtype=np.uint16),
            {"photometric": 1},
            "5 channels of 16 bits of which",
        ),
        (RNG.integers(0, 99, (9, 7, 3), dtype=np.uint16), {"photometric": 8}, "16 bits, CIELab"),
        (RNG.integers(0, 99, (9, 7), dtype=np.uint16), {"t339": [5]}, "1 channel of 16 bits of complex"),
        (RNG.integers(0, 99, (9, 7), dtype=np.uint16), {"t258": [14]}, "1 channel of 14 bits"),
        (
            RNG.integers(0, 99, (9, 7, 2), dtype=np.uint8),
            {"t258": [8, 4]},
            "channels of different kinds (8, 4",
        ),
        (RNG.integers(0, 99, (9, 7, 3), dtype=np.uint16), {"t259": [34712]}, "in compression 34712"),
    ],
)
def test_what_is_not_read_is_named(tmp_path, values, further, named):
    text = refusal(tiff(tmp_path / "a.tif", values, **further))
    assert named in text
    assert "convert it to a TIFF or PNG of 8 or 16 bits, grey or RGB" in text


@pytest.mark.parametrize("compression", [1, 5, 8])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_cut_tiffs_are_refused(tmp_path, compression, kept):
    path = tiff(tmp_path / "a.tif", DIM, compression=compression)
    content = path.read_bytes()
    # the directory stands behind the pixels: what is lost is in the middle
    path.write_bytes(content.replace(content[8 + int(kept * len(DIM.tobytes()) / 2) : -400], b"", 1))
    refusal(path)


def test_a_tiff_with_too_few_strips_is_refused_before_its_size_is_believed(tmp_path):
    path = tiff(tmp_path / "a.tif", DIM, t257=[10_000], t278=[10])
    assert "truncated" in refusal(path)
    assert "too large" in refusal(tiff(tmp_path / "b.tif", DIM, t257=[2_000_000_000]))


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from([{}, {"compression": 5}, {"planar": 2}, {"tile": (16, 16), "compression": 8}]),
    changes=st.lists(st.tuples(st.integers(1, 500), st.integers(0, 255)), min_size=1, max_size=4),
)
@pytest.mark.filterwarnings("ignore")
def test_damaged_tags_raise_nothing_else(tmp_path_factory, kind, changes):
    path = tmp_path_factory.getbasetemp() / "damaged.tif"
    content = bytearray(tiff(path, DIM[:16, :16], **kind).read_bytes())
    for from_end, value in changes:
        content[-min(from_end, len(content))] = value
    path.write_bytes(content)
    said = ""
    try:
        read_picture(str(path), max_pixels=1_000_000)
    except MedvipError as error:
        said = str(error)
    assert "\n" not in said


def test_16_bit_cmyk_is_still_read(tmp_path):
    inks = np.zeros((9, 7, 4), np.uint16)
    inks[..., 0] = 65535
    for order in "<>":
        for compression in (1, 8):
            path = tiff(tmp_path / "c.tif", inks, order=order, photometric=5, compression=compression)
            np.testing.assert_array_equal(pixels(path)[0, 0], [0, 255, 255])
