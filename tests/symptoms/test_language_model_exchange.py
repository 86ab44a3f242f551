"""Busy, slow, broken and lying servers: it goes on, or ends in time and says why in one line."""

from __future__ import annotations

import gzip
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from scripted_server import (
    BUSY,
    Reply,
    at_most,
    error,
    quick_model,
    scripted_server,
    unused_port,
)

from medvip.errors import LanguageModelError, UsageError
from medvip.symptoms.language_model import LanguageModel, Message, Server, Transcripts, Usage
from medvip.symptoms.language_model.exchange import Connection, TryAgain

SCHEMA = {"type": "object"}
QUESTION = [Message("user", "What color is the sky?")]


def says_blue(body: dict[str, Any]) -> str:
    return "blue"


def ask(model: LanguageModel):
    return model.ask(QUESTION, SCHEMA, about="the sky")


def fails(model: LanguageModel) -> LanguageModelError:
    """Ask, and give the error, which has to be fit for a terminal."""
    with pytest.raises(LanguageModelError) as caught:
        ask(model)
    for line in (caught.value.problem, caught.value.fix):
        assert line.isprintable()
        assert 0 < len(line) < 500
    return caught.value


# ------------------------------------------------------------------ good answers in many forms


@pytest.mark.parametrize(
    ("reply", "text", "fault"),
    [
        (Reply(content="blue"), "blue", None),
        (Reply(content=" blue\n", finish=None), " blue\n", None),
        (Reply(content=[{"type": "text", "text": "bl"}, {"type": "text", "text": "ue"}]), "blue", None),
        (Reply(content=[{"type": "thinking"}, 3, {"text": 4}, {"text": "blue"}]), "blue", None),
        (Reply(content=None), "", None),
        (Reply(content=17), "", None),
        (Reply(content={"text": "blue"}), "", None),
        (Reply(content="blue", finish=["stop"]), "blue", None),
        (Reply(content="blue", refusal=""), "blue", None),
        (Reply(content="blue", refusal=[1]), "blue", None),
        (Reply(content=None, refusal="No."), "", "the model refuses to answer"),
        (Reply(content="bl", finish="length"), "bl", "it was cut off at the largest length"),
        (Reply(body={"choices": [{"message": {"content": "blue"}}]}), "blue", None),
        (Reply(body=b'\xef\xbb\xbf{"choices": [{"message": {"content": "blue"}}]}'), "blue", None),
    ],
)
def test_answers(reply: Reply, text: str, fault: str | None, tmp_path: Path):
    with scripted_server(lambda body: reply) as server:
        answer = ask(quick_model(server, tmp_path))
    assert (answer.text, answer.fault) == (text, fault)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("usage", "prompt", "completion"),
    [
        ({"prompt_tokens": 11, "completion_tokens": 7}, 11, 7),
        ({"prompt_tokens": 11}, 11, 0),
        (None, 0, 0),
        ("many", 0, 0),
        ([11, 7], 0, 0),
        ({"prompt_tokens": -1, "completion_tokens": 2**80}, 0, 0),
        ({"prompt_tokens": "11", "completion_tokens": 7.5}, 0, 0),
        ({"prompt_tokens": True, "completion_tokens": None}, 0, 0),
        ({"prompt_tokens": float("nan"), "completion_tokens": float("inf")}, 0, 0),
    ],
)
def test_how_a_server_counts(usage: Any, prompt: int, completion: int, tmp_path: Path):
    with scripted_server(lambda body: Reply(content="blue", usage=usage)) as server:
        model = quick_model(server, tmp_path)
        assert ask(model).text == "blue"
    assert (model.prompt_tokens, model.completion_tokens) == (prompt, completion)


def test_every_answer_is_counted(tmp_path: Path):
    with scripted_server(says_blue) as server:
        model = quick_model(server, tmp_path)
        for _ in range(3):
            ask(model)
            ask(model)  # from its transcript: not counted twice
            model.forget("the sky")
    assert (model.calls, model.prompt_tokens, model.completion_tokens) == (3, 33, 21)


# ------------------------------------------------------------------ what one run of many came to


def summed(used: Usage) -> tuple[int, int, int, int, list[str]]:
    tokens = used.prompt_tokens, used.completion_tokens
    return (used.calls, used.answers, *tokens, [each["about"] for each in used.record])


