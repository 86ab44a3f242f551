"""`LanguageModel`: ask, from the transcripts where it was asked before, within a number of calls."""

from __future__ import annotations

import base64
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
from medvip.symptoms.language_model.usage import Usage
from medvip.symptoms.plain_text import shown

if TYPE_CHECKING:
    from pydantic import SecretStr

LONGEST_TIMEOUT = 86_400  # a day; far more overflows the system's timers
_REFUSED_RETRIES = 2
_SILENT_SECONDS = 5.0


class _NoAnswer(LanguageModelError):  # noqa: N818 - it says what happened
    """The server did not answer, however often it was asked."""


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
        Seconds for one answer, from the request to its last byte; at most a day.
    retries
        How often a request is repeated when the server is busy, breaks off or is too slow; twice
        at most where nothing listens.
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
    kept_all
        Whether every answer could be written down; what could not is used, and asked again by the
        next command.

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
        for name, value, least, most in (
            ("max_calls", max_calls, 0, None),
            ("max_tokens", max_tokens, 1, None),
            ("retries", retries, 0, None),
            ("timeout", timeout, 0.001, LONGEST_TIMEOUT),
            ("first_wait", first_wait, 0, LONGEST_TIMEOUT),
        ):
            if not least <= value < float("inf") or (most is not None and value > most):
                limits = f"use {least} or more" if most is None else f"use {least} to {most} seconds"
                raise UsageError(f"{name} is {value}", fix=limits)
        self.server, self.seed, self.max_calls = server, seed, max_calls
        self._key, self._max_tokens, self._timeout = key, max_tokens, timeout
        self._retries, self._first_wait = retries, first_wait
        self._transcripts = transcripts or Transcripts()
        self._ask_again = ask_again
        self._total = Usage()
        self._counts = [self._total]
        self._unkept: dict[str, dict[str, Any]] = {}
        self._could_keep = True
        self._dialect = Dialect()
        self._connection: Connection | None = None
        self._lock, self._first = threading.Lock(), threading.Lock()
        self._settled, self._closed = False, threading.Event()
        self._silence: tuple[_NoAnswer, float] | None = None

    @property
    def calls(self) -> int:
        """Requests made so far."""
        return self._total.calls

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all questions whose answers were used."""
        return self._total.prompt_tokens

    @property
    def completion_tokens(self) -> int:
        """Tokens of all answers used."""
        return self._total.completion_tokens

    @property
    def record(self) -> list[dict[str, Any]]:
        """The conversations so far."""
        return self._total.record

    @property
    def kept_all(self) -> bool:
        """Whether every answer could be written down."""
        return self._could_keep

    @contextmanager
    def counting(self) -> Iterator[Usage]:
        """Count what is asked in the block, by any thread, apart from what was asked before.

        Examples
        --------
        >>> model = LanguageModel(Server("http://127.0.0.1:11434/v1", "llava"))
        >>> with model.counting() as used:
        ...     pass  # model.ask(...)
        >>> used.calls, used.answers, used.prompt_tokens, used.completion_tokens, used.record
        (0, 0, 0, 0, [])
        """
        used = Usage()
        with self._lock:
            self._counts.append(used)
        try:
            yield used
        finally:
            with self._lock:
                self._counts.remove(used)

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
            The server cannot be reached or refuses, all calls are spent, or there is no folder
            to keep answers in.
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
        anew = self._ask_again and key not in self._total.turns
        kept = None if anew else self._unkept.get(key) or self._transcripts.load(key)
        is_new = kept is None
        if kept is None:
            reply = self._reply(messages, schema)
            kept = self._keep(key, reply, messages, about)
        turn = {**kept, "about": about, "turn": len(messages)}
        with self._lock:
            for used in self._counts:
                used.add_answer(key, turn, is_new=is_new)
        return Answer(kept["answer"], _fault(kept))

    def forget(self, about: str) -> None:
        """Ask what was `about` this anew the next time; what was answered stays readable."""
        with self._lock:
            keys = [key for key, turn in self._total.turns.items() if turn["about"] == about]
        for key in keys:
            self._unkept.pop(key, None)
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
        try:
            self._transcripts.keep(key, transcript)
        except OSError:  # the disk is full by now, say: what is paid for is used all the same
            self._could_keep = False
            self._unkept[key] = transcript
        else:
            self._unkept.pop(key, None)
        return transcript

    def _reply(self, messages: Sequence[Message], schema: dict[str, Any]) -> Reply:
        """Ask the server; the very first question is asked alone, to learn what it takes."""
        if not self._settled:
            with self._first:
                if not self._settled:  # it may be, after the wait
                    self._raise_silence()
                    try:
                        reply = self._in_dialect(messages, schema)
                    except _NoAnswer as silence:
                        self._silence = silence, time.monotonic()
                        raise
                    self._settled = True
                    return reply
        return self._in_dialect(messages, schema)

    def _raise_silence(self) -> None:
        """Raise what the first question just ran into: who waited for it need not try as long."""
        if self._silence is not None:
            silence, since = self._silence
            if time.monotonic() - since < _SILENT_SECONDS:
                raise _NoAnswer(silence.problem, fix=silence.fix)
            self._silence = None

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
                    is_clear = shows_pictures and looks_like_pictures_refused(refused)
                    if not is_clear and self._dialect.give_up(request, refused.said):
                        continue
                    self._dialect.form = form  # to do without did not help: it was not the reason
                if is_clear:
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
                most = min(self._retries, _REFUSED_RETRIES) if again.nobody_listens else self._retries
                if attempt >= most:
                    tries = f"{attempt + 1} tries" if attempt else "one try"
                    raise _NoAnswer(
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
            if self._connection is None:
                self._require_a_place()
                self._connection = Connection(self.server, self._key, self._timeout)
            for used in self._counts:
                used.add_call()
            return self._connection

    def _require_a_place(self) -> None:
        """Raise, before anything is paid for, where answers could not be kept."""
        try:
            self._transcripts.probe()
        except OSError as error:
            raise LanguageModelError(
                f"answers cannot be kept in {shown(self._transcripts.folder, limit=300)}: "
                f"{error.strerror or type(error).__name__}",
                fix="set MEDVIP_CACHE to a folder that can be written to",
            ) from None

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
