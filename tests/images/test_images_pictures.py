"""Every kind of pixel, against a formula written out here with NumPy."""

from __future__ import annotations

import io
import pickle
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medvip.errors import DataError, MedvipError, UnreadableImages
from medvip.images import content_hash, read_picture
from medvip.images.inspection import inspect

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (9, 7), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (9, 7, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (9, 7), dtype=np.uint8)


def saved(folder: Path, picture: Image.Image, name: str, **options: object) -> str:
    path = folder / name
    picture.save(path, **options)
    return path.as_posix()


def pixels(path: str) -> np.ndarray:
    picture = read_picture(path)
    assert picture.mode == "RGB"
    return np.asarray(picture).astype(int)


def grey_as_rgb(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None].astype(int), 3, axis=2)


def stretched(values: np.ndarray) -> np.ndarray:
    values = values.astype(float)
    return grey_as_rgb(np.round((values - values.min()) / (values.max() - values.min()) * 255))


def over_black(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.round(colour.astype(float) * alpha[..., None] / 255)


def test_8_bit_grey_and_colour_come_unchanged(tmp_path):
    np.testing.assert_array_equal(pixels(saved(tmp_path, Image.fromarray(GREY), "l.png")), grey_as_rgb(GREY))
    np.testing.assert_array_equal(pixels(saved(tmp_path, Image.fromarray(COLOUR), "rgb.png")), COLOUR)


def test_8_bit_grey_is_not_stretched(tmp_path):
    dull = np.full((4, 4), 100, np.uint8)
    dull[0] = 110
    np.testing.assert_array_equal(pixels(saved(tmp_path, Image.fromarray(dull), "l.png")), grey_as_rgb(dull))


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_1_bit_is_black_and_white(tmp_path, ending):
    path = saved(tmp_path, Image.fromarray(GREY > 127), f"bit.{ending}")
    np.testing.assert_array_equal(pixels(path), grey_as_rgb((GREY > 127) * 255))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("u16.png", RNG.integers(900, 5000, (9, 7), dtype=np.uint16)),
        ("u16.tif", RNG.integers(900, 5000, (9, 7), dtype=np.uint16)),
        ("u16.pgm", RNG.integers(900, 5000, (9, 7), dtype=np.uint16)),
        ("i32.tif", RNG.integers(-2_000_000, 2_000_000, (9, 7), dtype=np.int32)),
        ("f32.tif", RNG.normal(0, 1e-3, (9, 7)).astype(np.float32)),
    ],
)
def test_deep_greyscale_is_stretched_from_its_own_range(tmp_path, name, values):
    found = pixels(saved(tmp_path, Image.fromarray(values), name))
    assert found.min() == 0
    assert found.max() == 255
    np.testing.assert_allclose(found, stretched(values), atol=1)
    np.testing.assert_array_equal(found[..., 0], found[..., 2])


def bare_tiff(
    values: np.ndarray, sample_format: int, order: Literal["big", "little"], zero_is: int = 1
) -> bytes:
    """A TIFF of one strip, written by hand."""
    height, width = values.shape
    bits = 8 * values.dtype.itemsize
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: zero_is, 273: 8 + 2 + 10 * 12 + 4, 277: 1}
    tags |= {278: height, 279: values.nbytes, 339: sample_format}
    numbers = [(42, 2), (8, 4), (len(tags), 2)]
    for tag, value in tags.items():
        numbers += [(tag, 2), (4, 2), (1, 4), (value, 4)]
    head = b"".join(number.to_bytes(size, order) for number, size in [*numbers, (0, 4)])
    sign = {"big": ">", "little": "<"}[order]
    return (
        (b"MM" if order == "big" else b"II") + head + values.astype(values.dtype.newbyteorder(sign)).tobytes()
    )


def test_big_endian_16_bit(tmp_path):
    values = RNG.integers(0, 65536, (9, 7), dtype=np.uint16)
    path = tmp_path / "be.tif"
    path.write_bytes(bare_tiff(values, 1, "big"))
    with Image.open(path) as picture:
        assert picture.mode == "I;16B"
    np.testing.assert_array_equal(pixels(path.as_posix()), stretched(values))


