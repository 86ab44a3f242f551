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
from medvip.backbones.protocol import inserted

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


def tower_of(model: Any) -> BertText:
    """Ours, of the same weights."""
    config = model.config
    return BertText(model.state_dict(), heads=config.num_attention_heads, epsilon=config.layer_norm_eps)


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
    expected, found = by_transformers(bert, embeddings, end), tower_of(bert).encode(embeddings, end)
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
    tower_of(bert).encode(*some_texts([3, 11, 5]))
    assert rows == {3 + 11 + 5: 3 * 4}  # layers, products of each


def context_of(runs: int, length: int) -> Tensor:
    """Random vectors to put behind the start tokens."""
    random = torch.Generator().manual_seed(runs)
    return torch.randn(runs, length, WIDTH, generator=random, dtype=torch.double, requires_grad=True)


@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=20),
    runs=st.integers(1, 3),
    length=st.integers(0, 4),
    rows_at_once=st.sampled_from([20, 4096]),
)
def test_behind_context_they_are_those_of_the_whole_prompts(
    bert, lengths: list[int], runs: int, length: int, rows_at_once: int
) -> None:
    (tokens, end), context = some_texts(lengths), context_of(runs, length)
    prompts, its_end = inserted(context, tokens, end, 1)
    expected = by_transformers(bert, prompts, its_end).unflatten(0, (runs, len(lengths)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bert_text, "ROWS_AT_ONCE", rows_at_once)
        found = tower_of(bert).encode_with_context(context, tokens, end)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
        if length:
            weights = torch.randn(expected.shape, dtype=torch.double)
            (gradient,) = torch.autograd.grad((found * weights).sum(), context)
            (by_them,) = torch.autograd.grad((expected * weights).sum(), context)
            assert by_them.abs().max() > 1e-4
            torch.testing.assert_close(gradient, by_them, rtol=0, atol=1e-10)


def test_context_is_computed_once_for_all_texts_where_it_is_the_same(
    bert, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tokens, end), tower = some_texts([3, 11, 5]), tower_of(bert)
    tower.encode_with_context(context_of(2, 4), tokens, end)  # what follows from the texts alone
    rows, back_rows = list[int](), list[int]()
    there, back = FrozenLinear.there, FrozenLinear.back
    monkeypatch.setattr(
        FrozenLinear, "there", lambda self, x, add: rows.append(len(x)) or there(self, x, add)
    )
    monkeypatch.setattr(FrozenLinear, "back", lambda self, x: back_rows.append(len(x)) or back(self, x))
    tower.encode_with_context(context_of(2, 4), tokens, end).sum().backward()
    all_rows = 2 * (3 + 11 + 5 + 3 * 4)
    assert rows == [2 * 4, *[all_rows] * (3 * 4 - 1)]
    assert back_rows == rows[::-1]


def test_what_follows_from_texts_is_let_go_with_them(bert) -> None:
    (tokens, end), tower = some_texts([3, 11, 5]), tower_of(bert)
    tower.encode_with_context(context_of(1, 2), tokens, end)
    assert len(tower._known) == 1
    del tokens
    assert len(tower._known) == 0


def test_texts_that_change_are_computed_anew(bert) -> None:
    (tokens, end), context, tower = some_texts([3, 11, 5]), context_of(1, 2), tower_of(bert)
    before = tower.encode_with_context(context, tokens, end)
    tokens.mul_(2)
    after = tower.encode_with_context(context, tokens, end)
    torch.testing.assert_close(after, tower_of(bert).encode_with_context(context, tokens.clone(), end))
    assert (after - before).abs().amax(-1).min() > 1e-3
    end.sub_(1)
    shorter = tower.encode_with_context(context, tokens, end.clone())
    assert (after - shorter).abs().amax(-1).min() > 1e-3


def test_parts_give_the_same_numbers(bert, monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, end = some_texts([3, 11, 5, 5, 1])
    embeddings.requires_grad_()

    def found() -> tuple[Tensor, Tensor]:
        vectors = tower_of(bert).encode(embeddings, end)
        return vectors, torch.autograd.grad(vectors.square().sum(), embeddings)[0]

    whole = found()
    monkeypatch.setattr(bert_text, "ROWS_AT_ONCE", 10)
    for in_parts, expected in zip(found(), whole, strict=True):
        torch.testing.assert_close(in_parts, expected, rtol=1e-12, atol=1e-12)
