"""The form of a folder with a ``split.csv``: ``path,label,split`` and perhaps who it shows."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from medvip.errors import DataError
from medvip.images.listed import find_files, relative_path
from medvip.images.names import plain_name
from medvip.images.reading import Reading, first_few, split_named, unknown_split
from medvip.types import Sample

GROUP_COLUMNS = ("patient", "group", "patient_or_group")
OWN_COLUMNS = ("path", "label", "split", *GROUP_COLUMNS)


def read_split_csv(table: Path, folder: Path, *, allow_missing: bool = False) -> Reading:
    """Read the samples that `table` lists; their paths are relative to `folder`.

    The columns are ``path`` and ``label``, mostly ``split`` (left out or all empty: splits are
    to be made), and at most one of ``patient``, ``group``, ``patient_or_group``. Others (sex, age,
    site) are kept with each sample as they are. UTF-8, with or without a byte order mark; cells
    parted by commas, semicolons or tabs; the columns' names in any case; empty lines are passed over.

    Raises
    ------
    DataError
        When the table is malformed; the text names the lines.
    """
    rows, group_column = _rows(table)
    lines_of: dict[str, list[int]] = {}
    for line, row in rows:
        row["path"] = relative_path(row["path"], f"{table}, line {line}", folder)
        lines_of.setdefault(plain_name(row["path"]), []).append(line)
    _refuse(
        table,
        "the same path twice",
        [
            f"{path} (lines {', '.join(map(str, lines))})"
            for path, lines in lines_of.items()
            if len(lines) > 1
        ],
        fix="keep one line for each image",
    )
    _refuse(
        table,
        "no label",
        [f"line {line} ({row['path']})" for line, row in rows if not row["label"]],
        fix="give each image its class",
    )
    given = [row.get("split", "") for _, row in rows]
    if any(given):
        _refuse(
            table,
            "no split, while other lines have one",
            [f"line {line} ({row['path']})" for line, row in rows if not row["split"]],
            fix="give each image a split, or leave the whole column empty to have splits made",
        )
        strangers = [name for name in given if split_named(name) is None]
        if strangers:
            raise unknown_split(str(table), strangers)
    paths = find_files([row["path"] for _, row in rows], folder, str(table), allow_missing=allow_missing)
    samples = [
        Sample(
            path,
            row["label"],
            row[group_column] or None if group_column else None,
            split_named(split),
            tuple((name, cell) for name, cell in row.items() if name and name not in OWN_COLUMNS),
        )
        for path, (_, row), split in zip(paths, rows, given, strict=True)
    ]
    return Reading(sorted(samples, key=lambda sample: sample.path), [])


def _rows(table: Path) -> tuple[list[tuple[int, dict[str, str]]], str | None]:
    """Line number and cells of each row, and the name of the group column."""
    try:
        text = table.read_text(encoding="utf-8-sig")
        sign = _separator(text)
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=sign)
        columns = [_column(name) for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        cells = [(reader.line_num, row) for row in reader if not _is_empty(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read as CSV: {error}", fix="save it as CSV in UTF-8") from error
    lacking = [name for name in ("path", "label") if name not in columns]
    if lacking:
        raise DataError(
            f"{table} has no column {' and no column '.join(lacking)} (its columns: {', '.join(columns)})",
            fix="give it a first line 'path,label,split', separated by commas, semicolons or tabs",
        )
    if len(set(columns)) < len(columns):
        twice = sorted({name for name in columns if columns.count(name) > 1})
        raise DataError(f"{table} has two columns '{twice[0]}'", fix="give each column its own name")
    groups = [name for name in GROUP_COLUMNS if name in columns]
    if len(groups) > 1:
        raise DataError(
            f"{table} has more than one column that says what belongs together: {', '.join(groups)}",
            fix=f"keep one of {', '.join(GROUP_COLUMNS)}",
        )
    uneven = [f"line {line}" for line, row in cells if None in row or None in row.values()]
    holds = {",": "a comma", ";": "a semicolon", "\t": "a tab"}[sign]
    _refuse(table, "more or fewer cells than the first line", uneven, fix=f"quote cells that hold {holds}")
    if not cells:
        raise DataError(f"{table} lists no images", fix="add a line for each image")
    rows = [(line, {name: cell.strip() for name, cell in row.items()}) for line, row in cells]
    return rows, groups[0] if groups else None


def _separator(text: str) -> str:
    """What parts the cells: of comma, semicolon and tab the one that shows most of our columns.

    Spreadsheets write semicolons where the comma is the decimal sign.
    """
    first = text.lstrip("\r\n").partition("\n")[0]

    def known(sign: str) -> int:
        return sum(_column(name.strip().strip('"')) in OWN_COLUMNS for name in first.split(sign))

    return max(",;\t", key=known)


def _column(name: str) -> str:
    """A column's name as it is written here, whatever its case; others' names stay as they are."""
    plain = plain_name(name)
    return plain.casefold() if plain.casefold() in OWN_COLUMNS else plain


def _is_empty(row: dict[str | None, Any]) -> bool:
    """Whether a line says nothing: spreadsheets leave such lines below a table."""
    return not any(
        cell.strip()
        for cells in row.values()
        for cell in ([cells] if isinstance(cells, str) else cells or [])
    )


def _refuse(table: Path, what: str, places: list[str], *, fix: str) -> None:
    if places:
        raise DataError(f"{table}: {what}: {first_few(places)}", fix=fix)
