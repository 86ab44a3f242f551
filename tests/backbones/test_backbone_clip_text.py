"""CLIP's text tower without repetition: the same numbers as transformers' own, from fewer products."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medvip.backbones import clip_text, load_backbone
from medvip.backbones.clip_text import ClipText
from medvip.backbones.frozen_linear import FrozenLinear, side_by_side
from medvip.backbones.protocol import encode_with_context, inserted
from medvip.backbones.ragged import RaggedTexts, attend

WIDTH, DIM, WORDS, START, END = 32, 24, 50, 48, 49


def build(layers: int = 3, activation: str = "quick_gelu", dtype: torch.dtype = torch.double) -> Any:
    """transformers' tower with weights loud enough that all of them matter, and a projection."""
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(layers)
    config = CLIPTextConfig(
        vocab_size=WORDS, hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=layers,
        num_attention_heads=4, max_position_embeddings=40, hidden_act=activation, layer_norm_eps=1e-4,
        bos_token_id=START, eos_token_id=END, pad_token_id=END, initializer_factor=10.0,
    )  # fmt: skip
    model = CLIPTextModel(config).eval().to(dtype)
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=parameter.mean().item(), std=0.3)
    return model.requires_grad_(False), nn.Linear(WIDTH, DIM, bias=False).to(dtype).requires_grad_(False)


def some_texts(lengths: list[int], seed: int = 0) -> list[list[int]]:
    """Token ids with so many words between start and end."""
    random = torch.Generator().manual_seed(seed)
    return [
        [START, *torch.randint(0, START, (length,), generator=random).tolist(), END] for length in lengths
    ]


def padded(model: Any, texts: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Embedded tokens, padded with noise that nothing may depend on, and end positions."""
    end = torch.tensor([len(text) - 1 for text in texts])
    embedding = model.embeddings.token_embedding.weight
    tokens = torch.randn(len(texts), int(end.max()) + 1, WIDTH, dtype=embedding.dtype)
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text)] = embedding[text]
    return tokens, end


def by_transformers(model: Any, projection: nn.Linear, context: Tensor, texts: list[list[int]]) -> Tensor:
    """Each text alone through the model's own forward, the context being new words of its vocabulary."""
    embedding = model.embeddings.token_embedding
    own, vectors = embedding.weight, []
    embedding.weight = None  # a parameter cannot be part of a graph, a plain tensor can
    del embedding.weight
    try:
        for run in context:
            embedding.weight = torch.cat([own, run])
            new = list(range(len(own), len(own) + len(run)))
            ids = [torch.tensor([[text[0], *new, *text[1:]]]) for text in texts]
            vectors.append(torch.cat([projection(model(input_ids=some).pooler_output) for some in ids]))
    finally:
        del embedding.weight
        embedding.weight = own
    return torch.stack(vectors)


def random_context(runs: int, length: int, seed: int = 1) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(runs, length, WIDTH, generator=random, dtype=torch.double).requires_grad_()


def assert_as_transformers(
    model: Any, projection: nn.Linear, context: Tensor, texts: list[list[int]]
) -> None:
    """Vectors, and the gradient of the context, to 1e-10."""
    expected = by_transformers(model, projection, context, texts)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(5), dtype=torch.double)
    found = ClipText(model, projection).encode_with_context(context, *padded(model, texts))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    if context.shape[1]:
        (gradient,) = torch.autograd.grad((found * weights).sum(), context)
        (by_them,) = torch.autograd.grad((expected * weights).sum(), context)
        assert by_them.abs().amax(-1).min() > 1e-4, "every context vector must matter"
        torch.testing.assert_close(gradient, by_them, rtol=0, atol=1e-10 * by_them.abs().max().item())


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_vectors_and_gradients_are_those_of_transformers(layers: int, activation: str) -> None:
    model, projection = build(layers, activation)
    assert_as_transformers(model, projection, random_context(2, 3), some_texts([3, 0, 7, 3, 1]))


@pytest.fixture(scope="module")
def tower() -> Any:
    return build()


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 20), min_size=1, max_size=6),
    context=st.integers(0, 6),
    runs=st.integers(1, 3),
)
def test_any_lengths_context_and_runs(tower, lengths: list[int], context: int, runs: int) -> None:
    assert_as_transformers(*tower, random_context(runs, context), some_texts(lengths))


def test_many_texts_of_very_different_lengths(tower) -> None:
    """They are padded in several blocks."""
    lengths = [*range(20), *range(0, 20, 2), *[1] * 20]
    texts = RaggedTexts(
        [length + 1 for length in lengths], heads=2, like=torch.empty(0), shared=2, start=True
    )
    assert len(texts.every_row.blocks) > 1
    assert_as_transformers(*tower, random_context(2, 2), some_texts(lengths))


