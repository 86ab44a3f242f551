"""How a language model wrote a symptom set: what it was asked, what was shown, what was kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, TypeVar

from medvip.errors import SymptomError
from medvip.symptoms.class_names import find_name, refuse_ambiguous
from medvip.symptoms.plain_text import clean_line, kind_of, shown
from medvip.symptoms.provenance import filled_line, refuse_unknown_fields

STAGES = ("coarse", "contrastive", "fine", "reconcile", "refine")
_NEEDED = ("server", "model", "questions", "seed", "stages", "calls", "answers")
_OPTIONAL = ("prompt_tokens", "completion_tokens", "pictures", "decisions", "note")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:(?P<port>\d{1,5}))?")
_PICTURE = re.compile(r"[0-9a-f]{8,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LARGEST = 2**63 - 1
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Decision:
    """Why one symptom that the model named was kept or left out.

    Attributes
    ----------
    symptom
        The symptom, in the words in which it was decided on.
    kept
        Whether it went into the set.
    feature
        What was seen in the pictures that speaks for it; None where nothing was, or no picture
        was shown.
    reason
        The reason, in a sentence.

    Raises
    ------
    SymptomError
        A text is not one clean line or blank, or `kept` is neither true nor false.

    Examples
    --------
    >>> Decision("several colors", True, feature="brown, black and red patches").to_dict()
    {'symptom': 'several colors', 'kept': True, 'feature': 'brown, black and red patches'}
    """

    symptom: str
    kept: bool
    feature: str | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "symptom", filled_line(self.symptom, "decision", "symptom"))
        if not isinstance(self.kept, bool):
            raise SymptomError(
                f"decision, kept: {kind_of(self.kept)} where true or false is expected",
                fix="write true or false",
            )
        for name in ("feature", "reason"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, filled_line(value, "decision", name, fix="remove it"))

    @classmethod
    def from_dict(cls, value: object, where: str) -> Decision:
        """Read a decision from a parsed file.

        Raises
        ------
        SymptomError
            A field is missing, unknown or malformed.

        Examples
        --------
        >>> Decision.from_dict({"symptom": "several colors"}, "a.json")
        Traceback (most recent call last):
        medvip.errors.SymptomError: a.json: kept is missing (to mend it: add it)
        """
        known = tuple(field.name for field in fields(cls))
        given = _fields_of(value, where, needed=("symptom", "kept"), known=known)
        return _named(where, lambda: cls(**given))

    def to_dict(self) -> dict[str, Any]:
        """Give the fields that are known."""
        return _known(self)


@dataclass(frozen=True)
class Generation:
    """The record of how a language model wrote the symptoms of a set.

    It says what happened then. Later changes by hand (a class renamed, a symptom dropped) do
    not contradict it, so its classes and symptoms need not be those of the set.

    Attributes
    ----------
    server
        Host of the model, with its port where there is one: no address, path, name or key.
    model
        The model's name, as the server knows it.
    questions
        Name of each question -> sha256 of its text, its line on the form of the answer included.
    seed
        Of all that was drawn: pictures, orders.
    stages
        The stages that were gone through, out of `STAGES`.
    calls
        Requests made; answers that were kept from earlier ones are no calls.
    answers
        Answers used, new and kept.
    prompt_tokens, completion_tokens
        As the server counted them; None where it did not.
    pictures
        Class name -> ids of the pictures that were shown: the start of the sha256 of a picture,
        in hexadecimal, so that no file name (or patient) can stand there.
    decisions
        Class name -> what was decided on each symptom.
    note
        Anything else worth knowing.

    Raises
    ------
    SymptomError
        A field is malformed.

    Examples
    --------
    >>> record = Generation("localhost:8000", "a-model", {}, 1, ("coarse",), calls=2, answers=2)
    >>> record.in_words()
    'a-model at localhost:8000; stages coarse; 2 requests for 2 answers; seed 1; no picture shown'
    >>> Generation("https://localhost/v1?key=secret", "a-model", {}, 1, (), calls=2, answers=2)
    Traceback (most recent call last):
    medvip.errors.SymptomError: generation: the server is more than a host (to mend it: write only \
host or host:port)
    """

    server: str
    model: str
    questions: Mapping[str, str]
    seed: int
    stages: tuple[str, ...]
    calls: int
    answers: int
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    pictures: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    decisions: Mapping[str, tuple[Decision, ...]] = field(default_factory=dict)
    note: str | None = None

    def __post_init__(self) -> None:
        clean: dict[str, Any] = {
            "server": _host(self.server),
            "model": filled_line(self.model, "generation", "model"),
            "questions": MappingProxyType(_questions(self.questions)),
            "stages": _stages(self.stages),
            "pictures": MappingProxyType(_by_class(self.pictures, "pictures", _picture_id)),
            "decisions": MappingProxyType(_by_class(self.decisions, "decisions", _decision)),
        }
        for name in ("seed", "calls", "answers", "prompt_tokens", "completion_tokens"):
            value = getattr(self, name)
            if value is not None or name in _NEEDED:
                _require_count(value, name)
        if self.note is not None:
            clean["note"] = filled_line(self.note, "generation", "note", fix="remove it")
        # The one place that writes to the frozen object: what was given, made clean.
        for name, value in clean.items():
            object.__setattr__(self, name, value)

    def __hash__(self) -> int:
        return hash((self.server, self.model, self.seed, self.stages, self.calls, self.answers))

    def __reduce__(self) -> tuple[type[Generation], tuple[Any, ...]]:
        # A read-only mapping does not travel to another process; a dict does.
        values = (getattr(self, field.name) for field in fields(self))
        return Generation, tuple(
            dict(value) if isinstance(value, MappingProxyType) else value for value in values
        )

    @classmethod
    def from_dict(cls, value: object, where: str) -> Generation:
        """Read a record from a parsed file.

        Raises
        ------
        SymptomError
            A field is missing, unknown or malformed: one line that says which and how to mend it.

        Examples
        --------
        >>> record = Generation("localhost", "a-model", {}, 1, (), calls=2, answers=2)
        >>> Generation.from_dict(record.to_dict(), "a.json") == record
        True
        >>> Generation.from_dict(record.to_dict() | {"sead": 1}, "a.json")
        Traceback (most recent call last):
        medvip.errors.SymptomError: a.json, generation: there is no field 'sead' \
