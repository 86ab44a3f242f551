"""EfficientNet-Lite0 for a CPU: the same convolutions, each with what follows it in one pass.

See `medvip.backbones.fused_convolution`: rectifiers and skip connections are taken along.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from medvip.backbones.efficientnet import CentredFeatures
from medvip.backbones.fused_convolution import convolution


class FusedFeatures(nn.Module):
    """A frozen tower whose normalisations are folded, with the vectors of `CentredFeatures`.

    Parameters
    ----------
    tower
        As `medvip.backbones.efficientnet.load_image_tower` gives it; its weights are shared.
    """

    def __init__(self, tower: CentredFeatures) -> None:
        super().__init__()
        network: Any = tower.network  # the package has no type hints
        self.tower = tower
        self._first = _Layer.of(network._conv_stem, relu6=True)
        self._blocks = [_Block.of(block) for block in network._blocks]
        self._last = _Layer.of(network._conv_head, relu6=True)
        self.eval()

    @torch.no_grad()
    def forward(self, pixels: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch 1280"]:
        """As `CentredFeatures`; the size must be even at every halving, as 224 is."""
        return self._last_map(pixels).mean((2, 3)) - self.tower.mean

    @torch.no_grad()
    def places(self, pixels: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch row column 1280"]:
        """As `CentredFeatures.places`."""
        return self._last_map(pixels).permute(0, 2, 3, 1) - self.tower.mean

    def _last_map(self, pixels: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch 1280 row column"]:
        states = self._first(pixels.contiguous(memory_format=torch.channels_last))
        for block in self._blocks:
            states = block(states)
        return self._last(states)


class _Layer(NamedTuple):
    """One convolution, its padding on the left and top, what the right and bottom have more."""

    weight: Tensor
    bias: Tensor
    stride: int
    groups: int
    padding: int
    more: int
    relu6: bool

    @classmethod
    def of(cls, layer: Any, *, relu6: bool) -> _Layer:
        """A layer that halves an even size lacks a pixel for equal padding on both sides."""
        stride, kernel = int(layer.stride[0]), int(layer.kernel_size[0])
        padding, more = divmod(kernel - stride, 2)
        return cls(layer.weight, layer.bias, stride, layer.groups, padding, more, relu6)

    def __call__(self, states: Tensor, added_to: Tensor | None = None) -> Tensor:
        padding = self.padding
        if self.more:
            states = functional.pad(states, [padding, padding + self.more] * 2)
            padding = 0
        return convolution(
            states, self.weight, self.bias, stride=self.stride, padding=padding, groups=self.groups,
            relu6=self.relu6, added_to=added_to,
        )  # fmt: skip


class _Block(NamedTuple):
    """Widening (not in the first block), depthwise convolution, narrowing; perhaps a skip connection."""

    inner: tuple[_Layer, ...]
    last: _Layer
    skip: bool

    @classmethod
    def of(cls, block: Any) -> _Block:
        names = [name for name in ("_expand_conv", "_depthwise_conv") if hasattr(block, name)]
        inner = tuple(_Layer.of(getattr(block, name), relu6=True) for name in names)
        same_size = all(layer.stride == 1 for layer in inner)
        same_width = block._block_args.input_filters == block._block_args.output_filters
        skip = bool(block.id_skip and same_size and same_width)
        return cls(inner, _Layer.of(block._project_conv, relu6=False), skip)

    def __call__(self, states: Tensor) -> Tensor:
        inside = states
        for layer in self.inner:
            inside = layer(inside)
        return self.last(inside, added_to=states if self.skip else None)
