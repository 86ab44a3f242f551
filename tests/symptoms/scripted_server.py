"""A language model's server that says what a test tells it to, over real sockets on this machine.

    with scripted_server(lambda body: '{"color": "blue"}') as server:
        model = LanguageModel(Server(server.base_url, "tiny"))
        ...
        assert pictures_in(server.requests[0].body) == [png]

It speaks ``POST {base_url}/chat/completions`` of the OpenAI protocol and nothing else. What kind
of server it is (`KINDS`) decides which requests it refuses, in the words of real servers; `troubles`
says what goes wrong with the first request, the second, and so on.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from medvip.symptoms.language_model import LanguageModel

PICTURE_TOKENS = 300
Trouble = Literal["hang", "close", "cut", "cut_chunked", "drip", "drip_headers"]


@dataclass(frozen=True)
class Reply:
    """One HTTP answer, whole or broken.

    Attributes
    ----------
    content
        What stands at ``choices[0].message.content``: text, None, a list of parts, nonsense.
    finish, refusal, usage
        The other fields of a completion; `usage` None leaves it out.
    status, headers, body
        `body` (bytes, or anything for JSON) is sent instead of a completion.
    trouble
        ``"hang"`` sends nothing until the test ends, ``"close"`` hangs up before the status line,
        ``"cut"`` and ``"cut_chunked"`` hang up in the body, ``"drip"`` sends the body, and
        ``"drip_headers"`` a header, a byte at a time and never its end.
    delay
        Seconds before anything is sent.
    """

    content: Any = ""
    finish: Any = "stop"
    refusal: Any = None
    usage: Any = field(default_factory=lambda: {"prompt_tokens": 11, "completion_tokens": 7})
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    trouble: Trouble | None = None
    delay: float = 0.0

    def encoded(self, model: object, pictures: int = 0) -> bytes:
        """The body's bytes; each picture of the question counts `PICTURE_TOKENS` beside the usage given."""
        if isinstance(self.body, bytes):
            return self.body
        if self.body is not None:
            return json.dumps(self.body).encode()
        message = {"role": "assistant", "content": self.content}
        if self.refusal is not None:
            message["refusal"] = self.refusal
        completion = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1_750_000_000,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": self.finish}],
        }
        if self.usage is not None:
            completion["usage"] = self.usage
        if pictures and isinstance(self.usage, dict) and isinstance(self.usage.get("prompt_tokens"), int):
            counted = self.usage["prompt_tokens"] + pictures * PICTURE_TOKENS
            completion["usage"] = {**self.usage, "prompt_tokens": counted}
        return json.dumps(completion).encode()


Answer = Callable[[dict[str, Any]], str | Reply]
Refuses = Callable[[dict[str, Any]], Reply | None]