(to mend it: did you mean 'seed'?)
        """
        given = _fields_of(value, f"{where}, generation", needed=_NEEDED, known=_NEEDED + _OPTIONAL)

        def made() -> Generation:
            if "decisions" in given:
                given["decisions"] = _by_class(given["decisions"], "decisions", Decision.from_dict)
            return cls(**given)

        return _named(where, made)

    def to_dict(self) -> dict[str, Any]:
        """Give the fields that are known; classes and questions sorted by name."""
        return _known(self) | {
            "questions": dict(sorted(self.questions.items())),
            "stages": list(self.stages),
            "pictures": {name: list(ids) for name, ids in sorted(self.pictures.items())},
            "decisions": {
                name: [decision.to_dict() for decision in made]
                for name, made in sorted(self.decisions.items())
            },
        }

    def decided_on(self, class_name: str, *texts: str) -> tuple[Decision, ...]:
        """Give the decisions on a symptom of a class, under any of the words it has had.

        Examples
        --------
        >>> record = Generation(
        ...     "localhost", "a-model", {}, 1, (), calls=2, answers=2,
        ...     decisions={"nevus": (Decision("one color", True, "evenly brown"),)},
        ... )
        >>> [decision.feature for decision in record.decided_on("Nevus", "one even color", "one color")]
        ['evenly brown']
        """
        found = find_name(class_name, self.decisions)
        made = () if found is None else self.decisions[found]
        return tuple(decision for decision in made if decision.symptom in texts)

    def in_words(self) -> str:
        """Say the record in one line."""
        parts = [f"{self.model} at {self.server}"]
        if self.stages:
            parts.append(f"stages {', '.join(self.stages)}")
        parts.append(f"{_number(self.calls, 'request')} for {_number(self.answers, 'answer')}")
        tokens = [
            f"{count} tokens {what}"
            for count, what in ((self.prompt_tokens, "asked"), (self.completion_tokens, "answered"))
            if count is not None
        ]
        parts += [" and ".join(tokens)] if tokens else []
        parts.append(f"seed {self.seed}")
        pictures = sum(map(len, self.pictures.values()))
        parts.append(f"{_number(pictures, 'picture') if pictures else 'no picture'} shown")
        return "; ".join(parts)


def _fields_of(
    value: object, where: str, *, needed: tuple[str, ...], known: tuple[str, ...]
) -> dict[str, Any]:
    """Check that an object of a file has its fields and no others; null is as good as absent."""
    if not isinstance(value, Mapping):
        raise SymptomError(
            f"{where}: {kind_of(value)} where an object is expected",
            fix="write an object with " + ", ".join(needed),
        )
    refuse_unknown_fields(value, known, where)
    given = {name: item for name, item in value.items() if item is not None}
    for name in needed:
        if name not in given:
            raise SymptomError(f"{where}: {name} is missing", fix="add it")
    return given


def _named(where: str, make: Callable[[], _Made]) -> _Made:
    """Put the file's name before what an error says."""
    try:
        return make()
    except SymptomError as error:
        raise SymptomError(f"{where}, {error.problem}", fix=error.fix) from error


