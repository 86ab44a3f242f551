"""A changed run is the run that has those symptoms, rebuilt around what was learned."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from medvip.backbones import load_backbone
from medvip.errors import SymptomError, UsageError
from medvip.explanation import Change, changed_method, leave_one_out
from medvip.explanation.what_if import changed_images, changed_symptoms, find_change
from medvip.features import FeatureTable
from medvip.methods import ViP, create_method
from medvip.symptoms import SymptomSet
from medvip.training import Recipe

CLASSES = ("blue", "green", "red")
DROP = Change("green", "leafy")
REWORD = Change("red", "warm like fire", "the color of ripe cherries")
RECIPE = Recipe(epochs=2, learning_rate=0.05, warmup_epochs=0, batch_size=8)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def table(images: int, dim: int, seed: int = 0) -> FeatureTable:
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % 3
    vectors = torch.randn(3, dim, generator=random)[labels] + torch.randn(images, dim, generator=random)
    names = tuple(f"{row}.png" for row in range(images))
    return FeatureTable(vectors[:, None], labels, CLASSES, names, names, names, "none")


@pytest.fixture(scope="module", params=["clip", "siglip"])
def model(request, tiny_clip: Path, tiny_siglip: Path, tiny_symptoms) -> ViP:
    backbone = load_backbone(str(tiny_clip if request.param == "clip" else tiny_siglip), device="cpu")
    model = ViP(backbone, SymptomSet.from_mapping(tiny_symptoms), recipe=RECIPE)
    model.fit(table(24, backbone.embed_dim), table(24, backbone.embed_dim))
    return model


def rebuilt(model: ViP, symptoms: dict[str, list[str]]) -> np.ndarray:
    """Probabilities of ViP's own module for other symptoms, with what was learned copied into it."""
    other = ViP(model.backbone, SymptomSet.from_mapping(symptoms), context=model.context, recipe=RECIPE)
    module, learned = other._model(CLASSES), model.state()
    with torch.no_grad():
        module.context_prompt.copy_(learned["context_prompt"])
        module.merge_prompt.query.copy_(learned["merge_query"])
        module.merge_prompt.query_projection.weight.copy_(learned["merge_query_projection"])
        module.merge_prompt.key_projection.weight.copy_(learned["merge_key_projection"])
        return module.eval()(table(30, model.backbone.embed_dim, 1).plain).softmax(-1).numpy()


@pytest.mark.parametrize(
    ("changes", "symptoms"),
    [
        ([], {}),
        ([DROP], {"green": ["like fresh grass", "the color of a forest"]}),
        ([REWORD], {"red": ["the color of ripe cherries", "the color of blood"]}),
        (
            [DROP, REWORD, Change("blue", "cold water"), Change("blue", "the color of ink", "ink")],
            {
                "green": ["like fresh grass", "the color of a forest"],
                "red": ["the color of ripe cherries", "the color of blood"],
                "blue": ["like the open sky", "ink"],
            },
        ),
    ],
    ids=["nothing", "drop", "reword", "all"],
)
def test_it_is_the_run_rebuilt_with_those_symptoms(model, tiny_symptoms, changes, symptoms) -> None:
    before = model.predict_proba(table(30, model.backbone.embed_dim, 1).plain)
    changed = changed_method(model, changes)
    found = changed.predict_proba(table(30, model.backbone.embed_dim, 1).plain)
    np.testing.assert_allclose(found, rebuilt(model, tiny_symptoms | symptoms), atol=2e-5)
    assert bool(np.abs(found - before).max() > 1e-4) is bool(changes)
    assert dict(changed.symptoms.classes) == {
        name: tuple(texts) for name, texts in (tiny_symptoms | symptoms).items()
    }
    again = model.predict_proba(table(30, model.backbone.embed_dim, 1).plain)
    np.testing.assert_array_equal(again, before)


def test_attention_goes_to_what_is_left(model) -> None:
    """Dropping a symptom of weight a divides the others' weights by 1 - a: a softmax's own property."""
    before = model.state()["symptom_attention"]
    after = changed_method(model, [DROP]).state()["symptom_attention"]
    kept = before[1, [0, 2]] / (1 - before[1, 1])
    torch.testing.assert_close(after[1, :2], kept, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "name",
    ["zero-shot-symptoms", "zero-shot-symptoms-max", "vip-context-mean", "vip-context-max", "vip-merge"],
)
def test_other_methods_that_decide_by_symptoms(model, tiny_symptoms, name) -> None:
    options = {} if name.startswith("zero") else {"recipe": RECIPE}
    dim = model.backbone.embed_dim
    method = create_method(name, model.backbone, SymptomSet.from_mapping(tiny_symptoms), **options)
    method.fit(table(24, dim), table(24, dim))
    changed = changed_method(method, [DROP, REWORD])
    found = changed.predict_proba(table(30, dim, 1).plain)
    assert found.shape == (30, 3)
    assert np.abs(found - method.predict_proba(table(30, dim, 1).plain)).max() > 1e-4
    if name.startswith("zero"):
        symptoms = tiny_symptoms | {
            "green": ["like fresh grass", "the color of a forest"],
            "red": ["the color of ripe cherries", "the color of blood"],
        }
        afresh = create_method(name, model.backbone, SymptomSet.from_mapping(symptoms))
        afresh.fit(table(24, dim), table(24, dim))
        np.testing.assert_allclose(found, afresh.predict_proba(table(30, dim, 1).plain), atol=1e-5)


def test_what_does_not_decide_by_symptoms(model, tiny_symptoms) -> None:
    method = create_method("zero-shot-names", model.backbone, SymptomSet.from_mapping(tiny_symptoms))
    with pytest.raises(UsageError, match="does not decide by symptoms"):
        changed_method(method, [DROP])


