"""A linear layer that learns nothing: its weights are packed once for the processor.

For the way there, and, turned, for the way back; see `medvip.products`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from medvip.products import multiply, packed


class FrozenLinear:
    """x W^T + b, or that and a term `add`; gradients flow to x and `add`, none to W and b.

    Parameters
    ----------
    weight, bias
        As of `torch.nn.Linear`. Changing them later changes nothing here where they were packed.

    Examples
    --------
    >>> layer = FrozenLinear(torch.tensor([[1.0, 2.0]]), torch.tensor([0.5]))
    >>> rows = torch.tensor([[3.0, 4.0]], requires_grad=True)
    >>> layer(rows, add=torch.tensor([[100.0]])).tolist()
    [[111.5]]
    >>> layer(rows).sum().backward()
    >>> rows.grad.tolist()
    [[1.0, 2.0]]
    """

    def __init__(self, weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"] | None = None) -> None:
        self.outputs, self.inputs = weight.shape
        self._there = packed(weight.detach())
        self._bias = None if bias is None else bias.detach()
        self._back: Tensor | None = None

    def __call__(
        self, rows: Float[Tensor, "row in"], add: Float[Tensor, "row out"] | None = None
    ) -> Float[Tensor, "row out"]:
        """A row of `out` numbers for each row of `in`."""
        return _Product.apply(rows, add, self)

    def there(self, rows: Tensor, add: Tensor | None) -> Tensor:
        """The product, without gradients."""
        return multiply(rows, self._there, self._bias, add)

    def back(self, gradient: Tensor) -> Tensor:
        """From a gradient of the output to that of the rows. Not all go back: packed when first asked for."""
        if self._back is None:
            there = self._there.to_dense() if self._there.is_mkldnn else self._there
            self._back = packed(there.T)
        return multiply(gradient, self._back)


class Affine(NamedTuple):
    """Weight [out, in] and bias [out] of a linear layer that is no module."""

    weight: Tensor
    bias: Tensor


def side_by_side(*layers: nn.Linear | Affine) -> FrozenLinear:
    """Several layers on the same rows as one; one alone as it is."""
    if len(layers) == 1:
        return FrozenLinear(layers[0].weight, layers[0].bias)
    weight, bias = ([getattr(layer, name) for layer in layers] for name in ("weight", "bias"))
    return FrozenLinear(torch.cat(weight), torch.cat(bias))


class _Product(torch.autograd.Function):
    """`FrozenLinear` to autograd: nothing has to be kept for the way back."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, add: Tensor | None, layer: FrozenLinear) -> Tensor:
        ctx.layer = layer
        return layer.there(rows, add)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the decorator hides its form
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None]:
        to_rows, to_add, _ = ctx.needs_input_grad
        return ctx.layer.back(gradient) if to_rows else None, gradient if to_add else None, None
