"""One question to a server and its answer, over HTTP, within limits."""

from __future__ import annotations

import json
import logging
import re
import time
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NoReturn

from medvip.errors import LanguageModelError
from medvip.symptoms.language_model.dialect import Refused
from medvip.symptoms.language_model.server import Server
from medvip.symptoms.language_model.wire import BrokenOff, ErrorAnswer, TooLong, Wire, read_at_most

if TYPE_CHECKING:
    from pydantic import SecretStr

MAX_ANSWER_BYTES = 4_000_000
LONGEST_WAIT = 60.0
_SHORTEST_SECRET, _SHORTEST_WORD = 6, 16


@dataclass(frozen=True)
class Reply:
    """What came back: text that nobody vouches for.

    Attributes
    ----------
    text
        Empty where the model gave none.
    finish
        Why it ended: ``"stop"``, ``"length"`` (cut off), ...
    refusal
        What a model says instead of an answer, where the protocol marks it.
    prompt_tokens, completion_tokens
        As the server counts them; None where it does not.
    """

    text: str
    finish: str | None = None
    refusal: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class TryAgain(Exception):  # noqa: N818 - it says what to do
    """The server is busy, broke off or was too slow; `wait` is the pause it asked for, in seconds."""

    def __init__(self, reason: str, wait: float | None = None, *, nobody_listens: bool = False) -> None:
        super().__init__(reason)
        self.wait, self.nobody_listens = wait, nobody_listens


class Connection:
    """Speaks to one server. Follows no redirects, logs no request, sends a key nowhere else."""

    def __init__(self, server: Server, key: SecretStr | None, timeout: float) -> None:
        openai = _openai()
        self._server, self._key, self._timeout = server, key, timeout
        self._wire = Wire(server, key)
        self._client = openai.OpenAI(
            base_url=server.base_url,
            api_key="none",  # `Wire` puts the key in: the library has nothing to lose
            timeout=timeout,
            max_retries=0,  # `LanguageModel` retries, and counts each request
            # A proxy of the environment would see what is meant for this machine alone; a
            # redirect would carry pictures on to a host that nobody agreed to.
            http_client=openai.DefaultHttpxClient(
                trust_env=not server.is_loopback,
                follow_redirects=False,
                timeout=timeout,
                event_hooks=self._wire.hooks,
            ),
        )

    def ask(self, messages: list[dict[str, Any]], **parameters: Any) -> Reply:
        """Ask once.

        Raises
        ------
        Refused
            The server does not take the request as it is.
        TryAgain
            It may answer later.
        LanguageModelError
            It will not answer: wrong key, no such model, nothing but nonsense.
        """
        create: Any = self._client.chat.completions.with_streaming_response.create
        with self._wire.line(self._timeout) as line:
            try:
                with create(model=self._server.model, messages=messages, **parameters) as response:
                    content = read_at_most(response.http_response, MAX_ANSWER_BYTES)
            except TooLong:
                raise LanguageModelError(
                    f"{self.host} sends an answer of more than {MAX_ANSWER_BYTES // 1_000_000} MB",
                    fix="check that the address is that of a language model",
                ) from None
            except (ErrorAnswer, BrokenOff, _openai().APIConnectionError) as error:
                cause = error.__cause__ or error
                if isinstance(cause, ErrorAnswer):
                    self._explain(cause)
                if line.was_cut or "Timeout" in type(cause).__name__:
                    raise TryAgain(f"no whole answer within {self._timeout:g} s") from None
                reason = f"the connection failed: {self._safe(str(cause))}"
                raise TryAgain(reason, nobody_listens=_was_refused(cause)) from None
        return self._without_key(self._read(content))

    @property
    def host(self) -> str:
        """The server's host, for messages."""
        return self._server.host

    def close(self) -> None:
        """Break off: whoever waits for an answer is told at once."""
        self._wire.cut_all()

    def _read(self, content: bytes) -> Reply:
        try:
            return _reply(json.loads(content))
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
            pass
        if said := _said(content, errors_only=True):  # some gateways send their errors with status 200
            raise TryAgain(f"it answers: {self._safe(said)}")
        raise LanguageModelError(
            f"{self.host} answers something else than a chat completion",
            fix="check --base-url: it has to be an address of the OpenAI protocol, mostly ending in /v1",
        )

    def _explain(self, answer: ErrorAnswer) -> NoReturn:
        """Turn an HTTP status into what to do about it."""
        status = answer.status
        said = self._safe(_said(answer.content))
        about = f"{self.host} answers {status}"
        if status in (401, 403):
            raise LanguageModelError(
                f"{about}: it does not accept the key" if self._key else f"{about}: it wants a key",
                fix="put the right key into MEDVIP_LLM_KEY, or name its variable with --key-name",
            ) from None
        if 300 <= status < 400:
            raise LanguageModelError(
                f"{about}: it points to another address, which is not followed",
                fix="give the final address with --base-url",
            ) from None
        if status == 402 or (status == 429 and "insufficient_quota" in said):
            raise LanguageModelError(f"{about}: {said}", fix="check the account's credit") from None
        if _takes_no_pictures(said):
            raise Refused(status, said) from None
        if status in (408, 409, 425, 429) or status >= 500:
            raise TryAgain(f"it answers {status}: {said}", _asked_wait(answer.headers)) from None
        if status == 404 and not re.search("image|response_format", said):
            raise LanguageModelError(
                f"{about} for the model {self._server.model!r}: {said}",
                fix="check --model, and that --base-url ends as the server wants it, mostly in /v1",
            ) from None
        raise Refused(status, said) from None

    def _without_key(self, reply: Reply) -> Reply:
        """The reply as it may be written down: a server may send back anything that it was sent."""
        key = self._key.get_secret_value() if self._key else ""
        # What servers without keys are given ("none", "ollama") is no secret, and a word of answers.
        if len(key) < _SHORTEST_SECRET or (key.isalpha() and len(key) < _SHORTEST_WORD):
            return reply

        def masked(text: str) -> str:
            return text.replace(key, "[...]").replace(json.dumps(key)[1:-1], "[...]")

        return replace(
            reply,
            text=masked(reply.text),
            finish=reply.finish and masked(reply.finish),
            refusal=reply.refusal and masked(reply.refusal),
        )

    def _safe(self, text: str) -> str:
        """One short line without anything that looks like a key or a picture."""
        if self._key:
            text = text.replace(self._key.get_secret_value(), "[...]")
        text = re.sub(r"base64,.*", "[...]", text, flags=re.DOTALL)  # a picture, in however many lines
        line = " ".join(re.sub(r"[A-Za-z0-9+/=_\-]{40,}", "[...]", text).split())
        line = "".join(character if character.isprintable() else "?" for character in line)
        return (line[:300] + "...") if len(line) > 300 else line or "no reason given"


