"""Pictures to vectors, computed once, kept, never recomputed."""

from medvip.features.augmentation import Augmentation
from medvip.features.extraction import compute_features, encode_paths
from medvip.features.table import Features, FeatureTable

__all__ = ["Augmentation", "FeatureTable", "Features", "compute_features", "encode_paths"]
