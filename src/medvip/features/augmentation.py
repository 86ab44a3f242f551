"""Augmented views: random resized crop and horizontal flip, the same each time they are made."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from medvip.errors import UsageError

PLAIN = "plain"
_RATIO = (3 / 4, 4 / 3)
_TRIES = 10


@dataclass(frozen=True)
class Augmentation:
    """How the views of a training picture are made.

    A view depends on the picture's content, the seed and the view's number alone, so renaming
    or re-splitting changes none, and the views of ``views=4`` are the first of ``views=8``.

    Attributes
    ----------
    views
        Augmented views of each training picture, beside the plain one. 0: none.
    scale
        Share of the picture's area that a crop takes, (smallest, largest). The reference's
        (0.08, 1.0) can cut a lesion away. None: no crop.
    flip
        Whether half of the views are mirrored left to right. Off for pictures in which sides
        matter: a mirrored chest X-ray has its heart on the right.
    seed
        Of crops and flips.
    """

    views: int = 0
    scale: tuple[float, float] | None = (0.08, 1.0)
    flip: bool = True
    seed: int = 1

    def __post_init__(self) -> None:
        if self.views < 0:
            raise UsageError(f"views is {self.views}", fix="use 0 or more views")
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise UsageError(f"crop scale is {self.scale}", fix="use 0 < first <= second <= 1")
        if self.views > 0 and self.scale is None and not self.flip:
            raise UsageError(
                "augmented views are asked for with neither crop nor flip: all would be the plain picture",
                fix="leave one of them on, or ask for 0 views",
            )

    def key(self, view: int) -> str:
        """Name of a view's folder in the cache; view 0 is the plain picture."""
        if view == 0:
            return PLAIN
        crop = "none" if self.scale is None else f"{float(self.scale[0])}-{float(self.scale[1])}"
        return f"crop_{crop}_flip_{int(self.flip)}_seed_{self.seed}_view_{view}"

    def make(self, picture: Image.Image, content: str, view: int, side: int) -> Image.Image:
        """One view: the picture itself for view 0, else a square of `side` pixels."""
        if view == 0:
            return picture
        seed = hashlib.sha256(f"{content} {self.seed} {view}".encode()).digest()
        random = np.random.default_rng(int.from_bytes(seed[:8], "little"))
        box = (
            _whole_square(picture.size)
            if self.scale is None
            else _random_box(picture.size, self.scale, random)
        )
        squared = picture.resize((side, side), Image.Resampling.BICUBIC, box=box)
        if self.flip and random.random() < 0.5:
            return squared.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return squared


def _random_box(
    size: tuple[int, int], scale: tuple[float, float], random: np.random.Generator
) -> tuple[int, int, int, int]:
    """Random resized crop (Szegedy et al. 2015): area uniform, aspect ratio log-uniform in 3/4..4/3."""
    width, height = size
    for _ in range(_TRIES):
        area = width * height * random.uniform(*scale)
        ratio = math.exp(random.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(random.integers(0, width - w + 1)), int(random.integers(0, height - h + 1))
            return left, top, left + w, top + h
    return _whole_square(size)


def _whole_square(size: tuple[int, int]) -> tuple[int, int, int, int]:
    width, height = size
    side = min(size)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side
