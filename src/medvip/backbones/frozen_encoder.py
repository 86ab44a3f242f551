"""A frozen transformer for pictures, as fast as a CPU multiplies matrices: for encoding only."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medvip.backbones.frozen_linear import FrozenLinear

Encoder = TypeVar("Encoder", bound=nn.Module)


def frozen_copy(encoder: Encoder) -> Encoder:
    """The same encoder with every linear layer a `FrozenLinear`; without gradients from then on.

    All other parameters are shared with `encoder`, which stays as it is.
    """
    shared = {id(tensor): tensor for tensor in (*encoder.parameters(), *encoder.buffers())}
    copied = copy.deepcopy(encoder, shared)
    for parent in list(copied.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Linear:
                setattr(parent, name, _Rows(child))
            elif type(child).__name__ == "QuickGELUActivation":
                setattr(parent, name, _QuickGelu())
    return copied


class _Rows(nn.Module):
    """A linear layer on the last axis, whatever stands before it."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self._layer = FrozenLinear(layer.weight, layer.bias)

    @torch.no_grad()
    def forward(self, states: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        return self._layer.there(states.flatten(0, -2), None).unflatten(0, states.shape[:-1])


class _QuickGelu(nn.Module):
    """x / (1 + exp(-1.702 x)), in one array of its own instead of three."""

    def forward(self, states: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        return (1.702 * states).sigmoid_().mul_(states)
