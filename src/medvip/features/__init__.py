"""Pictures to vectors, computed once, kept, never recomputed; or to pixels, for what needs those."""

from medvip.features.augmentation import Augmentation
from medvip.features.extraction import compute_features, encode_paths
from medvip.features.picture_table import (
    Pictures,
    PictureTable,
    open_pictures,
    read_pixels,
    require_pictures,
)
from medvip.features.table import Features, FeatureTable

Table = FeatureTable | PictureTable
"""What a method learns from: vectors or pixels. Both are read the same way by the training loop."""

__all__ = [
    "Augmentation",
    "FeatureTable",
    "Features",
    "PictureTable",
    "Pictures",
    "Table",
    "compute_features",
    "encode_paths",
    "open_pictures",
    "read_pixels",
    "require_pictures",
]
