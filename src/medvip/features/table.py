"""The vectors of a data set's pictures, with all that training and evaluation need of them."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class FeatureTable:
    """Vectors of the pictures of one split.

    Attributes
    ----------
    vectors
        As the backbone gives them, not normalised. View 0 is the plain picture; the views
        behind it, if any, are augmented.
    labels
        Class of each image, as a position in `classes`.
    classes
        Class names, sorted.
    paths, groups, contents
        Of each image: its path, its group (its path where no group is known), and the hash of
        its content.
    fingerprint
        Of the backbone that made the vectors.
    """

    vectors: Float[Tensor, "image view dim"]
    labels: Int[Tensor, " image"]
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    groups: tuple[str, ...]
    contents: tuple[str, ...]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def plain(self) -> Float[Tensor, "image dim"]:
        """The vectors of the pictures as they are."""
        return self.vectors[:, 0]


@dataclass(frozen=True)
class Features:
    """The three splits of one data set, seen by one backbone."""

    train: FeatureTable
    val: FeatureTable
    test: FeatureTable
