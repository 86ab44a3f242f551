"""A symptom file is written whole or not at all, and never over another unasked."""

from __future__ import annotations

import os
from pathlib import Path

from medvip.atomic import write_atomically
from medvip.errors import SymptomError
from medvip.symptoms.plain_text import shown


def write_whole(path: str | Path, text: str, *, force: bool = False) -> Path:
    """Write `text` to `path`.

    Raises
    ------
    SymptomError
        `path` is there already and `force` is not set, or it cannot be written. Nothing
        half-written stays.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(Path(folder) / "a.json", "{}").read_text()
    '{}'
    """
    path = Path(path)
    where = shown(path, limit=300)
    try:
        if os.path.lexists(path) and not force:
            raise SymptomError(
                f"{where} is there already", fix="choose another name, or overwrite it with force"
            )
        write_atomically(path, text)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise SymptomError(
            f"{where} cannot be written: {reason}", fix="check that its folder exists and can be written to"
        ) from error
    return path
