"""Symptoms end in a full stop, as in the paper's released code: held against the tokenizers themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from small_models import embedded_with_any_map, made_up, texts_by_transformers

from medvip.backbones import Backbone, load_backbone
from medvip.errors import SymptomError
from medvip.evaluation.benchmark.rows import full_options
from medvip.explanation import Change, changed_method
from medvip.methods import METHODS, create_method, options_of
from medvip.methods.prompts import FULL_STOPS, as_read, closed
from medvip.symptoms import SymptomSet
from medvip.symptoms.checking import words
from medvip.training import Recipe

CLASSES = ("blue", "green", "red")
RECIPE = Recipe(epochs=1, learning_rate=0.05, warmup_epochs=0, batch_size=8, select_by="last")
CLOSING = (
    "vip",
    "vip-merge",
    "vip-context-mean",
    "vip-context-max",
    "vip-whitened",
    "zero-shot-symptoms",
    "zero-shot-symptoms-max",
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def backbones(tiny_clip: Path) -> dict[str, Backbone]:
    return {"clip": load_backbone(str(tiny_clip), device="cpu"), "embedded": embedded_with_any_map()}


@pytest.fixture
def clip(backbones) -> Backbone:
    return backbones["clip"]


@pytest.fixture
def symptoms(tiny_symptoms: dict[str, list[str]]) -> SymptomSet:
    return SymptomSet.from_mapping(tiny_symptoms)


def fit(name: str, backbone: Backbone, symptoms: SymptomSet, **options):
    options = ({"recipe": RECIPE} if "recipe" in options_of(name) else {}) | options
    train, validation = made_up(CLASSES, 12, backbone.embed_dim), made_up(CLASSES, 6, backbone.embed_dim)
    return create_method(name, backbone, symptoms, **options).fit(train, validation)


# ------------------------------------------------------------------ the words


@given(text=st.text(max_size=30) | st.text(f'ab !?)" \t\n{FULL_STOPS}', max_size=12))
@example("ragged edge")
@example("ragged edge. ")
@example("ragged edge...")
@example("边缘清晰。")
def test_closing_adds_one_full_stop_or_none(text: str) -> None:
    found = closed(text)
    assert found[-1] in FULL_STOPS
    assert closed(found) == found
    assert found in (text.rstrip(), text.rstrip() + ".")
    assert words(found) == words(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ragged edge", "ragged edge."),
        ("ragged edge.", "ragged edge."),
        ("ragged edge \n", "ragged edge."),
        ("ragged edge. ", "ragged edge."),
        ("ragged edge ...", "ragged edge ..."),
        ("ragged edge…", "ragged edge…"),
        ("ragged edge!", "ragged edge!."),
        ("is it ragged?", "is it ragged?."),
        ("edge (ragged.)", "edge (ragged.)."),
        ("5 mm;", "5 mm;."),
        ("边缘清晰。", "边缘清晰。"),
        ("किनारा साफ़ है।", "किनारा साफ़ है।"),
    ],
)
def test_what_counts_as_a_full_stop(text: str, expected: str) -> None:
    assert closed(text) == expected
    assert as_read([text, "b"], full_stop=True) == (expected, "b.")
    assert as_read([text, "b"], full_stop=False) == (text, "b")


# ------------------------------------------------------------------ the tokens


def ids_by_tokenizers(kind: str, folder: Path, texts: Sequence[str]) -> list[list[int]]:
    """Token numbers, start and end among them, from the tokenizer's own file by `tokenizers` alone."""
    if kind == "clip":
        from transformers import CLIPTokenizer

        tokenizer = CLIPTokenizer.from_pretrained(folder)
        return [tokenizer(text)["input_ids"] for text in texts]
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return [tokenizer.encode(text).ids for text in texts]