def looks_like_pictures_refused(refused: Refused) -> bool:
    """Whether the reason is that a model takes no pictures, not that it dislikes this one.

    Examples
    --------
    >>> looks_like_pictures_refused(Refused(400, "'messages.0.content' : value must be a string"))
    True
    >>> looks_like_pictures_refused(Refused(400, "The image was rejected by the safety system"))
    False
    """
    said = refused.said.lower()
    if re.search(_OTHER_REASONS, said):
        return False
    wants_text = re.search(_WANTS_TEXT, said) and "response_format" not in said
    return bool(wants_text) or "image" in said or _takes_no_pictures(said)


# A question that is too long or that a filter stops is refused with or without the word "image".
_OTHER_REASONS = (
    r"context (length|window|size)|too (large|long|big|many)|exceed|safety|polic(y|ies)|moderation|"
    r"not allowed|rejected"
)
# A question with a picture is sent in parts; servers for text alone want one string.
_WANTS_TEXT = (
    r"(must|should) be a (valid )?string|expected a string|str(ing)? type expected|"
    r"not of type 'string'|expected string|cannot unmarshal array"
)


def _takes_no_pictures(said: str) -> bool:
    words = r"(image|vision|multi-?modal|mmproj)"
    refusing = (
        r"(not support|unsupported|does not|doesn't|cannot|no endpoints|not a |not enabled|no vision|"
        r"missing data)"
    )
    return bool(re.search(rf"{refusing}.*{words}|{words}.*{refusing}", said.lower()))


def _was_refused(error: BaseException | None) -> bool:
    """Whether nothing listens at the address: the system's own error lies beneath the libraries'."""
    while error is not None and not isinstance(error, ConnectionRefusedError):
        error = error.__cause__ or error.__context__
    return error is not None


def _said(content: bytes, *, errors_only: bool = False) -> str:
    """The server's own words, wherever it puts them; nothing where `errors_only` and it is no error."""
    try:
        body = json.loads(content)
        inner = body.get("error") if isinstance(body, dict) else None
        if errors_only and not inner:
            return ""
        inner = inner or body
        if isinstance(inner, dict):
            parts = [inner.get(name) for name in ("message", "detail", "code", "param")]
            inner = "; ".join(str(part) for part in parts if part) or inner
        return str(inner)
    except (ValueError, RecursionError):
        return "" if errors_only else content.decode("utf-8", errors="replace")


def _asked_wait(headers: Any) -> float | None:
    """Seconds that the server asks to wait, from its Retry-After: a number or a date."""
    asked = headers.get("retry-after")
    if not asked:
        return None
    try:
        seconds = float(asked)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(asked).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(seconds, 0.0), LONGEST_WAIT) if seconds == seconds else None


def _reply(body: Any) -> Reply:
    """Take an answer's body to pieces, trusting none of it; what is no completion raises something."""
    choice = body["choices"][0]
    message = choice["message"]
    text = message.get("content")
    if isinstance(text, list):  # some servers answer in parts
        text = "".join(part["text"] for part in text if isinstance(part, dict) and _is_text(part.get("text")))
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Reply(
        text=text if isinstance(text, str) else "",
        finish=_text_or_none(choice.get("finish_reason")),
        refusal=_text_or_none(message.get("refusal")),
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


# Loggers of the libraries that write down whole requests, or what a server sends in its headers.
_TALKATIVE = ("openai._base_client", "httpcore2.http11", "httpcore.http11")


class _NoRequests(logging.Filter):
    """Requests carry pictures, and a server may send anything back: neither goes into a log."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING


_no_requests = _NoRequests()


def _openai() -> Any:
    try:
        import openai
    except ImportError as error:
        raise LanguageModelError(
            "asking a language model needs the package openai", fix="pip install 'medvip[llm]'"
        ) from error
    for name in _TALKATIVE:
        logging.getLogger(name).addFilter(_no_requests)  # once: a filter is not added twice
    return openai
