"""Where a symptom set comes from: a symptom without that is hearsay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime

from medvip.errors import SymptomError
from medvip.symptoms.class_names import closest
from medvip.symptoms.plain_text import clean_line, kind_of, shown


@dataclass(frozen=True)
class Provenance:
    """Who wrote the symptoms, how, with what, when, and who looked at them.

    Attributes
    ----------
    author
        A person, a group, or "unknown".
    method
        How: "written by hand", "drafted by a language model, not reviewed by a clinician".
    date
        ISO date or time, or "unknown".
    model
        The language model, where one was used.
    questions
        What it was asked, or a name or hash of the questions.
    reviewed_by
        Who has read the symptoms and stands for them; None when nobody has.
    note
        Anything else worth knowing.
    source
        The file or publication that they were taken from.

    Raises
    ------
    SymptomError
        A field is not one clean line of text, a needed one is blank, or the date is none.

    Examples
    --------
    >>> Provenance(author="A. Doctor", method="written by hand", date="2024-07-26").to_dict()
    {'author': 'A. Doctor', 'method': 'written by hand', 'date': '2024-07-26'}
    """

    author: str
    method: str
    date: str
    model: str | None = None
    questions: str | None = None
    reviewed_by: str | None = None
    note: str | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        for name in _NEEDED + _OPTIONAL:
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            line = clean_line(value, f"provenance, {name}")
            if not line:
                fix = "remove it" if name in _OPTIONAL else 'write it, or "unknown"'
                raise SymptomError(f"provenance: {name} is blank", fix=fix)
            object.__setattr__(self, name, line)
        if self.date != "unknown":
            try:
                datetime.fromisoformat(self.date)
            except ValueError as error:
                raise SymptomError(
                    f"provenance: {shown(self.date)} is not a date",
                    fix='write it as 2024-07-26, or "unknown"',
                ) from error

    @classmethod
    def from_dict(cls, value: object, where: str) -> Provenance:
        """Read provenance from a parsed file.

        Raises
        ------
        SymptomError
            A field is missing, unknown or malformed.

        Examples
        --------
        >>> Provenance.from_dict({"author": "A", "method": "by hand", "dat": "2024-07-26"}, "a.json")
        Traceback (most recent call last):
        medvip.errors.SymptomError: a.json, provenance: there is no field 'dat' \
(to mend it: did you mean 'date'?)
        """
        if not isinstance(value, Mapping):
            raise SymptomError(
                f"{where}, provenance: {kind_of(value)} where an object is expected",
                fix='write {"author": ..., "method": ..., "date": ...}',
            )
        refuse_unknown_fields(value, _NEEDED + _OPTIONAL, f"{where}, provenance")
        for name in _NEEDED:
            if name not in value:
                raise SymptomError(f"{where}, provenance: {name} is missing", fix='write it, or "unknown"')
        try:
            return cls(**value)
        except SymptomError as error:
            raise SymptomError(f"{where}, {error.problem}", fix=error.fix) from error

    def to_dict(self) -> dict[str, str]:
        """Give the fields that are known."""
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in known.items() if value is not None}


_NEEDED = ("author", "method", "date")
_OPTIONAL = ("model", "questions", "reviewed_by", "note", "source")


def refuse_unknown_fields(value: Mapping[str, object], known: tuple[str, ...], where: str) -> None:
    """Refuse a field that this version does not know, rather than lose what it says.

    Raises
    ------
    SymptomError
        There is such a field.
    """
    for name in value:
        if name not in known:
            near = closest(name, known)
            raise SymptomError(
                f"{where}: there is no field {shown(name)}",
                fix="remove it, or use a newer medvip" if near is None else f"did you mean {shown(near)}?",
            )
