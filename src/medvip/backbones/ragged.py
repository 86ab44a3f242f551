"""Texts of different lengths, one behind the other: rows without padding, and who sees whom.

Nearly all the work of a transformer is done on each token by itself, so it takes tokens as rows
and needs no padding. Only attention looks from row to row: for it alone the rows of each text are
picked out, padded to the longest text of about the same length, and put back.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

SMALLEST_BLOCK = 16
"""Texts that are padded together however their lengths differ: fewer are not worth a call."""

SHORTER = 0.75
"""Beyond the smallest block, a text shorter than this part of the longest starts a new one."""


class Block(NamedTuple):
    """Some texts of about the same length, padded, for attention.

    Attributes
    ----------
    texts, queries, keys
        How many texts, queries a text and keys a text, padding included.
    mask
        What is added to the scores: 0, and minus infinity where a query does not see a key.
    """

    texts: int
    queries: int
    keys: int
    mask: Float[Tensor, "text 1 query key"]


class Pattern(NamedTuple):
    """Which rows are queries, keys and values, and of which texts.

    Attributes
    ----------
    picked
        For each block its queries, keys and values: rows of what `attend` is given, the constant
        key and value in front.
    blocks
        All texts, those of about the same length together.
    back
        For each query that is no padding, in the order of the rows: where the blocks have it.
    heads
        Into how many parts each row is cut.
    """

    picked: Int[Tensor, " padded"]
    blocks: tuple[Block, ...]
    back: Int[Tensor, " query"]
    heads: int


class RaggedTexts:
    """Where the rows of each text stand, and which rows each of them attends to.

    A run's rows are those that all its texts see, and behind these text after text:
    ``[shared | text 1 | text 2 | ...]``. Further runs follow, with other numbers in the same places.

    Parameters
    ----------
    lengths
        Rows of each text, at least one.
    causal
        Whether a row sees nothing behind it.
    shared
        Rows that stand before every text and are there once a run. They see each other and no text.
    start
        Whether one constant row stands before everything, and everything sees it. It is not among
        the rows: `attend` is given its key and value.
    runs
        How often all of it is there.
    heads
        Into how many parts each row is cut, which attend for themselves.
    like
        Of the type and on the device of what will be attended.

    Attributes
    ----------
    rows
        How many, all runs together.
    last
        Each text's last row, run after run.

    Examples
    --------
    >>> texts = RaggedTexts([2, 3], heads=4, shared=1, runs=2, like=torch.empty(0))
    >>> texts.rows, texts.last.tolist()
    (12, [2, 5, 8, 11])
    """

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        heads: int,
        like: Tensor,
        causal: bool = True,
        shared: int = 0,
        start: bool = False,
        runs: int = 1,
    ) -> None:
        self._shared, self._start, self._causal = shared, start, causal
        self._heads, self._like = heads, like.new_empty(0)
        own = torch.tensor(lengths)
        rows_a_run = shared + int(own.sum())
        self.rows = runs * rows_a_run
        run = (torch.arange(runs) * rows_a_run)[:, None]
        self._texts = _Places(
            first=(run + shared + own.cumsum(0) - own).flatten(),
            length=own.repeat(runs),
            run=run.expand(-1, len(own)).flatten(),
        )
        self._of_shared = _Places(run[:, 0], torch.full((runs,), shared), run[:, 0])
        self.last = (self._texts.first + self._texts.length - 1).to(like.device)

    @cached_property
    def every_row(self) -> Pattern:
        """All rows attend. `attend` wants query, key and value of each row, one behind the other."""
        places = self._texts
        if self._shared:  # among themselves they are one text more
            places = _Places(*map(torch.cat, zip(self._of_shared, places, strict=True)))
        return self._pattern(places, every=True)

    @cached_property
    def last_rows(self) -> Pattern:
        """Each text's last row attends. `attend` wants their queries, then key and value of each row."""
        return self._pattern(self._texts, every=False)

    def _pattern(self, places: _Places, *, every: bool) -> Pattern:
        constant = int(self._start)
        first_row = 2 * constant + (0 if every else len(places.first))  # behind what stands before the rows
        blocks, picked, asked = [], [], []
        for chosen in _of_like_length(places.length):
            first, length, run = (numbers[chosen, None] for numbers in places)
            own = torch.arange(int(length.max()))
            rows = first + torch.where(own < length, own, 0)
            keys = torch.cat([run + torch.arange(self._shared), rows], dim=1)
            keys = first_row + (3 * keys + 1 if every else 2 * keys)
            keys = nn.functional.pad(keys, (constant, 0))  # the constant row's key is the first of all
            if every:
                asking, queries = own.expand_as(rows), first_row + 3 * rows
                asked.append(torch.where(own < length, rows, -1))
            else:
                asking, queries = length - 1, 2 * constant + chosen[:, None]
                asked.append(chosen[:, None])
            picked += [queries, keys, keys + 1]
            mask = self._mask(own, length, asking, is_text=first > run)
            blocks.append(Block(len(chosen), asking.shape[1], keys.shape[1], mask.to(self._like.device)))
        asked = torch.cat([part.flatten() for part in asked])  # -1 is padding
        somewhere = (asked >= 0).nonzero()[:, 0]
        back = torch.empty_like(somewhere)
        back[asked[somewhere]] = somewhere
        indices, device = torch.cat([part.flatten() for part in picked]), self._like.device
        return Pattern(indices.to(device), tuple(blocks), back.to(device), self._heads)

    def _mask(
        self,
        own: Int[Tensor, " own"],
        length: Int[Tensor, "text 1"],
        asking: Int[Tensor, "text query"],
        is_text: Bool[Tensor, "text 1"],
    ) -> Float[Tensor, "text 1 query key"]:
        """0 for the constant row, the shared rows before a text and what a query sees of its own text."""
        of_own = (own < length)[:, None].expand(-1, asking.shape[1], -1)
        if self._causal:
            of_own = of_own & (own <= asking[..., None])
        of_constant = torch.ones(*of_own.shape[:2], int(self._start), dtype=torch.bool)
        of_shared = is_text[..., None].expand(-1, asking.shape[1], self._shared)
        seen = torch.cat([of_constant, of_shared, of_own], dim=2)
        mask = torch.zeros(seen.shape, dtype=self._like.dtype).masked_fill(~seen, -torch.inf)
        return mask[:, None]


