"""Augmented views: the same each time, inside the picture, and only where they are asked for."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from paint_backbone import PaintBackbone
from PIL import Image

from medvip.errors import UsageError
from medvip.features import Augmentation, compute_features
from medvip.images import load_dataset


class WatchedPicture:
    """Stands in for a picture of a size; remembers which box is cut out."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size

    def resize(self, size, resample, box):
        self.box, self.side = box, size
        return self

    def transpose(self, how):
        assert how == Image.Transpose.FLIP_LEFT_RIGHT
        self.flipped = True
        return self

    flipped = False


def view_of(augmentation: Augmentation, size: tuple[int, int], content: str, view: int) -> WatchedPicture:
    picture = WatchedPicture(size)
    # not through the shape checks: a stand-in is no picture
    getattr(Augmentation.make, "__wrapped__", Augmentation.make)(augmentation, picture, content, view, 32)
    return picture


@settings(max_examples=200, deadline=None)
@given(
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    low=st.floats(0.01, 1.0),
    high=st.floats(0.01, 1.0),
    content=st.text(min_size=1, max_size=8),
    view=st.integers(1, 50),
    seed=st.integers(0, 2**40),
)
def test_a_crop_is_inside_and_of_the_size_asked_for(width, height, low, high, content, view, seed) -> None:
    low, high = min(low, high), max(low, high)
    augmentation = Augmentation(views=view, scale=(low, high), seed=seed)
    picture = view_of(augmentation, (width, height), content, view)
    left, top, right, bottom = picture.box
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert picture.side == (32, 32)
    w, h, square = right - left, bottom - top, min(width, height)
    if (w, h) == (square, square) and left == (width - square) // 2 and top == (height - square) // 2:
        return  # the whole central square: where no crop fits, or by chance
    assert (w + 0.5) * (h + 0.5) >= low * width * height
    assert (w - 0.5) * (h - 0.5) <= high * width * height
    assert (w - 0.5) / (h + 0.5) <= 4 / 3
    assert (w + 0.5) / max(h - 0.5, 0.5) >= 3 / 4


def test_half_of_the_views_are_flipped_and_areas_are_spread_evenly() -> None:
    augmentation = Augmentation(views=2000, scale=(0.08, 0.5))  # of a square picture every such crop fits
    pictures = [view_of(augmentation, (300, 300), "one picture", view) for view in range(1, 2001)]
    assert 0.46 < np.mean([picture.flipped for picture in pictures]) < 0.54
    shares = [math.prod(np.subtract(p.box[2:], p.box[:2])) / 300**2 for p in pictures]
    ratios = [(p.box[2] - p.box[0]) / (p.box[3] - p.box[1]) for p in pictures]
    for share in (0.1, 0.5, 0.9):
        assert abs(np.quantile(shares, share) - (0.08 + 0.42 * share)) < 0.03
        assert abs(np.quantile(np.log(ratios), share) - math.log(4 / 3) * (2 * share - 1)) < 0.05
    assert abs(np.mean([p.box[0] + p.box[2] for p in pictures]) - 300) < 10
    assert abs(np.mean([p.box[1] + p.box[3] for p in pictures]) - 300) < 10


def random_picture(width: int = 21, height: int = 15) -> Image.Image:
    values = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def test_without_crop_and_without_flip() -> None:
    picture = random_picture()
    square = picture.crop((3, 0, 18, 15))
    mirrored = square.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    no_crop = Augmentation(views=20, scale=None)
    seen = {no_crop.make(picture, "x", view, 15).tobytes() for view in range(1, 21)}
    assert seen == {square.tobytes(), mirrored.tobytes()}
    no_flip = Augmentation(views=40, flip=False)
    assert not any(view_of(no_flip, (30, 30), "x", view).flipped for view in range(1, 41))


def test_view_zero_is_the_picture_itself() -> None:
    picture = random_picture()
    assert Augmentation(views=3).make(picture, "x", 0, 15) is picture


def test_a_view_depends_on_content_seed_and_number_alone() -> None:
    picture = random_picture()

    def view(views: int = 4, seed: int = 1, content: str = "x", number: int = 2) -> bytes:
        return Augmentation(views=views, seed=seed).make(picture, content, number, 15).tobytes()

    assert view() == view() == view(views=8)
    assert len({view(), view(seed=2), view(content="y"), view(number=3)}) == 4


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"views": -1}, "views is -1"),
        ({"views": 1, "scale": (0.0, 1.0)}, "crop scale"),
        ({"views": 1, "scale": (0.9, 0.5)}, "crop scale"),
        ({"views": 1, "scale": (0.5, 1.5)}, "crop scale"),
        ({"views": 1, "scale": None, "flip": False}, "neither crop nor flip"),
    ],
)
def test_views_that_make_no_sense_are_refused(wrong: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Augmentation(**wrong)


def test_only_training_pictures_get_views_and_more_views_begin_with_fewer(
    tiny_images: Path, tmp_path: Path
) -> None:
    dataset = load_dataset(tiny_images)
    backbone = PaintBackbone()
    four = compute_features(dataset, backbone, augmentation=Augmentation(views=4), cache=tmp_path / "four")
    images = {split: len(dataset.only(split)) for split in ("train", "val", "test")}
    assert four.train.vectors.shape == (images["train"], 5, backbone.embed_dim)
    assert four.val.vectors.shape == (images["val"], 1, backbone.embed_dim)
    assert four.test.vectors.shape == (images["test"], 1, backbone.embed_dim)
    assert backbone.encoded == 5 * images["train"] + images["val"] + images["test"]
    for row, path in enumerate(four.train.paths):
        torch.testing.assert_close(four.train.plain[row], backbone.directly(path), atol=1e-5, rtol=0)
    assert len({tuple(vector.tolist()) for vector in four.train.vectors[0]}) == 5

    eight = compute_features(dataset, backbone, augmentation=Augmentation(views=8), cache=tmp_path / "eight")
    torch.testing.assert_close(eight.train.vectors[:, :5], four.train.vectors, atol=1e-6, rtol=0)

    before = backbone.encoded
    both = compute_features(dataset, backbone, augmentation=Augmentation(views=8), cache=tmp_path / "four")
    assert backbone.encoded - before == 4 * images["train"]
    assert torch.equal(both.train.vectors[:, :5], four.train.vectors)


def test_a_files_name_changes_no_view(tmp_path: Path) -> None:
    vectors = []
    for name in ("a", "some other name"):
        for label, colour in (("dark", 30), ("light", 220)):
            (tmp_path / name / "train" / label).mkdir(parents=True)
            picture = random_picture().point(lambda value, colour=colour: (value + colour) // 2)
            picture.save(tmp_path / name / "train" / label / f"{name}.png")
            (tmp_path / name / "test" / label).mkdir(parents=True)
            picture.rotate(90).save(tmp_path / name / "test" / label / f"{name}.png")
        (tmp_path / name / "split.csv").write_text(
            "path,label,split\n"
            + "".join(f"{s}/{c}/{name}.png,{c},{s}\n" for s in ("train", "test") for c in ("dark", "light"))
        )
        dataset = load_dataset(tmp_path / name, needs=("train", "test"))
        features = compute_features(
            dataset, PaintBackbone(), augmentation=Augmentation(views=3), cache=tmp_path / f"cache {name}"
        )
        vectors.append(features.train.vectors)
    assert torch.equal(*vectors)
