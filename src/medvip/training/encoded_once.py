"""What the text encoder makes of learned vectors, computed once for each of their values."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


class EncodedOnce:
    """Encodes again only where the learned vectors have changed since.

    An epoch's validation looks at the very vectors that the next step starts from, so its encoding
    serves that step, too: where an epoch is one step, that is a third less to compute. Vectors that
    nothing is learned for are encoded once in all. The numbers are the same to the bit.

    Examples
    --------
    >>> learned, made, encoded = torch.nn.Parameter(torch.ones(2)), [], EncodedOnce()
    >>> def encode():
    ...     made.append(learned * 2)
    ...     return made[-1]
    >>> with torch.no_grad():
    ...     _ = encoded(learned, encode), encoded(learned, encode)
    >>> encoded(learned, encode).sum().backward()  # back through the encoding of the validation
    >>> len(made), learned.grad.tolist()
    (1, [2.0, 2.0])
    """

    def __init__(self) -> None:
        self._of: Float[Tensor, "*learned"] | None = None
        self._made: Float[Tensor, "*made"] | None = None
        self._fresh = False

    def __call__(
        self, learned: Float[Tensor, "*learned"], encode: Callable[[], Float[Tensor, "*made"]]
    ) -> Float[Tensor, "*made"]:
        """What `encode` gives for the present values of `learned`; detached where no gradient is wanted."""
        wanted = torch.is_grad_enabled()
        known = self._made is not None and self._of is not None and torch.equal(self._of, learned)
        # The way back can be gone once only: a graph that was handed out is not handed out again.
        if not known or (wanted and not self._fresh):
            with torch.enable_grad():
                self._made = encode()
            self._of, self._fresh = learned.detach().clone(), True
        assert self._made is not None
        if not wanted:
            return self._made.detach()
        made, self._made = self._made, self._made.detach()
        self._fresh = not made.requires_grad
        return made
