"""Which key goes to which server, and that no key is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from medvip.errors import UsageError
from medvip.symptoms.language_model import OPENAI, Server, find_key

LOCAL = Server("http://127.0.0.1:8000/v1", "tiny")
OTHER = Server("https://openrouter.ai/api/v1", "tiny")
OPENAI_SERVER = Server(OPENAI, "gpt")
NAMES = ("MEDVIP_LLM_KEY", "OPENAI_API_KEY", "OTHER_KEY")


@pytest.fixture(autouse=True)
def _no_keys_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def found(server: Server, **options: object) -> str | None:
    key = find_key(server, **options)  # type: ignore[arg-type]
    return None if key is None else key.get_secret_value()


def test_no_key_anywhere():
    for server in (LOCAL, OTHER, OPENAI_SERVER):
        assert found(server) is None


@pytest.mark.parametrize("server", [LOCAL, OTHER, OPENAI_SERVER])
def test_our_own_variable_is_for_any_server(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MEDVIP_LLM_KEY", "ours")
    monkeypatch.setenv("OPENAI_API_KEY", "openai's")
    assert found(server) == "ours"


@pytest.mark.parametrize("from_file", [False, True])
def test_the_key_of_openai_is_for_openai_alone(
    from_file: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    if from_file:
        (tmp_path / ".env").write_text("OPENAI_API_KEY=openai's\n", encoding="utf-8")
    else:
        monkeypatch.setenv("OPENAI_API_KEY", "openai's")
    assert found(OPENAI_SERVER) == "openai's"
    for base_url in (
        LOCAL.base_url,
        OTHER.base_url,
        "http://api.openai.com/v1",  # without encryption
        "https://api.openai.com:8443/v1",
        "https://api.openai.com.evil.com/v1",
        "https://evil-api.openai.com/v1",
        "https://eu.api.openai.com/v1",
        "https://openai.com/v1",
        "https://api-openai.com/v1",
        "https://evil.com/api.openai.com/v1",
        "https://resource.openai.azure.com/openai/v1",
    ):
        assert found(Server(base_url, "gpt")) is None, base_url


def test_the_environment_comes_before_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / ".env").write_text("MEDVIP_LLM_KEY=of-the-file\n", encoding="utf-8")
    assert found(LOCAL) == "of-the-file"
    monkeypatch.setenv("MEDVIP_LLM_KEY", "of-the-environment")
    assert found(LOCAL) == "of-the-environment"


@pytest.mark.parametrize(
    ("name", "server"),
    [("MEDVIP_LLM_KEY", LOCAL), ("OPENAI_API_KEY", OPENAI_SERVER), ("OTHER_KEY", LOCAL)],
)
def test_an_empty_variable_does_not_hide_the_file(
    name: str, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / ".env").write_text(f"{name}=of-the-file\n", encoding="utf-8")
    monkeypatch.setenv(name, "")
    assert found(server, name="OTHER_KEY" if name == "OTHER_KEY" else None) == "of-the-file"


def test_the_environment_comes_before_the_file_for_openai_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / ".env").write_text("OPENAI_API_KEY=of-the-file\n", encoding="utf-8")
    monkeypatch.setenv("OPENAI_API_KEY", "of-the-environment")
    assert found(OPENAI_SERVER) == "of-the-environment"


def test_our_own_variable_in_the_file_comes_before_openais_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / ".env").write_text("MEDVIP_LLM_KEY=ours\n", encoding="utf-8")
    monkeypatch.setenv("OPENAI_API_KEY", "openai's")
    assert found(OPENAI_SERVER) == "ours"


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ("MEDVIP_LLM_KEY=sk-1\n", "sk-1"),
        ("export MEDVIP_LLM_KEY=sk-1\n", "sk-1"),
        ("# a comment\n\nMEDVIP_LLM_KEY = 'sk-1'  # mine\n", "sk-1"),
        ('MEDVIP_LLM_KEY="sk-1"\r\nOTHER=2\r\n', "sk-1"),
        ("A=$(rm -rf /)\nMEDVIP_LLM_KEY=sk-${A}\n", "sk-${A}"),  # taken as it stands
        ("MEDVIP_LLM_KEY=\n", None),
        ("MEDVIP_LLM_KEY\n", None),
        ("NOT_MEDVIP_LLM_KEY=sk-1\n", None),
        ("", None),
    ],
)
def test_what_a_file_may_hold(content: str, key: str | None, tmp_path: Path):
    (tmp_path / ".env").write_text(content, encoding="utf-8")
    assert found(LOCAL) == key


def test_another_file(tmp_path: Path):
    (tmp_path / "keys.env").write_text("MEDVIP_LLM_KEY=sk-1\n", encoding="utf-8")
    assert found(LOCAL) is None
    assert found(LOCAL, env_file=tmp_path / "keys.env") == "sk-1"


def test_a_broken_file_is_named_and_not_quoted(tmp_path: Path):
    (tmp_path / ".env").write_bytes(b"MEDVIP_LLM_KEY=sk-secret\xff\xfe\n")
    with pytest.raises(UsageError, match=r"\.env") as caught:
        find_key(LOCAL)
    assert "secret" not in str(caught.value)


def test_a_broken_file_does_not_matter_where_the_environment_has_the_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / ".env").write_bytes(b"\xff\xfe\x00")
    monkeypatch.setenv("MEDVIP_LLM_KEY", "sk-1")
    assert found(LOCAL) == "sk-1"


def test_a_folder_is_no_file(tmp_path: Path):
    (tmp_path / ".env").mkdir()
    assert found(LOCAL) is None


@pytest.mark.parametrize("server", [LOCAL, OTHER, OPENAI_SERVER])
def test_a_named_variable_is_taken_instead(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("MEDVIP_LLM_KEY", "ours")
    monkeypatch.setenv("OPENAI_API_KEY", "openai's")
    (tmp_path / ".env").write_text("OTHER_KEY=other\n", encoding="utf-8")
    assert found(server, name="OTHER_KEY") == "other"


def test_a_named_variable_that_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MEDVIP_LLM_KEY", "ours")
    with pytest.raises(UsageError, match=r"holds the variable that --key-name names"):
        find_key(LOCAL, name="OTHER_KEY")


@pytest.mark.parametrize(
    "name",
    [
        "sk-proj-0123456789abcdef",
        "sk-or-v1-0123456789abcdef",
        "gsk_" + "0123456789abcdef" * 4,
        "AIzaSyA-0123456789abcdef",
        "AIzaSyA_0123456789abcdef",  # could be a variable's name
        "gsk_0123456789abcdef",
        "0123456789abcdef",
        "eyJhbGciOi.J9.0123456789abcdef",
        "MY KEY",
        "",
        "$MEDVIP_LLM_KEY",
        "KEY\n",
        "KEY\x1b[31m",
    ],
)
def test_a_key_instead_of_a_name_is_not_repeated(name: str):
    with pytest.raises(UsageError) as caught:
        find_key(LOCAL, name=name)
    assert str(caught.value).isprintable()
    assert "0123456789abcdef" not in str(caught.value)
    assert name.strip() == "" or name not in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        "sk-secret\nX-Header: 1",
        "sk-secret\r\n X: 1",
        "sk secret",
        "sk-secret\x00",
        "sk-secret\x7f",
        "sk-sécret",
        "sk-secret\u200b",
        "“sk-secret”",
        "   ",
        "s" * 5000,
    ],
)
def test_what_is_no_key(key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    # An environment variable cannot hold every one of these; a file can.
    quoted = key.replace("\n", "\\n").replace("\r", "\\r")
    (tmp_path / ".env").write_text(f'MEDVIP_LLM_KEY="{quoted}"\n', encoding="utf-8", newline="")
    with pytest.raises(UsageError) as caught:
        find_key(LOCAL)
    assert str(caught.value).isprintable()
    assert "secret" not in str(caught.value)
    assert "sssss" not in str(caught.value)


def test_a_line_break_after_a_key_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MEDVIP_LLM_KEY", " sk-1\n")
    assert found(LOCAL) == "sk-1"


def test_a_key_does_not_show_itself(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MEDVIP_LLM_KEY", "sk-secret")
    key = find_key(LOCAL)
    assert "secret" not in f"{key} {key!r} {[key]}"
