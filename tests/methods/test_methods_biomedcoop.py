"""BiomedCoOp's pruning against numpy, and its loss sentence by sentence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from prompt_models import (
    Reference,
    StubBackbone,
    cosine_by_loop,
    learned,
    softmax_by_loop,
)
from small_models import forbid_texts, made_up

from medvip.backbones import load_backbone
from medvip.errors import SymptomError, UsageError
from medvip.methods import create_method
from medvip.methods.biomedcoop import BiomedCoOp, no_outliers
from medvip.methods.coop import CoOp
from medvip.symptoms import SymptomSet
from medvip.training import Recipe, get_recipe

CLASSES = ("blue", "green", "red")
SHORT = Recipe(epochs=3, learning_rate=0.05, batch_size=8, warmup_epochs=0, select_by="last")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def symptoms(tiny_symptoms: dict[str, list[str]]) -> SymptomSet:
    more = {**tiny_symptoms, "blue": [*tiny_symptoms["blue"], "far away", "like a deep lake"]}
    return SymptomSet.from_mapping(more, names={"red": "blood red"})


@pytest.fixture(scope="module", params=["clip", "siglip"])
def one(request: pytest.FixtureRequest, tiny_clip: Path, tiny_siglip: Path) -> Reference:
    return Reference(request.param, tiny_siglip if request.param == "siglip" else tiny_clip)


@pytest.fixture(scope="module")
def clip(tiny_clip: Path) -> Reference:
    return Reference("clip", tiny_clip)


def kept_by_numpy(scores: np.ndarray, tau: float) -> np.ndarray:
    deviation = np.abs(scores - np.median(scores))
    return deviation <= tau * np.median(deviation)


scores_of_classes = st.lists(
    st.lists(st.integers(-40, 40).map(lambda n: n / 8), min_size=1, max_size=7), min_size=1, max_size=4
)  # eighths: no rounding, and many ties


@given(scores=scores_of_classes, tau=st.sampled_from([1.0, 1.5, 3.0]))
def test_outliers_are_those_of_the_median_absolute_deviation(scores: list[list[float]], tau: float) -> None:
    longest = max(map(len, scores))
    present = torch.tensor([[i < len(row) for i in range(longest)] for row in scores])
    padded = torch.tensor([row + [1e6] * (longest - len(row)) for row in scores])  # absent: must not matter
    found = no_outliers(padded, present, tau)
    assert not (found & ~present).any()
    for row, kept in zip(scores, found, strict=True):
        assert kept[: len(row)].tolist() == kept_by_numpy(np.array(row), tau).tolist()
        assert 2 * int(kept.sum()) >= len(row), "at least half remain"


def sentences_of(symptoms: SymptomSet) -> list[list[str]]:
    names = {"red": "blood red"}
    return [
        [f"a photo of a {names.get(label, label)}, {text}." for text in symptoms.classes[label]]
        for label in CLASSES
    ]


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def test_the_loss_sentence_by_sentence(one: Reference, symptoms: SymptomSet) -> None:
    near = one.kind == "siglip"  # in its random tower all texts are near each other
    consistency, distillation = (400.0, 100.0) if near else (40.0, 3.0)
    made = BiomedCoOp(
        one.backbone, symptoms, consistency=consistency, distillation=distillation, tau=1.2, seed=3
    )
    model = made._model(CLASSES)
    table = made_up(CLASSES, 7, one.backbone.embed_dim, seed=5)
    loss = model.backward(table.plain, table.labels)

    scale = math.exp(one.backbone.logit_scale)
    learned_vectors = [
        unit(one.vector(one.prompt(name, model.context.detach()))) for name in ("blue", "green", "blood red")
    ]
    sentences = [[unit(one.text(text)) for text in texts] for texts in sentences_of(symptoms)]
    images = table.plain.double().numpy()
    teachers, pruned = [], 0
    for vectors in sentences:
        scores = [np.mean([scale * cosine_by_loop(image, vector) for image in images]) for vector in vectors]
        kept = kept_by_numpy(np.array(scores), 1.2)
        pruned += int((~kept).sum())
        teachers.append(unit(np.mean([v for v, good in zip(vectors, kept, strict=True) if good], axis=0)))
    assert pruned > 0
    entropy = divergence = 0.0
    for image, label in zip(images, table.labels.tolist(), strict=True):
        q = softmax_by_loop([scale * cosine_by_loop(image, vector) for vector in learned_vectors])
        p = softmax_by_loop([scale * cosine_by_loop(image, vector) for vector in teachers])
        entropy -= math.log(q[label]) / 7
        divergence += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / 7 / 3
    means = [unit(np.mean(vectors, axis=0)) for vectors in sentences]
    squared = np.mean([(w - m) ** 2 for w, m in zip(learned_vectors, means, strict=True)])
    further = consistency * squared, distillation * divergence
    assert min(further) > 4e-3
    assert loss.item() == pytest.approx(entropy + sum(further), rel=2e-4)


@pytest.fixture
def _in_double() -> Iterator[None]:
    torch.set_default_dtype(torch.double)
    yield
    torch.set_default_dtype(torch.float)


@pytest.mark.usefixtures("_in_double")
def test_gradients(tiny_clip: Path, symptoms: SymptomSet) -> None:
    backbone = load_backbone(str(tiny_clip), device="cpu")
    backbone._model.double()
    made = BiomedCoOp(backbone, symptoms, consistency=5.0, distillation=2.0, init_words="")
    model = made._model(CLASSES)
    table = made_up(CLASSES, 7, 24, seed=5)
    images = table.plain.double()

    def loss() -> torch.Tensor:
        return model.backward(images, table.labels)

    loss()
    gradient = model.context.grad.clone()
    assert (gradient.abs().amax(-1) > 1e-9).all()
    values = []
    direction = gradient / gradient.norm()
    for sign in (1, -1):
        with torch.no_grad():
            model.context += sign * 1e-5 * direction
        values.append(loss().item())
        with torch.no_grad():
            model.context -= sign * 1e-5 * direction
    assert (values[0] - values[1]) / 2e-5 == pytest.approx(gradient.norm().item(), rel=1e-4)


def fitted(method: type[CoOp], backbone, symptoms: SymptomSet, **options) -> CoOp:
    options = {"recipe": SHORT, "context": 4, "init_words": "a photo of a"} | options
    train, validation = made_up(CLASSES, 24, backbone.embed_dim), made_up(CLASSES, 9, backbone.embed_dim)
    return method(backbone, symptoms, **options).fit(train, validation)


def test_without_its_two_terms_it_is_coop_to_the_bit(clip: Reference, symptoms: SymptomSet) -> None:
    coop = fitted(CoOp, clip.backbone, symptoms).state()["class_vectors"]
    none = fitted(BiomedCoOp, clip.backbone, symptoms, consistency=0.0, distillation=0.0)
    assert torch.equal(none.state()["class_vectors"], coop)
    for options in ({"consistency": 9.0, "distillation": 0.0}, {"consistency": 0.0, "distillation": 9.0}):
        other = fitted(BiomedCoOp, clip.backbone, symptoms, **options)
        assert not torch.equal(other.state()["class_vectors"], coop)


def test_much_consistency_keeps_classes_near_their_sentences(clip: Reference, symptoms: SymptomSet) -> None:
    means = np.stack(
        [np.mean([unit(clip.text(t)) for t in texts], axis=0) for texts in sentences_of(symptoms)]
    )
    near = []
    for weight in (0.0, 500.0):
        recipe = Recipe(epochs=10, learning_rate=0.002, batch_size=8, select_by="last")
        model = fitted(BiomedCoOp, clip.backbone, symptoms, consistency=weight, recipe=recipe)
        vectors = model.state()["class_vectors"].double()
        near.append(torch.cosine_similarity(vectors, torch.tensor(means)).mean())
    assert near[1] > near[0] + 0.1


def test_the_order_of_symptoms_means_nothing(clip: Reference, symptoms: SymptomSet) -> None:
    table = made_up(CLASSES, 7, 24, seed=5)
    losses = []
    for order in (1, -1):
        texts = {name: texts[::order] for name, texts in symptoms.classes.items()}
        model = BiomedCoOp(clip.backbone, SymptomSet.from_mapping(texts))._model(CLASSES)
        losses.append(model.backward(table.plain, table.labels))
    torch.testing.assert_close(losses[0], losses[1], atol=1e-4, rtol=1e-4)


def test_one_symptom_a_class_is_enough(clip: Reference) -> None:
    model = fitted(BiomedCoOp, clip.backbone, SymptomSet.from_mapping({name: ["leafy"] for name in CLASSES}))
    rows = model.predict_proba(made_up(CLASSES, 5, 24).plain)
    np.testing.assert_allclose(rows.sum(1), 1, atol=1e-12)


def test_it_learns(clip: Reference, symptoms: SymptomSet) -> None:
    recipe = Recipe(epochs=25, learning_rate=0.05, batch_size=8, select_by="last")
    model = fitted(BiomedCoOp, clip.backbone, symptoms, recipe=recipe, class_specific=True)
    assert model.history[-1]["loss"] < 0.7 * model.history[0]["loss"]


def test_published_defaults(symptoms: SymptomSet) -> None:
    made = BiomedCoOp(StubBackbone(), symptoms)
    options = made.options()
    assert (options["context"], options["init_words"]) == (4, "a photo of a")
    assert (options["consistency"], options["distillation"], options["tau"]) == (0.5, 0.25, 1.5)
    recipe = get_recipe("paper", BiomedCoOp.recipes)
    assert (recipe.learning_rate, recipe.epochs, recipe.batch_size, recipe.select_by) == (
        0.0025,
        100,
        4,
        "last",
    )
    assert learned(made._model(CLASSES)) == 2048


@pytest.mark.parametrize("name", ["consistency", "distillation"])
def test_negative_weights_are_refused(name: str, symptoms: SymptomSet) -> None:
    with pytest.raises(UsageError, match=rf"{name} is -1\.0.*0 or more"):
        create_method("biomedcoop", StubBackbone(), symptoms, **{name: -1.0})


def test_a_tau_that_could_prune_everything_is_refused(symptoms: SymptomSet) -> None:
    with pytest.raises(UsageError, match=r"tau is 0\.9.*1 or more"):
        create_method("biomedcoop", StubBackbone(), symptoms, tau=0.9)


def test_symptoms_that_cannot_be_used_are_refused_first(
    clip: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_texts(monkeypatch, clip.backbone)
    table = made_up(CLASSES, 6, 24)
    for texts, error, said in (
        (["leafy", "leafy"], SymptomError, "stands in this class already"),
        (["x" * 80], SymptomError, "too long"),
        (["x" * 70], UsageError, r"a photo of a blue, x+\.\.\.' makes 87 .* takes 77"),  # itself it fits
    ):
        symptoms = SymptomSet.from_mapping({"blue": texts, "green": ["a"], "red": ["b"]})
        with pytest.raises(error, match=said):
            BiomedCoOp(clip.backbone, symptoms).fit(table, table)
    with pytest.raises(UsageError, match="'biomedcoop' needs symptoms"):
        create_method("biomedcoop", clip.backbone, None)
