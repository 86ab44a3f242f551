"""Pictures as the encoders get them: against each model's own preprocessor and against numpy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medvip.backbones import load_backbone
from medvip.backbones.framing import middle_of_strip

SIZES = [(30, 30), (37, 53), (53, 37), (31, 30), (7, 5), (200, 33), (1, 4)]
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def normalised(pixels: np.ndarray, mean: list[float], std: list[float]) -> np.ndarray:
    return ((pixels / 255.0 - np.array(mean)) / np.array(std)).transpose(2, 0, 1)


def own_preprocessor(family: str, folder: Path):
    from transformers import CLIPImageProcessorPil, SiglipImageProcessorPil

    kind = {"clip": CLIPImageProcessorPil, "siglip": SiglipImageProcessorPil}[family]
    return kind.from_pretrained(folder)


@pytest.fixture(params=["clip", "siglip"])
def family_and_folder(request, tiny_clip, tiny_siglip):
    return request.param, {"clip": tiny_clip, "siglip": tiny_siglip}[request.param]


@pytest.mark.parametrize("size", SIZES)
def test_equals_the_models_own_preprocessor(family_and_folder, size):
    family, folder = family_and_folder
    expected = own_preprocessor(family, folder)(noise(*size), return_tensors="pt")["pixel_values"][0]
    found = load_backbone(str(folder), device="cpu").preprocess(noise(*size))
    assert found.shape == (3, 30, 30)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("size", [(53, 37), (40, 60), (31, 200)])
def test_clip_is_shorter_side_bicubic_then_centre_crop(tiny_clip, size):
    width, height = (int(30 * length / min(size)) for length in size)
    pixels = np.asarray(noise(*size).resize((width, height), Image.Resampling.BICUBIC))
    top, left = (height - 30) // 2, (width - 30) // 2
    expected = normalised(pixels[top : top + 30, left : left + 30], CLIP_MEAN, CLIP_STD)
    found = load_backbone(str(tiny_clip), device="cpu").preprocess(noise(*size))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(53, 37), (5, 80)])
def test_siglip_is_the_whole_picture_made_square(tiny_siglip, size):
    pixels = np.asarray(noise(*size).resize((30, 30), Image.Resampling.BICUBIC))
    expected = normalised(pixels, [0.5] * 3, [0.5] * 3)
    found = load_backbone(str(tiny_siglip), device="cpu").preprocess(noise(*size))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_a_picture_of_the_image_size_is_only_normalised(family_and_folder):
    """Augmented views come in this size; a second resize or crop would spoil them."""
    family, folder = family_and_folder
    mean, std = (CLIP_MEAN, CLIP_STD) if family == "clip" else ([0.5] * 3, [0.5] * 3)
    found = load_backbone(str(folder), device="cpu").preprocess(noise(30, 30), framed=True)
    np.testing.assert_allclose(found.numpy(), normalised(np.asarray(noise(30, 30)), mean, std), atol=1e-5)


def test_preprocessor_file_in_its_old_form_means_the_same(tiny_clip, tmp_path):
    """As in the folders of openai/clip-*: sizes are plain numbers, the class has its old name."""
    folder = shutil.copytree(tiny_clip, tmp_path / "clip")
    old = {
        "crop_size": 30, "size": 30, "resample": 3, "feature_extractor_type": "CLIPFeatureExtractor",
        "do_center_crop": True, "do_normalize": True, "do_resize": True,
        "image_mean": CLIP_MEAN, "image_std": CLIP_STD,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(old))
    found = load_backbone(str(folder), device="cpu").preprocess(noise(53, 37))
    expected = load_backbone(str(tiny_clip), device="cpu").preprocess(noise(53, 37))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


# ------------------------------------------------------------------ strips

STRIPS = [(400, 3), (3, 400), (401, 2), (2, 333), (1, 90), (91, 1), (500, 40), (40, 500)]


@pytest.mark.parametrize("size", STRIPS)
def test_a_strip_equals_the_models_own_preprocessor_but_for_rounding(family_and_folder, size):
    family, folder = family_and_folder
    expected = own_preprocessor(family, folder)(noise(*size), return_tensors="pt")["pixel_values"][0]
    found = load_backbone(str(folder), device="cpu").preprocess(noise(*size))
    one_of_255 = 1 / 255 / min(CLIP_STD)
    torch.testing.assert_close(found, expected, rtol=0, atol=1.01 * one_of_255)


@pytest.mark.parametrize("size", STRIPS)
def test_the_middle_of_a_strip_is_resizing_and_cropping_but_for_rounding(size):
    picture = noise(*size)
    resized = tuple(round(length * 256 / min(size)) for length in size)
    whole = picture.resize(resized, Image.Resampling.BICUBIC)
    left, top = (whole.width - 224) // 2, (whole.height - 224) // 2
    expected = np.asarray(whole.crop((left, top, left + 224, top + 224))).astype(int)
    found = np.asarray(middle_of_strip(picture, resized, (224, 224))).astype(int)
    assert abs(found - expected).max() <= 1


@pytest.mark.parametrize("size", [(30_000, 1), (1, 30_000)])
def test_a_long_strip_never_becomes_a_huge_picture(family_and_folder, size, monkeypatch):
    made = []
    resize = Image.Image.resize

    def watched(picture, size, *args, **options):
        made.append(size[0] * size[1])
        return resize(picture, size, *args, **options)

    backbones = [
        load_backbone(str(family_and_folder[1]), device="cpu"),
        load_backbone("embedded", device="cpu"),
    ]
    monkeypatch.setattr(Image.Image, "resize", watched)
    for backbone in backbones:
        backbone.preprocess(Image.new("RGB", size, (9, 9, 9)))
    assert made
    assert max(made) <= 224 * 224