def test_runs_with_one_model_are_counted_apart(tmp_path: Path):
    def about(color: str) -> None:
        model.ask([Message("user", f"Is it {color}?")], SCHEMA, about=color)

    with scripted_server(says_blue, troubles=[BUSY]) as server:
        model = quick_model(server, tmp_path)
        with model.counting() as one:
            assert summed(one) == (0, 0, 0, 0, [])
            about("red")
            assert summed(one) == (2, 1, 11, 7, ["red"])  # live
            about("red")
        with model.counting() as two:
            about("red")  # from its transcript
            with model.counting() as inner:
                about("blue")
            about("green")
        about("black")
        with suppress(ZeroDivisionError), model.counting() as failed:
            about("gray")
            raise ZeroDivisionError
        about("black")
    assert summed(one) == (2, 1, 11, 7, ["red"])
    assert summed(two) == (2, 3, 33, 21, ["blue", "green", "red"])
    assert summed(inner) == (1, 1, 11, 7, ["blue"])
    assert summed(failed) == (1, 1, 11, 7, ["gray"])
    assert (model.calls, model.prompt_tokens, model.completion_tokens) == (6, 55, 35)
    assert len(model.record) == len(server.requests) - 1 == 5


def test_a_run_counts_what_all_threads_ask(tmp_path: Path):
    with scripted_server(says_blue) as server:
        model = quick_model(server, tmp_path)
        with model.counting() as used, ThreadPoolExecutor(8) as pool:
            for number in range(40):
                pool.submit(model.ask, [Message("user", f"{number}?")], SCHEMA, about=f"{number:02}")
    assert summed(used) == (40, 40, 440, 280, [f"{number:02}" for number in range(40)])


# ------------------------------------------------------------------ no answers


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"blue",
        b"<!DOCTYPE html><html><body>Please log in to the hospital's network\x1b[2J</body></html>",
        b"{}",
        b"[]",
        b"null",
        b'"blue"',
        b"17",
        b'{"choices": []}',
        b'{"choices": null}',
        b'{"choices": {}}',
        b'{"choices": [null]}',
        b'{"choices": ["blue"]}',
        b'{"choices": [[]]}',
        b'{"choices": [{}]}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": "blue"}]}',
        b'{"choices": [{"message": ["blue"]}]}',
        b'{"choices": [{"text": "blue"}]}',
        b'{"choices": [{"message": {"content": "bl',
        b'{"choices": ' + b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"choices": ' + b"9" * 10_000 + b"}",
        b"\xff\xfe\x00blue",
        b"\x80\x81",
        b'data: {"choices": [{"delta": {"content": "blue"}}]}\n\ndata: [DONE]\n\n',
        gzip.compress(b"{}", mtime=0),  # the time would be in the test's name
    ],
    ids=lambda content: repr(content[:20]),
)
def test_something_else_than_a_completion(content: bytes, tmp_path: Path):
    with scripted_server(lambda body: Reply(body=content)) as server:
        problem = fails(quick_model(server, tmp_path)).problem
    assert problem == f"127.0.0.1:{server.port} answers something else than a chat completion"
    assert len(server.requests) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_answer_without_end(tmp_path: Path):
    huge = json.dumps({"choices": [{"message": {"content": "blue " * 900_000}}]}).encode()
    with scripted_server(lambda body: Reply(body=huge)) as server:
        assert "more than 4 MB" in fails(quick_model(server, tmp_path)).problem
    assert len(server.requests) == 1


def test_a_few_bytes_are_not_unpacked_to_many(tmp_path: Path):
    bomb = gzip.compress(gzip.compress(b'{"choices": [{"message": {"content": "blue"}}]}' + b" " * 10**7))
    packed = Reply(body=bomb, headers={"Content-Encoding": "gzip, gzip"})
    with scripted_server(lambda body: packed) as server:
        assert "something else" in fails(quick_model(server, tmp_path)).problem
    assert server.requests[0].headers["accept-encoding"] == "identity"


# ------------------------------------------------------------------ what is worth another try


