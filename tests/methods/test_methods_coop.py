"""CoOp against single prompts encoded by transformers, and the order of tokens letter by letter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from prompt_models import (
    Reference,
    StubBackbone,
    cosine_by_loop,
    gradients_by_differences,
    learned,
    references,
    softmax_by_loop,
)
from small_models import count_texts, forbid_texts, made_up

from medvip.backbones import load_backbone
from medvip.backbones.protocol import encode_texts, inserted
from medvip.errors import UsageError
from medvip.methods import class_prompts, create_method
from medvip.methods.class_prompts import ClassPrompts, initial_context
from medvip.methods.coop import ContextClassifier, CoOp
from medvip.symptoms import SymptomSet
from medvip.training import Recipe, get_recipe

CLASSES = ("ink", "open_sky", "red")
SHORT = Recipe(epochs=2, learning_rate=0.05, batch_size=8, warmup_epochs=0, select_by="last")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Models this small gain nothing from threads, and lose much where the processors are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def reference(tiny_clip: Path, tiny_siglip: Path) -> Callable[[str], Reference]:
    return references(tiny_clip, tiny_siglip)


def fitted(backbone, **options) -> CoOp:
    options = {"recipe": SHORT, "context": 5} | options
    train, validation = made_up(CLASSES, 24, backbone.embed_dim), made_up(CLASSES, 9, backbone.embed_dim)
    return CoOp(backbone, **options).fit(train, validation)


@pytest.mark.parametrize("kind", ["clip", "siglip", "embedded"])
@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize("class_specific", [False, True])
def test_probabilities_are_those_of_each_prompt_alone(
    kind: str, position: str, class_specific: bool, reference
) -> None:
    one = reference(kind)
    model = fitted(one.backbone, position=position, class_specific=class_specific)
    context = model.state()["context"]
    assert context.shape == ((3, 5) if class_specific else (5,)) + (one.backbone.token_dim,)
    vectors = [
        one.vector(one.prompt(name, context[row] if class_specific else context, position))
        for row, name in enumerate(("ink", "open sky", "red"))
    ]
    images = torch.randn(4, one.backbone.embed_dim, generator=torch.Generator().manual_seed(6))
    scale = math.exp(one.backbone.logit_scale)
    expected = [
        softmax_by_loop([scale * cosine_by_loop(image, vector) for vector in vectors])
        for image in images.numpy()
    ]
    np.testing.assert_allclose(model.predict_proba(images), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("position", "context", "expected"),
    [
        ("end", 4, "START p1 p2 p3 p4 b l u e </w> . END"),
        ("middle", 4, "START p1 p2 b l u e </w> p3 p4 . END"),
        ("middle", 5, "START p1 p2 b l u e </w> p3 p4 p5 . END"),
        ("middle", 1, "START b l u e </w> p1 . END"),
        ("front", 4, "START b l u e </w> p1 p2 p3 p4 . END"),
    ],
)
def test_the_order_of_tokens_letter_by_letter(
    position: str, context: int, expected: str, reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shorter name is in a batch with a longer one, so padding stands behind its end."""
    one = reference("clip")
    prompts = ClassPrompts.of_names(one.backbone, ["blue", "a long name", "x"], context, position)
    vectors = torch.randn(context, 32, generator=torch.Generator().manual_seed(0)) + 100
    seen = {}

    def look(embeddings: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        seen.update(embeddings=embeddings, end=end)
        return torch.zeros(len(embeddings), 24)

    monkeypatch.setattr(one.backbone, "encode_tokens", look)
    monkeypatch.setattr(
        one.backbone, "encode_with_context", lambda *given: look(*inserted(*given, 1)).unflatten(0, (1, -1))
    )
    prompts(prompts.for_each_class(vectors)[None])

    table = torch.cat([one._own.detach(), vectors])
    names = {"<|startoftext|>": "START", "<|endoftext|>": "END"}

    def said(row: torch.Tensor) -> str:
        index = int((table - row).norm(dim=1).argmin())
        assert torch.equal(table[index], row)
        if index >= len(one._own):
            return f"p{index - len(one._own) + 1}"
        token = one.tokenizer.convert_ids_to_tokens(index)
        return names.get(token, token)

    words = [said(row) for row in seen["embeddings"][0, : seen["end"][0] + 1]]
    # the tiny tokeniser has no merges: letters, the last of a word with a mark
    spelled = " ".join(words).replace("e</w>", "e </w>").replace(".</w>", ".")
    assert spelled == expected
    length = {"blue": 4, "a long name": 9, "x": 1}
    assert seen["end"].tolist() == [1 + context + letters + 1 for letters in length.values()]


def test_the_number_of_learned_parameters() -> None:
    """M d for all classes, or C M d (published for CLIP ViT-B/16: 2,048 with M = 4, 8,192 with 16)."""
    classes = ("one", "two", "three")

    def count(**options) -> int:
        return learned(CoOp(StubBackbone(), **options)._model(classes))

    assert count(context=4) == 2048
    assert count() == 8192
    assert count(class_specific=True) == 3 * 8192
    assert learned(CoOp(StubBackbone(384, 1248), context=7)._model(classes)) == 7 * 384


def test_random_starts_are_small_noise_from_the_seed() -> None:
    start = initial_context(StubBackbone(), "", 16, None, torch.Generator().manual_seed(1))
    assert start.std().item() == pytest.approx(0.02, rel=0.05)
    again = initial_context(StubBackbone(), "", 16, 3, torch.Generator().manual_seed(1))
    assert again.shape == (3, 16, 512)
    assert not torch.equal(again[0], again[1])
    one, two = (CoOp(StubBackbone(), seed=seed)._model(CLASSES).context for seed in (1, 2))
    torch.testing.assert_close(one, start)
    assert not torch.equal(one, two)


@pytest.mark.parametrize("kind", ["clip", "siglip", "embedded"])
def test_words_to_start_from(kind: str, reference) -> None:
    """With all words of the hand-written prompt the untrained model is zero-shot by names."""
    one = reference(kind)
    words = "a photo of a"
    tokens = one.ids(words)[1]
    model = CoOp(one.backbone, context=len(tokens), init_words=words)._model(CLASSES)
    assert torch.equal(model.context.data, one.backbone.embed_tokens(torch.tensor([tokens]))[0])
    expected = encode_texts(one.backbone, [f"{words} {name}." for name in ("ink", "open sky", "red")])
    torch.testing.assert_close(model.class_vectors(), expected, atol=1e-5, rtol=1e-5)

    fewer = CoOp(one.backbone, context=2, init_words=words)._model(CLASSES).context
    assert torch.equal(fewer, model.context[:2])
    more = CoOp(one.backbone, context=len(tokens) + 3, init_words=words)._model(CLASSES).context
    assert torch.equal(more[:3], torch.zeros(3, one.backbone.token_dim))
    assert torch.equal(more[3:], model.context)
    own = CoOp(one.backbone, context=2, init_words=words, class_specific=True)._model(CLASSES).context
    assert torch.equal(own, fewer.expand(3, -1, -1))


def test_names_are_the_symptom_sets_plain_ones(reference) -> None:
    one = reference("clip")
    symptoms = SymptomSet.from_mapping(
        {name: ["leafy"] for name in CLASSES}, names={"open_sky": "the clear sky"}
    )
    model = CoOp(one.backbone, symptoms, context=3, recipe=SHORT).fit(
        made_up(CLASSES, 9, 24), made_up(CLASSES, 9, 24)
    )
    state = model.state()
    expected = one.vector(one.prompt("the clear sky", state["context"]))
    np.testing.assert_allclose(state["class_vectors"][1], expected, atol=1e-4)


@pytest.fixture
def _in_double() -> Iterator[None]:
    torch.set_default_dtype(torch.double)
    yield
    torch.set_default_dtype(torch.float)


@pytest.mark.usefixtures("_in_double")
@pytest.mark.parametrize("class_specific", [False, True])
def test_gradients_reach_every_vector_also_in_parts(
    class_specific: bool, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load_backbone(str(tiny_clip), device="cpu")
    backbone._model.double()
    model = CoOp(backbone, context=3, class_specific=class_specific)._model(CLASSES)
    images = torch.randn(6, 24, generator=torch.Generator().manual_seed(1)).double()
    labels = torch.arange(6) % 3

    def loss() -> torch.Tensor:
        return torch.nn.functional.cross_entropy(model(images), labels)

    loss().backward()
    gradient = model.context.grad.clone()
    assert (gradient.abs().amax(-1) > 1e-9).all()
    assert gradients_by_differences(loss, [model.context])[0] == pytest.approx(
        gradient.norm().item(), rel=1e-4
    )
    calls = count_texts(monkeypatch, backbone)
    monkeypatch.setattr(class_prompts, "TEXTS_AT_ONCE", 2)
    model.context.grad = None
    loss().backward()
    assert calls == [2, 1, 1, 2], "each part once, and once more on the way back"
    torch.testing.assert_close(model.context.grad, gradient, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("position", ["end", "front"])
@pytest.mark.parametrize("at_once", [128, 6, 2])
def test_context_that_classes_share_is_context_that_each_has(
    at_once: int, position: str, reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under several contexts; all texts at once, some contexts at once, some classes at once."""
    backbone = reference("clip").backbone
    prompts = ClassPrompts.of_names(backbone, CLASSES, 4, position)
    contexts = torch.randn(5, 1, 4, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)
    expected = prompts(contexts.expand(-1, 3, -1, -1))
    monkeypatch.setattr(class_prompts, "TEXTS_AT_ONCE", at_once)
    found = prompts(contexts)
    assert found.shape == (5, 3, 24)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    mine, theirs = (torch.autograd.grad(v.square().sum(), contexts)[0] for v in (found, expected))
    torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4 * theirs.abs().max().item())


def test_all_classes_are_encoded_at_once_and_none_for_predicting(
    reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = reference("clip").backbone
    calls = count_texts(monkeypatch, backbone)
    model = fitted(backbone)
    # An epoch's validation serves the next one's first step, and the last one's what is kept.
    steps, last_validation, restored = 2 * 3, 1, "best" not in model.history[-1]
    assert calls == [3] * (steps + last_validation + restored)
    calls.clear()
    model.predict_proba(torch.randn(50, 24))
    CoOp(backbone).load_state(model.classes, model.state()).predict_proba(torch.randn(5, 24))
    assert calls == []


@pytest.mark.parametrize("class_specific", [False, True])
def test_it_learns(class_specific: bool, reference) -> None:
    recipe = Recipe(epochs=20, learning_rate=0.05, batch_size=8, warmup_epochs=0)
    model = fitted(reference("clip").backbone, recipe=recipe, class_specific=class_specific)
    assert model.history[-1]["loss"] < 0.5 * model.history[0]["loss"]
    if class_specific:  # one context for all cannot tell any three classes apart in random towers
        table = made_up(CLASSES, 30, 24, seed=3)
        assert (model.predict_proba(table.plain).argmax(1) == table.labels.numpy()).mean() > 0.9


def test_the_frozen_tower_stays_frozen(reference) -> None:
    backbone = reference("clip").backbone
    before = {name: tensor.clone() for name, tensor in backbone._model.state_dict().items()}
    model = fitted(backbone)
    start = ContextClassifier(*model._prompts(CLASSES), backbone.logit_scale).context
    assert not torch.allclose(model.state()["context"], start, atol=1e-4)
    for name, tensor in backbone._model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_published_defaults() -> None:
    model = CoOp(StubBackbone())
    assert model.options() == {
        "context": 16,
        "class_specific": False,
        "position": "end",
        "init_words": "",
        "recipe": model.options()["recipe"],
        "seed": 1,
    }
    recipe = get_recipe("paper", CoOp.recipes)
    assert (recipe.optimizer, recipe.learning_rate, recipe.momentum, recipe.weight_decay) == (
        "sgd", 0.002, 0.9, 5e-4,
    )  # fmt: skip
    assert (recipe.epochs, recipe.batch_size, recipe.select_by) == (200, 32, "last")
    assert (recipe.warmup_epochs, recipe.warmup_learning_rate) == (1, 1e-5)
    assert model.recipe == recipe


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"context": 0}, "context is 0.*1 or more"),
        ({"position": "back"}, "position is 'back'.*end, middle, front"),
        ({"recipe": "slow"}, "no recipe 'slow'.*paper, fast"),
        ({"contxt": 3}, "coop: .*contxt.*leave that option out"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict, said: str, reference) -> None:
    with pytest.raises(UsageError, match=said):
        create_method("coop", reference("clip").backbone, None, **options)


def test_a_prompt_that_is_too_long_is_refused_before_anything_is_encoded(
    reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = reference("clip").backbone
    forbid_texts(monkeypatch, backbone)
    # START, ten letters and END are twelve of the 77 tokens, the full stop is one
    names = ("a", "b" * 10)
    for context in (64, 65):
        model = CoOp(backbone, context=context)
        if context == 64:
            model._model(names)
            continue
        with pytest.raises(UsageError, match=r"'bbbbbbbbbb\.' and 65 context vectors make 78 .* takes 77"):
            model.fit(made_up(names, 8, 24), made_up(names, 8, 24))
        assert model.history == []
