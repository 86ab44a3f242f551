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
            fix = "remove it" if name in _OPTIONAL else 'write it, or "unknown"'
            object.__setattr__(self, name, filled_line(value, "provenance", name, fix=fix))
        if self.date != "unknown":
            require_date(self.date, "provenance", fix='write it as 2024-07-26, or "unknown"')

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


def filled_line(value: object, owner: str, name: str, *, fix: str = "write it") -> str:
    """Give a field that has to be one clean line and not blank.

    Raises
    ------
    SymptomError
        It is not.

    Examples
    --------
    >>> filled_line(" A. Doctor ", "review", "by")
    'A. Doctor'
    >>> filled_line(" ", "review", "by")
    Traceback (most recent call last):
    medvip.errors.SymptomError: review: by is blank (to mend it: write it)
    """
    line = clean_line(value, f"{owner}, {name}")
    if not line:
        raise SymptomError(f"{owner}: {name} is blank", fix=fix)
    return line


def require_date(text: str, owner: str, *, fix: str = "write it as 2024-07-26") -> None:
    """Refuse what is no ISO date or time.

    Raises
    ------
    SymptomError
        It is none.

    Examples
    --------
    >>> require_date("2024-07-26T09:30:00+00:00", "review")
    >>> require_date("yesterday", "review")
    Traceback (most recent call last):
    medvip.errors.SymptomError: review: 'yesterday' is not a date (to mend it: write it as 2024-07-26)
    """
    try:
        datetime.fromisoformat(text)
    except ValueError as error:
        raise SymptomError(f"{owner}: {shown(text)} is not a date", fix=fix) from error


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