def test_the_tower_of_a_backbone_is_used_for_both_ways_in(tiny_clip: Path) -> None:
    """One run without its axis, several with; single precision and packed weights."""
    backbone = load_backbone(str(tiny_clip), device="cpu")
    ids, end = backbone.tokenize(["warm like fire", "", "the color of a forest"])
    tokens = backbone.embed_tokens(ids)
    context = torch.randn(3, 4, backbone.token_dim, generator=torch.Generator().manual_seed(0))
    together = backbone.encode_with_context(context, tokens, end)
    assert together.shape == (3, 3, backbone.embed_dim)
    for run, expected in zip(context, together, strict=True):
        alone = encode_with_context(backbone, run, tokens, end)
        whole = backbone.encode_tokens(*inserted(run, tokens, end, backbone.start_tokens))
        for found in (alone, whole):
            assert ((found - expected).norm(dim=1) <= 1e-5 * expected.norm(dim=1)).all()
    assert torch.pdist(together.flatten(0, 1)).min() > 0.1


@pytest.mark.parametrize("rows", [1, 30])
def test_parts_give_the_same_numbers(tower, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    context, texts = random_context(2, 3), some_texts([5, 1, 8, 0, 4, 4, 9])

    def found() -> tuple[Tensor, ...]:
        clip = ClipText(*tower)
        vectors = clip.encode_with_context(context, *padded(tower[0], texts))
        prompts, end = inserted(context, *padded(tower[0], texts), 1)
        whole_prompts = clip.encode(prompts, end)
        torch.testing.assert_close(whole_prompts, vectors.flatten(0, 1), rtol=1e-12, atol=1e-12)
        return vectors, *(torch.autograd.grad(v.square().sum(), context)[0] for v in (vectors, whole_prompts))

    whole = found()
    rows_of = Counter[int]()
    there = FrozenLinear.there
    monkeypatch.setattr(
        FrozenLinear, "there", lambda self, x, add: rows_of.update([len(x)]) or there(self, x, add)
    )
    monkeypatch.setattr(clip_text, "ROWS_AT_ONCE", rows)
    for in_parts, expected in zip(found(), whole, strict=True):
        torch.testing.assert_close(in_parts, expected, rtol=1e-12, atol=1e-12)
    assert max(rows_of) <= max(rows, 2 * (3 + 10))  # or one text


def test_gradients_reach_the_context_and_nothing_else(tower) -> None:
    model, projection = tower
    tokens, end = padded(model, some_texts([4, 2]))
    tokens.requires_grad_()
    context = random_context(1, 2)
    ClipText(model, projection).encode_with_context(context, tokens, end).sum().backward()
    assert context.grad is not None
    assert tokens.grad is None
    without = ClipText(model, projection).encode_with_context(context.detach(), tokens, end)
    assert not without.requires_grad


# What is computed


def products(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int, int]]:
    """Of each product that a linear layer makes from now on: there or back, rows, inputs, outputs."""
    made: list[tuple[str, int, int, int]] = []
    there, back = FrozenLinear.there, FrozenLinear.back
    monkeypatch.setattr(
        FrozenLinear, "there",
        lambda self, x, add: made.append(("there", len(x), self.inputs, self.outputs)) or there(self, x, add),
    )  # fmt: skip
    monkeypatch.setattr(
        FrozenLinear, "back",
        lambda self, x: made.append(("back", len(x), self.inputs, self.outputs)) or back(self, x),
    )  # fmt: skip
    return made