@pytest.mark.parametrize(
    "trouble",
    [
        BUSY,
        *(error(status, "Try again") for status in (408, 409, 425, 500, 502, 503, 504, 529)),
        Reply(status=502, body=b"<html>Bad Gateway</html>", headers={"Content-Type": "text/html"}),
        Reply(status=500, body=b""),
        Reply(status=500, content="x" * 200, trouble="cut"),
        Reply(status=500, content="x" * 200, trouble="cut_chunked"),
        Reply(status=500, body=b"x" * 5_000_000),
        Reply(body={"error": {"message": "Provider returned error", "code": 502}}),  # with status 200
        Reply(trouble="close"),
        Reply(content="green", trouble="cut"),
        Reply(content="green", trouble="cut_chunked"),
    ],
    ids=lambda reply: f"{reply.status}-{reply.trouble}",
)
def test_a_trouble_that_passes(trouble: Reply, tmp_path: Path):
    with scripted_server(says_blue, troubles=[trouble, trouble]) as server:
        model = quick_model(server, tmp_path)
        assert ask(model).text == "blue"
    assert model.calls == len(server.requests) == 3
    assert len({request.raw for request in server.requests}) == 1


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        (BUSY, "it answers 429: Rate limit reached for requests"),
        (
            error(503, "Model is\tloading\x1b[2J\r\n" + "very slowly " * 100),
            "answers 503: Model is loading?[2J v",
        ),
        (Reply(status=500, body=b"\xff\xfe bad"), "answers 500: \ufffd\ufffd bad"),
        (Reply(status=500, body=b""), "answers 500: no reason given"),
        (Reply(status=500, body=b'{"a":' * 3_000), 'answers 500: {"a":{"a":'),
        (
            Reply(status=500, body={"error": {"message": {"deep": ["\x1b"]}}}),
            "answers 500: {'deep': ['\\x1b']}",
        ),
        (Reply(status=503, body={"error": None, "detail": "down"}), "answers 503: down"),
        (
            Reply(body={"error": {"message": "Provider error", "code": 502}}),
            "it answers: Provider error; 502",
        ),
        (Reply(trouble="close"), "the connection failed: Server disconnected"),
        (Reply(content="green", trouble="cut"), "the connection failed: peer closed connection"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_trouble_that_stays(trouble: Reply, says: str, tmp_path: Path):
    with scripted_server(lambda body: trouble) as server:
        problem = fails(quick_model(server, tmp_path, retries=2)).problem
    assert problem.startswith(f"127.0.0.1:{server.port} does not answer after 3 tries: ")
    assert says in problem
    assert len(server.requests) == 3


def test_nobody_listens(tmp_path: Path):
    server = Server(f"http://127.0.0.1:{unused_port()}/v1", "tiny")
    model = LanguageModel(server, retries=1, first_wait=0.0, transcripts=Transcripts(tmp_path))
    with at_most(5):
        problem = fails(model).problem
    assert server.host in problem
    assert "refused" in problem
    assert model.calls == 2


def test_where_nobody_listens_two_repetitions_are_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    model = LanguageModel(
        Server(f"http://127.0.0.1:{unused_port()}/v1", "tiny"), transcripts=Transcripts(tmp_path)
    )
    clock = NoWaiting()
    monkeypatch.setattr(model, "_closed", clock)
    assert "does not answer after 3 tries: the connection failed" in fails(model).problem
    assert model.calls == 3
    assert len(clock.waits) == 2


def test_many_questions_to_a_silent_server_wait_once(tmp_path: Path):
    with scripted_server(lambda body: Reply(trouble="hang")) as server:
        model = quick_model(server, tmp_path, timeout=0.3, retries=2)
        ready = threading.Barrier(6)

        def about(number: int) -> LanguageModelError:
            ready.wait()
            return fails(model)

        with at_most(4), ThreadPoolExecutor(6) as pool:
            errors = list(pool.map(about, range(6)))
            errors.append(fails(model))  # one that comes when no other waits any more
        assert len(server.requests) == model.calls == 3
    assert len({id(each) for each in errors}) == 7
    assert {each.problem for each in errors} == {
        f"127.0.0.1:{server.port} does not answer after 3 tries: no whole answer within 0.3 s"
    }


def test_a_server_that_was_silent_is_asked_again_after_a_while(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    now = 1000.0
    monkeypatch.setattr("medvip.symptoms.language_model.model.time.monotonic", lambda: now)
    with scripted_server(says_blue, troubles=[Reply(trouble="close")]) as server:
        model = quick_model(server, tmp_path, retries=0)
        for _ in range(3):
            assert "does not answer after one try" in fails(model).problem
        assert len(server.requests) == 1
        now += 6
        assert ask(model).text == "blue"


def test_another_failure_is_not_taken_for_silence(tmp_path: Path):
    with scripted_server(says_blue, troubles=[error(401, "Incorrect API key provided")]) as server:
        model = quick_model(server, tmp_path)
        assert "401" in fails(model).problem
        assert ask(model).text == "blue"


@pytest.mark.parametrize(
    ("reply", "says", "fix"),
    [
        (error(401, "Incorrect API key provided"), "401: it wants a key", "MEDVIP_LLM_KEY"),
        (error(403, "Forbidden"), "403: it wants a key", "MEDVIP_LLM_KEY"),
        (error(402, "Insufficient Balance"), "402: Insufficient Balance", "credit"),
        (error(404, "The model `tiny` does not exist"), "404 for the model 'tiny': The model", "--model"),
        (Reply(status=404, body=b"404 page not found"), "404 for the model 'tiny': 404 page", "/v1"),
        (
            # The words that decide stand at the end of a long message.
            Reply(
                status=429,
                body={
                    "error": {
                        "message": "You exceeded your current quota, please check your plan and billing "
                        "details. For more information on this error, read the docs: "
                        "https://platform.openai.com/docs/guides/error-codes/api-errors.",
                        "type": "insufficient_quota",
                        "param": None,
                        "code": "insufficient_quota",
                    }
                },
            ),
            "429: You exceeded your current quota",
            "credit",
        ),
    ],
)
def test_what_no_other_try_would_mend(reply: Reply, says: str, fix: str, tmp_path: Path):
    with scripted_server(lambda body: reply) as server:
        caught = fails(quick_model(server, tmp_path))
    assert f"127.0.0.1:{server.port} answers {says}" in caught.problem
    assert fix in caught.fix
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(status: int, tmp_path: Path):
    with scripted_server(says_blue) as elsewhere:
        moved = Reply(status=status, headers={"Location": f"{elsewhere.base_url}/chat/completions"}, body=b"")
        with scripted_server(lambda body: moved) as server:
            caught = fails(quick_model(server, tmp_path))
    assert f"{status}: it points to another address" in caught.problem
    assert "--base-url" in caught.fix
    assert len(server.requests) == 1
    assert elsewhere.requests == []


# ------------------------------------------------------------------ how long is waited


class NoWaiting:
    """In place of the event that a pause waits for: notes the seconds and goes on."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)

    def is_set(self) -> bool:
        return False


def waits_of(monkeypatch: pytest.MonkeyPatch, folder: Path, *troubles: Reply, **options: Any) -> list[float]:
    with scripted_server(says_blue, troubles=troubles) as server:
        model = quick_model(server, folder, retries=len(troubles), **options)
        clock = NoWaiting()
        monkeypatch.setattr(model, "_closed", clock)
        assert ask(model).text == "blue"
    return clock.waits


def test_each_wait_is_twice_as_long(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    waits = waits_of(monkeypatch, tmp_path, *[BUSY] * 9, first_wait=1.0)
    expected = [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert len(waits) == len(expected)
    for wait, about in zip(waits, expected, strict=True):
        assert 0.75 * about <= wait <= 1.25 * about
    assert len({wait / about for wait, about in zip(waits, expected, strict=True)}) > 1  # not in step


@pytest.mark.parametrize(
    ("asked", "wait"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("2.5", 2.5),
        ("3600", 60.0),
        ("-5", 0.0),
        ("inf", 60.0),
        ("1e999", 60.0),
        pytest.param(formatdate(time.time() - 100, usegmt=True), 0.0, id="a time that is past"),
        pytest.param(formatdate(time.time() + 10_000, usegmt=True), 60.0, id="a time far off"),
    ],
)
def test_the_server_says_how_long(asked: str, wait: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    busy = error(429, "Too many requests", Retry_After=asked)
    assert waits_of(monkeypatch, tmp_path, busy, first_wait=17.0) == [wait]


@pytest.mark.parametrize("asked", ["", "soon", "nan", "Wed, 99 Oct 9999 99:99:99 GMT", "1 2", "0x10"])
def test_the_server_says_nonsense(asked: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    busy = error(503, "Busy", Retry_After=asked)
    (wait,) = waits_of(monkeypatch, tmp_path, busy, first_wait=17.0)
    assert 0.75 * 17 <= wait <= 1.25 * 17


def test_it_is_really_waited(tmp_path: Path):
    with scripted_server(says_blue, troubles=[error(429, "Busy", Retry_After="0.3")]) as server:
        start = time.monotonic()
        ask(quick_model(server, tmp_path, first_wait=0.0))
    assert 0.3 <= time.monotonic() - start < 5


# ------------------------------------------------------------------ limits on calls and time


def test_calls_are_limited_with_all_their_repetitions(tmp_path: Path):
    with scripted_server(says_blue, troubles=[BUSY] * 9) as server:
        model = quick_model(server, tmp_path, retries=100, max_calls=3)
        caught = fails(model)
        assert "limit of 3 calls" in caught.problem
        assert "--max-calls" in caught.fix
        assert len(server.requests) == model.calls == 3


def test_calls_are_limited_with_what_a_server_refuses(tmp_path: Path):
    with scripted_server(says_blue, "picky text_only") as server:
        assert "limit of 3 calls" in fails(quick_model(server, tmp_path, max_calls=3)).problem
        assert len(server.requests) == 3


def test_no_calls_at_all(tmp_path: Path):
    with scripted_server(says_blue) as server:
        assert "limit of 0 calls" in fails(quick_model(server, tmp_path, max_calls=0)).problem
        assert server.requests == []
        ask(quick_model(server, tmp_path))
        assert ask(quick_model(server, tmp_path, max_calls=0)).text == "blue"  # it was answered before
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "trouble",
    [
        Reply(trouble="hang"),
        Reply(content="blue", trouble="drip"),
        Reply(content="blue", trouble="drip_headers"),
        Reply(content="blue", delay=30.0),
    ],
    ids=lambda reply: reply.trouble or "late",
)
def test_a_slow_server_is_not_waited_for(trouble: Reply, tmp_path: Path):
    with scripted_server(lambda body: trouble) as server:
        model = quick_model(server, tmp_path, timeout=0.15, retries=1)
        with at_most(5):
            caught = fails(model)
    assert "does not answer after 2 tries: no whole answer within 0.15 s" in caught.problem
    assert "--timeout" in caught.fix
    assert len(server.requests) == 2


def test_a_reason_that_never_ends(tmp_path: Path):
    slow = Reply(status=400, body=b"No, because", trouble="drip")
    with scripted_server(lambda body: slow, kind="text_only") as server:
        model = quick_model(server, tmp_path, timeout=0.15, retries=0)
        with at_most(5):
            assert "refuses the question with 400: No, because" in fails(model).problem


def test_a_reason_is_not_read_to_its_end(tmp_path: Path):
    long = Reply(status=400, body=b"No, because " * 20_000, trouble="drip")
    with scripted_server(lambda body: long) as server, at_most(5):
        assert "400: No, because" in fails(quick_model(server, tmp_path, timeout=30.0)).problem


def test_a_server_that_is_slow_once(tmp_path: Path):
    with scripted_server(says_blue, troubles=[Reply(trouble="drip"), Reply(trouble="hang")]) as server:
        assert ask(quick_model(server, tmp_path, timeout=0.5)).text == "blue"
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    "trouble",
    [Reply(trouble="hang"), Reply(trouble="drip"), error(429, "Busy", Retry_After="50")],
    ids=["hang", "drip", "pause"],
)
def test_closing_ends_what_is_under_way(trouble: Reply, tmp_path: Path):
    with scripted_server(lambda body: trouble) as server:
        model = quick_model(server, tmp_path, timeout=60.0)
        errors: list[LanguageModelError] = []
        threads = [threading.Thread(target=lambda: errors.append(fails(model))) for _ in range(3)]
        for thread in threads:
            thread.start()
        with at_most(10):
            while not server.requests and not errors:
                time.sleep(0.01)
        with at_most(5):
            model.close()
            for thread in threads:
                thread.join()
        assert len(errors) == 3
        assert {each.problem for each in errors} == {"asking was ended"}
        seen = len(server.requests)
        assert fails(model).problem == "asking was ended"
        assert len(server.requests) == seen


def test_nothing_is_waited_for_on_a_closed_connection():
    with scripted_server(lambda body: Reply(trouble="hang")) as server:
        connection = Connection(Server(server.base_url, "tiny"), None, timeout=30.0)
        connection.close()
        with at_most(5), pytest.raises(TryAgain):
            connection.ask([{"role": "user", "content": "What color is the sky?"}])


@pytest.mark.parametrize(
    "options",
    [
        {"max_calls": -1},
        {"max_tokens": 0},
        {"retries": -1},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"timeout": 86_401},
        {"timeout": 1e300},
        {"first_wait": -1.0},
        {"first_wait": 86_401},
        {"first_wait": float("inf")},
        {"first_wait": float("nan")},
    ],
)
def test_limits_that_make_no_sense(options: dict[str, Any]):
    with pytest.raises(UsageError, match=next(iter(options))) as caught:
        LanguageModel(Server("http://127.0.0.1:1/v1", "tiny"), **options)
    assert ("to 86400 seconds" in caught.value.fix) == (not {"timeout", "first_wait"}.isdisjoint(options))


def test_a_day_is_not_too_long(tmp_path: Path):
    with scripted_server(says_blue) as server:
        assert ask(quick_model(server, tmp_path, timeout=86_400, first_wait=86_400)).text == "blue"


def test_no_call_is_counted_without_the_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "openai", None)
    with scripted_server(says_blue) as server:
        model = quick_model(server, tmp_path)
        assert "needs the package openai" in fails(model).problem
        assert server.requests == []
    assert model.calls == 0
