"""ViP's halves against single symptoms encoded by transformers, and against ViP itself."""

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
from small_models import (
    class_vectors_by_loop,
    count_texts,
    forbid_texts,
    made_up,
    probabilities_by_loop,
    texts_by_transformers,
)

from medvip.backbones import load_backbone
from medvip.errors import SymptomError, UsageError
from medvip.methods import ViP, create_method
from medvip.methods.vip_ablations import ViPContextMax, ViPContextMean, ViPMerge
from medvip.symptoms import SymptomSet
from medvip.training import RECIPES, Recipe

CLASSES = ("blue", "green", "red")
SHORT = Recipe(epochs=2, learning_rate=0.02, batch_size=8, warmup_epochs=0, select_by="last")
AGGREGATES = [(ViPContextMean, np.mean), (ViPContextMax, np.max)]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def symptoms(tiny_symptoms: dict[str, list[str]]) -> SymptomSet:
    return SymptomSet.from_mapping(tiny_symptoms)


@pytest.fixture(scope="module")
def reference(tiny_clip: Path, tiny_siglip: Path) -> Callable[[str], Reference]:
    return references(tiny_clip, tiny_siglip)


def fitted(method: type, backbone, symptoms: SymptomSet, **options):
    options = {"recipe": SHORT} | options
    train, validation = made_up(CLASSES, 24, backbone.embed_dim), made_up(CLASSES, 9, backbone.embed_dim)
    return method(backbone, symptoms, **options).fit(train, validation)


@pytest.mark.parametrize("kind", ["clip", "siglip", "embedded"])
@pytest.mark.parametrize(("method", "aggregate"), AGGREGATES)
def test_context_alone_symptom_by_symptom(
    kind: str, method: type, aggregate, reference, symptoms: SymptomSet, tiny_symptoms: dict[str, list[str]]
) -> None:
    one = reference(kind)
    model = fitted(method, one.backbone, symptoms)
    context = model.state()["context_prompt"]
    assert context.shape == (4, one.backbone.token_dim)
    images = torch.randn(3, one.backbone.embed_dim, generator=torch.Generator().manual_seed(6))
    scale, vectors = math.exp(one.backbone.logit_scale), {}
    for label in CLASSES:
        for text in tiny_symptoms[label]:
            start, words, end = one.ids(f"{text}.")
            vectors[text] = one.vector([*start, *context, *words, *end])
    expected = [
        softmax_by_loop(
            [
                scale * aggregate([cosine_by_loop(image, vectors[text]) for text in tiny_symptoms[label]])
                for label in CLASSES
            ]
        )
        for image in images.numpy()
    ]
    np.testing.assert_allclose(model.predict_proba(images), expected, atol=1e-4)


def test_merge_alone_is_the_papers_equation_without_context(
    reference, symptoms: SymptomSet, tiny_symptoms: dict[str, list[str]], tiny_clip: Path
) -> None:
    backbone = reference("clip").backbone
    model = fitted(ViPMerge, backbone, symptoms)
    state = {name: tensor.numpy() for name, tensor in model.state().items()}
    texts = [
        texts_by_transformers(
            "clip", tiny_clip, backbone, [f"{text}." for text in tiny_symptoms[name]], torch.zeros(0, 32)
        )
        for name in CLASSES
    ]
    merge = [state[name] for name in ("merge_query", "merge_query_projection", "merge_key_projection")]
    vectors, _ = class_vectors_by_loop(texts, *merge)
    images = torch.randn(5, 24, generator=torch.Generator().manual_seed(6))
    expected = probabilities_by_loop(images.numpy(), vectors, backbone.logit_scale)
    np.testing.assert_allclose(model.predict_proba(images), expected, atol=1e-5)


def test_merge_alone_is_vip_without_context_to_the_bit(reference, symptoms: SymptomSet) -> None:
    backbone = reference("clip").backbone
    model = fitted(ViPMerge, backbone, symptoms, seed=3)
    vip = fitted(ViP, backbone, symptoms, seed=3, context=0)
    for name, tensor in vip.state().items():
        assert torch.equal(model.state()[name], tensor), name
    assert "context" not in model.options()
    again = ViPMerge(backbone, symptoms, **model.options())
    assert again.options() == model.options()


