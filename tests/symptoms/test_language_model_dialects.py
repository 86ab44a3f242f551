"""What a server does not take is found out once, and given up for good."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from scripted_server import (
    BLIND_WORDS,
    KINDS,
    Reply,
    Request,
    error,
    pictures_in,
    quick_model,
    scripted_server,
    texts_in,
)

from medvip.errors import LanguageModelError
from medvip.symptoms.language_model import Message, Picture, PicturesRefused

SCHEMA = {"type": "object", "properties": {"color": {"type": "string"}}, "required": ["color"]}
PICTURE = Picture(b"\x89PNG\r\n\x1a\n not much of a picture", "image/png", ("1234",))


def question(number: int, picture: Picture | None = None) -> list[Message]:
    return [Message("user", f"Question {number}", picture)]


def form(request: Request) -> str:
    return request.body.get("response_format", {}).get("type", "text")


# ------------------------------------------------------------------ form of the answer, parameters


@pytest.mark.parametrize(
    ("kind", "forms"),
    [
        ("schema", ["json_schema"]),
        ("json_mode", ["json_schema", "json_object"]),
        ("text_only", ["json_schema", "json_object", "text"]),
    ],
)
def test_the_form_is_found_once(kind: str, forms: list[str], tmp_path: Path):
    with scripted_server(lambda body: "{}", kind) as server:
        model = quick_model(server, tmp_path)
        model.ask(question(1), SCHEMA, about="1")
        assert [form(request) for request in server.requests] == forms
        model.ask(question(2), SCHEMA, about="2")
        assert [form(request) for request in server.requests] == [*forms, forms[-1]]
        assert model.calls == len(server.requests)


def test_what_is_asked_for_in_full(tmp_path: Path):
    with scripted_server() as server:
        quick_model(server, tmp_path, seed=7, max_tokens=123).ask(question(1), SCHEMA, about="1")
    assert server.requests[0].body == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Question 1"}],
        "seed": 7,
        "max_tokens": 123,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA},
        },
    }


def test_seed_and_limit_are_given_up(tmp_path: Path):
    with scripted_server(lambda body: "{}", "picky") as server:
        model = quick_model(server, tmp_path, seed=7, max_tokens=123)
        for number in (1, 2):
            model.ask(question(number), SCHEMA, about=f"{number}")
    asked = [
        {
            name: request.body.get(name)
            for name in ("seed", "max_tokens", "max_completion_tokens")
            if name in request.body
        }
        for request in server.requests
    ]
    learned = {"max_completion_tokens": 123}
    assert asked == [{"seed": 7, "max_tokens": 123}, {"max_tokens": 123}, learned, learned]
    assert {form(request) for request in server.requests} == {"json_schema"}


def test_a_server_that_takes_next_to_nothing(tmp_path: Path):
    def refuses(body: dict[str, Any]) -> Reply | None:
        extra = sorted(set(body) - {"model", "messages"})
        # As FastAPI says it: one parameter at a time, and nowhere a "message".
        detail = {"type": "extra_forbidden", "loc": ["body", *extra[:1]], "msg": "Extra inputs", "input": 1}
        return Reply(status=422, body={"detail": [detail]}) if extra else None

    with scripted_server(lambda body: "{}", refuses) as server:
        model = quick_model(server, tmp_path)
        for number in (1, 2):
            model.ask(question(number), SCHEMA, about=f"{number}")
    assert [set(request.body) - {"model", "messages"} for request in server.requests[-2:]] == [set(), set()]
    assert len(server.requests) == 7  # seed, two names of the limit, two forms; then it is known


@pytest.mark.parametrize(
    "refusal",
    [
        error(
            400, "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model"
        ),
        Reply(status=400, body={"error": "'response_format.type' must be 'text'"}),
        Reply(status=422, body=b"response_format: response_format.type `json_schema` is unavailable now"),
        Reply(status=400, body=b"Bad Request"),
        Reply(status=400, body=b""),
        Reply(
            status=400, body=[{"error": {"code": 400, "message": "Invalid JSON payload: response_format"}}]
        ),
        Reply(status=404, body={"error": {"message": "response_format is not supported here"}}),
    ],
)
def test_words_in_which_a_form_is_refused(refusal: Reply, tmp_path: Path):
    refuses = lambda body: refusal if "response_format" in body else None  # noqa: E731
    with scripted_server(lambda body: "yes", refuses) as server:
        assert quick_model(server, tmp_path).ask(question(1), SCHEMA, about="1").text == "yes"
    assert [form(request) for request in server.requests] == ["json_schema", "json_object", "text"]


def test_many_threads_learn_it_once(tmp_path: Path):
    ready = threading.Barrier(8)
    with scripted_server(lambda body: Reply(content="{}", delay=0.05), "picky text_only") as server:
        model = quick_model(server, tmp_path)

        def ask(number: int) -> None:
            ready.wait()
            model.ask(question(number), SCHEMA, about=f"{number}")

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(8)))
        assert len(server.requests) == model.calls == 8 + 4
        first = server.requests[:5]
        assert len({texts_in(request.body)[0] for request in first}) == 1
        assert {frozenset(request.body) for request in server.requests[4:]} == {
            frozenset({"model", "messages", "max_completion_tokens"})
        }
        assert server.most_at_once > 1  # once it is known, they ask side by side


def test_a_question_that_is_refused_in_any_form_changes_nothing(tmp_path: Path):
    def refuses(body: dict[str, Any]) -> Reply | None:
        bad = texts_in(body)[0] == "Question 2"
        return error(400, "Your request was rejected by the safety system") if bad else None

    with scripted_server(lambda body: "{}", refuses) as server:
        model = quick_model(server, tmp_path)
        model.ask(question(1), SCHEMA, about="1")
        with pytest.raises(LanguageModelError, match="safety system") as caught:
            model.ask(question(2), SCHEMA, about="2")
        assert "400" in caught.value.problem
        before = len(server.requests)
        model.ask(question(3), SCHEMA, about="3")
        assert [form(request) for request in server.requests[before:]] == ["json_schema"]


# ------------------------------------------------------------------ pictures


def test_a_picture_arrives_as_it_is(tmp_path: Path):
    jpeg = Picture(bytes(range(256)) * 5, "image/jpeg", ("5678",))
    messages = [*question(1, PICTURE), Message("assistant", "a\n{}"), *question(2, jpeg)]
    with scripted_server() as server:
        quick_model(server, tmp_path).ask(messages, SCHEMA, about="1")
    body = server.requests[0].body
    assert pictures_in(body) == [PICTURE.content, jpeg.content]
    assert texts_in(body) == ["Question 1", "a\n{}", "Question 2"]
    kinds = [
        part["image_url"]["url"].partition(";")[0]
        for message in body["messages"]
        if isinstance(message["content"], list)
        for part in message["content"]
        if part["type"] == "image_url"
    ]
    assert kinds == ["data:image/png", "data:image/jpeg"]


@pytest.mark.parametrize("forms", ["schema", "json_mode", "text_only"])
@pytest.mark.parametrize("words", [words for words in BLIND_WORDS if words != "bare-500"])
def test_a_server_that_takes_no_pictures(words: str, forms: str, tmp_path: Path):
    with scripted_server(lambda body: "{}", f"{forms} blind:{words}") as server:
        model = quick_model(server, tmp_path)
        with pytest.raises(PicturesRefused, match=f"127.0.0.1:{server.port} answers") as caught:
            model.ask(question(1, PICTURE), SCHEMA, about="1")
        assert str(caught.value).isprintable()
        with_pictures = len(server.requests)
        if forms == "schema":
            assert with_pictures == 1
        assert model.ask(question(1), SCHEMA, about="1").text == "{}"
        # Whatever was tried for the picture's sake is not given up: the form is the server's best.
        best = {"schema": "json_schema", "json_mode": "json_object", "text_only": "text"}[forms]
        assert form(server.requests[-1]) == best


@pytest.mark.parametrize("words", [words for words in BLIND_WORDS if words != "bare-500"])
def test_pictures_refused_once_it_is_known_what_the_server_takes(words: str, tmp_path: Path):
    with scripted_server(lambda body: "{}", f"json_mode blind:{words}") as server:
        model = quick_model(server, tmp_path)
        model.ask(question(1), SCHEMA, about="1")
        before = len(server.requests)
        with pytest.raises(PicturesRefused):
            model.ask(question(1, PICTURE), SCHEMA, about="1")
        assert len(server.requests) == before + 1


@pytest.mark.parametrize(
    "words",
    [
        "Input should be a valid string",
        "Invalid value for 'content': expected a string, got an array",
        "[] is not of type 'string' - 'messages.0.content'",
        "json: cannot unmarshal array into Go struct field .messages.content of type string",
    ],
)
def test_content_that_has_to_be_one_text(words: str, tmp_path: Path):
    refuses = lambda body: error(400, words) if pictures_in(body) else None  # noqa: E731
    with scripted_server(lambda body: "{}", refuses) as server:
        with pytest.raises(PicturesRefused):
            quick_model(server, tmp_path).ask(question(1, PICTURE), SCHEMA, about="1")
        assert len(server.requests) == 1


@pytest.mark.parametrize("is_settled", [False, True])
@pytest.mark.parametrize(
    "words",
    [
        "This model's maximum context length is 4096 tokens",
        "The image does not fit into the context window",
        "the request exceeds the available context size; image tokens included",
        "Image is too large",
        "Too many images in the request; multimodal prompts are too long",
        "Your request was rejected by the safety system",
        "The image does not comply with our content policy",
        "This image is not allowed",
        "Bad Request",
    ],
)
def test_one_picture_refused_is_not_all_pictures_refused(words: str, is_settled: bool, tmp_path: Path):
    bad = Picture(b"\x89PNG\r\n\x1a\n another", "image/png", ("5678",))

    def refuses(body: dict[str, Any]) -> Reply | None:
        return error(400, words) if bad.content in pictures_in(body) else None

    with scripted_server(lambda body: "{}", refuses) as server:
        model = quick_model(server, tmp_path)
        if is_settled:
            model.ask(question(1, PICTURE), SCHEMA, about="1")
        with pytest.raises(LanguageModelError, match="refuses the question with 400: ") as caught:
            model.ask(question(2, bad), SCHEMA, about="2")
        assert words in caught.value.problem
        assert model.ask(question(3, PICTURE), SCHEMA, about="3").text == "{}"
        assert form(server.requests[-1]) == "json_schema"


def test_a_server_that_breaks_down_over_a_picture_without_a_word(tmp_path: Path):
    with scripted_server(lambda body: "{}", "blind:bare-500") as server:
        with pytest.raises(LanguageModelError, match="500: Internal Server Error"):
            quick_model(server, tmp_path, retries=1).ask(question(1, PICTURE), SCHEMA, about="1")
        assert len(server.requests) == 2


def test_words_about_pictures_do_not_refuse_a_question_without_one(tmp_path: Path):
    busy = error(503, "The vision encoder is loading")
    with scripted_server(lambda body: "{}", troubles=[busy]) as server:
        assert quick_model(server, tmp_path).ask(question(1), SCHEMA, about="1").text == "{}"
        assert len(server.requests) == 2


def test_the_kinds_of_server_are_told_apart():
    """The scripted server itself: each kind refuses what its name says, and only that."""
    full = {"seed": 1, "max_tokens": 1, "response_format": {"type": "json_schema"}, "messages": []}
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    seen = {"messages": [{"role": "user", "content": [picture]}]}
    assert {name for name, refuses in KINDS.items() if refuses(full)} == {"json_mode", "text_only", "picky"}
    blind = {name for name in KINDS if name.startswith("blind")}
    assert {name for name, refuses in KINDS.items() if refuses(seen)} == blind
    assert pictures_in(seen) == [b"\0\0\0"]
