"""Encoding learned vectors once for each of their values: same gradients, fewer encodings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_models import count_texts, made_up
from torch import nn

from medvip import SymptomSet, load_backbone
from medvip.methods import create_method
from medvip.training import Recipe
from medvip.training.encoded_once import EncodedOnce
from medvip.training.few_rows import FewRowsSGD


class Counting:
    """Squares what is learned, and counts how often."""

    def __init__(self) -> None:
        self.learned = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
        self.encodings = 0

    def encode(self) -> torch.Tensor:
        self.encodings += 1
        return self.learned**2


def test_each_way_back_has_the_gradient_of_a_fresh_encoding() -> None:
    model, encoded = Counting(), EncodedOnce()
    optimizer = FewRowsSGD(nn.Identity(), [model.learned], lr=0.1, momentum=0.9)
    for step in range(4):
        expected = 2 * model.learned.detach()  # of the sum of squares, in closed form
        for _ in range(2):  # twice without a step between
            optimizer.zero_grad()
            encoded(model.learned, model.encode).sum().backward()
            torch.testing.assert_close(model.learned.grad, expected)
        optimizer.step()
        with torch.no_grad():
            seen = encoded(model.learned, model.encode)
        assert not seen.requires_grad
        torch.testing.assert_close(seen, model.learned.detach() ** 2)
        assert model.encodings == 2 * (step + 1) + 1  # the validation's serves the next step


def test_restored_values_are_encoded_again() -> None:
    model, encoded = Counting(), EncodedOnce()
    with torch.no_grad():
        encoded(model.learned, model.encode)
        model.learned.copy_(torch.tensor([5.0, 0.0, 1.0]))
        assert encoded(model.learned, model.encode).tolist() == [25.0, 0.0, 1.0]


def test_what_learns_nothing_is_encoded_once() -> None:
    constant, calls, encoded = torch.empty(0, 4), [], EncodedOnce()
    for _ in range(3):
        encoded(constant, lambda: calls.append(1) or torch.ones(2))
    assert len(calls) == 1


@pytest.mark.parametrize("name", ["vip", "coop", "kgcoop", "prograd", "biomedcoop", "vip-context-mean"])
def test_training_gives_the_same_bits_with_fewer_encodings(
    name: str, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes, epochs = ("blue", "red"), 5
    backbone = load_backbone(str(tiny_clip), device="cpu")
    symptoms = SymptomSet.from_mapping({"blue": ["like the sky", "cold"], "red": ["like fire"]})
    train, validation = (made_up(classes, 6, backbone.embed_dim, seed=seed) for seed in (1, 2))
    calls = count_texts(monkeypatch, backbone)

    def learned() -> tuple[dict[str, torch.Tensor], int]:
        calls.clear()
        method = create_method(name, backbone, symptoms, recipe=Recipe(epochs=epochs, batch_size=12))
        method.fit(train, validation)
        return method.state(), len(calls)

    state, encodings = learned()
    monkeypatch.setattr(EncodedOnce, "__call__", lambda self, learned, encode: encode())
    plain, of_all = learned()
    assert all(torch.equal(state[key], plain[key]) for key in plain)
    assert of_all - encodings >= epochs - 1
