"""How commands speak. Text from files and models is data: control characters never reach a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def say(text: str = "") -> None:
    """One or more lines on standard output."""
    print(printable(text))


def complain(text: str) -> None:
    """One line on standard error, whatever line ends the text holds: a file name may hold some."""
    print(printable(text).replace("\n", "\\n"), file=sys.stderr)


def say_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output; the first column to the left, the others to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(printable(title)), title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(Text(printable(column)), justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def printable(text: str) -> str:
    r"""The text with control and direction-changing characters escaped; line ends stay.

    Examples
    --------
    >>> printable("a\x1b[31m")
    'a\\x1b[31m'
    """
    return "".join(
        character if character.isprintable() or character == "\n" else repr(character)[1:-1]
        for character in text
    )
