"""What the methods on frozen vectors share: unit length, class means, no class without images."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from medvip.errors import TrainingError
from medvip.features import Table


def unit(vectors: Float[Tensor, "*any dim"]) -> Float[Tensor, "*any dim"]:
    """Vectors of length 1, in double precision.

    Examples
    --------
    >>> unit(torch.tensor([[3.0, 4.0]])).tolist()
    [[0.6, 0.8]]
    """
    return nn.functional.normalize(vectors.double(), dim=-1)


def rooted(vectors: Float[Tensor, "*any dim"], power: float | Float[Tensor, ""]) -> Float[Tensor, "*any dim"]:
    """sign(x) |x|^power of each number, in double precision.

    Examples
    --------
    >>> rooted(torch.tensor([4.0, -4.0]), 0.5).tolist()
    [2.0, -2.0]
    """
    vectors = vectors.double()
    return vectors.sign() * vectors.abs() ** power


def class_sums(
    vectors: Float[Tensor, "image dim"], labels: Int[Tensor, " image"], classes: int
) -> Float[Tensor, "class dim"]:
    """Sum of each class's vectors.

    Examples
    --------
    >>> class_sums(torch.tensor([[1.0], [2.0], [5.0]]), torch.tensor([0, 0, 1]), 2).tolist()
    [[3.0], [5.0]]
    """
    return one_hot(labels, classes).to(vectors.dtype).T @ vectors


def class_means(
    vectors: Float[Tensor, "image dim"], labels: Int[Tensor, " image"], classes: int
) -> Float[Tensor, "class dim"]:
    """Mean of each class's vectors; every class has to have some.

    Examples
    --------
    >>> class_means(torch.tensor([[1.0], [2.0], [5.0]]), torch.tensor([0, 0, 1]), 2).tolist()
    [[1.5], [5.0]]
    """
    counts = torch.bincount(labels, minlength=classes)
    return class_sums(vectors, labels, classes) / counts[:, None]


def one_hot(labels: Int[Tensor, " image"], classes: int) -> Float[Tensor, "image class"]:
    """1 in the column of each image's class, in double precision."""
    return nn.functional.one_hot(labels, classes).double()


def require_every_class(train: Table) -> None:
    """Raise `TrainingError` unless there are training images of every class."""
    counts = torch.bincount(train.labels.cpu(), minlength=len(train.classes)).tolist()
    if missing := [name for name, count in zip(train.classes, counts, strict=True) if count == 0]:
        raise TrainingError(
            f"there is no training image of: {', '.join(missing)}",
            fix="give training images of every class, or leave the class out of the data set",
        )