def test_16_bit_tiff_where_white_is_zero(tmp_path):
    values = RNG.integers(900, 5000, (9, 7), dtype=np.uint16)
    path = tmp_path / "white.tif"
    path.write_bytes(bare_tiff(values, 1, "little", zero_is=0))
    np.testing.assert_allclose(pixels(path.as_posix()), 255 - stretched(values), atol=1)


def test_32_bit_tiff_with_and_without_a_sign(tmp_path):
    unsigned = np.linspace(0, 2**32 - 1, 12).astype(np.uint32).reshape(3, 4)
    path = tmp_path / "deep.tif"
    path.write_bytes(bare_tiff(unsigned, 1, "little"))
    np.testing.assert_array_equal(pixels(path.as_posix()), stretched(unsigned))
    path.write_bytes(bare_tiff(unsigned.view(np.int32), 2, "little"))
    np.testing.assert_array_equal(pixels(path.as_posix()), stretched(unsigned.view(np.int32)))


def test_floats_that_are_no_numbers(tmp_path):
    values = np.array([[0, 1, 2, 4], [np.nan, np.inf, -np.inf, 3]], dtype=np.float32)
    found = pixels(saved(tmp_path, Image.fromarray(values), "f.tif"))[..., 0]
    np.testing.assert_array_equal(found, [[0, 64, 128, 255], [0, 255, 0, 191]])


@pytest.mark.parametrize("value", [0.0, 7.5, np.nan, np.inf])
def test_a_constant_deep_picture_is_black(tmp_path, value):
    path = saved(tmp_path, Image.fromarray(np.full((3, 3), value, np.float32)), "f.tif")
    assert pixels(path).max() == 0


def test_alpha_lies_over_black(tmp_path):
    rgba = Image.fromarray(np.dstack([COLOUR, ALPHA]))
    np.testing.assert_allclose(pixels(saved(tmp_path, rgba, "rgba.png")), over_black(COLOUR, ALPHA), atol=1)
    la = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)])
    grey = np.repeat(GREY[..., None], 3, axis=2)
    np.testing.assert_allclose(pixels(saved(tmp_path, la, "la.png")), over_black(grey, ALPHA), atol=1)


def test_hidden_colour_of_transparent_pixels_is_gone(tmp_path):
    values = np.full((4, 4, 4), 255, np.uint8)
    values[1:, :, 3] = 0
    found = pixels(saved(tmp_path, Image.fromarray(values), "a.png"))
    assert found[0].min() == 255
    assert found[1:].max() == 0


@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
def test_alpha_that_is_zero_everywhere_is_ignored(tmp_path, ending):
    rgba = Image.fromarray(np.dstack([COLOUR, np.zeros_like(ALPHA)]))
    exact = {"lossless": True, "exact": True} if ending == "webp" else {}
    np.testing.assert_array_equal(pixels(saved(tmp_path, rgba, f"rgba.{ending}", **exact)), COLOUR)
    la = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(np.zeros_like(ALPHA))])
    if ending != "webp":
        np.testing.assert_array_equal(pixels(saved(tmp_path, la, f"la.{ending}")), grey_as_rgb(GREY))


def test_a_palette_that_is_transparent_throughout_is_seen(tmp_path):
    picture = Image.fromarray(COLOUR).quantize(8)
    path = saved(tmp_path, picture, "clear.png", transparency=bytes(8))
    lookup = np.array(picture.getpalette()).reshape(-1, 3)
    np.testing.assert_array_equal(pixels(path), lookup[np.asarray(picture)])


