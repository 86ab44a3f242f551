"""Text from a file is data: one clean line, or a refusal that says where."""

from __future__ import annotations

import unicodedata

from medvip.errors import SymptomError

# Control characters (NUL, escape, line breaks), invisible format characters (bidirectional
# overrides can make a terminal show another text), half surrogates, line separators.
_REFUSED_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}
# Two invisible characters that some scripts need between letters.
_ALLOWED_INVISIBLE = {"\u200c", "\u200d"}


def clean_line(value: object, where: str) -> str:
    r"""Give `value` without the space around it, if it is one line of visible text.

    Parameters
    ----------
    value
        Anything that came out of a file or from a caller.
    where
        For the error: "symptoms.json, class 'nevus', symptom 2".

    Raises
    ------
    SymptomError
        `value` is not text, or holds a control or invisible character.

    Examples
    --------
    >>> clean_line(" jagged edge\n", "symptom 1")
    'jagged edge'
    >>> try:
    ...     clean_line("jagged\x1b[31m edge", "symptom 1")
    ... except SymptomError as error:
    ...     print(error.problem)
    symptom 1: control character U+001B at position 7 of 'jagged\x1b[31m edge'
    """
    if not isinstance(value, str):
        raise SymptomError(f"{where}: {kind_of(value)} where text is expected", fix='write it as "text"')
    line = value.strip()
    for position, character in enumerate(line, start=1):
        if unicodedata.category(character) in _REFUSED_CATEGORIES and character not in _ALLOWED_INVISIBLE:
            raise SymptomError(
                f"{where}: control character U+{ord(character):04X} at position {position} of {shown(line)}",
                fix="remove that character",
            )
    return line


def shown(text: object, limit: int = 60) -> str:
    r"""Quote `text` for a message: escaped, so that no terminal obeys it, and not too long.

    Examples
    --------
    >>> shown("nevus"), shown("a\x1b[2J"), shown("x" * 100, limit=5)
    ("'nevus'", "'a\\x1b[2J'", "'xxxxx...'")
    """
    plain = str(text)
    return repr(plain if len(plain) <= limit else plain[:limit] + "...")


def kind_of(value: object) -> str:
    """Name the kind of a JSON value in plain words.

    Examples
    --------
    >>> kind_of({}), kind_of(True), kind_of(1.5)
    ('an object', 'true or false', 'a number')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    return f"a value of type {type(value).__name__}"