# ------------------------------------------------------------------ leave one out


def test_leave_one_out_is_each_run_rebuilt(model, tiny_symptoms) -> None:
    asked = table(30, model.backbone.embed_dim, 1)
    labels, scale = asked.labels.numpy(), math.exp(model.backbone.logit_scale)
    whole = rebuilt(model, tiny_symptoms).argmax(1)
    state = {name: tensor.double().numpy() for name, tensor in model.state().items()}
    units = asked.plain.double().numpy()
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    found = leave_one_out(model, asked)
    assert len(found) == sum(map(len, tiny_symptoms.values()))
    for one in found:
        texts = [text for text in tiny_symptoms[one.class_name] if text != one.symptom]
        after = rebuilt(model, tiny_symptoms | {one.class_name: texts}).argmax(1)
        assert one.changed == (after != whole).sum()
        assert one.to_right == ((after == labels) & (whole != labels)).sum()
        assert one.to_wrong == ((after != labels) & (whole == labels)).sum()
        assert one.accuracy == pytest.approx((after == labels).mean())
        c, i = CLASSES.index(one.class_name), tiny_symptoms[one.class_name].index(one.symptom)
        t, a, s, g = (
            state["symptom_vectors"][c], state["symptom_attention"][c], state["class_vectors"][c],
            state["merge_query"][c],
        )  # fmt: skip
        shares = scale * a[i] * (units @ t[i]) / np.linalg.norm(s)
        rest = np.where(np.arange(len(a)) == i, 0, a) / (1 - a[i])
        without = g + rest @ t
        effect = scale * units @ (s / np.linalg.norm(s) - without / np.linalg.norm(without))
        assert one.attention == pytest.approx(a[i], abs=1e-6)
        assert one.stated == pytest.approx(shares.mean(), abs=1e-5)
        assert one.effect == pytest.approx(effect.mean(), abs=1e-4)
        assert one.agreement == pytest.approx(np.corrcoef(shares, effect)[0, 1], abs=1e-3)


def test_the_only_symptom_of_a_class_is_passed_over(model) -> None:
    alone = changed_method(model, [Change("red", "warm like fire")])
    found = leave_one_out(alone, table(9, model.backbone.embed_dim))
    assert {one.class_name for one in found} == {"blue", "green"}


def test_changed_images_are_named_with_their_own_classes(model) -> None:
    asked = table(4, model.backbone.embed_dim)
    before = np.array([[0.9, 0.1, 0.0], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.4, 0.3, 0.3]])
    after = np.array([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5], [0.6, 0.1, 0.3], [0.3, 0.3, 0.4]])
    found = changed_images(asked, before, after, CLASSES)
    assert [(one.path, one.label, one.before, one.after) for one in found] == [
        ("2.png", "red", "red", "blue"),
        ("1.png", "green", "green", "red"),
        ("3.png", "blue", "blue", "red"),
    ]
    assert (found[0].confidence_before, found[0].confidence_after) == (0.8, 0.6)
    assert changed_images(asked, before, before, CLASSES) == []


# ------------------------------------------------------------------ how a change is named

ODD = SymptomSet.from_mapping(
    {"a": ["one", "one and more", "Two => three"], "a: b": ["one"], "Große Zelle": ["rund", "ROT"]}
)


@pytest.mark.parametrize(
    ("given", "reword", "found"),
    [
        ("a: one", False, Change("a", "one")),
        ("a:one and", False, Change("a", "one and more")),
        ("A: TWO", False, Change("a", "Two => three")),
        ("a: b: one", False, Change("a: b", "one")),
        ("große zelle: rot", False, Change("Große Zelle", "ROT")),
        ("a: one => eins", True, Change("a", "one", "eins")),
        ("a: one and => =>", True, Change("a", "one and more", "=>")),
    ],
)
def test_changes_are_found_by_name(given, reword, found) -> None:
    assert find_change(ODD, given, reword=reword) == found


@pytest.mark.parametrize(
    ("given", "reword", "error", "said"),
    [
        ("c: one", False, SymptomError, "begins with no class"),
        ("one", False, SymptomError, "begins with no class"),
        ("", False, SymptomError, "begins with no class"),
        ("a:", False, SymptomError, "no symptom of 'a' is named"),
        ("a: o", False, SymptomError, "begins 2 symptoms"),
        ("a: four", False, SymptomError, "has no symptom 'four'"),
        ("a: one", True, UsageError, "not of the form"),
        ("a: one =>", True, UsageError, "not of the form"),
        ("a: one =>  ", True, UsageError, "not of the form"),
    ],
)
def test_what_names_no_change(given, reword, error, said) -> None:
    with pytest.raises(error, match=said) as caught:
        find_change(ODD, given, reword=reword)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([Change("a: b", "one")], "left without symptoms"),
        ([Change("a", "none")], "has no symptom"),
        ([Change("nowhere", "one")], "has no symptom"),
        ([Change("a", "one"), Change("a", "one", "uno")], "changed twice"),
        ([Change("a", "one", "bad\x1b[0m")], "control character"),
    ],
)
def test_changes_that_do_not_fit(changes, said) -> None:
    with pytest.raises(SymptomError, match=said):
        changed_symptoms(ODD, changes)


@pytest.mark.parametrize("words", ["the color of blood", "x " * 200])
def test_new_words_are_checked_like_any_symptom(model, words) -> None:
    with pytest.raises(SymptomError):
        changed_method(model, [Change("red", "warm like fire", words)])