def _known(record: Any) -> dict[str, Any]:
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return {name: value for name, value in values.items() if value is not None}


def _host(value: object) -> str:
    found = _HOST.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or int(found["port"] or 0) > 65535:
        # What was given is not repeated: an address may hold a key.
        raise SymptomError("generation: the server is more than a host", fix="write only host or host:port")
    return found[0]


def _questions(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise SymptomError(
            f"generation, questions: {kind_of(value)} where an object is expected",
            fix='write {"name of the question": "sha256 of its text"}',
        )
    clean: dict[str, str] = {}
    for name, digest in value.items():
        line = filled_line(name, "generation, questions", "a name")
        if line in clean:
            raise SymptomError(
                f"generation, questions: {shown(line)} stands twice", fix="name each question once"
            )
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise SymptomError(
                f"generation, questions: {shown(digest)} of {shown(line)} is no sha256",
                fix="write 64 digits and letters a to f",
            )
        clean[line] = digest
    return clean


def _stages(value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise SymptomError(
            f"generation, stages: {kind_of(value)} where a list is expected", fix='write ["coarse", "fine"]'
        )
    for stage in value:
        if stage not in STAGES:
            raise SymptomError(
                f"generation: there is no stage {shown(stage)}", fix=f"use {', '.join(STAGES)}"
            )
    if len(set(value)) != len(value):
        raise SymptomError("generation: a stage stands twice", fix="name each stage once")
    return tuple(value)


def _require_count(value: object, name: str) -> None:
    if type(value) is not int or not 0 <= value <= _LARGEST:
        given = shown(value) if type(value) is int else kind_of(value)
        raise SymptomError(
            f"generation, {name}: {given} where a count is expected", fix="write a whole number of 0 or more"
        )


def _by_class(value: object, what: str, read: Callable[[Any, str], _Made]) -> dict[str, tuple[_Made, ...]]:
    """Read a list for each class, each entry by `read(entry, where it stands)`."""
    where = f"generation, {what}"
    if not isinstance(value, Mapping):
        raise SymptomError(
            f"{where}: {kind_of(value)} where an object is expected", fix='write {"class name": [...]}'
        )
    names = [clean_line(name, f"{where}, class name") for name in value]
    refuse_ambiguous(names, where)
    clean: dict[str, tuple[_Made, ...]] = {}
    for name, entries in zip(names, value.values(), strict=True):
        place = f"{where} of {shown(name)}"
        if isinstance(entries, str) or not isinstance(entries, Sequence):
            raise SymptomError(f"{place}: {kind_of(entries)} where a list is expected", fix="write a list")
        clean[name] = tuple(read(entry, f"{place}, {n}") for n, entry in enumerate(entries, start=1))
    return clean


def _picture_id(value: object, where: str) -> str:
    # A file name may be a patient's, so what was given is not repeated.
    if not isinstance(value, str) or not _PICTURE.fullmatch(value):
        raise SymptomError(
            f"{where}: that is no picture's id", fix="write 8 to 64 digits and letters a to f of its sha256"
        )
    return value


def _decision(value: object, where: str) -> Decision:
    if not isinstance(value, Decision):
        raise SymptomError(f"{where}: {kind_of(value)} where a Decision is expected", fix="make a Decision")
    return value


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
