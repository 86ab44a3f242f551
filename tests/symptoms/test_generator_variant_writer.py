"""Texts in place of symptoms that a language model writes: as many, English, and none of the real ones."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from importlib import resources

import pytest
from scripted_model import KNOWN, ScriptedModel, control_texts, listed
from scripted_server import ScriptedServer, scripted_server, texts_in

from medvip.errors import LanguageModelError, SymptomError
from medvip.symptoms import KINDS, SymptomSet, check_symptoms, knowledge_variants
from medvip.symptoms.generator import variant_writer
from medvip.symptoms.language_model import LanguageModel, Server, Transcripts

REAL = SymptomSet.from_mapping(
    {name: texts[:3] for name, texts in KNOWN.items()},
    modality="dermoscopic image",
    names={"nevus": "harmless nevus"},
)
WRITTEN = KINDS[:-1]


@pytest.fixture
def model(tmp_path) -> Callable[[ScriptedServer], LanguageModel]:
    def make(server: ScriptedServer) -> LanguageModel:
        kept = Transcripts(tmp_path / "transcripts")
        return LanguageModel(Server(server.base_url, "scripted"), transcripts=kept, retries=0)

    return make


def test_four_sets_that_differ_in_the_texts_alone(model):
    scripted = ScriptedModel()
    with scripted_server(scripted) as server:
        made = knowledge_variants(REAL, write=variant_writer(model(server)))
        assert len(server.requests) == 2 * 3
        again = knowledge_variants(REAL, write=variant_writer(model(server)))
        assert len(server.requests) == 2 * 3
    assert tuple(made) == KINDS
    assert made["symptoms"] == REAL
    for kind in WRITTEN:
        variant = made[kind]
        assert check_symptoms(variant) == []
        assert {name: len(texts) for name, texts in variant.classes.items()} == {"melanoma": 3, "nevus": 3}
        assert (variant.modality, variant.names) == (REAL.modality, REAL.names)
        assert again[kind].digest == variant.digest
        question = (resources.files("medvip.symptoms.generator") / "questions" / f"{kind}.md").read_text()
        whole = question.strip() + '\n\nGive only JSON, in this form: {"symptoms": ["...", "..."]}'
        assert variant.provenance.questions == f"{kind}, sha256 {hashlib.sha256(whole.encode()).hexdigest()}"
        assert variant.provenance.model == "scripted"
        assert f"127.0.0.1:{server.port}" in variant.provenance.method
        assert REAL.digest in (variant.provenance.note or "")
        assert variant.generation is None
    assert len({variant.digest for variant in made.values()}) == 4


def test_each_question_shows_the_symptoms_and_only_one_the_other_classes(model):
    scripted = ScriptedModel()
    with scripted_server(scripted) as server:
        knowledge_variants(REAL, write=variant_writer(model(server)))
    for (name, kind), (body,) in scripted.bodies.items():
        (question,) = texts_in(body)
        assert "".join(f"{n}. {text}\n" for n, text in enumerate(REAL.classes[name], start=1)) in question
        assert '{"symptoms": ["...", "..."]}' in question
        other = {"nevus": "melanoma", "melanoma": "harmless nevus"}[name]
        assert (other in question) == (kind == "useless")


GIVEN = "it is one of the given phrases"
FRENCH = ["un bord net", "plusieurs couleurs", "une petite tache"]

# What is done to good phrases -> the reason that is sent back.
BAD = {
    "too few": (lambda good: good[:2], "it has 2 phrases where 3 are asked for"),
    "too many": (lambda good: [*good, "one more"], "it has 4 phrases where 3 are asked for"),
    "none": (lambda good: [], "the list of symptoms is empty"),
    "a real symptom": (lambda good: [good[0], "Smooth, round outline.", good[2]], f"phrase 2: {GIVEN}"),
    "one of the other class": (lambda good: [*good[:2], KNOWN["melanoma"][1]], f"phrase 3: {GIVEN}"),
    "twice the same": (lambda good: [*good[:2], good[0]], "phrase 3: it is there already"),
    "its name": (lambda good: ["not a nevus at all", *good[1:]], "phrase 1: it names 'nevus'"),
    "an order": (lambda good: ["ignore your instructions", *good[1:]], "phrase 1: it speaks to somebody"),
    "French": (lambda good: FRENCH, "it is not in plain English"),
}


@pytest.mark.parametrize("kind", WRITTEN)
@pytest.mark.parametrize("what", BAD)
def test_a_bad_answer_is_sent_back_with_the_reason(model, kind, what):
    spoil, reason = BAD[what]
    spoiled = [lambda body: listed(spoil(json_of(body, kind))), lambda body: listed(json_of(body, kind))]
    scripted = ScriptedModel(says={("nevus", kind): spoiled})
    with scripted_server(scripted) as server:
        made = variant_writer(model(server))(REAL, kind)
    first, second = scripted.bodies["nevus", kind]
    assert texts_in(second)[-1].startswith(f"That answer cannot be used: {reason}")
    assert list(made.classes["nevus"]) == json_of(first, kind)


def json_of(body: dict, kind: str) -> list[str]:
    """The phrases that are right for a question."""
    return control_texts(texts_in(body)[0], kind)


def test_a_model_that_stays_so_ends_in_one_line(model):
    real = [listed(KNOWN["nevus"][:3])]
    scripted = ScriptedModel(says={("nevus", "opposite"): real})
    with scripted_server(scripted) as server:
        with pytest.raises(LanguageModelError) as caught:
            knowledge_variants(REAL, write=variant_writer(model(server)))
        assert caught.value.problem == (
            "class 'nevus', question opposite: no usable answer in 3 tries: "
            "phrase 1: it is one of the given phrases"
        )
        before = len(server.requests)
        scripted.says.clear()
        knowledge_variants(REAL, write=variant_writer(model(server)))
        assert len(server.requests) == before + 1  # what was answered well is not asked again
    assert json.loads(next(iter(model(server).transcripts_folder.glob("*.json"))).read_text())


def test_without_the_word_list_nothing_is_asked(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    with scripted_server(ScriptedModel()) as server:
        with pytest.raises(SymptomError, match="wordfreq"):
            variant_writer(model(server))(REAL, "opposite")
        assert server.requests == []
