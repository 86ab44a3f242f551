"""The vectors of a data set's pictures, with all that training and evaluation need of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
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

    @property
    def views(self) -> int:
        """How many views each picture has, the plain one included."""
        return self.vectors.shape[1]

    def on(self, device: torch.device) -> FeatureTable:
        """The same with vectors and labels on that device."""
        return replace(self, vectors=self.vectors.to(device), labels=self.labels.to(device))

    def taken(self, positions: Int[np.ndarray, "row"]) -> FeatureTable:
        """Some of the images, in the order of `positions`."""
        index = torch.as_tensor(positions, device=self.vectors.device)
        return replace(self, vectors=self.vectors[index], **some_images(self, positions))

    def batches(
        self, order: Int[Tensor, " image"], view: Int[Tensor, " image"], size: int
    ) -> Iterator[tuple[Float[Tensor, "batch dim"], Int[Tensor, " batch"]]]:
        """Vectors and labels of all pictures in `order`, image i in its view ``view[i]``."""
        order, view = order.to(self.labels.device), view.to(self.labels.device)
        for batch in order.split(size):
            yield self.vectors[batch, view[batch]], self.labels[batch]

    def parts(self) -> Iterator[Float[Tensor, "image dim"]]:
        """`plain`, in as many parts as memory asks for: one."""
        yield self.plain


def some_images(table: Any, positions: Int[np.ndarray, "row"]) -> dict[str, Any]:
    """What a table of either kind says of some of its images, as `dataclasses.replace` takes it."""
    index = torch.as_tensor(positions, device=table.labels.device)
    texts = {name: getattr(table, name) for name in ("paths", "groups", "contents")}
    some = {name: tuple(of_each[position] for position in positions) for name, of_each in texts.items()}
    return {"labels": table.labels[index], **some}


@dataclass(frozen=True)
class Features:
    """The three splits of one data set, seen by one backbone."""

    train: FeatureTable
    val: FeatureTable
    test: FeatureTable
