"""What the text encoder makes of learned vectors: computed once for each value, for many runs at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


def go_back(made: Float[Tensor, "*made"], gradient: Float[Tensor, "*made"]) -> None:
    """Leave gradients in all that `made` was made of.

    As ``made.backward(gradient)``, which imports a computer algebra system when it is first called.
    """
    (made * gradient).sum().backward()


class EncodedOnce:
    """Encodes again only where the learned vectors have changed since.

    An epoch's validation looks at the very vectors that the next step starts from, so its encoding
    serves that step, too: where an epoch is one step, that is a third less to compute. Vectors that
    nothing is learned for are encoded once in all. The numbers are the same to the bit.

    Whether a tensor has changed is told by torch's count of its changes, so that no device has to
    be waited for. Changes through ``.data`` and by a fused optimiser of torch are not counted;
    those by `FewRowsSGD` are.

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
        self._of: tuple[Float[Tensor, "*learned"], Any] | None = None
        self._made: Float[Tensor, "*made"] | None = None
        self._fresh = False

    def __call__(
        self, learned: Float[Tensor, "*learned"], encode: Callable[[], Float[Tensor, "*made"]]
    ) -> Float[Tensor, "*made"]:
        """What `encode` gives for the present values of `learned`; detached where no gradient is wanted."""
        if self.lacks(learned):
            with torch.enable_grad():
                self.put(learned, encode())
        assert self._made is not None
        if not torch.is_grad_enabled():
            return self._made.detach()
        made, self._made = self._made, self._made.detach()
        self._fresh = not made.requires_grad
        return made

    def lacks(self, learned: Float[Tensor, "*learned"]) -> bool:
        """Whether a call now would encode."""
        if self._of is None or self._of[0] is not learned or self._of[1] != _state(learned):
            return True
        # The way back can be gone once only: a graph that was handed out is not handed out again.
        return torch.is_grad_enabled() and not self._fresh

    def put(self, learned: Float[Tensor, "*learned"], made: Float[Tensor, "*made"]) -> None:
        """What was made of the present values of `learned`, by whomever."""
        self._of, self._made, self._fresh = (learned, _state(learned)), made, True


def _state(learned: Tensor) -> tuple[int, torch.dtype, torch.device]:
    return learned._version, learned.dtype, learned.device


class Prompted(nn.Module):
    """A model whose learned vectors go through a frozen text encoder, by itself or along with other runs'.

    A model says which vectors these are, and how those of several runs are encoded.
    """

    def __init__(self) -> None:
        super().__init__()
        self._once = EncodedOnce()

    def learned_vectors(self) -> Float[Tensor, "*learned"]:
        """What is learned in front of the text encoder: the very same tensor each time."""
        raise NotImplementedError

    def encode_runs(self, learned: Float[Tensor, "run *learned"]) -> Float[Tensor, "run *made"]:
        """What the text encoder makes of the learned vectors of runs that are alike."""
        raise NotImplementedError

    def encoded(self) -> Float[Tensor, "*made"]:
        """What the text encoder makes of the present vectors."""
        learned = self.learned_vectors()
        return self._once(learned, lambda: self.encode_runs(learned[None])[0])

    def to_encode(self) -> Float[Tensor, "*learned"] | None:
        """What the next call of the model will encode, if anything; it may be given by `take` instead."""
        learned = self.learned_vectors()
        return learned if self._once.lacks(learned) else None

    def take(self, made: Float[Tensor, "*made"]) -> None:
        """What was made of the present vectors. Gradients flow to `made`."""
        self._once.put(self.learned_vectors(), made)
