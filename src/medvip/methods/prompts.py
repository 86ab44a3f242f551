"""Symptoms as the text encoder reads them, whether they fit, and those of a class side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from medvip.backbones import Backbone
from medvip.errors import UsageError
from medvip.symptoms import SymptomSet, check_symptoms, require_usable

FULL_STOPS = ".…。．｡।۔"  # noqa: RUF001
"""What ends a sentence that only states something: Latin (also as dots in a row), East Asian, Hindi, Urdu."""


def closed(text: str) -> str:
    """The text with a full stop at its end, as the paper's released code closes every symptom.

    Blanks at the end go: they are no part of what is said. What ends in a full stop already, of
    whichever script, stays as it is; the release would double it. ``!``, ``?``, brackets and
    quotation marks are no full stops, so one is put behind them, as the release does.

    Examples
    --------
    >>> closed("ragged edge"), closed("ragged edge. "), closed("is the edge ragged?"), closed("边缘清晰。")
    ('ragged edge.', 'ragged edge.', 'is the edge ragged?.', '边缘清晰。')
    """
    bare = text.rstrip()
    return bare if bare.endswith(tuple(FULL_STOPS)) else f"{bare}."


def as_read(texts: Iterable[str], *, full_stop: bool) -> tuple[str, ...]:
    """Symptoms as the text encoder reads them: `closed`, or as they are written.

    Examples
    --------
    >>> as_read(["ragged edge"], full_stop=True), as_read(["ragged edge"], full_stop=False)
    (('ragged edge.',), ('ragged edge',))
    """
    return tuple(closed(text) if full_stop else text for text in texts)


def require_symptoms(method: str, symptoms: SymptomSet | None) -> SymptomSet:
    """Raise `UsageError` where a method that needs symptoms has none."""
    if symptoms is None:
        raise UsageError(
            f"the method {method!r} needs symptoms",
            fix="pass --symptoms with a file or a ready-made set's name",
        )
    return symptoms


def require_fitting(
    symptoms: SymptomSet, backbone: Backbone, context: int, *, full_stop: bool = False
) -> None:
    """Refuse symptoms that a method cannot use, before anything is computed from them.

    Raises
    ------
    SymptomError
        A symptom is empty, doubled in its class, or too long for the text encoder together with
        `context` learned vectors and, with `full_stop`, the full stop.
    """
    require_usable(
        check_symptoms(
            symptoms,
            count_tokens=lambda text: int(backbone.tokenize(as_read([text], full_stop=full_stop)).end[0]) + 1,
            context_length=backbone.context_length,
            context=context,
        )
    )


def padded_by_class(
    vectors: Float[Tensor, "text dim"], counts: Sequence[int]
) -> tuple[Float[Tensor, "class symptom dim"], Bool[Tensor, "class symptom"]]:
    """Vectors of all symptoms, class after class, as one block; zeros where a class has fewer.

    Returns the block, and where a symptom stands.

    Examples
    --------
    >>> block, present = padded_by_class(torch.ones(3, 2), [1, 2])
    >>> block.shape, present.tolist()
    (torch.Size([2, 2, 2]), [[True, False], [True, True]])
    """
    present, places = places_by_class(counts)
    return padded(vectors, present.to(vectors.device), places.to(vectors.device))


def places_by_class(counts: Sequence[int]) -> tuple[Bool[Tensor, "class symptom"], Int[Tensor, " text"]]:
    """Where symptoms stand in a block of all classes, and each one's place in it, row after row.

    Examples
    --------
    >>> present, places = places_by_class([1, 2])
    >>> present.tolist(), places.tolist()
    ([[True, False], [True, True]], [0, 2, 3])
    """
    present = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    return present, present.flatten().nonzero()[:, 0]


def padded(
    vectors: Float[Tensor, "text dim"],
    present: Bool[Tensor, "class symptom"],
    places: Int[Tensor, " text"],
) -> tuple[Float[Tensor, "class symptom dim"], Bool[Tensor, "class symptom"]]:
    """`padded_by_class` where the places are known: without waiting for the device to say them."""
    block = vectors.new_zeros(present.numel(), vectors.shape[-1]).index_copy(0, places, vectors)
    return block.unflatten(0, present.shape), present
