"""From any text to one JSON object or a reason; and how a bad answer is sent back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_server import Reply, ScriptedServer, at_most, quick_model, scripted_server, texts_in

from medvip.errors import LanguageModelError
from medvip.symptoms.language_model import BadAnswer, Message, read_object, without_thinking

SCHEMA = {"type": "object"}


# ------------------------------------------------------------------ one object out of a text


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1}',
        ' \n{"a": 1}\n ',
        '```json\n{"a": 1}\n```',
        '```\n{"a": 1}\n```\nI hope this helps!',
        'Sure! Here it is: {"a": 1}. Anything else?',
        'The set {red, blue} in JSON is {"a": 1}',
        '<think>{"a": 2} is too much</think>{"a": 1}',
        'First {"a": 2}? No.</think>\n{"a": 1}',  # the server cut the opening tag off
        '{"a": 1}<think>Is that all?</think>',
        '<think>{"a": 2}</think>{"a": 1}<think>{"a": 3}</think>',
        '[{"a": 1}]',
        '{"a": 1} {"a": 2}',
        '{"a": NaN} {"a": 1}',
        '\ufeff{"a": 1}',
    ],
)
def test_where_the_object_stands(text: str):
    assert read_object(text) == {"a": 1}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("   \n", "empty"),
        ("<think>hm</think>", "empty"),
        ("I cannot help with that.", "no JSON object"),
        ('["a"]', "no JSON object"),
        ('"a"', "no JSON object"),
        ('{"a": 1', "broken or cut off"),
        ('{"a": NaN}', "broken or cut off"),
        ('{"a": -Infinity}', "broken or cut off"),
        ("{'a': 1}", "broken or cut off"),
        ('{"a": ' * 50_000, "characters"),
        ('{"a":' * 15_000, "broken or cut off"),
        ("[" * 50_000 + "{", "broken or cut off"),
        ('{"a": ' + "9" * 10_000 + "}", "broken or cut off"),
        ("{" * 100_001, "100001 characters"),
    ],
)
def test_what_holds_no_object(text: str, reason: str):
    with pytest.raises(BadAnswer, match=reason):
        read_object(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ""),
        (" blue\n", "blue"),
        ("<think>red?\nno</think>\n\nblue", "blue"),
        ("red? no</think> blue", "blue"),
        ("light <think>red?</think>blue", "light blue"),
        ("<think>a</think>light <think>b</think>blue<think>c</think>", "light blue"),
        ("green<think>a<think>b</think>c</think>blue", "blue"),
        ("<think>red?", "<think>red?"),  # cut off: the reader says what is wrong with it
        ("<b>blue</b>", "<b>blue</b>"),
    ],
)
def test_what_is_left_of_an_answer_without_the_thinking(text: str, said: str):
    assert without_thinking(text) == said


def test_thoughts_by_the_thousand_take_no_time():
    with at_most(2):
        assert without_thinking("<think>" * 300_000 + "</think>blue") == "blue"
        assert without_thinking("</think>" * 300_000 + "blue") == "blue"
        assert without_thinking("blue <think></think>" * 200_000) == "blue " * 199_999 + "blue"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
WILD = st.text(st.characters(), max_size=60)  # lone surrogates too
JSON_LIKE = st.lists(
    st.sampled_from(
        [
            *('{"a"', "{", "}", "[", "]", ":", ",", '"', "\\", "NaN", "-Infinity", "1e999", "-", "9" * 5000),
            *("\\ud800", "\ud800", "\x00", "<think>", "</think>", "```json\n", "null", "true", " "),
            *('{"a":' * 3000, "[" * 3000),
        ]
    ),
    max_size=25,
).map("".join)


def object_or_reason(text: str) -> object:
    try:
        return read_object(text)
    except BadAnswer as bad:
        return str(bad)


@given(st.text() | WILD | JSON_LIKE)
@settings(max_examples=250, deadline=None)
def test_any_text_gives_an_object_or_a_reason(text: str):
    value = object_or_reason(text)
    if isinstance(value, str):
        assert value.isprintable()
        assert 0 < len(value) < 100
    else:
        assert isinstance(value, dict)


@given(
    st.dictionaries(st.text(), JSON_VALUES, max_size=4),
    st.text(st.characters(exclude_characters="{<")),
    st.text(st.characters(exclude_characters="<")),
)
@settings(max_examples=100, deadline=None)
def test_an_object_is_found_between_any_text(value: dict[str, object], before: str, after: str):
    if "</think>" in json.dumps(value):
        return
    assert read_object(before + json.dumps(value) + after) == value


# ------------------------------------------------------------------ asking again


def read_color(text: str) -> str:
    color = read_object(text).get("color")
    if not isinstance(color, str):
        raise BadAnswer(f"it names no color: {text!r}")
    return color


def ask_color(server: ScriptedServer, folder: Path, **options: object):
    model = quick_model(server, folder)
    try:
        return model.ask_until(
            Message("user", "What color is the sky?"),
            SCHEMA,
            read_color,
            about="the sky",
            again=lambda reason: f"That cannot be used: {reason}. Again!",
            **options,  # type: ignore[arg-type]
        )
    finally:
        model.close()


def answers(*texts: str | Reply):
    """Answer with one after the other; a request too many fails."""
    left = list(texts)
    return lambda body: left.pop(0)


def test_a_good_answer_is_asked_for_once(tmp_path: Path):
    with scripted_server(answers('{"color": "blue"}')) as server:
        assert ask_color(server, tmp_path) == "blue"
    assert texts_in(server.requests[0].body) == ["What color is the sky?"]


def test_a_bad_answer_is_sent_back_with_the_reason(tmp_path: Path):
    with scripted_server(answers('{"colour": "blue"}', '{"color": "blue"}')) as server:
        assert ask_color(server, tmp_path) == "blue"
    first, second = (request.body["messages"] for request in server.requests)
    assert second == [
        *first,
        {"role": "assistant", "content": '{"colour": "blue"}'},
        {
            "role": "user",
            "content": 'That cannot be used: it names no color: \'{"colour": "blue"}\'. Again!',
        },
    ]


@pytest.mark.parametrize(
    ("bad", "reason", "shown"),
    [
        (Reply(content=None, refusal="I'm sorry."), "the model refuses", "(no answer)"),
        (Reply(content='{"color": "gr', finish="length"), "cut off", '{"color": "gr'),
        (Reply(content='{"color": "gray"}', finish="length"), "cut off", '{"color": "gray"}'),
        (Reply(content=None), "it is empty", "(no answer)"),
        (Reply(content=""), "it is empty", "(no answer)"),
        (Reply(content="blue " * 10_000), "no JSON object", ("blue " * 400) + " ..."),
    ],
)
def test_faults_that_the_protocol_names(bad: Reply, reason: str, shown: str, tmp_path: Path):
    with scripted_server(answers(bad, '{"color": "blue"}')) as server:
        assert ask_color(server, tmp_path) == "blue"
    _, answer, again = server.requests[1].body["messages"]
    assert (answer["role"], answer["content"]) == ("assistant", shown)
    assert reason in again["content"]


def test_half_a_character_in_an_answer(tmp_path: Path):
    half = Reply(body=b'{"choices": [{"message": {"content": "{\\"color\\": 1, \\"\\ud83d\\": 2}"}}]}')

    with scripted_server(answers(half, '{"color": "blue"}')) as server:
        model = quick_model(server, tmp_path)
        color = model.ask_until(
            Message("user", "What color?"),
            SCHEMA,
            read_color,
            about="the sky",
            again=lambda reason: "\ud83d " + reason,  # as it would be if the reason quoted the answer
        )
    assert color == "blue"
    _, answer, again = server.requests[1].body["messages"]
    assert answer["content"] == '{"color": 1, "?": 2}'
    assert again["content"].startswith("? it names no color")


def test_three_bad_answers_end_it_and_the_next_run_asks_anew(tmp_path: Path):
    with scripted_server(answers("red", "green", "{}", '{"color": "blue"}')) as server:
        with pytest.raises(LanguageModelError) as caught:
            ask_color(server, tmp_path)
        assert len(server.requests) == 3
        assert "the sky" in caught.value.problem
        assert "in 3 tries" in caught.value.problem
        assert "it names no color" in caught.value.problem
        assert str(caught.value).isprintable()
        assert sorted(path.suffixes for path in tmp_path.iterdir()) == [[".failed-1", ".json"]] * 3
        assert ask_color(server, tmp_path) == "blue"
    assert texts_in(server.requests[3].body) == ["What color is the sky?"]


def test_a_conversation_that_came_to_something_is_held_from_the_transcripts(tmp_path: Path):
    with scripted_server(answers("red", '{"color": "blue"}')) as server:
        assert ask_color(server, tmp_path) == ask_color(server, tmp_path) == "blue"
        assert len(server.requests) == 2


def test_the_number_of_tries(tmp_path: Path):
    with scripted_server() as server, pytest.raises(LanguageModelError, match="in 2 tries"):
        ask_color(server, tmp_path, tries=2)
    assert len(server.requests) == 2