def error(status: int, message: str, *, param: str | None = None, **headers: str) -> Reply:
    """An error as the protocol has it; ``Retry_After="2"`` becomes a header."""
    inner = {"message": message, "type": "invalid_request_error", "param": param, "code": None}
    return Reply(
        status=status,
        body={"error": inner},
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


BUSY = error(429, "Rate limit reached for requests")

# How servers say that they, or the model they run, take no pictures.
BLIND_WORDS: dict[str, Reply] = {
    "vllm": Reply(
        status=400,
        body={
            "object": "error",
            "message": "tiny is not a multimodal model None",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
    ),
    "llama.cpp": Reply(
        status=500,
        body={
            "error": {
                "code": 500,
                "message": "image input is not supported - hint: if this is unexpected, "
                "you may need to provide the mmproj",
                "type": "server_error",
            }
        },
    ),
    "openai": error(
        400,
        "Invalid content type. image_url is only supported by certain models.",
        param="messages.[0].content.[1].type",
    ),
    "openrouter": Reply(
        status=404, body={"error": {"message": "No endpoints found that support image input", "code": 404}}
    ),
    "ollama": error(400, "this model does not support image input"),
    "ollama-old": Reply(
        status=500,
        body={"error": {"message": "this model is missing data required for image input", "code": None}},
    ),
    "lmstudio": Reply(
        status=400, body={"error": "Model does not support images. Please use a model that does."}
    ),
    "deepseek": Reply(
        status=422,
        body=b"Failed to deserialize the JSON body into the target type: messages[0]: "
        b"unknown variant `image_url`, expected `text` at line 1 column 153",
    ),
    # These do not even say what it is that they do not take.
    "deepseek-old": Reply(
        status=422,
        body=b"Failed to deserialize the JSON body into the target type: messages[0]: "
        b"invalid type: sequence, expected a string at line 1 column 2901",
    ),
    "groq": error(400, "'messages.0.content' : value must be a string"),
    "bare-500": Reply(status=500, body=b"Internal Server Error", headers={"Content-Type": "text/plain"}),
}


def takes_no_pictures(words: str = "vllm") -> Refuses:
    """Refuse requests with pictures in the words of a server in `BLIND_WORDS`."""
    return lambda body: BLIND_WORDS[words] if pictures_in(body) else None


def _json_mode(body: dict[str, Any]) -> Reply | None:
    if body.get("response_format", {}).get("type") == "json_schema":
        return error(
            400, "This response_format type is unavailable now: `json_schema`", param="response_format"
        )
    return None


def _text_only(body: dict[str, Any]) -> Reply | None:
    if "response_format" in body:
        return error(400, "Unsupported parameter: 'response_format'", param="response_format")
    return None


def _picky(body: dict[str, Any]) -> Reply | None:
    if "seed" in body:
        return error(400, "Unsupported parameter: 'seed' is not supported with this model.", param="seed")
    if "max_tokens" in body:
        return error(
            400,
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            param="max_tokens",
        )
    return None


KINDS: dict[str, Refuses] = {
    "schema": lambda body: None,  # takes all there is
    "json_mode": _json_mode,
    "text_only": _text_only,
    "picky": _picky,
    "blind": takes_no_pictures(),
    **{f"blind:{words}": takes_no_pictures(words) for words in BLIND_WORDS},
}


@dataclass(frozen=True)
class Request:
    """What the server saw: header names in lower case, `body` parsed, `raw` as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    raw: bytes


class ScriptedServer:
    """What a test holds of a running server."""

    def __init__(self, answer: Answer, refuses: Sequence[Refuses], troubles: Sequence[Reply | None]) -> None:
        self._answer, self._refuses, self._troubles = answer, refuses, troubles
        self._requests: list[Request] = []
        self._lock = threading.Lock()
        self._at_once = 0
        self.most_at_once = 0
        self.port = 0
        self.over = threading.Event()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def requests(self) -> list[Request]:
        """All requests so far, in the order in which they came."""
        with self._lock:
            return list(self._requests)

    def answer(self, request: Request) -> Reply:
        """Note the request and say what comes back."""
        with self._lock:
            number = len(self._requests)
            self._requests.append(request)
        if request.method != "POST" or urlsplit(request.path).path != "/v1/chat/completions":
            return error(404, "Not Found")
        if number < len(self._troubles) and (trouble := self._troubles[number]) is not None:
            return trouble
        for refuses in self._refuses:
            if (refusal := refuses(request.body)) is not None:
                return refusal
        said = self._answer(request.body)
        return Reply(content=said) if isinstance(said, str) else said

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count the requests that are answered at the same time."""
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay open, as with real servers
    server: _HTTPServer  # type: ignore[reportIncompatibleVariableOverride]

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()
        self.server.connections.discard(self.connection)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        scripted = self.server.scripted
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            body = json.loads(raw)
        except ValueError:
            body = {}
        headers = {name.lower(): value for name, value in self.headers.items()}
        with scripted.counted():
            reply = scripted.answer(Request(self.command, self.path, headers, body, raw))
            scripted.over.wait(reply.delay)
            with suppress(OSError):  # the client may have hung up: its right
                self._send(reply, body)

    def _send(self, reply: Reply, body: dict[str, Any]) -> None:
        pictures = sum(part.get("type") == "image_url" for part in _parts(body))
        content = reply.encoded(body.get("model"), pictures)
        if reply.trouble in ("hang", "close"):
            if reply.trouble == "hang":
                self.server.scripted.over.wait()
            self._hang_up()
            return
        self.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        if reply.trouble == "drip_headers":
            self.flush_headers()
            self._drip(b"X-Slow: ")
        elif reply.trouble == "cut_chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(content) + 5, content))
            self._hang_up()
        elif reply.trouble == "cut":
            self.send_header("Content-Length", str(len(content) + 5))
            self.end_headers()
            self.wfile.write(content)
            self._hang_up()
        elif reply.trouble == "drip":
            self.send_header("Content-Length", str(10**9))
            self.end_headers()
            self._drip(content)
        else:
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def _drip(self, start: bytes) -> None:
        self.wfile.write(start)
        while not self.server.scripted.over.wait(0.01):
            self.wfile.write(b" ")

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for all of them

    def __init__(self, scripted: ScriptedServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scripted = scripted
        self.connections: set[socket.socket] = set()

    def hang_up_all(self) -> None:
        self.scripted.over.set()
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def scripted_server(
    answer: Answer = lambda body: "{}",
    kind: str | Refuses = "schema",
    *,
    troubles: Sequence[Reply | None] = (),
) -> Iterator[ScriptedServer]:
    """Run a server for the time of a ``with`` block.

    Parameters
    ----------
    answer
        From a request's body to the assistant's text, or to a `Reply`. Several threads may call it.
    kind
        A name in `KINDS`, or several with spaces between them ("text_only blind:llama.cpp"), or a
        function that gives a `Reply` for what it refuses.
    troubles
        What the first, second, ... request gets instead; None lets it through.
    """
    refuses = [KINDS[each] for each in kind.split()] if isinstance(kind, str) else [kind]
    scripted = ScriptedServer(answer, refuses, troubles)
    with _HTTPServer(scripted) as http:
        scripted.port = http.server_address[1]
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield scripted
        finally:
            http.shutdown()
            thread.join()
            http.hang_up_all()


def pictures_in(body: dict[str, Any]) -> list[bytes]:
    """The content of every picture in a request, in order."""
    return [
        base64.b64decode(re.sub(r"^data:[^,]*;base64,", "", part["image_url"]["url"]), validate=True)
        for part in _parts(body)
        if part.get("type") == "image_url"
    ]


def texts_in(body: dict[str, Any]) -> list[str]:
    """Every text in a request, in order: the question first, the last thing said at the end."""
    return [part["text"] for part in _parts(body) if part.get("type") == "text"]


def _parts(body: dict[str, Any]) -> list[dict[str, Any]]:
    parts = []
    for message in body.get("messages", []):
        content = message["content"]
        parts += content if isinstance(content, list) else [{"type": "text", "text": content}]
    return parts


def quick_model(server: ScriptedServer, folder: Path, *, name: str = "tiny", **options: Any) -> LanguageModel:
    """The model of a server, with hardly any waiting; its transcripts lie in `folder`."""
    from medvip.symptoms.language_model import LanguageModel, Server, Transcripts

    options = {"first_wait": 0.001, "timeout": 10.0, **options}
    return LanguageModel(Server(server.base_url, name), transcripts=Transcripts(folder), **options)


def unused_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Fail when the block takes longer."""
    start = time.monotonic()
    yield
    taken = time.monotonic() - start
    assert taken < seconds, f"took {taken:.2f} s"
