"""From what an image tower's stages see to one vector, with a centre and a spread that are nobody's data.

A stage gives a map x [channel, place]. Of each channel of stages 1 to 6 the mean over places and the
deviation over places are taken, of the last stage's head h [1280, place] the root of the mean:

    m = mean_p x_p,    d = sqrt(mean_p (x_p - m)^2),    r = sqrt(mean_p h_p)

    vector = [(m_1 - centre) / spread, (d_1 - centre) / spread, ..., (r - centre) V]

Centres and spreads are those over drawn pictures (`medvip.drawings`): so a picture's vector depends on
no other picture of its user. The head's 1280 numbers are turned to the V [1280, 320] directions in which
ImageNet's classes differ most, where texts can land (`medvip.backbones.alignment`). The root is that of
Hellinger's distance: pooled outputs of a rectifier are skewed, and without it a few large ones decide a
cosine. Why these blocks and no weights between them: docs/embedded-backbone.md.

Each number is a mean over places times what depends on the picture alone, also the root and the
deviation (d = mean_p (x_p - m)^2 / d), so that all that is linear in the vector splits over the places
without remainder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

SPACE_FILE = Path(__file__).with_name("image_space.safetensors")
"""Made by ``python benchmarks/measure_image_space.py``."""

STAGE_WIDTHS = (16, 24, 40, 80, 112, 192)
"""Channels of EfficientNet-Lite0's stages 1 to 6."""
STAGES = 2 * sum(STAGE_WIDTHS)
"""Numbers of a vector that are means and deviations of stages; they come first."""
HEAD = 320
"""Numbers that are the head's; they come last, and texts land there."""
DIM = STAGES + HEAD

SHAPES = {"centre": (STAGES,), "spread": (STAGES,), "head_centre": (1280,), "head_directions": (1280, HEAD)}
"""Of the tensors in the file."""


class ImageSpace(nn.Module):
    """Maps of all stages to image vectors.

    Parameters
    ----------
    tensors
        ``centre`` and ``spread`` [stages]; ``head_centre`` [1280] and ``head_directions`` [1280, head],
        which is V divided by the deviation of its outputs.
    """

    centre: Float[Tensor, " stages"]
    spread: Float[Tensor, " stages"]
    head_centre: Float[Tensor, " 1280"]
    head_directions: Float[Tensor, "1280 head"]

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        for name in SHAPES:
            self.register_buffer(name, tensors[name].float())

    def forward(
        self, maps: Sequence[Float[Tensor, "batch _channel _row _column"]]
    ) -> Float[Tensor, "batch dim"]:
        """The vectors, each number by itself about 1 in size."""
        *stages, head = maps
        standardised = (torch.cat(list(map(moments, stages)), 1) - self.centre) / self.spread
        return torch.cat([standardised, (rooted_mean(head) - self.head_centre) @ self.head_directions], 1)

    def places(
        self, maps: Sequence[Float[Tensor, "batch _channel _row _column"]]
    ) -> tuple[Float[Tensor, "batch _row _column _width"], ...]:
        """What each place adds, a grid for each map: their means over places, end to end, are the vector."""
        *stages, head = maps
        grids, start = [], 0
        for states in stages:
            mean, deviation = moments(states).unflatten(1, (2, -1)).unbind(1)
            apart = states - mean[..., None, None]
            of_deviation = apart**2 * _inverse(deviation)[..., None, None]
            own = slice(start, start + 2 * states.shape[1])
            grid = torch.cat([states, of_deviation], 1).permute(0, 2, 3, 1)
            grids.append((grid - self.centre[own]) / self.spread[own])
            start = own.stop
        share = head * _inverse(rooted_mean(head))[..., None, None]
        grids.append((share.permute(0, 2, 3, 1) - self.head_centre) @ self.head_directions)
        return tuple(grids)


def load_image_space(file: Path = SPACE_FILE) -> ImageSpace:
    """The space that comes with medvip."""
    return ImageSpace(load_file(file))


def moments(states: Float[Tensor, "batch channel row column"]) -> Float[Tensor, "batch two_channels"]:
    """Each channel's mean over places, then each one's deviation.

    Examples
    --------
    >>> moments(torch.tensor([[[[1.0, 3.0]], [[5.0, 5.0]]]])).tolist()
    [[2.0, 5.0, 1.0, 0.0]]
    """
    mean = states.mean((2, 3))
    deviation = (states - mean[..., None, None]).square().mean((2, 3)).sqrt()
    return torch.cat([mean, deviation], 1)


def rooted_mean(head: Float[Tensor, "batch channel row column"]) -> Float[Tensor, "batch channel"]:
    """The root of each channel's mean over places; no number of the head is below zero."""
    return head.mean((2, 3)).sqrt()


def _inverse(numbers: Float[Tensor, "batch channel"]) -> Float[Tensor, "batch channel"]:
    """1 / number; 0 for 0, where nothing is there to be split."""
    return torch.where(numbers > 0, 1 / numbers.clamp_min(torch.finfo(numbers.dtype).tiny), 0)
