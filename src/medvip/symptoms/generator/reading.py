"""From answers to lists of phrases and decisions; what cannot be read is sent back with the reason."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from medvip.symptoms.generator.acceptance import NOT_ENGLISH, Rules, require_english, tidy
from medvip.symptoms.language_model import BadAnswer, read_object, without_thinking

MOST_PHRASES = 30
_STRINGS = {"type": "array", "items": {"type": "string"}}


def _form(properties: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema as strict servers want it: every field needed, no other."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


class AnswerForm(NamedTuple):
    """What an answer has to look like: as a schema for the server, and as a line for the model."""

    schema: dict[str, Any]
    line: str


_SYMPTOMS = AnswerForm(
    _form({"symptoms": _STRINGS}), 'Give only JSON, in this form: {"symptoms": ["...", "..."]}'
)
_FEATURES = AnswerForm(
    _form({"color": _STRINGS, "shape": _STRINGS, "texture": _STRINGS}),
    'Give only JSON, in this form: {"color": ["..."], "shape": ["..."], "texture": ["..."]}',
)
_DECISION = {"symptom": {"type": "integer"}, "supported": {"type": "boolean"}, "feature": {"type": "integer"}}
_DECISIONS = AnswerForm(
    _form({"decisions": {"type": "array", "items": _form(_DECISION)}}),
    'Give only JSON, one decision for each symptom by its number, "feature" 0 where none supports it, '
    'in this form: {"decisions": [{"symptom": 1, "supported": true, "feature": 3}]}',
)
_LISTS = ("coarse", "contrastive", "refine", "out-of-domain", "useless", "opposite")
ANSWERS: Mapping[str, AnswerForm] = MappingProxyType(
    {"fine": _FEATURES, "reconcile": _DECISIONS} | dict.fromkeys(_LISTS, _SYMPTOMS)
)
"""Question -> the form of its answer."""


def read_symptoms(text: str) -> list[str]:
    """The phrases of an answer; each is still to be accepted.

    Raises
    ------
    BadAnswer
        There is none, there are far too many, or they are in another language.

    Examples
    --------
    >>> read_symptoms('{"symptoms": ["Jagged edge.", "several colors"]}')
    ['Jagged edge', 'several colors']
    """
    try:
        listed = read_object(text).get("symptoms")
    except BadAnswer as bad:
        listed = _bullets(text, bad)
    phrases = _phrases(listed, "symptoms")
    if not phrases:
        raise BadAnswer("the list of symptoms is empty")
    require_english(phrases)
    return phrases


def read_features(text: str) -> list[str]:
    """The features seen in pictures: of what is listed, what passes for a description.

    Raises
    ------
    BadAnswer
        There is none, there are far too many, the model refuses, or they are in another language.

    Examples
    --------
    >>> read_features('{"color": ["dark brown", "<b>red</b>"], "shape": ["round"], "texture": []}')
    ['dark brown', 'round']
    """
    try:
        answered = read_object(text)
        listed: list[Any] = []
        for name in ("color", "shape", "texture"):
            if not isinstance(answered.get(name, []), list):
                raise BadAnswer(f'"{name}" is no list')
            listed += answered.get(name, [])
    except BadAnswer as bad:
        listed = _bullets(text, bad)
    features: list[str] = []
    faults: dict[str, str] = {}
    for phrase in _phrases(listed, "features"):
        if _is_refusal(phrase):
            raise BadAnswer("the model refuses to answer")
        fault = Rules([]).fault(phrase, features)
        if fault is None:
            features.append(phrase)
        else:
            faults[phrase] = fault
    if not features:
        raise BadAnswer(
            f"no feature can be used: {next(iter(faults.values()))}" if faults else "no feature is in it"
        )
    require_english([*features, *(phrase for phrase, fault in faults.items() if fault == NOT_ENGLISH)])
    return features


class Support(NamedTuple):
    """The position of the feature that supports a symptom; None where none does."""

    feature: int | None


def read_decisions(text: str, symptoms: int, features: int) -> list[Support]:
    """A decision for each symptom, in their order.

    Parameters
    ----------
    text
        The answer; symptoms and features are numbered from 1 in it.
    symptoms, features
        How many there are.

    Raises
    ------
    BadAnswer
        A symptom has no decision or two, or a number stands for nothing.

    Examples
    --------
    >>> read_decisions('{"decisions": [{"symptom": 1, "supported": true, "feature": 2}]}', 1, 2)
    [Support(feature=1)]
    """
    try:
        listed = read_object(text).get("decisions")
    except BadAnswer as bad:
        listed = _decision_lines(text, bad)
    if not isinstance(listed, list):
        raise BadAnswer('"decisions" is no list')
    found: dict[int, Support] = {}
    for entry in listed[: 4 * MOST_PHRASES]:
        if not isinstance(entry, dict):
            raise BadAnswer("a decision is no object")
        number, supported, feature = (entry.get(key) for key in ("symptom", "supported", "feature"))
        if type(number) is not int or not 1 <= number <= symptoms:
            raise BadAnswer(f"a decision is about no symptom from 1 to {symptoms}")
        if number in found:
            raise BadAnswer(f"symptom {number} has two decisions")
        if type(supported) is not bool:
            raise BadAnswer(f'"supported" of symptom {number} is neither true nor false')
        if supported and (type(feature) is not int or not 1 <= feature <= features):
            raise BadAnswer(f"the feature that supports symptom {number} is none from 1 to {features}")
        found[number] = Support(feature - 1 if supported and isinstance(feature, int) else None)
    if missing := [number for number in range(1, symptoms + 1) if number not in found]:
        raise BadAnswer(f"symptom {missing[0]} has no decision")
    return [found[number] for number in range(1, symptoms + 1)]


def _phrases(listed: object, what: str) -> list[str]:
    if not isinstance(listed, list):
        raise BadAnswer(f'"{what}" is no list')
    if not all(isinstance(phrase, str) for phrase in listed):
        raise BadAnswer(f"one of the {what} is no text")
    if len(listed) > MOST_PHRASES:
        raise BadAnswer(f"{len(listed)} {what} are far more than were asked for")
    return [phrase for each in listed if (phrase := tidy(each))]


def _bullets(text: str, bad: BadAnswer) -> list[str]:
    """The lines of a plain answer that begin with a bullet or a number; else what was `bad` stays."""
    text = without_thinking(text)
    if _is_refusal(text):
        raise BadAnswer("the model refuses to answer")
    lines = [line for line in text.splitlines() if re.match(r"\s*(?:[-*\u2022]|\d{1,2}[.)])\s+\S", line)]
    if "{" in text or len(lines) < 2:
        raise bad
    return [tidy(line) for line in lines]


def _decision_lines(text: str, bad: BadAnswer) -> list[dict[str, Any]]:
    """Plain lines such as "1: yes, 3" or "2. not supported"; else what was `bad` stays."""
    text = without_thinking(text)
    if _is_refusal(text):
        raise BadAnswer("the model refuses to answer")
    pattern = r"^\W*(?:symptom\s+)?(\d{1,2})\W+(yes|no|supported|not supported|unsupported)\b\D*(\d{1,2})?"
    matches = [re.match(pattern, line.strip(), re.IGNORECASE) for line in text.splitlines()]
    found = [
        {
            "symptom": int(match[1]),
            "supported": match[2].casefold() in ("yes", "supported"),
            "feature": int(match[3] or 0),
        }
        for match in matches
        if match
    ]
    if "{" in text or not found:
        raise bad
    return found


_REFUSAL = r"\b(i'?m sorry|i am sorry|(can't|cannot|unable to) (help|assist|provide|answer))"


def _is_refusal(text: str) -> bool:
    said = text[:500].replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return bool(re.search(_REFUSAL, said, re.IGNORECASE))
