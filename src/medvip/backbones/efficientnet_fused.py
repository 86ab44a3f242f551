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
from medvip.backbones.fused_convolution import convolution, packed


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
        self._first = _Layer(network._conv_stem, relu6=True)
        self._blocks = [_Block.of(block) for block in network._blocks]
        self._last = _Layer(network._conv_head, relu6=True)
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


class _Layer:
    """One convolution with a rectifier or a sum behind it.

    A layer that halves an even size wants one more pixel of padding on the right and bottom than on
    the left and top. A kernel with a row and column of zeros in front gives the same numbers with
    equal padding, and no picture has to be copied into a larger frame.
    """

    def __init__(self, layer: Any, *, relu6: bool) -> None:
        self.stride = int(layer.stride[0])
        padding, more = divmod(int(layer.kernel_size[0]) - self.stride, 2)
        self._weight, self._bias = functional.pad(layer.weight, [more, 0, more, 0]), layer.bias
        self._padding, self._groups, self._relu6 = padding + more, layer.groups, relu6
        self._packed: dict[torch.Size, Tensor] = {}  # as many as there are sizes of batches

    def __call__(self, states: Tensor, added_to: Tensor | None = None) -> Tensor:
        how = {"stride": self.stride, "padding": self._padding, "groups": self._groups}
        weight = self._packed.get(states.shape)
        if weight is None:
            weight = self._packed[states.shape] = packed(self._weight, states.shape, **how)
        return convolution(states, weight, self._bias, **how, relu6=self._relu6, added_to=added_to)


class _Block(NamedTuple):
    """Widening (not in the first block), depthwise convolution, narrowing; perhaps a skip connection."""

    inner: tuple[_Layer, ...]
    last: _Layer
    skip: bool

    @classmethod
    def of(cls, block: Any) -> _Block:
        names = [name for name in ("_expand_conv", "_depthwise_conv") if hasattr(block, name)]
        inner = tuple(_Layer(getattr(block, name), relu6=True) for name in names)
        same_size = all(layer.stride == 1 for layer in inner)
        same_width = block._block_args.input_filters == block._block_args.output_filters
        skip = bool(block.id_skip and same_size and same_width)
        return cls(inner, _Layer(block._project_conv, relu6=False), skip)

    def __call__(self, states: Tensor) -> Tensor:
        inside = states
        for layer in self.inner:
            inside = layer(inside)
        return self.last(inside, added_to=states if self.skip else None)