def test_palette(tmp_path):
    picture = Image.fromarray(COLOUR).quantize(8)
    assert picture.mode == "P"
    lookup = np.array(picture.getpalette()).reshape(-1, 3)
    index = np.asarray(picture)
    for ending in ("png", "gif", "tif", "bmp"):
        np.testing.assert_array_equal(pixels(saved(tmp_path, picture, f"p.{ending}")), lookup[index])
    clear = saved(tmp_path, picture, "clear.png", transparency=2)
    np.testing.assert_array_equal(pixels(clear), lookup[index] * (index != 2)[..., None])
    half = saved(tmp_path, picture, "half.png", transparency=bytes([0, 128, 255, 255, 255, 255, 255, 255]))
    alpha = np.array([0, 128, 255, 255, 255, 255, 255, 255])[index]
    np.testing.assert_allclose(pixels(half), over_black(lookup[index], alpha), atol=1)


def test_one_transparent_grey_or_colour(tmp_path):
    grey = Image.fromarray(np.array([[10, 200]], np.uint8))
    path = saved(tmp_path, grey, "l.png", transparency=200)
    np.testing.assert_array_equal(pixels(path)[0, :, 0], [10, 0])
    colour = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    path = saved(tmp_path, colour, "rgb.png", transparency=(4, 5, 6))
    np.testing.assert_array_equal(pixels(path), [[[1, 2, 3], [0, 0, 0]]])


def test_cmyk(tmp_path):
    inks = np.dstack([COLOUR, ALPHA])
    picture = Image.frombytes("CMYK", (7, 9), inks.tobytes())
    path = saved(tmp_path, picture, "cmyk.tif")
    light = 255 - inks.astype(float)
    np.testing.assert_allclose(pixels(path), light[..., :3] * light[..., 3:] / 255, atol=1)


def test_a_cmyk_jpeg_is_not_inverted(tmp_path):
    paper = Image.new("CMYK", (16, 16), (0, 0, 0, 0))
    assert pixels(saved(tmp_path, paper, "white.jpg")).min() > 250


def test_lab(tmp_path):
    # L* 53.24, a* 80.09, b* 67.20 is the red of sRGB seen under D65; Lab files mean D50.
    red = Image.frombytes("LAB", (1, 1), bytes([round(54.29 * 2.55), 81, 70]))
    np.testing.assert_allclose(pixels(saved(tmp_path, red, "lab.tif"))[0, 0], [255, 0, 0], atol=6)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
def test_exif_orientation(tmp_path, orientation, ending):
    upright = COLOUR.astype(int)
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](upright)
    exif = Image.Exif()
    exif[274] = orientation
    options = {"lossless": True} if ending == "webp" else {}
    picture = Image.fromarray(np.ascontiguousarray(stored).astype(np.uint8))
    path = saved(tmp_path, picture, f"turned.{ending}", exif=exif, **options)
    np.testing.assert_array_equal(pixels(path), upright)


