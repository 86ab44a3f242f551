"""A frozen convolution on a CPU, and what follows it, in one pass over memory.

A rectifier or a sum behind a small convolution costs as much time as the convolution when it walks
through memory by itself. oneDNN takes them along. Torch carries these operations for its compiler,
but called directly they need none. They add up the same numbers in another order, so results
differ in the last bits only. Where a wheel or a processor has none, `can_fuse` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


def convolution(
    pixels: Float[Tensor, "batch channel height width"],
    weight: Float[Tensor, "out group_channel kernel kernel"],
    bias: Float[Tensor, " out"],
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    relu6: bool = False,
    added_to: Float[Tensor, "batch out out_height out_width"] | None = None,
) -> Float[Tensor, "batch out out_height out_width"]:
    """Convolution, and in the same pass min(max(x, 0), 6), or a sum. Without gradients.

    Parameters
    ----------
    pixels
        In channels-last order, as the result is then.
    weight, bias
        As of `torch.nn.Conv2d`; `weight` may be `packed`.
    stride, padding, groups
        The same in both directions.
    relu6
        Whether the result is clipped to 0..6; not together with `added_to`.
    added_to
        What the result is added to. It is overwritten with the sum.
    """
    operations: Any = torch.ops.mkldnn  # made when they are asked for, so unknown to pyright
    where = [padding] * 2, [stride] * 2, [1, 1], groups
    if added_to is not None:
        add = operations._convolution_pointwise_.binary
        return add(added_to, pixels, weight, bias, *where, "add", 1.0, None, [], None)
    behind = ("hardtanh", [0.0, 6.0], "") if relu6 else ("none", [], "")
    return operations._convolution_pointwise(pixels, weight, bias, *where, *behind)


def packed(
    weight: Float[Tensor, "out group_channel kernel kernel"],
    size: Sequence[int],
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
) -> Tensor:
    """A weight in oneDNN's own form for pictures of that `size` [batch, channel, height, width].

    `convolution` gives the same with it, and need not bring it into that form at each call.
    """
    reorder: Any = torch.ops.mkldnn._reorder_convolution_weight
    return reorder(weight.contiguous(), [padding] * 2, [stride] * 2, [1, 1], groups, list(size))


@cache
def can_fuse() -> bool:
    """Whether this torch, on this machine, has these operations and they compute what they should."""
    if not torch.backends.mkldnn.is_available():
        return False
    random = torch.Generator().manual_seed(0)
    pixels = torch.randn(1, 4, 6, 6, generator=random).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(4, 4, 3, 3, generator=random), torch.randn(4, generator=random)
    wanted = nn.functional.conv2d(pixels, weight, bias, padding=1)
    try:
        in_form = packed(weight, pixels.shape, padding=1)
        clipped = convolution(pixels, in_form, bias, padding=1, relu6=True)
        added = convolution(pixels, weight, bias, padding=1, added_to=pixels.clone())
    except (AttributeError, RuntimeError):  # no such operation, or not for this processor
        return False
    return all(
        torch.allclose(found, right, atol=1e-4)
        for found, right in ((clipped, wanted.clamp(0, 6)), (added, wanted + pixels))
    )
