"""`LanguageModel`: ask, from the transcripts where it was asked before, within a number of calls."""

from __future__ import annotations

import base64
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medvip.errors import LanguageModelError, UsageError
from medvip.symptoms.language_model.answers import BadAnswer
from medvip.symptoms.language_model.dialect import Dialect, PicturesRefused, Refused
from medvip.symptoms.language_model.exchange import (
    LONGEST_WAIT,
    Connection,
    Reply,
    TryAgain,
    looks_like_pictures_refused,
)
from medvip.symptoms.language_model.server import Server
from medvip.symptoms.language_model.transcripts import Message, Transcripts

if TYPE_CHECKING:
    from pydantic import SecretStr


@dataclass(frozen=True)
class Answer:
    """What the model said.

    Attributes
    ----------
    text
        Untrusted.
    fault
        Why it is no answer (a refusal, cut off), where the protocol says so.
    """

    text: str
    fault: str | None = None


class LanguageModel:
    """A model on a server, asked politely: cached, counted, retried.

    Parameters
    ----------
    server
        Where, and which.
    key
        As `find_key` gives it; None for servers that want none.
    max_calls
        Requests that may be made in all, retries included; a limit on the cost.
    max_tokens
        Of one answer.
    timeout
        Seconds for one answer, from the request to its last byte.
    retries
        How often a request is repeated when the server is busy, breaks off or is too slow.
    first_wait
        Seconds before the first repetition; each further wait is twice as long, unless the server
        names one.
    seed
        Handed to the server; also part of what a transcript is found by.
    transcripts
        Where answers are kept; the user's cache folder when None.
    ask_again
        Whether to ask what was answered before.

    Attributes
    ----------
    calls
        Requests made so far.
    prompt_tokens, completion_tokens
        Of all answers used, those from the transcripts included, as the server counted them.
    record
        Every conversation turn so far as JSON, without keys or pictures, in the order of the
        class and question it was about.

    Examples
    --------
    >>> model = LanguageModel(Server("http://127.0.0.1:11434/v1", "llava"))     # doctest: +SKIP
    >>> form = {"type": "object", "properties": {"color": {"type": "string"}}}  # doctest: +SKIP
    >>> model.ask([Message("user", "...")], form, about="sky").text             # doctest: +SKIP
    '{"color": "blue"}'
    """

    def __init__(
        self,
        server: Server,
        *,
        key: SecretStr | None = None,
        max_calls: int = 100,
        max_tokens: int = 4000,
        timeout: float = 120.0,
        retries: int = 4,
        first_wait: float = 1.0,
        seed: int = 1,
        transcripts: Transcripts | None = None,
        ask_again: bool = False,
    ) -> None:
        for name, value, least in (
            ("max_calls", max_calls, 0),
            ("max_tokens", max_tokens, 1),
            ("retries", retries, 0),
            ("timeout", timeout, 0.001),
            ("first_wait", first_wait, 0),
        ):
            if not least <= value < float("inf"):
                raise UsageError(f"{name} is {value}", fix=f"use {least} or more")
        self.server, self.seed, self.max_calls = server, seed, max_calls
        self.calls = self.prompt_tokens = self.completion_tokens = 0
        self._key, self._max_tokens, self._timeout = key, max_tokens, timeout
        self._retries, self._first_wait = retries, first_wait
        self._transcripts = transcripts or Transcripts()
        self._ask_again = ask_again
        self._asked: dict[str, dict[str, Any]] = {}
        self._dialect = Dialect()
        self._connection: Connection | None = None
        self._lock, self._first = threading.Lock(), threading.Lock()
        self._settled, self._closed = False, threading.Event()

    @property
    def record(self) -> list[dict[str, Any]]:
        """The conversations so far."""
        return sorted(self._asked.values(), key=lambda each: (each["about"], each["turn"]))

    @property
    def transcripts_folder(self) -> Path:
        """Where answers are kept."""
        return self._transcripts.folder

    def ask(self, messages: Sequence[Message], schema: dict[str, Any], *, about: str) -> Answer:
        """The model's next turn in a conversation.

        Parameters
        ----------
        messages
            So far; the last is the user's.
        schema
            JSON schema of the answer, for servers that hold the model to it.
        about
            For messages and the record: "class 'nevus', coarse".

        Raises
        ------
        LanguageModelError
            The server cannot be reached or refuses, or all calls are spent.
        PicturesRefused
            It takes no pictures.
        """
        asked = {
            "server": self.server.base_url,
            "model": self.server.model,
            "messages": [message.record() for message in messages],
            "schema": schema,
            "seed": self.seed,
            "max_tokens": self._max_tokens,
        }
        key = Transcripts.key(asked)
        anew = self._ask_again and key not in self._asked
        kept = None if anew else self._transcripts.load(key)
        is_new = kept is None
        if kept is None:
            reply = self._reply(messages, schema)
            kept = self._keep(key, reply, messages, about)
        with self._lock:
            if is_new or key not in self._asked:
                self.prompt_tokens += kept.get("prompt_tokens") or 0
                self.completion_tokens += kept.get("completion_tokens") or 0
            self._asked[key] = {**kept, "about": about, "turn": len(messages)}
        return Answer(kept["answer"], _fault(kept))

    def forget(self, about: str) -> None:
        """Ask what was `about` this anew the next time; what was answered stays readable."""
        with self._lock:
            keys = [key for key, kept in self._asked.items() if kept["about"] == about]
        for key in keys:
            self._transcripts.set_aside(key)

    def close(self) -> None:
        """End what is under way, and make no request any more."""
        with self._lock:
            self._closed.set()
            connection = self._connection
        if connection is not None:
            connection.close()

    def _keep(self, key: str, reply: Reply, messages: Sequence[Message], about: str) -> dict[str, Any]:
        transcript = {
            "server": self.server.host,
            "model": self.server.model,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "seed": self.seed,
            "about": about,
            "messages": [message.record() for message in messages],
            "answer": reply.text,
            "finish": reply.finish,
            "refusal": reply.refusal,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
        }
        self._transcripts.keep(key, transcript)
        return transcript

    def _reply(self, messages: Sequence[Message], schema: dict[str, Any]) -> Reply:
        """Ask the server; the very first question is asked alone, to learn what it takes."""
        if not self._settled:
            with self._first:
                if not self._settled:  # it may be, after the wait
                    reply = self._in_dialect(messages, schema)
                    self._settled = True
                    return reply
        return self._in_dialect(messages, schema)

    def _in_dialect(self, messages: Sequence[Message], schema: dict[str, Any]) -> Reply:
        """Ask with the most that the server takes, giving up what it refuses."""
        sent = [_as_sent(message) for message in messages]
        shows_pictures = any(message.picture for message in messages)
        form = self._dialect.form
        while True:
            request = self._dialect.request(schema, seed=self.seed, max_tokens=self._max_tokens)
            try:
                return self._patiently(sent, request)
            except Refused as refused:
                with self._lock:
                    is_clear = shows_pictures and (self._settled or looks_like_pictures_refused(refused))
                    if not is_clear and self._dialect.give_up(request, refused.said):
                        continue
                    self._dialect.form = form  # to do without did not help: it was not the reason
                if shows_pictures:
                    raise PicturesRefused(
                        f"{self.server.host} answers {refused.status}: {refused.said}"
                    ) from None
                raise LanguageModelError(
                    f"{self.server.host} refuses the question with {refused.status}: {refused.said}",
                    fix="check --model and what the server allows; its own log may say more",
                ) from None

    def _patiently(self, sent: list[dict[str, Any]], request: dict[str, Any]) -> Reply:
        """Ask, and again after a while when the server is busy or breaks off."""
        wait = self._first_wait
        for attempt in range(self._retries + 1):
            connection = self._spend_a_call()
            try:
                return connection.ask(sent, **request)
            except TryAgain as again:
                if attempt == self._retries:
                    tries = f"{attempt + 1} tries" if attempt else "one try"
                    raise LanguageModelError(
                        f"{self.server.host} does not answer after {tries}: {again}",
                        fix="check that the server runs, try later, or give it more time with --timeout",
                    ) from None
                pause = wait * random.uniform(0.75, 1.25) if again.wait is None else again.wait
                self._closed.wait(pause)  # a sleep that `close` ends
                wait = min(2 * wait, LONGEST_WAIT)
        raise AssertionError("unreachable")

    def _spend_a_call(self) -> Connection:
        with self._lock:
            if self._closed.is_set():
                raise LanguageModelError("asking was ended", fix="make a new LanguageModel")
            if self.calls >= self.max_calls:
                raise LanguageModelError(
                    f"the limit of {self.max_calls} calls is reached",
                    fix="raise it with --max-calls; what was answered is kept and not asked again",
                )
            self.calls += 1
            if self._connection is None:
                self._connection = Connection(self.server, self._key, self._timeout)
            return self._connection

    def ask_until(
        self,
        question: Message,
        schema: dict[str, Any],
        read: Callable[[str], Any],
        *,
        about: str,
        again: Callable[[str], str],
        tries: int = 3,
    ) -> Any:
        """What `read` makes of the answer; a bad answer is sent back with the reason.

        Parameters
        ----------
        question, schema, about
            As in `ask`.
        read
            Answer text to value; raises `BadAnswer`.
        again
            Reason to the words in which the model is asked again.
        tries
            How often in all.

        Raises
        ------
        LanguageModelError
            No answer was usable; the conversation is set aside, so that it is held anew when the
            command runs again.
        """
        messages, reason = [question], ""
        for _ in range(tries):
            answer = self.ask(messages, schema, about=about)
            try:
                if answer.fault:
                    raise BadAnswer(answer.fault)
                return read(answer.text)
            except BadAnswer as bad:
                reason = str(bad)
            messages = [
                *messages,
                Message("assistant", _shortened(answer.text)),
                Message("user", again(reason)),
            ]
        self.forget(about)
        raise LanguageModelError(
            f"{about}: no usable answer in {tries} tries: {reason}",
            fix="run it again (only what failed is asked), or use another --model",
        )


def _as_sent(message: Message) -> dict[str, Any]:
    """A message in the protocol's form; half a character (of a model's answer) cannot be sent."""
    text = message.text.encode("utf-8", errors="replace").decode("utf-8")
    if message.picture is None:
        return {"role": message.role, "content": text}
    encoded = base64.b64encode(message.picture.content).decode("ascii")
    address = f"data:{message.picture.media_type};base64,{encoded}"
    parts = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": address}}]
    return {"role": message.role, "content": parts}


def _fault(kept: dict[str, Any]) -> str | None:
    if kept.get("refusal"):
        return "the model refuses to answer"
    return "it was cut off at the largest length" if kept.get("finish") == "length" else None


def _shortened(text: str, most: int = 2000) -> str:
    """An answer as it is shown to the model again; servers refuse an empty turn."""
    return (text if len(text) <= most else text[:most] + " ...") or "(no answer)"