@pytest.mark.parametrize("full_stop", [None, False])
@pytest.mark.parametrize(("kind", "name"), [("embedded", "vip"), *(("clip", name) for name in CLOSING)])
def test_what_is_embedded_are_the_tokens_of_symptom_and_full_stop(
    kind: str,
    name: str,
    full_stop: bool | None,
    backbones,
    tiny_clip: Path,
    tiny_symptoms: dict[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone, seen = backbones[kind], []
    tiny_symptoms = {**tiny_symptoms, "blue": ["cold water.", "the color of ink"]}
    written = [text for label in CLASSES for text in tiny_symptoms[label]]
    tail = "" if full_stop is False else "."
    texts = [text if text.endswith(".") else f"{text}{tail}" for text in written]
    folder = tiny_clip if kind == "clip" else backbone._text_folder
    expected = ids_by_tokenizers(kind, folder, texts)
    embed = backbone.embed_tokens
    monkeypatch.setattr(backbone, "embed_tokens", lambda ids: seen.append(ids.tolist()) or embed(ids))
    given = {} if full_stop is None else {"full_stop": full_stop}
    model = fit(name, backbone, SymptomSet.from_mapping(tiny_symptoms), **given)
    assert [[row[: len(ids)] for row, ids in zip(rows, expected, strict=True)] for rows in seen] == [
        expected
    ] * len(seen)
    assert seen
    assert model.options()["full_stop"] is (full_stop is not False)


def test_all_methods_that_have_the_option_are_tested_here() -> None:
    assert {name for name in METHODS if "full_stop" in options_of(name)} == set(CLOSING)


def test_biomedcoops_sentence_ends_in_one_full_stop(clip: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    tokenize = clip.tokenize
    monkeypatch.setattr(clip, "tokenize", lambda texts: seen.extend(texts) or tokenize(texts))
    by_class = {"blue": ["cold."], "green": ["leafy"], "red": ["warm"]}
    fit("biomedcoop", clip, SymptomSet.from_mapping(by_class))
    sentences = {f"a photo of a {name}, {text.rstrip('.')}." for name, (text,) in by_class.items()}
    assert sentences <= set(seen)


# ------------------------------------------------------------------ lengths, changes, new classes


@pytest.mark.parametrize("name", CLOSING)
def test_the_full_stop_counts_as_a_token(name: str, clip: Backbone, tiny_symptoms) -> None:
    context = 4 if "context" in options_of(name) else 0
    text = "x" * (75 - context)  # with start and end all that the text encoder takes
    symptoms = SymptomSet.from_mapping({**tiny_symptoms, "green": [text]})
    with pytest.raises(SymptomError, match=r"too long: .*shorten it by 1 tokens"):
        fit(name, clip, symptoms)
    fit(name, clip, symptoms, full_stop=False)


@pytest.mark.parametrize("name", ["vip", "vip-context-max", "zero-shot-symptoms"])
@pytest.mark.parametrize("full_stop", [True, False])
def test_new_words_are_closed_as_the_others_were(
    name: str, full_stop: bool, clip: Backbone, tiny_clip: Path, symptoms: SymptomSet
) -> None:
    model = fit(name, clip, symptoms, full_stop=full_stop)
    changed = changed_method(model, [Change("green", "leafy", "green leaves")])
    context = model.state().get("context_prompt", torch.zeros(0, 32))
    text = "green leaves." if full_stop else "green leaves"
    (expected,) = texts_by_transformers("clip", tiny_clip, clip, [text], context)
    np.testing.assert_allclose(changed.state()["symptom_vectors"][1, 1], expected, atol=1e-4)
    assert changed.options() == model.options()
    assert changed.symptoms is not None
    assert "green leaves" in changed.symptoms.classes["green"], "as it was written"
    longest = "x" * (75 - len(context))
    with pytest.raises(SymptomError, match="too long") if full_stop else np.errstate():
        changed_method(model, [Change("green", "leafy", longest)])


@pytest.mark.parametrize("full_stop", [True, False])
def test_symptoms_of_new_classes_are_closed_as_the_others_were(
    full_stop: bool, clip: Backbone, tiny_clip: Path, symptoms: SymptomSet
) -> None:
    model = fit("vip-context-mean", clip, symptoms, full_stop=full_stop)
    new = {"cat": ["furry"], "dog": ["barks a lot"]}
    predict = model.on_new_classes(tuple(new), SymptomSet.from_mapping(new))
    texts = [f"{text}{'.' if full_stop else ''}" for (text,) in new.values()]
    vectors = texts_by_transformers("clip", tiny_clip, clip, texts, model.state()["context_prompt"])
    images = torch.randn(5, 24, generator=torch.Generator().manual_seed(1))
    cosines = torch.nn.functional.cosine_similarity(images[:, None], torch.from_numpy(vectors)[None], dim=-1)
    expected = (np.exp(clip.logit_scale) * cosines.double()).softmax(-1)
    np.testing.assert_allclose(predict(images), expected, atol=1e-5)


def test_a_study_can_turn_it_off() -> None:
    assert full_options("vip", {})["full_stop"] is True
    assert full_options("zero-shot-symptoms", {"full_stop": False}) == {"full_stop": False}
