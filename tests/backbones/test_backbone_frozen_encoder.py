"""A frozen copy of a transformer gives the same states, and leaves what it was made of alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit
from torch import nn
from transformers import AutoModel
from transformers.activations import QuickGELUActivation

from medvip.backbones import load_backbone
from medvip.backbones.frozen_encoder import frozen_copy


@pytest.fixture(params=["clip", "siglip"])
def encoder(request, tiny_clip: Path, tiny_siglip: Path) -> nn.Module:
    """transformers' own image side."""
    return AutoModel.from_pretrained(
        {"clip": tiny_clip, "siglip": tiny_siglip}[request.param]
    ).vision_model.eval()


def kinds(module: nn.Module) -> set[str]:
    return {type(part).__name__ for part in module.modules()}


def test_states_equal_those_of_the_encoder(encoder: nn.Module) -> None:
    pixels = torch.randn(3, 3, 30, 30, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = encoder(pixel_values=pixels), frozen_copy(encoder)(pixel_values=pixels)
    for name in ("last_hidden_state", "pooler_output"):
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-5)


def test_every_linear_layer_is_frozen_and_all_else_is_shared(encoder: nn.Module) -> None:
    before = [parameter.clone() for parameter in encoder.parameters()]
    copied = frozen_copy(encoder)
    assert "Linear" in kinds(encoder)
    assert not {"Linear", "QuickGELUActivation"} & kinds(copied)
    own = {id(parameter) for parameter in encoder.parameters()}
    assert list(copied.parameters())
    assert all(id(parameter) in own for parameter in copied.parameters())
    with torch.no_grad():
        copied(pixel_values=torch.randn(1, 3, 30, 30))
    assert all(torch.equal(*pair) for pair in zip(before, encoder.parameters(), strict=True))


def test_quick_gelu_equals_its_formula_and_keeps_its_input() -> None:
    copied = frozen_copy(nn.Sequential(QuickGELUActivation()))
    states = torch.linspace(-8, 8, 101)
    values = states.double().numpy()
    np.testing.assert_allclose(copied(states), values * expit(1.702 * values), atol=1e-6)
    np.testing.assert_array_equal(states, values.astype(np.float32))


def test_a_tower_to_be_trained_is_none_of_it(tiny_clip: Path) -> None:
    backbone = load_backbone(str(tiny_clip), device="cpu")
    pixels = torch.randn(5, 3, 30, 30, generator=torch.Generator().manual_seed(1))
    vectors = backbone.encode_images(pixels)
    tower = backbone.image_tower()
    assert "Linear" in kinds(tower)
    assert all(parameter.requires_grad for parameter in tower.parameters())
    torch.testing.assert_close(tower(pixels).detach(), vectors, atol=1e-5, rtol=1e-5)
