"""Learned matrices that few rows go through: SGD on them without ever writing their gradient down.

The gradient of Y = X W^T by W is G^T X, where G is that by Y. With a handful of rows it is known by
a handful of numbers a side, but as large as W once multiplied out; making it, adding it up and
reading it again takes far longer than everything else in a step of the merge prompt. So G and X
stay apart until the momentum takes them in, in the one pass that it needs anyway. The numbers are
those of `torch.optim.SGD` to floating-point order.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class FewRows(nn.Linear):
    """A linear layer without bias, for few rows at a time; an ordinary one without `FewRowsSGD`.

    Attributes
    ----------
    factors
        While an optimiser wants them: pairs G [row, out] and X [row, in], one for each time that the
        layer was used since the last step. None: the gradient goes to the weight, as always.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.factors: list[tuple[Tensor, Tensor]] | None = None

    def forward(self, input: Float[Tensor, "*rows in"]) -> Float[Tensor, "*rows out"]:
        """Input W^T."""
        if self.factors is None or not torch.is_grad_enabled():
            return super().forward(input)
        rows = input.flatten(0, -2)
        return _Product.apply(rows, self.weight, self.factors).unflatten(0, input.shape[:-1])


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, factors: list[tuple[Tensor, Tensor]]) -> Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.factors = factors
        return rows @ weight.T

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the decorator hides its form
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor | None, None, None]:
        rows, weight = ctx.saved_tensors
        ctx.factors.append((gradient, rows))
        return gradient @ weight if ctx.needs_input_grad[0] else None, None, None


class FewRowsSGD(torch.optim.SGD):
    """SGD with momentum and weight decay that takes gradients of `FewRows` layers as factors.

    Parameters
    ----------
    model
        Whose `FewRows` layers to ask for factors, until `release` is called.
    parameters, settings
        As of `torch.optim.SGD`.

    Examples
    --------
    >>> layer = FewRows(2, 2)
    >>> _ = layer.weight.data.copy_(torch.eye(2))
    >>> optimizer = FewRowsSGD(layer, layer.parameters(), lr=0.1, momentum=0.9)
    >>> layer(torch.tensor([[1.0, 0.0]])).sum().backward()
    >>> optimizer.step()
    >>> layer.weight.tolist(), layer.weight.grad
    ([[0.8999999761581421, 0.0], [-0.10000000149011612, 1.0]], None)
    """

    def __init__(self, model: nn.Module, parameters: Any, **settings: Any) -> None:
        super().__init__(parameters, fused=True, **settings)  # one pass over the others, instead of four
        group_of = {weight: group for group in self.param_groups for weight in group["params"]}
        self._layers = [
            (layer, torch.zeros_like(layer.weight), group_of[layer.weight])
            for layer in model.modules()
            if isinstance(layer, FewRows) and layer.weight in group_of
        ]
        for layer, _, _ in self._layers:
            layer.factors = []

    def release(self) -> None:
        """Layers are ordinary ones from now on."""
        for layer, _, _ in self._layers:
            layer.factors = None

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget gradients and factors."""
        super().zero_grad(set_to_none)
        for layer, _, _ in self._layers:
            if layer.factors:
                layer.factors.clear()

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step; what has no gradient stays as it is."""
        for layer, momentum, group in self._layers:  # first: rows may themselves be learned
            if not layer.factors:
                continue
            gradients, rows = map(torch.cat, zip(*layer.factors, strict=True))
            momentum.addmm_(gradients.T, rows, beta=group["momentum"])
            momentum.add_(layer.weight, alpha=group["weight_decay"])
            layer.weight.add_(momentum, alpha=-group["lr"])
        super().step(closure)
