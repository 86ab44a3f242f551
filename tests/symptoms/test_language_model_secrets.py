"""Keys and pictures go to one server and nowhere else: no log, no error, no proxy, no second host."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from scripted_server import Reply, pictures_in, quick_model, scripted_server

from medvip.errors import LanguageModelError
from medvip.symptoms.language_model import (
    LanguageModel,
    Message,
    Picture,
    PicturesRefused,
    Server,
    Transcripts,
)

SCHEMA = {"type": "object"}
PIXELS = hashlib.shake_256(b"pixels").digest(3_000)
QUESTION = [Message("user", "What is this?", Picture(PIXELS, "image/png", ("1f2e",)))]
KEY = "sk-test-" + hashlib.sha256(b"key").hexdigest()
SHORT_KEY = "pw!{1}"  # of a server in the house


def assert_clean(text: str, key: str = KEY) -> None:
    """No key and no part of the picture, encoded or raw, stands in `text`."""
    assert key not in text
    encoded = base64.b64encode(PIXELS).decode()
    for start in range(0, len(encoded) - 16, 4):
        assert encoded[start : start + 16] not in text
    for start in range(0, len(PIXELS) - 12, 4):
        assert repr(PIXELS[start : start + 12])[2:-1] not in text


def test_a_leak_would_be_seen():
    encoded = base64.b64encode(PIXELS).decode()
    for leak in (f"Bearer {KEY}", encoded[500:560], repr(PIXELS[300:360])):
        with pytest.raises(AssertionError):
            assert_clean(f"the server says: {leak}.")


# ------------------------------------------------------------------ what goes out


AMBIENT = {
    "OPENAI_API_KEY": "sk-ambient-1",
    "OPENAI_ADMIN_KEY": "sk-ambient-2",
    "OPENAI_ORG_ID": "org-ambient-3",
    "OPENAI_PROJECT_ID": "proj-ambient-4",
    "OPENAI_WEBHOOK_SECRET": "whsec-ambient-5",
    "OPENAI_CUSTOM_HEADERS": "Authorization: Bearer ambient-6\nX-Custom: ambient-7\nCookie: ambient-8",
    "OPENAI_BASE_URL": "http://ambient-9.invalid/v1",
}
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the library would take from the environment is there, and no proxy is."""
    for name, value in AMBIENT.items():
        monkeypatch.setenv(name, value)
    for name in (*PROXIES, "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("key", [None, KEY, SHORT_KEY])
def test_the_headers_are_ours_alone(key: str | None, tmp_path: Path):
    with scripted_server() as server:
        secret = None if key is None else SecretStr(key)
        quick_model(server, tmp_path, key=secret).ask(QUESTION, SCHEMA, about="it")
    (request,) = server.requests
    assert pictures_in(request.body) == [PIXELS]
    assert "ambient" not in json.dumps(request.headers) + request.raw.decode()
    assert request.headers.pop("authorization", None) == (None if key is None else f"Bearer {key}")
    assert set(request.headers) == {
        *("host", "accept", "accept-encoding", "connection", "content-type", "content-length"),
        *("user-agent", "x-stainless-raw-response"),
    }


def through_proxy(
    base_url: str, monkeypatch: pytest.MonkeyPatch, folder: Path, variable: str = "HTTP_PROXY"
) -> list[Any]:
    """The requests that a proxy sees: a way to look at what another host would get."""
    with scripted_server() as proxy:
        monkeypatch.setenv(variable, proxy.base_url.removesuffix("/v1"))
        model = LanguageModel(
            Server(base_url, "tiny"),
            key=SecretStr(KEY),
            retries=0,
            timeout=5,
            transcripts=Transcripts(folder),
        )
        assert model.ask(QUESTION, SCHEMA, about="it").text == "{}"
        return proxy.requests


def test_another_host_gets_no_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (request,) = through_proxy("http://llm.invalid:8000/v1", monkeypatch, tmp_path)
    assert request.path == "http://llm.invalid:8000/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert "ambient" not in json.dumps(request.headers) + request.raw.decode()


def test_openai_gets_the_organisation_and_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (request,) = through_proxy("http://api.openai.com/v1", monkeypatch, tmp_path)
    assert request.headers["openai-organization"] == "org-ambient-3"
    assert request.headers["openai-project"] == "proj-ambient-4"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    for name in ("cookie", "x-custom"):
        assert name not in request.headers


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("variable", PROXIES)
def test_no_proxy_sees_what_stays_on_this_machine(
    variable: str, host: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    with scripted_server() as proxy, scripted_server() as server:
        monkeypatch.setenv(variable, proxy.base_url.removesuffix("/v1"))
        address = Server(f"http://{host}:{server.port}/v1", "tiny")
        LanguageModel(address, transcripts=Transcripts(tmp_path)).ask(QUESTION, SCHEMA, about="it")
    assert len(server.requests) == 1
    assert proxy.requests == []


def test_a_redirect_takes_nothing_along(tmp_path: Path):
    with scripted_server() as elsewhere:
        moved = Reply(status=307, headers={"Location": f"{elsewhere.base_url}/chat/completions"}, body=b"")
        with scripted_server(lambda body: moved) as server, pytest.raises(LanguageModelError) as caught:
            quick_model(server, tmp_path, key=SecretStr(KEY)).ask(QUESTION, SCHEMA, about="it")
    assert elsewhere.requests == []
    assert str(elsewhere.port) not in str(caught.value)


# ------------------------------------------------------------------ what a server says back


def echoes(status: int, words: str, key: str):
    """Answer with all that was sent, in one of the ways in which servers do that."""

    def answer(body: dict[str, Any]) -> Reply:
        said = f"Invalid request {json.dumps(body)} with key {key} (Authorization: Bearer {key})"
        forms: dict[str, Any] = {
            "message": {"error": {"message": said, "code": key, "param": body["messages"]}},
            "string": {"error": said},
            "detail": {"detail": [{"loc": ["body", "messages"], "input": body, "msg": said}]},
            "plain": said.encode(),
            "repr": repr(body).encode() + key.encode(),
            "wrapped": said.replace(",", ",\n").replace("A", "A\x1b[31m").encode(),
        }
        address = body["messages"][0]["content"][1]["image_url"]["url"]
        forms["bare"] = f"cannot identify {address.partition(',')[2]}".encode()
        # llama.cpp did this: the reason first, then the whole conversation.
        forms["llama.cpp"] = {
            "error": {
                "code": status,
                "message": f'Failed to parse messages: Unsupported content part type: "image_url"; '
                f"messages = {json.dumps(body['messages'], indent=2)}",
            }
        }
        return Reply(status=status, body=forms[words], headers={"X-Echo": f"Bearer {key}"})

    return answer


@pytest.mark.parametrize(
    "words", ["message", "string", "detail", "plain", "repr", "wrapped", "bare", "llama.cpp"]
)
@pytest.mark.parametrize("status", [200, 302, 400, 401, 404, 422, 429, 500])
def test_an_error_repeats_no_key_and_no_picture(
    status: int, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    key = SHORT_KEY if words == "plain" else KEY
    caplog.set_level(logging.DEBUG)
    with scripted_server(echoes(status, words, key)) as server:
        model = quick_model(server, tmp_path, key=SecretStr(key), retries=1)
        with pytest.raises((LanguageModelError, PicturesRefused)) as caught:
            model.ask(QUESTION, SCHEMA, about="it")
        assert pictures_in(server.requests[0].body) == [PIXELS]
    shown = str(caught.value)
    assert shown.isprintable()
    assert len(shown) < 600
    assert_clean(shown, key)
    assert_clean("".join(traceback.format_exception(caught.value)), key)
    assert_clean(caplog.text, key)


@pytest.mark.parametrize("key", [KEY, SHORT_KEY, 'pw"\\12', "Q" * 40])
def test_a_key_in_an_answer_is_not_written_down(key: str, tmp_path: Path):
    said = json.dumps({"a": f"as {key} says", "b": 1})
    reply = Reply(content=f"{key} {said}", refusal=f"no, {key}", finish=f"stop {key}")
    with scripted_server(lambda body: reply) as server:
        model = quick_model(server, tmp_path, key=SecretStr(key))
        answer = model.ask(QUESTION, SCHEMA, about="it")
        assert server.requests[0].headers["authorization"] == f"Bearer {key}"
    assert answer.text == '[...] {"a": "as [...] says", "b": 1}'
    (file,) = tmp_path.iterdir()
    kept = json.loads(file.read_text(encoding="utf-8"))
    assert (kept["refusal"], kept["finish"]) == ("no, [...]", "stop [...]")
    for text in (file.read_text(encoding="utf-8"), json.dumps(model.record), repr(kept)):
        assert key not in text
        assert json.dumps(key)[1:-1] not in text


@pytest.mark.parametrize("key", ["none", "1", "-", "EMPTY", "ollama", "password"])
def test_a_word_in_place_of_a_key_stays_in_answers(key: str, tmp_path: Path):
    with scripted_server(lambda body: f"1 - {key}: of an EMPTY color") as server:
        answer = quick_model(server, tmp_path, key=SecretStr(key)).ask(QUESTION, SCHEMA, about="it")
    assert answer.text == f"1 - {key}: of an EMPTY color"


# ------------------------------------------------------------------ logs


def test_logs_hold_no_key_and_no_picture(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    for name in (
        "openai",
        "openai._base_client",
        "httpx2",
        "httpcore2",
        "httpcore2.http11",
        "httpcore2.connection",
    ):
        caplog.set_level(logging.DEBUG, logger=name)
    key = SecretStr(KEY)
    with scripted_server(lambda body: Reply(content="{}", headers={"X-Echo": KEY})) as server:
        quick_model(server, tmp_path, key=key).ask(QUESTION, SCHEMA, about="it")
        # Releases of the library that write whole requests down do it like this.
        body = {
            "messages": server.requests[0].body["messages"],
            "headers": {"Authorization": f"Bearer {KEY}"},
        }
        logging.getLogger("openai._base_client").debug("Request options: %s", body)
        assert {record.name.split(".")[0] for record in caplog.records} >= {"httpx2", "httpcore2"}
    assert_clean(caplog.text)
    logging.getLogger("openai._base_client").warning("seen")
    assert "seen" in caplog.text


SCRIPT = """
import hashlib, logging, sys
from medvip.errors import LanguageModelError
from medvip.symptoms.language_model import LanguageModel, Message, Picture, Server, find_key
logging.basicConfig(level=logging.DEBUG)
server = Server(sys.argv[1], "tiny")
picture = Picture(hashlib.shake_256(b"pixels").digest(3_000), "image/png", ("1f2e",))
model = LanguageModel(server, key=find_key(server), retries=0)
print(model.ask([Message("user", "What is this?", picture)], {"type": "object"}, about="it"))
model.ask([Message("user", "And this?", picture)], {"type": "object"}, about="it")
"""


def test_a_process_with_all_logs_on(tmp_path: Path):
    known = iter([Reply(content="{}"), *[echoes(404, "plain", KEY)] * 2])

    def answer(body: dict[str, Any]) -> Reply:
        reply = next(known)
        return reply if isinstance(reply, Reply) else reply(body)

    with scripted_server(answer) as server:
        environment = {
            **os.environ,
            "OPENAI_LOG": "debug",
            "MEDVIP_LLM_KEY": KEY,
            "MEDVIP_CACHE": str(tmp_path),
        }
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-c", SCRIPT, server.base_url],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert len(server.requests) == 2
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert done.stdout == "Answer(text='{}', fault=None)\n"
    assert done.returncode == 1
    assert "DEBUG" in done.stderr
    assert "httpx2" in done.stderr
    assert "Traceback" in done.stderr  # of an error that nobody caught
    assert "ResourceWarning" not in done.stderr
    assert_clean(done.stdout + done.stderr)
