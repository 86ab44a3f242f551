"""A quick stand-in for a backbone: a fixed random projection of the pixels. It counts its work.

Run as a program it computes the features of a folder, for the tests that need another process:
``paint_backbone.py IMAGES CACHE OUT VIEWS SECONDS_A_BATCH [FILE_TO_WAIT_FOR]``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from medvip.backbones import Tokens

SIDE, DIM = 6, 5


class PaintBackbone:
    name = "paint"
    image_size = SIDE
    embed_dim = DIM
    token_dim = 4
    context_length = 20
    start_tokens = 1
    logit_scale = 3.0
    device = torch.device("cpu")

    def __init__(self, fingerprint: str = "paint one", seconds: float = 0.0) -> None:
        self.fingerprint, self.seconds = fingerprint, seconds
        seed = sum(fingerprint.encode())
        self.matrix = torch.randn(3 * SIDE * SIDE, DIM, generator=torch.Generator().manual_seed(seed))
        self.encoded, self.preprocessed = 0, 0

    def preprocess(self, picture: Image.Image, *, framed: bool = False) -> torch.Tensor:
        assert not framed or picture.size == (SIDE, SIDE), "views come in the encoder's size"
        assert picture.mode == "RGB"
        self.preprocessed += 1
        pixels = np.asarray(picture.resize((SIDE, SIDE)), dtype=np.float32)
        return torch.from_numpy(pixels / 255 - 0.5).permute(2, 0, 1)

    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        self.encoded += int(pixels.flatten(1).any(1).sum())  # without the blank ones that fill a batch
        time.sleep(self.seconds)
        return pixels.flatten(1) @ self.matrix

    def directly(self, path: str | Path) -> torch.Tensor:
        """What the vector of a file has to be; counts nothing."""
        with Image.open(path) as opened:
            pixels = np.asarray(opened.convert("RGB").resize((SIDE, SIDE)), dtype=np.float32)
        return torch.from_numpy(pixels / 255 - 0.5).permute(2, 0, 1).flatten() @ self.matrix

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        raise AssertionError("no text is encoded here")

    def embed_tokens(self, ids: torch.Tensor) -> torch.Tensor:
        raise AssertionError("no text is encoded here")

    def encode_tokens(self, embeddings: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        raise AssertionError("no text is encoded here")


def main(images: str, cache: str, out: str, views: str, seconds: str, wait_for: str = "") -> None:
    from medvip.features import Augmentation, compute_features, extraction
    from medvip.images import load_dataset

    extraction.BATCH, extraction.KEEP_SECONDS = 4, 0.0
    dataset = load_dataset(images)
    Path(f"{out}.ready").touch()
    while wait_for and not Path(wait_for).exists():
        time.sleep(0.01)
    features = compute_features(
        dataset,
        PaintBackbone(seconds=float(seconds)),
        augmentation=Augmentation(views=int(views)),
        cache=Path(cache),
        workers=1,
    )
    torch.save({"train": features.train.vectors, "test": features.test.vectors}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