def test_damaged_exif_does_not_spoil_the_picture(tmp_path):
    path = saved(tmp_path, Image.fromarray(COLOUR), "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    np.testing.assert_array_equal(pixels(path), COLOUR)


def test_the_first_frame_of_several(tmp_path):
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    path = saved(tmp_path, frames[0], "two.tif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(pixels(path), grey_as_rgb(GREY))


# ------------------------------------------------------------------ what cannot be read


def refusal(path: object, **options: int) -> str:
    with pytest.raises(UnreadableImages) as caught:
        read_picture(str(path), **options)
    assert isinstance(caught.value, DataError)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_missing_empty_folder_text_and_web_page(tmp_path):
    empty, text, page = (tmp_path / name for name in ("empty.png", "text.png", "page.jpg"))
    empty.write_bytes(b"")
    text.write_text("just words")
    page.write_text("<!doctype html><title>404</title>")
    assert "no such file" in refusal(tmp_path / "none.png")
    assert "the file is empty" in refusal(empty)
    assert "it is a folder" in refusal(tmp_path)
    assert "not a picture" in refusal(text)
    assert "a web page" in refusal(page)
    assert "replace the file with a whole picture" in refusal(page)


def test_dicom_and_drawings_are_named_or_refused(tmp_path):
    dicom, drawing = tmp_path / "scan.png", tmp_path / "drawing.eps"
    dicom.write_bytes(bytes(128) + b"DICM" + bytes(50))
    drawing.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    assert "a DICOM file" in refusal(dicom)
    assert "not a picture" in refusal(drawing)


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "bmp", "webp"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_truncated_files_are_found_by_both_ways_of_looking(tmp_path, ending, kept):
    noise = Image.fromarray(RNG.integers(0, 256, (200, 200, 3), dtype=np.uint8))
    path = Path(saved(tmp_path, noise, f"cut.{ending}"))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    refusal(path)
    assert path.as_posix() in inspect([path.as_posix()]).reasons


def test_truncated_is_called_so(tmp_path):
    path = Path(saved(tmp_path, Image.fromarray(COLOUR).resize((300, 300)), "cut.jpg"))
    path.write_bytes(path.read_bytes()[:-400])
    assert "truncated" in refusal(path)


def test_a_decompression_bomb_is_refused_before_it_unpacks(tmp_path):
    path = saved(tmp_path, Image.new("1", (2000, 1000)), "bomb.png")
    text = refusal(path, max_pixels=1_000_000)
    assert "too large: 2000 x 1000 = 2000000 pixels, the limit is 1000000" in text
    assert read_picture(path).size == (2000, 1000)


def chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return len(content).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")


LONG = b"x" * 1_200_000
TEXTS = {
    "packed": chunk(b"zTXt", b"a\0\0" + zlib.compress(LONG)),
    "international": chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(LONG)),
    "profile": chunk(b"iCCP", b"a\0\0" + zlib.compress(LONG)),
}


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("behind", [False, True])
def test_texts_that_are_too_long_for_pillow_do_not_spoil_the_picture(tmp_path, kind, behind):
    path = Path(saved(tmp_path, Image.fromarray(COLOUR), "texts.png"))
    content = path.read_bytes()
    place = len(content) - 12 if behind else 33
    path.write_bytes(content[:place] + TEXTS[kind] + content[place:])
    np.testing.assert_array_equal(pixels(path.as_posix()), COLOUR)
    assert not inspect([path.as_posix()]).reasons
    path.write_bytes(path.read_bytes()[:-30] if not behind else path.read_bytes()[: place - 20])
    refusal(path)


# ------------------------------------------------------------------ what can be read, with a doubt


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("size", [(60, 40), (300, 500)])
def test_half_a_jpeg_that_ends_as_a_whole_one_is_doubted(tmp_path, mode, size):
    noise = Image.fromarray(RNG.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)
    path = Path(saved(tmp_path, noise, "half.jpg"))
    pixels(path.as_posix())
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + b"\xff\xd9")
    with pytest.warns(UserWarning, match=r"half\.jpg: its lower part is one flat grey"):
        read_picture(path.as_posix())
    with pytest.warns(UserWarning, match=r"half\.jpg: its lower part is one flat grey"):
        assert not inspect([path.as_posix()], workers=1).reasons


@pytest.mark.parametrize("value", [0, 127, 128, 255])
def test_borders_are_not_doubted(tmp_path, value):
    framed = np.full((200, 100, 3), value, np.uint8)
    framed[64:136] = COLOUR[:1, :1]
    path = saved(tmp_path, Image.fromarray(framed), "framed.jpg")
    pixels(path)
    assert not inspect([path]).reasons


def test_pillows_own_bomb_limit_is_told_in_one_line(tmp_path):
    size = (60_000).to_bytes(4, "big") * 2
    path = tmp_path / "huge.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size + bytes([8, 0, 0, 0, 0]))
        + chunk(b"IDAT", zlib.compress(bytes(100)))
        + chunk(b"IEND", b"")
    )
    assert "too large: it unpacks to more pixels than Pillow's limit of" in refusal(path)


# ------------------------------------------------------------------ pictures in arrays


def archive(folder: Path, **arrays: np.ndarray) -> str:
    path = folder / "set.npz"
    np.savez(path, **arrays)
    return path.as_posix()


