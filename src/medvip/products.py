"""Matrix products of few rows, as fast as the processor multiplies.

On a CPU torch multiplies single-precision matrices with MKL, which takes the widest registers of
one maker's processors only, and copies a weight that few rows go through. oneDNN, which comes with
torch too, does neither.
"""

from __future__ import annotations

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor, nn


def multiply(
    rows: Float[Tensor, "row in"],
    weight: Float[Tensor, "out in"],
    bias: Float[Tensor, " out"] | None = None,
    add: Float[Tensor, "row out"] | None = None,
) -> Float[Tensor, "row out"]:
    """`rows` W^T + `bias` + `add`; the weight as it is, or from `packed`.

    What comes of it has no way back: for where gradients are off, or are written down.

    Examples
    --------
    >>> multiply(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 2.0]]), add=torch.tensor([[100.0]])).tolist()
    [[111.0]]
    """
    if not (weight.is_mkldnn or _by_onednn(weight)):
        product = nn.functional.linear(rows, weight, bias)
        return product if add is None else product.add_(add)
    return _multiply(rows.contiguous(), weight, bias, add)


def packed(weight: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
    """A constant weight in oneDNN's own form where that can be multiplied with; otherwise as it is."""
    return _pack(weight.contiguous()) if _by_onednn(weight) else weight


def _multiply(rows: Tensor, weight: Tensor, bias: Tensor | None, add: Tensor | None) -> Tensor:
    if add is None:
        return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return torch.ops.mkldnn._linear_pointwise.binary(rows, add.contiguous(), weight, bias, "add")


def _pack(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight, None)


def _by_onednn(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and _has_onednn()


@cache
def _has_onednn() -> bool:
    """Whether this torch, on this machine, multiplies by oneDNN, and does so rightly.

    The two operations are those that torch's own compiler uses; they have no public name.
    """
    if not torch.backends.mkldnn.is_available():
        return False
    plain = {"dtype": torch.float32, "device": "cpu"}
    weight, rows = torch.arange(12, **plain).reshape(3, 4), torch.ones(2, 4, **plain)
    bias, add = torch.ones(3, **plain), torch.ones(2, 3, **plain)
    try:
        ways = weight, weight.T.contiguous().T, _pack(weight)
        found = [_multiply(rows, way, bias, add) for way in ways]
        unpacked = ways[-1].to_dense()
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    wanted = rows @ weight.T + 2
    return all(torch.allclose(one, wanted) for one in found) and torch.equal(unpacked, weight)
