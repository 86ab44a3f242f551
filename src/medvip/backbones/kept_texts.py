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

    What is made must not hold the tokens themselves, or they are never let go.

    Examples
    --------
    >>> tokens, end, made, kept = torch.ones(2, 3, 4), torch.tensor([2, 1]), [], KeptTexts()
    >>> def make():
    ...     made.append(1)
    ...     return len(made)
    >>> kept.of(tokens, end, make), kept.of(tokens, end, make), kept.of(tokens.mul_(2), end, make)
    (1, 1, 2)
    """

    def __init__(self) -> None:
        self._made: Any = WeakTensorKeyDictionary()

    def __len__(self) -> int:
        return len(self._made)

    @torch.no_grad()
    def of(
        self,
        tokens: Float[Tensor, "text token token_dim"],
        end: Int[Tensor, " text"],
        make: Callable[[], Made],
    ) -> Made:
        """What was made of these embedded tokens and end positions, or is made now."""
        if tokens in self._made:
            made, version, its_end, its_version = self._made[tokens]
            unchanged = tokens._version == version and its_end._version == its_version
            if unchanged and (its_end is end or torch.equal(its_end, end)):
                return made
        made = make()
        self._made[tokens] = made, tokens._version, end, end._version
        return made
