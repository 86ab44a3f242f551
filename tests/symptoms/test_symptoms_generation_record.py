"""The record of how a language model wrote a set: strict, without names of files or keys."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvip.errors import SymptomError
from medvip.symptoms import Decision, Generation, SymptomSet

RECORD: dict[str, Any] = {
    "server": "models.example.org:8000",
    "model": "a-vision-model",
    "questions": {"coarse": hashlib.sha256(b"What can be seen?").hexdigest(), "fine": "0" * 64},
    "seed": 7,
    "stages": ["coarse", "contrastive", "fine", "reconcile", "refine"],
    "calls": 9,
    "answers": 12,
    "prompt_tokens": 3456,
    "completion_tokens": 789,
    "pictures": {"nevus": ["0123abcd", hashlib.sha256(b"pixels").hexdigest()], "melanoma": []},
    "decisions": {
        "nevus": [
            {"symptom": "one even color", "kept": True, "feature": "evenly brown"},
            {"symptom": "itching", "kept": False, "reason": "it cannot be seen"},
        ]
    },
    "note": "in two languages: 黑色素瘤",
}
NATIVE: dict[str, Any] = {
    "format": "medvip-symptoms",
    "version": 1,
    "modality": "dermoscopic image",
    "classes": {"nevus": ["one even color"], "melanoma": ["several colors"]},
    "provenance": {"author": "A. Doctor", "method": "drafted by a language model", "date": "2026-11-23"},
    "generation": RECORD,
}


def loaded(document: object) -> SymptomSet:
    return SymptomSet.from_json(json.dumps(document), origin="a.json")


def test_the_record_is_read_and_written_as_it_was():
    symptoms = loaded(NATIVE)
    record = symptoms.generation
    assert record is not None
    assert record.stages == ("coarse", "contrastive", "fine", "reconcile", "refine")
    assert record.pictures["nevus"][0] == "0123abcd"
    assert record.decisions["nevus"][1] == Decision("itching", False, reason="it cannot be seen")
    assert json.loads(symptoms.to_json()) == NATIVE
    assert Generation.from_dict(record.to_dict(), "a.json") == record


def test_only_the_needed_fields():
    needed = ("server", "model", "questions", "seed", "stages", "calls", "answers")
    record = Generation.from_dict(
        {name: RECORD[name] for name in needed} | {"note": None, "pictures": None}, "a.json"
    )
    assert (record.prompt_tokens, record.completion_tokens, record.note) == (None, None, None)
    assert record.pictures == record.decisions == {}
    assert Generation.from_dict(record.to_dict(), "a.json") == record


def test_the_record_changes_nothing_that_a_model_is_trained_on():
    plain = loaded({name: value for name, value in NATIVE.items() if name != "generation"})
    assert plain.generation is None
    assert plain.digest == loaded(NATIVE).digest
    assert plain != loaded(NATIVE)
    assert "generation" not in json.loads(plain.to_json())
    made = SymptomSet.from_mapping(NATIVE["classes"], generation=loaded(NATIVE).generation)
    assert made.generation == loaded(NATIVE).generation


def test_it_is_immutable_hashable_and_travels_to_other_processes():
    symptoms = loaded(NATIVE)
    assert symptoms.generation is not None
    with pytest.raises(TypeError):
        symptoms.generation.pictures["nevus"] = ()  # pyright: ignore[reportIndexIssue]
    for other in (pickle.loads(pickle.dumps(symptoms)), copy.deepcopy(symptoms)):
        assert other == symptoms
        assert hash(other.generation) == hash(symptoms.generation)
    assert replace(symptoms.generation, seed=8) != symptoms.generation


def test_what_it_was_given_can_change_afterwards():
    pictures = {"nevus": ["0123abcd"]}
    record = Generation(
        "localhost",
        "m",
        {},
        1,
        ["coarse"],  # pyright: ignore[reportArgumentType]
        calls=1,
        answers=1,
        pictures=pictures,  # pyright: ignore[reportArgumentType]
    )
    pictures["nevus"].append("/home/patient.png")
    assert record.pictures == {"nevus": ("0123abcd",)}
    assert record.stages == ("coarse",)


@pytest.mark.parametrize(
    "server",
    [
        "localhost",
        "127.0.0.1:11434",
        "[::1]:8000",
        "[2001:db8::1]",
        "api.example-host.com",
        "müller.example:1",
    ],
)
def test_a_host_is_a_server(server: str):
    assert loaded(NATIVE | {"generation": RECORD | {"server": server}}).generation is not None


@pytest.mark.parametrize(
    "server",
    [
        "https://api.example.com",
        "api.example.com/v1",
        "me:SECRET@api.example.com",
        "api.example.com?key=SECRET",
        "api.example.com:8000:SECRET",
        "host:99999",
        "host:",
        "two hosts",
        "host\x1b[31m",
        "::1",
        "",
        3,
    ],
)
def test_what_is_more_than_a_host_is_refused_and_not_repeated(server: object):
    with pytest.raises(SymptomError, match="the server is more than a host") as caught:
        loaded(NATIVE | {"generation": RECORD | {"server": server}})
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    "picture",
    [
        "DOE_JANE_1961.png",
        "/data/0123abcd",
        "0123abcd.png",
        "0123ABCD",
        "0123abc",
        "0" * 65,
        " 0123abcd",
        "0123abcd\n",
        "٠١٢٣٤٥٦٧",
        123456789,
        None,
        ["0123abcd"],
    ],
)
def test_no_file_name_can_stand_for_a_picture(picture: object):
    with pytest.raises(SymptomError) as caught:
        loaded(NATIVE | {"generation": RECORD | {"pictures": {"nevus": ["0123abcd", picture]}}})
    assert str(caught.value).startswith("a.json, generation, pictures of 'nevus', 2: that is no picture's id")
    assert "DOE" not in str(caught.value)


DECISION = RECORD["decisions"]["nevus"][0]
WRONG = {
    "text": ("gpt", "generation: text where an object is expected"),
    "list": ([], "generation: a list where an object is expected"),
    "unknown": (RECORD | {"api_key": "x"}, "generation: there is no field 'api_key'"),
    "close": (RECORD | {"modell": "x"}, "did you mean 'model'?"),
    "no model": (RECORD | {"model": None}, "generation: model is missing (to mend it: add it)"),
    "blank model": (RECORD | {"model": " "}, "generation: model is blank"),
    "escape in model": (RECORD | {"model": "m\x1b[2J"}, "generation, model: control character U+001B"),
    "model, a number": (RECORD | {"model": 4}, "generation, model: a number where text is expected"),
    "questions": (RECORD | {"questions": ["coarse"]}, "questions: a list where an object is expected"),
    "question's text": (RECORD | {"questions": {"coarse": "What?"}}, "'What?' of 'coarse' is no sha256"),
    "long hash": (RECORD | {"questions": {"coarse": "0" * 65}}, "of 'coarse' is no sha256"),
    "number, no hash": (RECORD | {"questions": {"coarse": 1}}, "of 'coarse' is no sha256"),
    "blank question": (RECORD | {"questions": {" ": "0" * 64}}, "a name is blank"),
    "question twice": (
        RECORD | {"questions": {"a": "0" * 64, " a": "1" * 64}},
        "questions: 'a' stands twice",
    ),
    "seed": (RECORD | {"seed": "7"}, "generation, seed: text where a count is expected"),
    "true seed": (RECORD | {"seed": True}, "seed: true or false where a count is expected"),
    "negative": (RECORD | {"calls": -1}, "generation, calls: '-1' where a count is expected"),
    "half a call": (RECORD | {"calls": 1.5}, "generation, calls: a number where a count is expected"),
    "too many": (RECORD | {"prompt_tokens": 2**63}, "generation, prompt_tokens: '9223372036854775808'"),
    "stages": (RECORD | {"stages": "coarse"}, "stages: text where a list is expected"),
    "stage": (RECORD | {"stages": ["coarse", "rough"]}, "there is no stage 'rough'"),
    "stage, a list": (RECORD | {"stages": [["coarse"]]}, "there is no stage"),
    "stage twice": (RECORD | {"stages": ["fine", "fine"]}, "a stage stands twice"),
    "pictures": (RECORD | {"pictures": ["0123abcd"]}, "pictures: a list where an object is expected"),
    "pictures of": (
        RECORD | {"pictures": {"nevus": "0123abcd"}},
        "pictures of 'nevus': text where a list is expected",
    ),
    "class twice": (RECORD | {"pictures": {"nevus": [], "Nevus": []}}, "the classes 'nevus' and 'Nevus'"),
    "blank class": (RECORD | {"pictures": {"_": []}}, "the class name '_' is blank"),
    "escape in class": (RECORD | {"decisions": {"a\x1b": []}}, "class name: control character U+001B"),
    "decisions": (RECORD | {"decisions": {"nevus": {}}}, "decisions of 'nevus': an object where a list"),
    "decision": (RECORD | {"decisions": {"nevus": ["x"]}}, "decisions of 'nevus', 1: text where an object"),
    "not kept": (
        RECORD | {"decisions": {"nevus": [DECISION, {"symptom": "x"}]}},
        "decisions of 'nevus', 2: kept is missing",
    ),
    "kept": (
        RECORD | {"decisions": {"nevus": [DECISION | {"kept": "yes"}]}},
        "kept: text where true or false",
    ),
    "blank symptom": (
        RECORD | {"decisions": {"nevus": [DECISION | {"symptom": ""}]}},
        "decision: symptom is blank",
    ),
    "blank reason": (RECORD | {"decisions": {"nevus": [DECISION | {"reason": ""}]}}, "reason is blank"),
    "two lines": (
        RECORD | {"decisions": {"nevus": [DECISION | {"reason": "a\nb"}]}},
        "decision, reason: control character U+000A",
    ),
    "decision's field": (
        RECORD | {"decisions": {"nevus": [DECISION | {"file": "x.png"}]}},
        "there is no field 'file'",
    ),
    "blank note": (RECORD | {"note": ""}, "generation: note is blank"),
}


@pytest.mark.parametrize(("record", "problem"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_record_is_refused_in_one_line(record: object, problem: str):
    with pytest.raises(SymptomError) as caught:
        loaded(NATIVE | {"generation": record})
    assert problem in str(caught.value)
    assert str(caught.value).startswith("a.json, generation")
    assert str(caught.value).isprintable()


def test_what_is_no_record_is_refused():
    with pytest.raises(SymptomError, match="an object where a Generation is expected"):
        SymptomSet.from_mapping({"a": ["x"]}, generation=RECORD)  # pyright: ignore[reportArgumentType]
    with pytest.raises(SymptomError, match="an object where a Decision is expected"):
        Generation(
            "localhost",
            "m",
            {},
            1,
            (),
            calls=1,
            answers=1,
            decisions={"nevus": ({"symptom": "x", "kept": True},)},  # pyright: ignore[reportArgumentType]
        )


def test_what_was_decided_on_a_symptom():
    record = loaded(NATIVE).generation
    assert record is not None
    assert [made.kept for made in record.decided_on("NEVUS", "itching")] == [False]
    assert [made.feature for made in record.decided_on("nevus", "brown", "one even color")] == [
        "evenly brown"
    ]
    assert record.decided_on("melanoma", "itching") == record.decided_on("wart", "itching") == ()


def test_the_record_in_words():
    record = loaded(NATIVE).generation
    assert record is not None
    assert record.in_words() == (
        "a-vision-model at models.example.org:8000; stages coarse, contrastive, fine, reconcile, refine; "
        "9 requests for 12 answers; 3456 tokens asked and 789 tokens answered; seed 7; 2 pictures shown"
    )
    one = Generation(
        "h", "m", {}, 0, (), calls=1, answers=1, completion_tokens=5, pictures={"a": ("01234567",)}
    )
    assert one.in_words() == "m at h; 1 request for 1 answer; 5 tokens answered; seed 0; 1 picture shown"


LINE = st.text(
    st.characters(exclude_categories=("Cc", "Cf", "Cs", "Zl", "Zp", "Cn")), min_size=1, max_size=12
).filter(lambda text: text.strip() == text)
COUNT = st.integers(min_value=0, max_value=2**63 - 1)
CLASS = st.sampled_from(["nevus", "melanoma", "no finding", "gone since"])
RECORDS = st.builds(
    Generation,
    server=st.from_regex(r"[a-z0-9][a-z0-9.-]{0,20}(:[1-9][0-9]{0,3})?", fullmatch=True),
    model=LINE,
    questions=st.dictionaries(LINE, st.from_regex(r"[0-9a-f]{64}", fullmatch=True), max_size=3),
    seed=COUNT,
    stages=st.lists(st.sampled_from(RECORD["stages"]), unique=True).map(tuple),
    calls=COUNT,
    answers=COUNT,
    prompt_tokens=st.none() | COUNT,
    completion_tokens=st.none() | COUNT,
    pictures=st.dictionaries(
        CLASS, st.lists(st.from_regex(r"[0-9a-f]{8,64}", fullmatch=True), max_size=3).map(tuple)
    ),
    decisions=st.dictionaries(
        CLASS,
        st.lists(
            st.builds(
                Decision,
                symptom=LINE,
                kept=st.booleans(),
                feature=st.none() | LINE,
                reason=st.none() | LINE,
            ),
            max_size=3,
        ).map(tuple),
    ),
    note=st.none() | LINE,
)


@given(record=RECORDS)
@settings(max_examples=100, deadline=None)
def test_random_records_survive_writing_and_reading(record: Generation):
    plain = SymptomSet.from_mapping(NATIVE["classes"])
    symptoms = replace(plain, generation=record)
    again = SymptomSet.from_json(symptoms.to_json())
    assert again == symptoms
    assert again.generation == record
    assert again.to_json() == symptoms.to_json()
    assert symptoms.digest == plain.digest
    assert pickle.loads(pickle.dumps(record)) == record


def test_equal_records_give_equal_files():
    turned = {name: RECORD[name] for name in reversed(RECORD)}
    turned["pictures"] = {name: RECORD["pictures"][name] for name in reversed(RECORD["pictures"])}
    turned["questions"] = {name: RECORD["questions"][name] for name in reversed(RECORD["questions"])}
    assert loaded(NATIVE | {"generation": turned}).to_json() == loaded(NATIVE).to_json()
