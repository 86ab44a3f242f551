"""Convolutions with what follows them in one pass, against SciPy's and against the plain network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d

from medvip.backbones import fused_convolution
from medvip.backbones.fused_convolution import can_fuse, convolution

needs_fusion = pytest.mark.skipif(not can_fuse(), reason="this torch has no oneDNN")


def by_scipy(pixels, weight, bias, stride: int, padding: int, groups: int) -> np.ndarray:
    """One output channel of one picture after the other, in double precision."""
    inner, outer = weight.shape[1], weight.shape[0] // groups
    padded = np.pad(pixels.astype(np.float64), [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    made = [
        [
            bias[out]
            + sum(
                correlate2d(picture[out // outer * inner + channel], weight[out, channel], mode="valid")
                for channel in range(inner)
            )
            for out in range(len(weight))
        ]
        for picture in padded
    ]
    return np.array(made)[:, :, ::stride, ::stride]


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    made = 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return made.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else made


@needs_fusion
@pytest.mark.parametrize("relu6", [False, True])
@pytest.mark.parametrize(
    ("weight", "stride", "padding", "groups"),
    [
        ((5, 3, 3, 3), 2, 0, 1),
        ((7, 6, 1, 1), 1, 0, 1),
        ((6, 1, 3, 3), 1, 1, 6),
        ((6, 1, 5, 5), 2, 2, 6),
        ((4, 3, 3, 3), 1, 1, 2),
    ],
)
def test_convolution_equals_scipy(weight, stride: int, padding: int, groups: int, relu6: bool) -> None:
    kernel, bias = numbers(*weight, seed=1), numbers(weight[0], seed=2)
    pixels = numbers(2, weight[1] * groups, 9, 8)
    expected = by_scipy(pixels.numpy(), kernel.numpy(), bias.numpy(), stride, padding, groups)
    if relu6:
        expected = expected.clip(0, 6)
        assert (expected == 0).mean() > 0.1  # something is cut off at both ends
        assert (expected == 6).any()
    found = convolution(pixels, kernel, bias, stride=stride, padding=padding, groups=groups, relu6=relu6)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert found.is_contiguous(memory_format=torch.channels_last)


@needs_fusion
def test_a_sum_is_taken_along_and_overwrites_what_is_added_to() -> None:
    pixels, kernel, bias, skipped = numbers(2, 6, 5, 5), numbers(4, 6, 1, 1), numbers(4), numbers(2, 4, 5, 5)
    expected = skipped.numpy() + by_scipy(pixels.numpy(), kernel.numpy(), bias.numpy(), 1, 0, 1)
    found = convolution(pixels, kernel, bias, added_to=skipped)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert torch.equal(found, skipped)


@pytest.mark.parametrize("answer", ["raises", "wrong"])
def test_operations_that_fail_or_give_other_numbers_are_not_used(monkeypatch, answer: str) -> None:
    def broken(pixels, *args, added_to=None, **kwargs):
        if answer == "raises":
            raise RuntimeError("could not create a primitive")
        return torch.zeros_like(pixels)

    monkeypatch.setattr(fused_convolution, "convolution", broken)
    assert not can_fuse.__wrapped__()


def test_without_onednn_nothing_is_tried(monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(fused_convolution, "convolution", None)
    assert not can_fuse.__wrapped__()
