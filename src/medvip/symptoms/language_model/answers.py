"""JSON out of a language model's answer, wherever it stands in it."""

from __future__ import annotations

import json
import re
from typing import Any

MAX_CHARACTERS = 100_000
_MAX_STARTS = 200


class BadAnswer(Exception):  # noqa: N818 - it says what it is
    """An answer that cannot be used; its text is the reason, in words that a model understands."""


def read_object(text: str) -> dict[str, Any]:
    r"""Find the one JSON object of an answer, in a code block or between other text or alone.

    Raises
    ------
    BadAnswer
        It is empty, far too long, or holds no JSON object.

    Examples
    --------
    >>> read_object('Sure:\n```json\n{"symptoms": ["jagged edge"]}\n```')
    {'symptoms': ['jagged edge']}
    >>> read_object("I cannot help with that.")
    Traceback (most recent call last):
    medvip.symptoms.language_model.answers.BadAnswer: there is no JSON object in it
    """
    if len(text) > MAX_CHARACTERS:
        raise BadAnswer(f"it has {len(text)} characters")
    text = without_thinking(text)
    if not text:
        raise BadAnswer("it is empty")
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    starts = [match.start() for match in re.finditer(r"\{", text)][:_MAX_STARTS]
    for start in starts:
        try:
            value, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    raise BadAnswer("the JSON in it is broken or cut off" if starts else "there is no JSON object in it")


def without_thinking(text: str) -> str:
    r"""An answer without what a reasoning model thinks aloud, and without white space around it.

    Some servers cut the opening tag off: what stands before a closing tag without one was thought
    too.

    Examples
    --------
    >>> without_thinking("<think>Is it? It is.</think>\n\nblue"), without_thinking("Is it?</think> blue")
    ('blue', 'blue')
    """
    *thoughts, answer = text.split("</think>")
    said: list[str] = []
    for thought in thoughts:
        before, opening, _ = thought.partition("<think>")
        if opening:
            said.append(before)
        else:
            said.clear()
    return "".join([*said, answer]).strip()


def _refuse_constant(name: str) -> None:
    raise ValueError(name)
