"""Room 1: files -> pictures with labels, groups and splits."""

from __future__ import annotations

from medvip.images.hashing import content_hash
from medvip.images.loading import load_dataset
from medvip.images.pictures import MAX_PIXELS, READER_VERSION, read_picture
from medvip.images.shots import few_shot
from medvip.images.splitting import split_dataset

__all__ = [
    "MAX_PIXELS",
    "READER_VERSION",
    "content_hash",
    "few_shot",
    "load_dataset",
    "read_picture",
    "split_dataset",
]
