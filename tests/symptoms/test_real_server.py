"""The server that the slow tests of the generator talk to is real, answers, and leaves nothing behind."""

from __future__ import annotations

import base64
import http.client
import io
import json
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from real_server import tiny_transformers_server

pytestmark = pytest.mark.slow


def chat(base_url: str, model: str, content: object, **options: object) -> tuple[int, dict]:
    """One chat completion by plain HTTP: the status and the parsed body."""
    address = urlsplit(base_url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    body = {"model": model, "messages": [{"role": "user", "content": content}], **options}
    connection.request(
        "POST", f"{address.path}/chat/completions", json.dumps(body), {"Content-Type": "application/json"}
    )
    response = connection.getresponse()
    status, text = response.status, response.read()
    connection.close()
    return status, json.loads(text)


def test_a_random_model_answers_with_text_and_ends_with_the_block(tmp_path: Path) -> None:
    with tiny_transformers_server(tmp_path) as (base_url, model):
        status, body = chat(base_url, model, "What does a nevus look like?", max_tokens=12, seed=3)
        assert status == 200
        assert body["choices"][0]["message"]["content"]
        assert body["usage"]["completion_tokens"] == 12
        assert body["choices"][0]["finish_reason"] == "length"
        again = chat(base_url, model, "What does a nevus look like?", max_tokens=12, seed=3)[1]
        assert again["choices"][0]["message"] == body["choices"][0]["message"]
        assert chat(base_url, "another", "hello")[0] == 400
    with pytest.raises(ConnectionRefusedError):
        chat(base_url, model, "hello")


def test_a_model_with_an_answer_says_it_and_takes_pictures(tmp_path: Path) -> None:
    answer = '{"symptoms": ["naïve, 2 µm wide", "dark\\nspot"]}'
    picture = io.BytesIO()
    Image.new("RGB", (50, 40), "red").save(picture, "PNG")
    url = "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode()
    parts = [{"type": "text", "text": "And this?"}, {"type": "image_url", "image_url": {"url": url}}]
    with tiny_transformers_server(tmp_path, answer=answer, vision=True) as (base_url, model):
        replies = [chat(base_url, model, content) for content in ("And this?", parts, parts + parts[1:])]
    assert [status for status, _ in replies] == [200, 200, 200]
    for _, body in replies:
        assert body["choices"][0]["message"]["content"] == answer
        assert body["choices"][0]["finish_reason"] == "stop"
    # A 30-pixel picture in patches of 10 is nine tokens.
    prompts = [body["usage"]["prompt_tokens"] for _, body in replies]
    assert [after - before for before, after in pairwise(prompts)] == [9, 9]


def test_a_server_that_cannot_start_is_an_error_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("real_server.build_language_model", lambda folder, **_: folder.mkdir())
    with (
        pytest.raises(RuntimeError, match=r"(?s)the server ended with 1:.*ValueError"),
        tiny_transformers_server(tmp_path),
    ):
        pass
