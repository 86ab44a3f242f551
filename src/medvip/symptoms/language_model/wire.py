"""What goes over the wire beneath the library: no header too many, no byte too many, no second too many."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from medvip.symptoms.language_model.server import OPENAI_HOST, Server

if TYPE_CHECKING:
    from pydantic import SecretStr

# What a server needs to know. The library would add what the environment holds (OPENAI_ORG_ID,
# OPENAI_CUSTOM_HEADERS: other keys, perhaps) and what this machine is.
_HEADERS = {"host", "content-type", "content-length", "accept", "user-agent"}
_HEADERS |= {"x-stainless-raw-response"}  # by which the library knows that its answer is not to be read
_MAX_REASON_BYTES = 100_000


class ErrorAnswer(Exception):  # noqa: N818 - an answer, though not the wanted one
    """The server answered with an HTTP status that says no."""

    def __init__(self, status: int, headers: Any, content: bytes) -> None:
        super().__init__(f"status {status}")
        self.status, self.headers, self.content = status, headers, content


class TooLong(Exception):  # noqa: N818 - it says what is wrong
    """An answer has more bytes than any answer should."""


class BrokenOff(Exception):  # noqa: N818 - it says what happened
    """The connection broke in the middle of an answer; the cause is the HTTP library's error."""


class Line:
    """One request's connection, for as long as it lasts."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self.was_cut = False

    def cut(self) -> None:
        """End it at once, from any thread: whoever reads or writes there is told."""
        self.was_cut = True
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def trace(self, event: str, about: dict[str, Any]) -> None:
        """Learn the socket when it is there; httpx calls this at each step of a request."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._socket = about["return_value"].get_extra_info("socket")
            if self.was_cut:
                self.cut()


class Wire:
    """The limits on each request, as hooks of the HTTP client under the library."""

    def __init__(self, server: Server, key: SecretStr | None) -> None:
        self._key = key
        self._headers = _HEADERS | (
            {"openai-organization", "openai-project"} if server.host == OPENAI_HOST else set()
        )
        self._lines: set[Line] = set()
        self._here = threading.local()
        self._is_over = False
        self.hooks = {"request": [self._outgoing], "response": [self._incoming]}

    @contextmanager
    def line(self, seconds: float) -> Iterator[Line]:
        """A line for the request that this thread makes in the block; it is cut after `seconds`.

        The library's own timeout counts from byte to byte: a server that sends one now and then
        would hold it for ever.
        """
        line = self._here.line = Line()
        self._lines.add(line)
        if self._is_over:
            line.cut()
        timer = threading.Timer(seconds, line.cut)
        timer.daemon = True
        timer.start()
        try:
            yield line
        finally:
            timer.cancel()
            self._lines.discard(line)

    def cut_all(self) -> None:
        """End every request that is under way, or still to come."""
        self._is_over = True
        for line in list(self._lines):
            line.cut()

    def _outgoing(self, request: Any) -> None:
        for name in set(request.headers) - self._headers:
            del request.headers[name]
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        request.headers["Accept-Encoding"] = "identity"  # a few kB could unpack to gigabytes
        request.headers["Connection"] = "close"  # questions are rare; nothing is left open between them
        request.extensions["trace"] = self._here.line.trace

    def _incoming(self, response: Any) -> None:
        if response.is_success:
            return
        content = b""
        with suppress(Exception):  # the status is an answer even where its reason breaks off
            for piece in response.iter_raw():
                content += piece
                if len(content) > _MAX_REASON_BYTES:
                    break
        raise ErrorAnswer(response.status_code, response.headers, content[:_MAX_REASON_BYTES])


def read_at_most(response: Any, limit: int) -> bytes:
    """The body of an HTTP response.

    Raises
    ------
    TooLong
        It has more than `limit` bytes.
    BrokenOff
        It ends before its end.
    """
    content = bytearray()
    pieces = response.iter_raw()
    while True:
        try:
            piece = next(pieces, None)
        except Exception as error:  # of one of the two HTTP libraries that may lie beneath
            raise BrokenOff from error
        if piece is None:
            return bytes(content)
        content += piece
        if len(content) > limit:
            raise TooLong
