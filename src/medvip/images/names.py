"""Names as people see them: one spelling for what looks the same on the screen."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

Listings = dict[Path, dict[str, list[str]]]
"""Folder -> plain name -> how it is really spelled there; kept so that each is listed once."""


def plain_name(name: str) -> str:
    r"""A name in one form: letters with their accents in one piece (NFC), no blanks around it.

    Two names that differ in nothing else look the same everywhere, but not to a computer: a Mac
    writes an accent as a letter of its own, and nobody sees a blank at the end of a folder's name.

    Examples
    --------
    >>> plain_name("Me\u0301lanome ") == plain_name("M\u00e9lanome")
    True
    """
    return unicodedata.normalize("NFC", name).strip()


def in_other_form(
    path: Path, listings: Listings | None = None, exists: Callable[[Path], bool] = os.path.exists
) -> Path:
    """The file or folder that `path` means, although a part of it is spelled in another form.

    `path` itself when it is there, or when nothing, or more than one thing, looks like it.
    """
    if exists(path):
        return path
    listings = {} if listings is None else listings
    found = Path(path.anchor)
    for part in path.parts[1:] if path.anchor else path.parts:
        if not os.path.lexists(found / part):
            alike = _listed(found, listings).get(plain_name(part), [])
            if len(alike) != 1:
                return path
            part = alike[0]
        found = found / part
    return found if exists(found) else path


def _listed(folder: Path, listings: Listings) -> dict[str, list[str]]:
    if folder not in listings:
        spelled = listings[folder] = {}
        try:
            for name in os.listdir(folder):  # noqa: PTH208
                spelled.setdefault(plain_name(name), []).append(name)
        except (OSError, ValueError):
            pass  # nothing can be found in what cannot be listed
    return listings[folder]
