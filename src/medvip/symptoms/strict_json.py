"""Read JSON from a file that nobody vouches for: small, UTF-8, no key twice, no surprises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from medvip.errors import SymptomError
from medvip.symptoms.plain_text import shown

MAX_BYTES = 5_000_000


def read_text(path: Path) -> str:
    """Read a regular file of at most `MAX_BYTES` as UTF-8.

    Raises
    ------
    SymptomError
        There is no such file, it cannot be read, it is too large, or it is not UTF-8.
    """
    where = shown(path, limit=300)
    try:
        if not path.exists():
            raise SymptomError(f"there is no symptom file {where}", fix="check the path")
        if not path.is_file():
            raise SymptomError(f"{where} is not a file", fix="give the path of a symptom file (JSON)")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise SymptomError(
            f"{where} cannot be read: {reason}", fix="check the path and its permissions"
        ) from error
    if len(content) > MAX_BYTES:
        raise SymptomError(
            f"{where} is larger than {MAX_BYTES // 1_000_000} MB: this is no symptom file",
            fix="check the path; a symptom file has a few lines of text for each class",
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SymptomError(
            f"{where} is not UTF-8 text (byte {error.start})", fix="save it as JSON in UTF-8"
        ) from error


def parse_json(text: str, where: str) -> Any:
    """Parse `text`, refusing keys that occur twice and numbers that JSON does not have.

    Raises
    ------
    SymptomError
        It is not JSON, a key occurs twice in one object, or it is nested too deeply.

    Examples
    --------
    >>> parse_json('{"nevus": ["one even color"]}', "a.json")
    {'nevus': ['one even color']}
    >>> parse_json('{"nevus": ["round"], "nevus": ["oval"]}', "a.json")
    Traceback (most recent call last):
    medvip.errors.SymptomError: a.json: the key 'nevus' occurs twice (to mend it: keep one of the two, \
or rename one)
    """

    def no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for key, item in pairs:
            if key in value:
                raise SymptomError(
                    f"{where}: the key {shown(key)} occurs twice", fix="keep one of the two, or rename one"
                )
            value[key] = item
        return value

    def no_constant(name: str) -> NoReturn:
        raise SymptomError(f"{where}: {name} is not JSON", fix="remove it; symptoms are text")

    try:
        return json.loads(text, object_pairs_hook=no_key_twice, parse_constant=no_constant)
    except json.JSONDecodeError as error:
        raise SymptomError(
            f"{where} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}",
            fix='write it as {"class name": ["symptom", "symptom"]}',
        ) from error
    except (RecursionError, ValueError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else "a number is too long"
        raise SymptomError(
            f"{where} is no symptom file: {reason}", fix='write it as {"class name": ["symptom", "symptom"]}'
        ) from error
