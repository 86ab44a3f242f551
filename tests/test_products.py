"""Products of few rows, by oneDNN and without it, against torch's linear layer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from medvip import products
from medvip.products import multiply, packed

KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "as it lies": lambda weight: weight,
    "turned": lambda weight: weight.T.contiguous().T,
    "packed": packed,
}


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [0, 1, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products(
    dtype: torch.dtype, rows: int, kind: str, onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "_has_onednn", lambda: onednn)
    torch.manual_seed(0)
    weight, bias = torch.randn(7, 4, dtype=dtype), torch.randn(7, dtype=dtype)
    given, add = torch.randn(rows, 4, dtype=dtype), torch.randn(rows, 7, dtype=dtype)
    wanted = torch.nn.functional.linear(given, weight)
    for its_bias in (None, bias):
        for term in (None, add):
            found = multiply(given, KINDS[kind](weight), its_bias, None if term is None else term.clone())
            expected = wanted + (0 if its_bias is None else bias) + (0 if term is None else add)
            torch.testing.assert_close(found, expected)


def test_whether_there_is_onednn_does_not_depend_on_the_default_type() -> None:
    has = products._has_onednn.__wrapped__
    wanted = has()
    torch.set_default_dtype(torch.float64)
    try:
        assert has() == wanted
    finally:
        torch.set_default_dtype(torch.float32)


def test_only_packed_weights_are_in_a_form_of_their_own() -> None:
    weight = torch.randn(7, 4)
    assert packed(weight).is_mkldnn == products._has_onednn()
    assert not packed(weight.double()).is_mkldnn