def test_without_context_symptoms_are_encoded_once_in_all_the_training(
    reference, symptoms: SymptomSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = reference("clip").backbone
    calls = count_texts(monkeypatch, backbone)
    fitted(ViPMerge, backbone, symptoms)
    assert calls == [8]
    calls.clear()
    model = fitted(ViPContextMean, backbone, symptoms)
    assert calls == [8] * (2 * 3 + 1 + ("best" not in model.history[-1]))
    calls.clear()
    model.predict_proba(torch.randn(20, 24))
    assert calls == []


def test_the_number_of_learned_parameters() -> None:
    """ViP's 527,360 for CLIP ViT-B/16 are the two halves' together."""
    symptoms = SymptomSet.from_mapping({"one": ["a b", "c"], "two": ["d e f"]})
    context = learned(ViPContextMean(StubBackbone(), symptoms)._model(("one", "two")))
    from medvip.methods.vip import PromptedClassifier

    merge = learned(PromptedClassifier(StubBackbone(), symptoms.for_classes(["one", "two"]), 0, seed=1))
    assert (context, merge, context + merge) == (2048, 525_312, 527_360)


@pytest.fixture
def _in_double() -> Iterator[None]:
    torch.set_default_dtype(torch.double)
    yield
    torch.set_default_dtype(torch.float)


@pytest.mark.usefixtures("_in_double")
@pytest.mark.parametrize(("method", "aggregate"), AGGREGATES)
def test_gradients(method: type, aggregate, tiny_clip: Path, symptoms: SymptomSet) -> None:
    backbone = load_backbone(str(tiny_clip), device="cpu")
    backbone._model.double()
    model = method(backbone, symptoms, context=3)._model(CLASSES).double()
    images = torch.randn(6, 24, generator=torch.Generator().manual_seed(1)).double()

    def loss() -> torch.Tensor:
        return torch.nn.functional.cross_entropy(model(images), torch.arange(6) % 3)

    loss().backward()
    assert (model.context_prompt.grad.abs().amax(-1) > 1e-9).all()
    slope = gradients_by_differences(loss, [model.context_prompt])[0]
    assert slope == pytest.approx(model.context_prompt.grad.norm().item(), rel=1e-4)


@pytest.mark.parametrize(("method", "aggregate"), AGGREGATES)
def test_they_learn(method: type, aggregate, reference, symptoms: SymptomSet) -> None:
    recipe = Recipe(epochs=20, learning_rate=0.05, batch_size=8, select_by="last")
    model = fitted(method, reference("clip").backbone, symptoms, recipe=recipe)
    assert model.history[-1]["loss"] < 0.8 * model.history[0]["loss"]


def test_they_take_the_papers_recipe_and_encode_at_every_step(reference, symptoms: SymptomSet) -> None:
    assert ViPMerge.recipes == RECIPES
    for method in (ViPContextMean, ViPContextMax):
        assert method.recipes["paper"] == RECIPES["paper"]
        assert method.recipes["fast"].text_every == 1
    backbone = reference("clip").backbone
    every, seldom = (
        fitted(ViPContextMean, backbone, symptoms, recipe=Recipe(epochs=2, text_every=n)) for n in (1, 16)
    )
    assert torch.equal(every.state()["symptom_vectors"], seldom.state()["symptom_vectors"])


@pytest.mark.parametrize("name", ["vip-context-mean", "vip-context-max"])
def test_no_context_is_refused_there(name: str, reference, symptoms: SymptomSet) -> None:
    with pytest.raises(UsageError, match=r"nothing would be learned.*zero-shot-symptoms"):
        create_method(name, reference("clip").backbone, symptoms, context=0)


@pytest.mark.parametrize("name", ["vip-merge", "vip-context-mean", "vip-context-max"])
def test_symptoms_that_cannot_be_used_are_refused_first(name: str, reference, monkeypatch) -> None:
    backbone = reference("clip").backbone
    forbid_texts(monkeypatch, backbone)
    longest = 75 if name == "vip-merge" else 71
    too_long = SymptomSet.from_mapping({"blue": ["x" * (longest + 1)], "green": ["a"], "red": ["b"]})
    table = made_up(CLASSES, 6, 24)
    with pytest.raises(SymptomError, match="too long"):
        create_method(name, backbone, too_long).fit(table, table)
    with pytest.raises(UsageError, match=f"'{name}' needs symptoms"):
        create_method(name, backbone, None)
