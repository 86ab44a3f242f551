"""A BERT without padding: the same numbers as transformers' own, and no row of padding."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medvip.backbones import bert_text
from medvip.backbones.bert_text import BertText
from medvip.backbones.frozen_linear import FrozenLinear

WIDTH = 32


@pytest.fixture(scope="module")
def bert() -> Any:
    """transformers' model with weights loud enough that all of them matter."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=40, layer_norm_eps=1e-4,
    )  # fmt: skip
    model = BertModel(config, add_pooling_layer=False).eval().double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=parameter.mean().item(), std=0.3)
    return model.requires_grad_(False)


def some_texts(lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Embedded texts of so many tokens, padded with noise that nothing may depend on; end positions."""
    random = torch.Generator().manual_seed(0)
    shape = len(lengths), max(lengths), WIDTH
    return torch.randn(shape, generator=random, dtype=torch.double), torch.tensor(lengths) - 1


def by_transformers(model: Any, embeddings: Tensor, end: Tensor) -> Tensor:
    """Each text alone, cut to its length."""
    texts = [text[None, : int(last) + 1] for text, last in zip(embeddings, end, strict=True)]
    return torch.cat([model(inputs_embeds=text).last_hidden_state.mean(1) for text in texts])


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=30))
def test_vectors_and_gradients_are_those_of_transformers(bert, lengths: list[int]) -> None:
    embeddings, end = some_texts(lengths)
    embeddings.requires_grad_()
    expected, found = by_transformers(bert, embeddings, end), BertText(bert).encode(embeddings, end)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    (gradient,) = torch.autograd.grad((found * weights).sum(), embeddings)
    (by_them,) = torch.autograd.grad((expected * weights).sum(), embeddings)
    assert by_them.abs().max() > 1e-4
    torch.testing.assert_close(gradient, by_them, rtol=0, atol=1e-10)


def test_no_row_is_padding(bert, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Counter[int]()
    there = FrozenLinear.there
    monkeypatch.setattr(
        FrozenLinear, "there", lambda self, x, add: rows.update([len(x)]) or there(self, x, add)
    )
    BertText(bert).encode(*some_texts([3, 11, 5]))
    assert rows == {3 + 11 + 5: 3 * 4}  # layers, products of each


def test_parts_give_the_same_numbers(bert, monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, end = some_texts([3, 11, 5, 5, 1])
    embeddings.requires_grad_()

    def found() -> tuple[Tensor, Tensor]:
        vectors = BertText(bert).encode(embeddings, end)
        return vectors, torch.autograd.grad(vectors.square().sum(), embeddings)[0]

    whole = found()
    monkeypatch.setattr(bert_text, "ROWS_AT_ONCE", 10)
    for in_parts, expected in zip(found(), whole, strict=True):
        torch.testing.assert_close(in_parts, expected, rtol=1e-12, atol=1e-12)