@pytest.mark.parametrize("runs", [1, 3])
def test_a_step_computes_each_row_once_and_none_that_is_known(
    tower, runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, projection = tower  # three layers
    lengths, context = [5, 2, 9], 4
    tokens, end = padded(model, some_texts(lengths))
    clip, learned = ClipText(model, projection), random_context(runs, context)
    clip.encode_with_context(learned, tokens, end)  # what follows from the texts alone
    made = products(monkeypatch)
    vectors = clip.encode_with_context(learned, tokens, end)
    ends = runs * 3
    rows = runs * (context + sum(length + 1 for length in lengths))  # no start, no padding, context once
    wide, mlp = 3 * WIDTH, 48
    one_layer = [(rows, WIDTH, WIDTH), (rows, WIDTH, mlp), (rows, mlp, WIDTH)]
    expected = [
        (runs * context, WIDTH, wide), *one_layer,  # the words' queries, keys and values are known
        (rows, WIDTH, wide), *one_layer,
        (ends, WIDTH, WIDTH), (rows, WIDTH, 2 * WIDTH),
        (ends, WIDTH, WIDTH), (ends, WIDTH, mlp), (ends, mlp, WIDTH), (ends, WIDTH, DIM),
    ]  # fmt: skip
    assert [shape for _, *shape in made] == [list(shape) for shape in expected]
    made.clear()
    vectors.sum().backward()
    assert Counter(made) == Counter(("back", *shape) for shape in expected)


def test_what_follows_from_the_texts_is_computed_once_and_let_go_with_them(
    tower, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, learned = ClipText(*tower), random_context(1, 2)
    texts = padded(tower[0], some_texts([5, 2]))
    made = products(monkeypatch)
    counts = []
    for _ in range(3):
        clip.encode_with_context(learned, *texts)
        counts.append(len(made))
        made.clear()
    assert counts[0] > counts[1] == counts[2]
    other = padded(tower[0], some_texts([1, 7], seed=3))
    clip.encode_with_context(learned, *other)
    assert not any(rows == 1 for _, rows, *_ in made), "the start token is known, whatever the texts"
    assert len(clip._known) == 2
    del texts
    assert len(clip._known) == 1


def test_changed_texts_are_seen(tower) -> None:
    model, projection = tower
    clip, context = ClipText(model, projection), random_context(1, 2)
    tokens, end = padded(model, some_texts([6, 4]))
    before = clip.encode_with_context(context, tokens, end)
    shorter = torch.tensor([3, 5])
    expected = ClipText(model, projection).encode_with_context(context, tokens.clone(), shorter)
    torch.testing.assert_close(clip.encode_with_context(context, tokens, shorter), expected)
    tokens[0, 1, 0] += 3
    changed = clip.encode_with_context(context, tokens, end)
    assert (changed[0, 0] - before[0, 0]).abs().max() > 1e-3
    torch.testing.assert_close(changed[0, 1], before[0, 1])
    end -= 1
    assert (clip.encode_with_context(context, tokens, end) - changed).abs().amax(-1).min() > 1e-3


def test_a_model_that_changes_its_type_is_read_again() -> None:
    model, projection = build(dtype=torch.float)
    clip, texts = ClipText(model, projection), some_texts([3, 5])
    context = random_context(1, 2)
    single = clip.encode_with_context(context.float(), *padded(model, texts))
    model.double(), projection.double()
    expected = by_transformers(model, projection, context, texts)
    double = clip.encode_with_context(context, *padded(model, texts))
    torch.testing.assert_close(double, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(single.double(), expected, rtol=1e-4, atol=1e-4)


def test_texts_that_begin_differently_are_refused(tower) -> None:
    tokens, end = padded(tower[0], some_texts([3, 5]))
    tokens[1, 0, 0] += 1
    with pytest.raises(ValueError, match="begin with the same token"):
        ClipText(*tower).encode_with_context(random_context(1, 2), tokens, end)


# Where context cannot be shared


def test_siglip_encodes_every_text_with_every_runs_context(tiny_siglip: Path) -> None:
    backbone = load_backbone(str(tiny_siglip), device="cpu")
    texts = ["warm like fire", "ink", "the color of blood"]
    ids, end = backbone.tokenize(texts)
    context = torch.randn(2, 3, backbone.token_dim, generator=torch.Generator().manual_seed(0))
    found = encode_with_context(backbone, context, backbone.embed_tokens(ids), end)
    assert found.shape == (2, 3, backbone.embed_dim)
    for run, vectors in zip(context, found, strict=True):
        for text, vector in zip(texts, vectors, strict=True):
            ids, end = backbone.tokenize([text])
            prompt = torch.cat([run, backbone.embed_tokens(ids)[0]])[None]
            torch.testing.assert_close(
                vector, backbone.encode_tokens(prompt, end + 3)[0], rtol=1e-4, atol=1e-4
            )


def test_without_a_shorter_way_prompts_are_put_together() -> None:
    """A stand-in that says what it was given."""
    seen = {}

    class Backbone:
        start_tokens = 1

        def encode_tokens(self, embeddings: Tensor, end: Tensor) -> Tensor:
            seen.update(embeddings=embeddings, end=end)
            return embeddings.flatten(1)[:, :1]

    tokens = torch.tensor([[10.0, 11, 12], [20, 21, 22]])[..., None]
    context = torch.tensor([[1.0, 2], [3, 4]])[..., None]
    function = getattr(encode_with_context, "__wrapped__", encode_with_context)
    for given_context in (context, context[0]):
        vectors = function(Backbone(), given_context, tokens, torch.tensor([2, 1]))
        runs = len(context) if given_context.ndim == 3 else 1
        prompts = [[10, 1, 2, 11, 12], [20, 1, 2, 21, 22], [10, 3, 4, 11, 12], [20, 3, 4, 21, 22]]
        assert seen["embeddings"][..., 0].tolist() == prompts[: 2 * runs]
        assert seen["end"].tolist() == [4, 3] * runs
        assert vectors.shape == (2, 2, 1)[3 - given_context.ndim :]


# The parts


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=40),
    shared=st.integers(0, 3),
    start=st.booleans(),
    causal=st.booleans(),
    runs=st.integers(1, 2),
)
def test_attention_equals_a_loop_over_rows(
    lengths: list[int], shared: int, start: bool, causal: bool, runs: int
) -> None:
    width = 6
    texts = RaggedTexts(
        lengths,
        heads=2,
        like=torch.empty(0, dtype=torch.double),
        causal=causal,
        shared=shared,
        start=start,
        runs=runs,
    )
    rows_a_run = shared + sum(lengths)
    assert texts.rows == runs * rows_a_run
    random = torch.Generator().manual_seed(0)
    queries, keys, values = torch.randn(3, texts.rows, width, generator=random, dtype=torch.double)
    constant = torch.randn(2 * start, width, generator=random, dtype=torch.double)
    seen: dict[int, list[int]] = {}  # of each row; -1 is the constant one
    last = []
    for run in range(runs):
        first = run * rows_a_run
        spans = [(first, shared, [])]
        position = first + shared
        for length in lengths:
            spans.append((position, length, list(range(first, first + shared))))
            position += length
            last.append(position - 1)
        for begin, length, before in spans:
            for row in range(begin, begin + length):
                own = range(begin, row + 1 if causal else begin + length)
                seen[row] = [*([-1] if start else []), *before, *own]
    expected = torch.empty(texts.rows, width, dtype=torch.double)
    for row, others in seen.items():
        for head in (slice(0, 3), slice(3, 6)):
            k = torch.stack([constant[0, head] if other < 0 else keys[other, head] for other in others])
            v = torch.stack([constant[1, head] if other < 0 else values[other, head] for other in others])
            expected[row, head] = (k @ queries[row, head] / math.sqrt(3)).softmax(0) @ v
    assert texts.last.tolist() == last
    given_constant = constant if start else None
    everything = torch.stack([queries, keys, values], dim=1).flatten(0, 1)
    torch.testing.assert_close(attend(everything, texts.every_row, given_constant), expected)
    of_last = torch.cat([queries[last], torch.stack([keys, values], dim=1).flatten(0, 1)])
    torch.testing.assert_close(attend(of_last, texts.last_rows, given_constant), expected[last])


@pytest.mark.parametrize("start", [True, False])
@pytest.mark.parametrize("which", ["every_row", "last_rows"])
def test_gradients_of_attention(start: bool, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medvip.backbones.ragged.SMALLEST_BLOCK", 2)
    like = torch.empty(0, dtype=torch.double)
    texts = RaggedTexts([5, 1, 4, 2], heads=2, like=like, shared=2, start=start, runs=2)
    pattern = getattr(texts, which)
    assert len(pattern.blocks) > 1
    rows = texts.rows * 3 if which == "every_row" else 8 + texts.rows * 2
    random = torch.Generator().manual_seed(0)
    given_rows = torch.randn(rows, 6, generator=random, dtype=torch.double, requires_grad=True)
    constant = torch.randn(2, 6, generator=random, dtype=torch.double) if start else None
    assert torch.autograd.gradcheck(lambda x: attend(x, pattern, constant), given_rows)


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_a_frozen_layer_is_a_linear_layer(bias: bool, packing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medvip.products._has_onednn", lambda: packing)
    torch.manual_seed(0)
    layer = nn.Linear(7, 11, bias=bias)
    frozen = FrozenLinear(layer.weight, layer.bias)
    assert frozen._there.is_mkldnn == packing
    rows, add = torch.randn(5, 7, requires_grad=True), torch.randn(5, 11, requires_grad=True)
    for term in (None, add):
        expected = layer(rows) if term is None else layer(rows) + term
        torch.testing.assert_close(frozen(rows, add=term), expected)
        weights = torch.randn(5, 11)
        inputs = [rows] if term is None else [rows, add]
        theirs = torch.autograd.grad((expected * weights).sum(), inputs)
        mine = torch.autograd.grad((frozen(rows, add=term) * weights).sum(), inputs)
        for gradient, of_layer in zip(mine, theirs, strict=True):
            torch.testing.assert_close(gradient, of_layer)
    assert not frozen(rows.detach()).requires_grad
    torch.testing.assert_close(frozen(rows[:, :].T.contiguous().T), layer(rows))  # of another stride
    assert frozen(rows[:0]).shape == (0, 11)


def test_layers_side_by_side() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(4, out) for out in (3, 5)]
    rows = torch.randn(6, 4)
    expected = torch.cat([layer(rows) for layer in layers], dim=1)
    torch.testing.assert_close(side_by_side(*layers)(rows), expected)