def test_pictures_of_an_archive(tmp_path):
    grey = RNG.integers(0, 256, (3, 5, 4), dtype=np.uint8)
    colour = RNG.integers(0, 256, (2, 5, 4, 3), dtype=np.uint8)
    path = archive(tmp_path, grey=grey, colour=colour)
    np.testing.assert_array_equal(pixels(f"{path}#grey/2"), grey_as_rgb(grey[2]))
    np.testing.assert_array_equal(pixels(f"{path}#colour/1"), colour[1])


def test_a_changed_archive_is_read_afresh(tmp_path):
    path = archive(tmp_path, a=np.zeros((1, 2, 2), np.uint8))
    assert pixels(f"{path}#a/0").max() == 0
    archive(tmp_path, a=np.full((2, 2, 2), 9, np.uint8))
    assert pixels(f"{path}#a/0").max() == 9


def test_what_an_archive_cannot_give(tmp_path):
    path = archive(tmp_path, a=np.zeros((2, 3, 3), np.uint8), wide=np.zeros((2, 3, 3)), flat=np.zeros(4))
    assert "none with the index 2" in refusal(f"{path}#a/2")
    assert "has no array 'b'" in refusal(f"{path}#b/0")
    assert "is float64 [2, 3, 3], not pictures" in refusal(f"{path}#wide/0")
    assert "not pictures" in refusal(f"{path}#flat/0")
    assert "too large" in refusal(f"{path}#a/0", max_pixels=8)
    assert "No such file" in refusal(f"{tmp_path}/none.npz#a/0")


def test_pickled_objects_are_never_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harmed",))

    path = tmp_path / "evil.npz"
    np.savez(path, train_images=np.array([Bomb()], dtype=object), allow_pickle=True)
    assert "cannot be read as a NumPy archive" in refusal(f"{path}#train_images/0")
    pickled = tmp_path / "plain.npz"
    pickled.write_bytes(pickle.dumps(Bomb()))
    refusal(f"{pickled}#a/0")
    assert not (tmp_path / "harmed").exists()


# ------------------------------------------------------------------ hashes and fuzz


def test_content_hash_goes_by_content(tmp_path):
    one, two = (
        saved(tmp_path, Image.fromarray(GREY), "1.png"),
        saved(tmp_path, Image.fromarray(GREY), "2.png"),
    )
    other = saved(tmp_path, Image.fromarray(255 - GREY), "3.png")
    assert content_hash(one) == content_hash(two) != content_hash(other)
    values = np.zeros((2, 4, 2), np.uint8)
    path = archive(tmp_path, a=values, b=values.reshape(2, 2, 4))
    assert content_hash(f"{path}#a/0") == content_hash(f"{path}#a/1") != content_hash(f"{path}#b/0")
    with pytest.raises(UnreadableImages, match="no such file"):
        content_hash(str(tmp_path / "none.png"))


def read_or_refuse(path: str) -> None:
    said = ""
    try:
        read_picture(path, max_pixels=10_000_000)
    except MedvipError as error:
        said = str(error)
    assert "\n" not in said


STARTS = [
    b"",
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff\xe0",
    b"GIF89a",
    b"II*\0",
    b"MM\0*",
    b"BM",
    b"RIFF",
    b"PK\3\4",
]


@settings(max_examples=150, deadline=None)
@given(
    start=st.sampled_from(STARTS), rest=st.binary(max_size=300), name=st.sampled_from(["a.png", "a.npz#b/0"])
)
def test_random_bytes_raise_nothing_else(tmp_path_factory, start, rest, name):
    folder = tmp_path_factory.getbasetemp()
    (folder / name.partition("#")[0]).write_bytes(start + rest)
    read_or_refuse(f"{folder}/{name}")


def sample_files() -> list[bytes]:
    files = []
    for kind in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "TGA"):
        stream = io.BytesIO()
        Image.fromarray(COLOUR).save(stream, kind)
        files.append(stream.getvalue())
    return files


@settings(max_examples=200, deadline=None)
@given(
    file=st.sampled_from(sample_files()),
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6
    ),
)
def test_damaged_pictures_raise_nothing_else(tmp_path_factory, file, changes):
    content = bytearray(file)
    for place, value in changes:
        content[int(place * len(content))] = value
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    read_or_refuse(str(path))
