"""Where a language model may answer: one host for every reader, and no doubt about what this machine is."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvip.errors import MedvipError, UsageError
from medvip.symptoms.language_model import Server


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:8000",
        "127.8.9.10",
        "[::1]",
        "[::1]:8000",
        "localhost",
        "localhost:1",
        "LOCALHOST",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_this_machine(scheme: str, host: str):
    assert Server(f"{scheme}://{host}/v1", "tiny").is_loopback


@pytest.mark.parametrize(
    "host",
    [
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.0.0.01",
        "127.0.0.1.nip.io",
        "127.0.0.256",
        "localhost.evil.com",
        "localhost.localdomain",
        "evil-localhost",
        "localhostx",
        "0.0.0.0",
        "0",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[0:0:0:0:0:0:0:1]",
        "[fe80::1]",
        "192.168.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "api.openai.com",
    ],
)
def test_a_doubt_is_another_machine(host: str):
    assert not Server(f"http://{host}/v1", "tiny").is_loopback


@pytest.mark.parametrize(
    ("base_url", "model", "keeps"),
    [
        ("http://127.0.0.1:11434/v1", "llava", True),
        ("http://127.0.0.1:11434/v1", "cloudy:7b", True),
        ("http://127.0.0.1:11434/v1", "gpt-oss:120b-cloud", False),
        ("http://127.0.0.1:11434/v1", "qwen3-vl:cloud", False),
        ("http://localhost:11434/v1", " Qwen3-VL:235B-CLOUD ", False),
        ("http://192.168.0.1:11434/v1", "llava", False),
    ],
)
def test_a_model_on_this_machine_may_run_elsewhere(base_url: str, model: str, keeps: bool):
    assert Server(base_url, model).keeps_to_itself == keeps


@pytest.mark.parametrize(
    ("base_url", "host"),
    [
        ("http://127.0.0.1:11434/v1", "127.0.0.1:11434"),
        ("https://api.openai.com/v1", "api.openai.com"),
        ("https://API.OpenAI.com/v1/", "api.openai.com"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("http://llm_server:8000/v1", "llm_server:8000"),
        ("https://openrouter.ai/api/v1", "openrouter.ai"),
        ("https://x.openai.azure.com/openai/v1/", "x.openai.azure.com"),
    ],
)
def test_the_host_that_is_named(base_url: str, host: str):
    assert Server(base_url, "tiny").host == host


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "127.0.0.1",
        "127.0.0.1:8000/v1",
        "localhost:8000",
        "ftp://127.0.0.1/v1",
        "file:///etc/passwd",
        "unix:///run/llm.sock",
        "http:/127.0.0.1/v1",
        "http://",
        "http:///v1",
        "http://:8000/v1",
        "http://user:secret@127.0.0.1/v1",
        "http://secret@127.0.0.1/v1",
        "http://127.0.0.1/v1?api_key=secret",
        "http://127.0.0.1/v1#secret",
        "http://127.0.0.1\\@evil.com/v1",
        "http://127.0.0.1\\.evil.com/v1",
        "http://127.0.0.1 /v1",
        " http://127.0.0.1/v1",
        "http://127.0.0.1/v1\n",
        "http://127.0.0.1/v1\r\nX-Header: 1",
        "http://127.0.0.1/\tv1",
        "http://127.0.0.1/\x00",
        "http://127.0.0.1/\x1b[2J",
        "http://127.0.0.1:0/v1",
        "http://127.0.0.1:65536/v1",
        "http://127.0.0.1:port/v1",
        "http://127.0.0.1:-1/v1",
        "http://127.0.0.1:80:90/v1",
        "http://127.0.0.1:8\uff18/v1",
        "http://127.0.0.1\uff052eevil.com/v1",
        "http://127.0.0.1%00.evil.com/v1",
        "http://127.0.0.1;evil.com/v1",
        "http://127.0.0.1,evil.com/v1",
        "http://[::1]evil.com/v1",
        "http://evil.com[::1]/v1",
        "http://[::1/v1",
        "http://[127.0.0.1]/v1",
        "http://[::1%25lo]/v1",
        "http://[v1.x]/v1",
        "http://ex{am}ple.com/v1",
        "http://例え.jp/v1",
        "http://ⓛocalhost/v1",
        "http://localhost。/v1",
    ],
)
def test_no_address(base_url: str):
    with pytest.raises(UsageError) as caught:
        Server(base_url, "tiny")
    assert caught.value.problem.isprintable()
    assert caught.value.fix.isprintable()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "  ", "ti\x1bny", "tiny\nmodel", "tiny\u202e"])
def test_no_name_of_a_model(name: str):
    with pytest.raises(MedvipError) as caught:
        Server("http://127.0.0.1/v1", name)
    assert str(caught.value).isprintable()


def server_or_refusal(base_url: str) -> Server | str:
    try:
        return Server(base_url, "tiny")
    except UsageError as error:
        return str(error)


PIECES = st.sampled_from(
    [
        *("http://", "https://", "127.0.0.1", "localhost", "[::1]", "[", "]", "::1", "evil.com", "127.1"),
        *(
            ":",
            ":80",
            "/",
            "/v1",
            "//",
            ".",
            "..",
            "@",
            "\\",
            "%2f",
            "%00",
            "-",
            "_",
            "xn--",
            "0",
            "é",
            ";",
            " ",
        ),
    ]
)


@given(
    st.lists(PIECES, min_size=1, max_size=6).map("".join)
    | st.text(max_size=20).map("http://127.0.0.1".__add__)
)
@settings(max_examples=400, deadline=None)
def test_every_reader_sees_the_same_host(base_url: str):
    server = server_or_refusal(base_url)
    if isinstance(server, str):
        assert server.isprintable()
        return
    # What connects is httpx: what it reads in the address is what counts.
    connected = httpx2.URL(base_url)
    assert connected.scheme in ("http", "https")
    assert urlsplit(base_url).hostname == connected.raw_host.decode()
    assert not connected.userinfo
    assert connected.port == urlsplit(base_url).port or connected.port is None
    if server.is_loopback:
        host = connected.raw_host.decode()
        assert host == "localhost" or ipaddress.ip_address(host).is_loopback
