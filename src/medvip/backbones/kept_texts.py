"""What follows from texts alone, whatever is learned in front of them: made once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

Made = TypeVar("Made")


class KeptTexts(Generic[Made]):
    """Keeps what was made of texts as long as their tokens are there and unchanged.

    Parameters
    ----------
    make
        From embedded tokens [text, token, token_dim] and end positions [text].

    Examples
    --------
    >>> tokens, end, made = torch.ones(2, 3, 4), torch.tensor([2, 1]), []
    >>> kept = KeptTexts(lambda tokens, end: made.append(1) or len(made))
    >>> [kept.of(tokens, end), kept.of(tokens, end), kept.of(tokens.mul_(2), end), len(kept)]
    [1, 1, 2, 1]
    """

    def __init__(self, make: Callable[[Tensor, Tensor], Made]) -> None:
        self._make = make
        self._made: Any = WeakTensorKeyDictionary()

    def __len__(self) -> int:
        return len(self._made)

    @torch.no_grad()
    def of(self, tokens: Float[Tensor, "text token token_dim"], end: Int[Tensor, " text"]) -> Made:
        """What was made of these, or is made now."""
        versions = tokens._version, end._version
        if tokens in self._made:
            made, its_end, its_versions = self._made[tokens]
            if its_versions == versions and (its_end is end or torch.equal(its_end, end)):
                return made
        made = self._make(tokens, end)
        self._made[tokens] = made, end, versions
        return made
