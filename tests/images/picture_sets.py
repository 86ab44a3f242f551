"""Small sets of pictures on disk, for tests of how data folders are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvip.errors import MedvipError
from medvip.images import load_dataset
from medvip.types import SPLITS, ImageDataset


class Painter:
    """Makes pictures, no two alike unless asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made = folder, 0

    def __call__(self, path: str, *, content: int | None = None) -> str:
        self.made += 1
        number = content if content is not None else self.made
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng([number, content is None]).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).save(file)
        return path

    def many(self, pattern: str, number: int) -> list[str]:
        return [self(pattern.format(i)) for i in range(number)]

    def table(self, *lines: str, name: str = "split.csv") -> None:
        (self.folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def counts(dataset: ImageDataset) -> list[list[int]]:
    return [list(dataset.only(split).counts().values()) for split in SPLITS]


def refused(kind: type[MedvipError], data: Path, **options) -> str:
    with pytest.raises(kind) as caught:
        load_dataset(data, **options)
    assert "\n" not in str(caught.value)
    assert " (to mend it: " in str(caught.value)
    return str(caught.value)
