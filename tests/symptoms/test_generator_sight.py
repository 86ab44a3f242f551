"""A server that drops pictures in silence is noticed by what it counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scripted_server import Reply, scripted_server

from medvip.symptoms.generator.sight import pictures_left_no_trace
from medvip.symptoms.language_model import LanguageModel, Message, Picture, Server, Transcripts

PICTURE = Picture(b"\xff\xd8 a picture", "image/jpeg", ("0123456789abcdef",))


@pytest.mark.parametrize(("tokens_of_a_picture", "noticed"), [(0, True), (64, False), (1000, False)], ids=str)
def test_the_tokens_tell(tmp_path: Path, tokens_of_a_picture: int, noticed: bool):
    def answer(body: dict[str, Any]) -> Reply:
        content = body["messages"][0]["content"]
        texts = [content] if isinstance(content, str) else [part.get("text", "") for part in content]
        pictures = 0 if isinstance(content, str) else len(content) - 1
        tokens = len(" ".join(texts)) // 4 + pictures * (tokens_of_a_picture - 300)  # the server adds 300
        return Reply("{}", usage={"prompt_tokens": tokens, "completion_tokens": 1})

    with scripted_server(answer) as server:
        model = LanguageModel(Server(server.base_url, "m"), transcripts=Transcripts(tmp_path))
        model.ask([Message("user", "what is known? " * 40)], {}, about="coarse")
        assert not pictures_left_no_trace(model.record), "no picture was sent yet"
        model.ask([Message("user", "what do you see? " * 20, PICTURE)], {}, about="fine")
    assert pictures_left_no_trace(model.record) is noticed


def test_a_server_that_counts_nothing_says_nothing(tmp_path: Path):
    with scripted_server(lambda _: Reply("{}", usage=None)) as server:
        model = LanguageModel(Server(server.base_url, "m"), transcripts=Transcripts(tmp_path))
        model.ask([Message("user", "what is known?")], {}, about="coarse")
        model.ask([Message("user", "what do you see?", PICTURE)], {}, about="fine")
    assert not pictures_left_no_trace(model.record)
