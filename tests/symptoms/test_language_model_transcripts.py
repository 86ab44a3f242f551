"""What was answered is kept, found again by all that decides the answer, and holds no secret."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from scripted_server import PICTURE_TOKENS, Reply, ScriptedServer, quick_model, scripted_server, unused_port

from medvip.errors import LanguageModelError
from medvip.symptoms.language_model import LanguageModel, Message, Picture, Server, Transcripts

SCHEMA = {"type": "object"}
PIXELS = hashlib.shake_256(b"pixels").digest(3_000)
PICTURE = Picture(PIXELS, "image/png", ("1f2e", "3d4c"))
QUESTION = [Message("user", "What color is the sky?", PICTURE)]
KEY = "sk-test-" + hashlib.sha256(b"key").hexdigest()


def ask(server: ScriptedServer, folder: Path, messages=QUESTION, schema=SCHEMA, **options: Any):
    model = quick_model(server, folder, **options)
    return model, model.ask(messages, schema, about="the sky").text


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_the_same_question_is_asked_once(tmp_path: Path):
    with scripted_server(lambda body: "blue") as server:
        first, text = ask(server, tmp_path)
        second, again = ask(server, tmp_path)
        assert len(server.requests) == 1
    assert text == again == "blue"
    assert (first.calls, second.calls) == (1, 0)
    assert second.record == first.record
    assert second.prompt_tokens == first.prompt_tokens == 11 + PICTURE_TOKENS
    assert second.completion_tokens == first.completion_tokens == 7


def test_no_server_is_needed_for_what_was_answered(tmp_path: Path):
    with scripted_server(lambda body: "blue") as server:
        ask(server, tmp_path)
    assert ask(server, tmp_path, timeout=0.5, retries=0)[1] == "blue"  # the server is gone


def test_faults_are_kept_too(tmp_path: Path):
    with scripted_server(lambda body: Reply(content=None, refusal="No.")) as server:
        for _ in range(2):
            answer = quick_model(server, tmp_path).ask(QUESTION, SCHEMA, about="the sky")
            assert answer.fault == "the model refuses to answer"
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"seed": 2},
        {"max_tokens": 99},
        {"schema": {"type": "object", "additionalProperties": False}},
        {"messages": [replace(QUESTION[0], text="What colour is the sky?")]},
        {"messages": [replace(QUESTION[0], picture=None)]},
        {"messages": [replace(QUESTION[0], picture=replace(PICTURE, content=PIXELS[:-1] + b"\0"))]},
        {"messages": [replace(QUESTION[0], role="assistant")]},
        {"messages": [*QUESTION, Message("assistant", "blue"), Message("user", "Sure?")]},
        {"messages": [*QUESTION, *QUESTION]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_question_is_asked(change: dict[str, Any], tmp_path: Path):
    with scripted_server(lambda body: "blue") as server:
        ask(server, tmp_path)
        ask(server, tmp_path, **change)
        assert len(server.requests) == 2
        ask(server, tmp_path, **change)
        ask(server, tmp_path)
        assert len(server.requests) == 2
    assert len(files(tmp_path)) == 2


def test_another_server_is_asked(tmp_path: Path):
    with scripted_server(lambda body: "blue") as one, scripted_server(lambda body: "gray") as other:
        assert [ask(server, tmp_path)[1] for server in (one, other, one)] == ["blue", "gray", "blue"]
        assert (len(one.requests), len(other.requests)) == (1, 1)


def test_what_does_not_decide_the_answer_is_not_asked_again(tmp_path: Path):
    with scripted_server(lambda body: "blue") as server:
        ask(server, tmp_path)
        ask(server, tmp_path, key=SecretStr(KEY), timeout=3.0, retries=1, max_calls=7)
        assert len(server.requests) == 1


def test_asking_again(tmp_path: Path):
    said = iter(["blue", "gray"])
    with scripted_server(lambda body: next(said)) as server:
        assert ask(server, tmp_path)[1] == "blue"
        assert ask(server, tmp_path, ask_again=True)[1] == "gray"
        assert ask(server, tmp_path)[1] == "gray"  # the later answer has replaced the earlier
        assert len(server.requests) == 2
    assert len(files(tmp_path)) == 1


def test_asking_again_asks_once_in_a_run(tmp_path: Path):
    with scripted_server(lambda body: "blue") as server:
        ask(server, tmp_path)
        model = quick_model(server, tmp_path, ask_again=True)
        for _ in range(2):
            model.ask(QUESTION, SCHEMA, about="the sky")
        assert len(server.requests) == 2
        model.forget("the sky")
        model.ask(QUESTION, SCHEMA, about="the sky")
        assert len(server.requests) == 3


def damaged(content: bytes) -> list[bytes]:
    kept = json.loads(content)
    changed = [
        {name: value for name, value in kept.items() if name != missing}
        for missing in ("format", "answer", "messages", "about", "date", "server", "model")
    ]
    (turn,) = kept["messages"]
    broken_turns = (
        *(None, "blue", [], {}, {**turn, "text": None}, {**turn, "role": 1}, {**turn, "role": "system"}),
        *({**turn, "picture": each} for each in (None, "1f2e", {}, {"sha256": 1, "made_of": []})),
        *({**turn, "picture": {"sha256": "1f2e", "made_of": each}} for each in (None, "1f2e", [1])),
    )
    changed += [{**kept, "messages": [each]} for each in broken_turns]
    changed += [{**kept, "messages": each} for each in (None, "blue", {}, [])]
    changed += [
        {**kept, "format": "medvip-symptoms"},
        {**kept, "answer": None},
        {**kept, "answer": ["blue"]},
        {**kept, "prompt_tokens": "11"},
        {**kept, "completion_tokens": 7.5},
        {**kept, "completion_tokens": True},
        {**kept, "completion_tokens": -1},
        {**kept, "completion_tokens": 2**60},
        {**kept, "finish": 7},
        {**kept, "refusal": ["No."]},
        {**kept, "date": None},
        {**kept, "about": ["the sky"]},
    ]
    return [
        b"",
        content[:-10],
        b"\0" * len(content),
        b"\xff" + content,
        b"[" * 100_000,
        b"null",
        b"[]",
        *(json.dumps(each).encode() for each in changed),
    ]


def test_a_damaged_transcript_is_asked_again(tmp_path: Path):
    with scripted_server(lambda body: "blue") as server:
        ask(server, tmp_path)
        (file,) = files(tmp_path)
        whole = file.read_bytes()
        for number, content in enumerate(damaged(whole), start=2):
            file.write_bytes(content)
            assert ask(server, tmp_path)[1] == "blue"
            assert len(server.requests) == number, content[:80]
            assert json.loads(file.read_bytes())["answer"] == "blue"


def test_a_question_forgotten_is_asked_anew_and_stays_readable(tmp_path: Path):
    said = iter(["blue", "gray", "red"])
    with scripted_server(lambda body: next(said)) as server:
        for number in (1, 2):
            model, _ = ask(server, tmp_path)
            model.forget("something else")
            assert len(server.requests) == number
            model.forget("the sky")
            assert [path.name.split(".", 1)[1] for path in files(tmp_path)] == [
                f"failed-{each}.json" for each in range(1, number + 1)
            ]
        assert ask(server, tmp_path)[1] == "red"
    kept = {path.name.split(".", 1)[1]: json.loads(path.read_bytes())["answer"] for path in files(tmp_path)}
    assert kept == {"failed-1.json": "blue", "failed-2.json": "gray", "json": "red"}


def test_forgetting_one_matter_leaves_the_others(tmp_path: Path):
    with scripted_server(lambda body: "blue") as server:
        model = quick_model(server, tmp_path)
        for about in ("the sky", "the sea"):
            model.ask([Message("user", f"What color is {about}?")], SCHEMA, about=about)
        model.forget("the sky")
        again = quick_model(server, tmp_path)
        again.ask([Message("user", "What color is the sea?")], SCHEMA, about="the sea")
        assert len(server.requests) == 2
        again.ask([Message("user", "What color is the sky?")], SCHEMA, about="the sky")
        assert len(server.requests) == 3


@pytest.mark.skipif(os.name != "posix", reason="rights of files as POSIX has them")
def test_transcripts_are_for_their_owner(tmp_path: Path):
    old = os.umask(0)
    try:
        with scripted_server(lambda body: "blue") as server:
            model, _ = ask(server, tmp_path / "new" / "folder")
            (file,) = files(tmp_path / "new" / "folder")
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
            model.forget("the sky")
            (file,) = files(tmp_path / "new" / "folder")
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
    finally:
        os.umask(old)


def test_transcripts_hold_no_key_and_no_picture(tmp_path: Path):
    with scripted_server(lambda body: "blue") as server:
        model, _ = ask(server, tmp_path, key=SecretStr(KEY))
        request = server.requests[0]
        # Both did go over the wire: otherwise there would be nothing to find.
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert base64.b64encode(PIXELS) in request.raw
        model.forget("the sky")
        ask(server, tmp_path, key=SecretStr(KEY))
    for content in (*(file.read_bytes() for file in files(tmp_path)), json.dumps(model.record).encode()):
        for secret in (KEY.encode(), b"Authorization", b"authorization", b"Bearer"):
            assert secret not in content
        encoded = base64.b64encode(PIXELS)
        for start in range(0, len(PIXELS) - 12, 3):
            assert PIXELS[start : start + 9] not in content
            assert encoded[start // 3 * 4 : start // 3 * 4 + 12] not in content


def test_what_a_transcript_holds(tmp_path: Path):
    with scripted_server(lambda body: "blue") as server:
        model, _ = ask(server, tmp_path, seed=3)
    (file,) = files(tmp_path)
    kept = json.loads(file.read_text(encoding="ascii"))
    (turn,) = ask(server, tmp_path, seed=3)[0].record  # from the file alone: the server is gone
    date = kept.pop("date")
    assert date.endswith("+00:00")
    assert turn["date"] == model.record[0]["date"] == date
    assert kept == {
        "format": "medvip-transcript",
        "server": f"127.0.0.1:{server.port}",
        "model": "tiny",
        "seed": 3,
        "about": "the sky",
        "messages": [
            {
                "role": "user",
                "text": "What color is the sky?",
                "picture": {"sha256": hashlib.sha256(PIXELS).hexdigest(), "made_of": ["1f2e", "3d4c"]},
            }
        ],
        "answer": "blue",
        "finish": "stop",
        "refusal": None,
        "prompt_tokens": 11 + PICTURE_TOKENS,
        "completion_tokens": 7,
    }
    assert model.record[0]["answer"] == "blue"
    assert PICTURE.content not in repr(QUESTION).encode("latin-1", "replace")
    assert repr(PIXELS[:12])[2:-1] not in repr(QUESTION)


def test_half_a_character_is_kept(tmp_path: Path):
    half = Reply(body=b'{"choices": [{"message": {"content": "bl\\ud83due"}}]}')
    question = [Message("user", "What color is \udcff?")]
    with scripted_server(lambda body: half) as server:
        texts = [ask(server, tmp_path, question)[1] for _ in range(2)]
        assert texts == ["bl\ud83due"] * 2
        assert len(server.requests) == 1


def a_file(folder: Path) -> Path:
    folder.write_text("not a folder", encoding="utf-8")
    return folder


def a_file_above(folder: Path) -> Path:
    return a_file(folder) / "transcripts"


@pytest.mark.parametrize("place", [a_file, a_file_above])
def test_no_question_is_asked_whose_answer_could_not_be_kept(place: Callable[[Path], Path], tmp_path: Path):
    with scripted_server(lambda body: "blue") as server:
        model = quick_model(server, place(tmp_path / "cache"))
        with pytest.raises(LanguageModelError, match="answers cannot be kept in '") as caught:
            model.ask(QUESTION, SCHEMA, about="the sky")
        assert caught.value.fix == "set MEDVIP_CACHE to a folder that can be written to"
        assert server.requests == []
    assert (model.calls, model.record) == (0, [])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device that is always full is of Linux")
def test_a_full_disk_is_found_out_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    full = lambda **_: open("/dev/full", "wb")  # noqa: E731, SIM115, PTH123
    monkeypatch.setattr("medvip.symptoms.language_model.transcripts.tempfile.NamedTemporaryFile", full)
    with scripted_server(lambda body: "blue") as server:
        with pytest.raises(LanguageModelError, match="No space left on device"):
            quick_model(server, tmp_path).ask(QUESTION, SCHEMA, about="the sky")
        assert server.requests == []


def test_what_was_answered_needs_no_folder_that_can_be_written_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    with scripted_server(lambda body: "blue") as server:
        ask(server, tmp_path)
        monkeypatch.setattr(Transcripts, "probe", no_space)
        assert ask(server, tmp_path)[1] == "blue"
        assert len(server.requests) == 1


def test_an_answer_that_cannot_be_kept_any_more_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with scripted_server(lambda body: f"answer {len(server.requests)}") as server:
        model = quick_model(server, tmp_path)
        model.ask([Message("user", "First?")], SCHEMA, about="first")
        assert model.kept_all
        with monkeypatch.context() as full:
            full.setattr("medvip.symptoms.language_model.transcripts.write_atomically", no_space)
            for _ in range(2):
                assert model.ask(QUESTION, SCHEMA, about="the sky").text == "answer 2"
            assert not model.kept_all
            assert len(server.requests) == model.calls == 2
            assert [each["answer"] for each in model.record] == ["answer 1", "answer 2"]
            assert model.completion_tokens == 14
            model.forget("the sky")
            assert model.ask(QUESTION, SCHEMA, about="the sky").text == "answer 3"
        assert len(files(tmp_path)) == 1
        assert not model.kept_all
        assert ask(server, tmp_path)[1] == "answer 4"  # the next command asks anew
    assert len(files(tmp_path)) == 2


def test_what_cannot_be_set_aside_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with scripted_server(lambda body: "blue") as server:
        model, _ = ask(server, tmp_path)
        monkeypatch.setattr("medvip.symptoms.language_model.transcripts.os.replace", no_space)
        model.forget("the sky")
        assert len(files(tmp_path)) == 1


def no_space(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_nothing_is_kept_of_what_failed(tmp_path: Path):
    server = Server(f"http://127.0.0.1:{unused_port()}/v1", "tiny")
    model = LanguageModel(server, retries=0, transcripts=Transcripts(tmp_path))
    with pytest.raises(LanguageModelError):
        model.ask(QUESTION, SCHEMA, about="the sky")
    assert files(tmp_path) == []
    assert model.record == []


def test_where_transcripts_lie_when_nobody_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("MEDVIP_CACHE", str(tmp_path))
    with scripted_server(lambda body: "blue") as server:
        LanguageModel(Server(server.base_url, "tiny")).ask(QUESTION, SCHEMA, about="the sky")
    assert len(files(tmp_path / "transcripts")) == 1


def test_the_record_is_in_order_whatever_the_threads_did(tmp_path: Path):
    with scripted_server(lambda body: f"answer to {len(body['messages'])}") as server:
        model = quick_model(server, tmp_path)
        longer = [*QUESTION, Message("assistant", "blue"), Message("user", "Sure?")]
        for about, messages in (("b", longer), ("a", QUESTION[:1]), ("b", [Message("user", "b?")])):
            model.ask(messages, SCHEMA, about=about)
    assert [(each["about"], each["turn"]) for each in model.record] == [("a", 1), ("b", 1), ("b", 3)]
