"""The two forms of a symptom file: native (with provenance) and plain (class -> symptoms).

A symptom is a plain string in version 1. What is said *about* a symptom (a review, how it was
generated) stands in a field of its own beside `classes`, by class and symptom text, so that
`classes` keeps its shape.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from medvip.errors import SymptomError
from medvip.symptoms.generation import Generation
from medvip.symptoms.plain_text import kind_of, shown
from medvip.symptoms.provenance import Provenance, refuse_unknown_fields
from medvip.symptoms.reviewing import read_reviews
from medvip.symptoms.strict_json import MAX_BYTES, parse_json

FORMAT = "medvip-symptoms"
VERSION = 1
_NEEDED = ("format", "version", "modality", "classes", "provenance")
_OPTIONAL = ("names", "reviews", "generation")
_PLAIN_EXAMPLE = 'write {"class name": ["symptom", "symptom"]}'


@dataclass(frozen=True)
class Parts:
    """What a symptom file says; None where a plain file says nothing."""

    classes: dict[str, Any]
    modality: Any = None
    provenance: Provenance | None = None
    names: dict[str, Any] = field(default_factory=dict)
    reviews: dict[str, Any] = field(default_factory=dict)
    generation: Generation | None = None


def read_parts(text: str, where: str) -> Parts:
    """Tell the two forms apart and take the file to pieces.

    Raises
    ------
    SymptomError
        It is neither form, a field is missing or unknown, the version is not known, there is
        no class, or a class has no symptom.

    Examples
    --------
    >>> read_parts('{"nevus": ["one even color"]}', "a.json").classes
    {'nevus': ['one even color']}
    >>> read_parts('{"nevus": []}', "a.json")
    Traceback (most recent call last):
    medvip.errors.SymptomError: a.json, class 'nevus': the list of symptoms is empty \
(to mend it: write at least one symptom, or remove the class)
    """
    if len(text) > MAX_BYTES or len(text.encode("utf-8", errors="replace")) > MAX_BYTES:
        raise SymptomError(
            f"{where}: larger than {MAX_BYTES // 1_000_000} MB",
            fix="a symptom file has a few lines for each class",
        )
    document = parse_json(text, where)
    if not isinstance(document, dict):
        raise SymptomError(f"{where}: {kind_of(document)} where an object is expected", fix=_PLAIN_EXAMPLE)
    if isinstance(document.get("format"), str):
        parts = _native_parts(document, where)
    elif isinstance(document.get("classes"), dict):
        raise SymptomError(f'{where}: the field "format" is missing', fix=f'add "format": "{FORMAT}"')
    else:
        parts = Parts(classes=document)
    _refuse_empty(parts.classes, where)
    return parts


def _native_parts(document: dict[str, Any], where: str) -> Parts:
    if document["format"] != FORMAT:
        raise SymptomError(
            f"{where}: the format {shown(document['format'])} is not known",
            fix=f'"format" has to be "{FORMAT}"',
        )
    version = document.get("version")
    if type(version) is not int or version != VERSION:
        newer = type(version) is int and version > VERSION
        raise SymptomError(
            f"{where}: version {shown(version)} of the format is not known",
            fix="use a newer medvip" if newer else f'"version" has to be {VERSION}',
        )
    refuse_unknown_fields(document, _NEEDED + _OPTIONAL, where)
    for name in _NEEDED:
        if document.get(name) is None:
            raise SymptomError(f'{where}: the field "{name}" is missing', fix="add it")
    if not isinstance(document["classes"], dict):
        raise SymptomError(
            f"{where}, classes: {kind_of(document['classes'])} where an object is expected",
            fix=_PLAIN_EXAMPLE,
        )
    names, reviews, generation = (document.get(name) for name in _OPTIONAL)
    return Parts(
        classes=document["classes"],
        modality=document["modality"],
        provenance=Provenance.from_dict(document["provenance"], where),
        names={} if names is None else names,
        reviews={} if reviews is None else read_reviews(reviews, where),
        generation=None if generation is None else Generation.from_dict(generation, where),
    )


def _refuse_empty(classes: dict[str, Any], where: str) -> None:
    if not classes:
        raise SymptomError(f"{where}: there is no class in it", fix=_PLAIN_EXAMPLE)
    for name, symptoms in classes.items():
        if isinstance(symptoms, list) and not symptoms:
            raise SymptomError(
                f"{where}, class {shown(name)}: the list of symptoms is empty",
                fix="write at least one symptom, or remove the class",
            )
