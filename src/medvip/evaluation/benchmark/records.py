"""One run on disk: a JSON file with all that decided it, its figures, and its test probabilities.

Everything that tables, tests and intervals need is in there, so they can be made again without a
run. Pictures are named by a part of their content's hash and patients by a hash, never by file
names. Where there are many pictures the probabilities lie in an ``.npz`` file beside it.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from medvip.atomic import write_atomically

FORMAT = "medvip-benchmark-run"
VERSION = 1
LETTERS = 12
"""Of a hash, to name a picture or a group by: 48 bits tell 100,000 pictures apart."""
DIGITS = 12
"""Of a probability. Figures are computed from the rounded ones, so that they can be made again.

Fewer would change figures: a strongly regularised classifier says 0.5000001 and 0.4999999, which is
an order of the images, and a prediction, that six digits lose.
"""
MOST_IN_JSON = 20_000
"""Numbers; more go into an ``.npz`` file."""


@dataclass(frozen=True)
class Predictions:
    """What a run said of the test images.

    Attributes
    ----------
    classes
        Of the columns.
    ids, groups
        Of each image: part of its content's hash, and its group (patient), hashed.
    labels
        Of each image: its class, as a position in `classes`.
    probabilities
        Rounded to `DIGITS` significant digits.
    """

    classes: tuple[str, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    labels: Int[np.ndarray, "image"]
    probabilities: Float[np.ndarray, "image class"]


def rounded(probabilities: Float[np.ndarray, "image class"]) -> Float[np.ndarray, "image class"]:
    """To `DIGITS` significant digits, as the file keeps them.

    Examples
    --------
    >>> rounded(np.array([[1 / 3, 2 / 3]])).tolist()
    [[0.333333333333, 0.666666666667]]
    """
    texts = np.char.mod(f"%.{DIGITS}g", probabilities.astype(np.float64))
    return texts.astype(np.float64)


def image_id(content: str) -> str:
    """Name of a picture: part of the hash of its content."""
    return content[:LETTERS]


def group_id(group: str | None, content: str) -> str:
    """Name of a group; a picture of which no group is known is its own.

    Examples
    --------
    >>> group_id(None, "ab12" * 16), group_id("patient 7", "ab12" * 16)
    ('ab12ab12ab12', 'g380e1c6279a')
    """
    if group is None:
        return image_id(content)
    return "g" + hashlib.sha256(group.encode()).hexdigest()[: LETTERS - 1]


def write_record(file: Path, record: dict[str, Any], predictions: dict[str, Predictions]) -> None:
    """Write a run's record, whole or not at all: one key a line.

    Parameters
    ----------
    file
        Where to.
    record
        All but the predictions.
    predictions
        By part: ``test``, or ``base`` and ``novel``. Empty for a run that failed.
    """
    parts: dict[str, Any] = {}
    numbers = sum(one.probabilities.size + 3 * len(one.ids) for one in predictions.values())
    arrays: dict[str, np.ndarray] = {}
    for name, one in predictions.items():
        parts[name] = {"classes": list(one.classes)}
        if numbers > MOST_IN_JSON:
            arrays |= {
                f"{name}_ids": np.array(one.ids, dtype=f"U{LETTERS}"),
                f"{name}_groups": np.array(one.groups, dtype=f"U{LETTERS}"),
                f"{name}_labels": one.labels.astype(np.int32),
                f"{name}_probabilities": one.probabilities,
            }
        else:
            parts[name] |= {
                "ids": list(one.ids),
                "groups": list(one.groups),
                "labels": one.labels.tolist(),
                "probabilities": one.probabilities.tolist(),
            }
    if arrays:
        packed = io.BytesIO()
        np.savez_compressed(packed, allow_pickle=False, **arrays)  # pyright: ignore[reportArgumentType]
        beside = file.with_suffix(".npz")
        write_atomically(beside, packed.getvalue())
        parts["file"] = {"name": beside.name, "sha256": hashlib.sha256(packed.getvalue()).hexdigest()}
    whole = {"format": FORMAT, "version": VERSION} | record | {"predictions": parts}
    lines = [
        f"{json.dumps(key)}: {json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(',', ':'))}"
        for key, value in whole.items()
    ]
    write_atomically(file, "{\n" + ",\n".join(lines) + "\n}\n")


def read_record(file: Path) -> dict[str, Any] | None:
    """A run's record; None when there is none, or none that can be read."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or (record.get("format"), record.get("version")) != (FORMAT, VERSION):
        return None
    whole = all(isinstance(record.get(key), dict) for key in ("settings", "made", "predictions"))
    return record if whole and isinstance(record["settings"].get("method"), dict) else None


def read_predictions(file: Path, record: dict[str, Any], part: str = "test") -> Predictions:
    """What the run of a record said of the test images.

    Raises
    ------
    ValueError
        The file beside it is missing or is not the one that was written with it.
    """
    parts = record["predictions"]
    kept = parts[part]
    if "file" not in parts:
        return Predictions(
            tuple(kept["classes"]),
            tuple(kept["ids"]),
            tuple(kept["groups"]),
            np.array(kept["labels"], dtype=np.int64),
            np.array(kept["probabilities"], dtype=np.float64),
        )
    beside = file.with_suffix(".npz")
    try:
        packed = beside.read_bytes()
    except OSError as error:
        raise ValueError(f"{beside.name} cannot be read: {error.strerror}") from error
    if hashlib.sha256(packed).hexdigest() != parts["file"]["sha256"]:
        raise ValueError(f"{beside.name} is not the file that was written with {file.name}")
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        return Predictions(
            tuple(kept["classes"]),
            tuple(map(str, arrays[f"{part}_ids"])),
            tuple(map(str, arrays[f"{part}_groups"])),
            arrays[f"{part}_labels"].astype(np.int64),
            arrays[f"{part}_probabilities"].astype(np.float64),
        )


def one_line(text: str, limit: int = 400) -> str:
    r"""Text of an error for a record or a message: one line, nothing that a terminal obeys.

    Examples
    --------
    >>> one_line("first\nsecond\x1b[31m")
    'first second\\x1b[31m'
    """
    joined = " ".join(text.split())
    plain = "".join(c if c.isprintable() else repr(c)[1:-1] for c in joined)
    return plain if len(plain) <= limit else f"{plain[:limit]}..."