class _Places(NamedTuple):
    """Of each text its first row, its number of rows, and the first row of its run."""

    first: Int[Tensor, " text"]
    length: Int[Tensor, " text"]
    run: Int[Tensor, " text"]


def attend(
    rows: Float[Tensor, "row width"], pattern: Pattern, constant: Float[Tensor, "2 width"] | None = None
) -> Float[Tensor, "query width"]:
    """What each query finds: softmax(q k^T / sqrt(width of a head)) v, in each head, in its text.

    Parameters
    ----------
    rows
        Queries, keys and values as `pattern` wants them.
    pattern
        Of `RaggedTexts`.
    constant
        Key and value of the constant row where there is one; no gradients flow to it.
    """
    width = rows.shape[1]
    rows = rows if constant is None else torch.cat([constant, rows])
    lengths = [block.texts * n for block in pattern.blocks for n in (block.queries, block.keys, block.keys)]
    parts = iter(rows.index_select(0, pattern.picked).split(lengths))
    found = []
    for block in pattern.blocks:
        q, k, v = (next(parts).view(block.texts, -1, pattern.heads, width // pattern.heads) for _ in range(3))
        seen = nn.functional.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=block.mask
        )
        found.append(seen.transpose(1, 2).reshape(-1, width))
    return (found[0] if len(found) == 1 else torch.cat(found)).index_select(0, pattern.back)


def without_padding(
    states: Float[Tensor, "text token width"], lengths: Int[Tensor, " text"]
) -> Float[Tensor, "row width"]:
    """The first states of each text, as many as it is long, one text behind the other.

    Examples
    --------
    >>> without_padding(torch.arange(6.0).view(2, 3, 1), torch.tensor([1, 2]))[:, 0].tolist()
    [0.0, 3.0, 4.0]
    """
    there = torch.arange(states.shape[1], device=lengths.device) < lengths[:, None]
    return states.flatten(0, 1).index_select(0, there.flatten().nonzero()[:, 0])


def parts_of_rows(lengths: Sequence[int], most: int) -> list[slice]:
    """Texts one after the other in parts of at most so many rows, at least one text each.

    Examples
    --------
    >>> parts_of_rows([3, 3, 9, 1, 2], 6)
    [slice(0, 2, None), slice(2, 3, None), slice(3, 5, None)]
    """
    parts, start, rows = [], 0, 0
    for text, length in enumerate(lengths):
        if text > start and rows + length > most:
            parts.append(slice(start, text))
            start, rows = text, 0
        rows += length
    return [*parts, slice(start, len(lengths))]


def in_parts(calls: Sequence[tuple[Any, ...]], learning: bool) -> list[Tensor]:
    """What each function gives for its arguments.

    Of several that learn, only the arguments are kept: each is called again on the way back.

    Examples
    --------
    >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> sum(in_parts([(torch.exp, x[:1]), (torch.square, x[1:])], learning=True)).sum().backward()
    >>> x.grad.tolist()
    [2.7182817459106445, 4.0]
    """
    if len(calls) == 1 or not learning:
        return [function(*given) for function, *given in calls]
    return [checkpoint(*call, use_reentrant=False, preserve_rng_state=False) for call in calls]


def _of_like_length(lengths: Int[Tensor, " text"]) -> list[Int[Tensor, " some"]]:
    """All texts in blocks, the longest first.

    Examples
    --------
    >>> [part.tolist() for part in _of_like_length(torch.tensor([3, 9, 4] + 16 * [9]))]
    [[1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18], [2, 0]]
    """
    order = lengths.argsort(descending=True, stable=True)
    blocks, start = [], 0
    for at, length in enumerate(lengths[order].tolist()):
        if at - start >= SMALLEST_BLOCK and length < SHORTER * int(lengths[order[start]]):
            blocks.append(order[start:at])
            start = at
    return [*blocks, order[start:]]
