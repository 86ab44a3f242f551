"""One run on disk: a JSON file with all that decided it, its figures, and what it said of each test image.

Everything that tables, tests and intervals need is there, so they can be made again without a run.
What all runs of a data set share, its test images, lies once in ``OUT/images``; a run names that file
with its hash. Pictures are named by a part of their content's hash, patients are numbered.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from medvip.atomic import write_atomically
from medvip.evaluation.benchmark.cells import file_name

FORMAT, IMAGES_FORMAT = "medvip-benchmark-run", "medvip-benchmark-images"
VERSION = 2
LETTERS = 12
"""Of a hash, to name a picture or a file by: 48 bits tell 100,000 pictures apart."""
LEAST = 1e-38
"""Probabilities below are kept as this: zero has no logarithm."""


@dataclass(frozen=True)
class Images:
    """The test images of a data set.

    Attributes
    ----------
    data
        Label of the data set.
    classes
        Of the data set.
    ids, groups
        Of each image: part of its content's hash, and the number of its group (`numbered`).
    labels
        Of each image: its class, as a position in `classes`.
    """

    data: str
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    labels: Int[np.ndarray, "image"]


@dataclass(frozen=True)
class Predictions:
    """What a run said of the test images, or of those of some classes.

    Attributes
    ----------
    classes
        Of the columns.
    ids, groups
        As in `Images`.
    labels
        Of each image: its class, as a position in `classes`.
    probabilities
        As they are read back.
    """

    classes: tuple[str, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    labels: Int[np.ndarray, "image"]
    probabilities: Float[np.ndarray, "image class"]


def image_id(content: str) -> str:
    """Name of a picture: part of the hash of its content."""
    return content[:LETTERS]


def group_id(group: str | None, content: str) -> str:
    """What stands for a group where a data set is hashed; a picture without one is its own.

    Examples
    --------
    >>> group_id(None, "ab12" * 16), group_id("patient 7", "ab12" * 16)
    ('ab12ab12ab12', 'g380e1c6279a')
    """
    if group is None:
        return image_id(content)
    return "g" + hashlib.sha256(group.encode()).hexdigest()[: LETTERS - 1]


def numbered(groups: Sequence[str], ids: Sequence[str]) -> tuple[str, ...]:
    """Groups by number, in the order of the pictures' ids: no name of a patient can be guessed back.

    Examples
    --------
    >>> numbered(["anna", "berta", "anna"], ["c3", "a1", "b2"])
    ('g1', 'g0', 'g1')
    """
    numbers: dict[str, int] = {}
    for row in sorted(range(len(ids)), key=lambda row: ids[row]):
        numbers.setdefault(groups[row], len(numbers))
    return tuple(f"g{numbers[group]}" for group in groups)


def packed(probabilities: Float[np.ndarray, "image class"], classes: tuple[str, ...]) -> dict[str, Any]:
    """Probabilities as a record keeps them: log p - log p of the last class, float32, in base64.

    A logarithm keeps the order of the images where a strongly regularised classifier says 0.5000001
    and 0.4999999, which few digits of a probability lose.

    Examples
    --------
    >>> packed(np.array([[0.5, 0.5]]), ("a", "b"))
    {'classes': ['a', 'b'], 'log_ratios': 'AAAAAA=='}
    """
    logs = np.log(np.maximum(probabilities.astype(np.float64), LEAST))
    ratios = (logs[:, :-1] - logs[:, -1:]).astype("<f4")
    return {"classes": list(classes), "log_ratios": base64.b64encode(ratios.tobytes()).decode("ascii")}


def unpacked(part: dict[str, Any], images: Images) -> Predictions:
    """What `packed` kept: of the images whose class is one of the part's, in their order.

    Raises
    ------
    ValueError
        It is not as long as there are images, or names a class that they have not.

    Examples
    --------
    >>> images = Images("x", ("a", "b"), ("1f", "2e"), ("g0", "g1"), np.array([1, 0]))
    >>> probabilities = np.array([[0.25, 0.75], [1.0, 0.0]])
    >>> unpacked(packed(probabilities, ("a", "b")), images).probabilities.round(6).tolist()
    [[0.25, 0.75], [1.0, 0.0]]
    """
    classes = tuple(part["classes"])
    new = np.full(len(images.classes), -1)
    new[[images.classes.index(name) for name in classes]] = range(len(classes))
    rows = np.flatnonzero(new[images.labels] >= 0)
    ratios = np.frombuffer(base64.b64decode(part["log_ratios"], validate=True), dtype="<f4")
    logits = np.zeros((len(rows), len(classes)))
    logits[:, :-1] = ratios.reshape(len(rows), len(classes) - 1)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return Predictions(
        classes,
        tuple(images.ids[row] for row in rows),
        tuple(images.groups[row] for row in rows),
        new[images.labels][rows],
        odds / odds.sum(axis=1, keepdims=True),
    )


def write_record(file: Path, record: dict[str, Any], images: Images | None = None) -> None:
    """Write a run's record, whole or not at all: one key a line.

    Parameters
    ----------
    file
        Where to: ``OUT/runs/DATA/BACKBONE/ROW/NAME.json`` (`Cell.path`).
    record
        With ``predictions``, by part (``test``, or ``base`` and ``novel``) as `packed` gives them.
    images
        That these are of; None for a run that failed.
    """
    named = {} if images is None else {"images": _write_images(_images_folder(file), images)}
    parts = {"predictions": record.get("predictions", {}) | named}
    write_atomically(file, _as_json({"format": FORMAT, "version": VERSION} | record | parts))


def read_record(file: Path) -> dict[str, Any] | None:
    """A run's record; None when there is none, or none of which everything can be read back.

    So the record of a run whose file of images is missing or altered is none: the run is done again.
    """
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or (record.get("format"), record.get("version")) != (FORMAT, VERSION):
        return None
    if not all(isinstance(record.get(key), dict) for key in ("cell", "settings", "made", "predictions")):
        return None
    if not isinstance(record["settings"].get("method"), dict):
        return None
    if record.get("status") == "done":
        try:
            for part in ("test",) if record["cell"]["task"] == "all-classes" else ("base", "novel"):
                read_predictions(file, record, part)
        except (ValueError, KeyError, TypeError, OSError):
            return None
    return record


def read_predictions(file: Path, record: dict[str, Any], part: str = "test") -> Predictions:
    """What the run of a record said of the test images.

    Raises
    ------
    ValueError, KeyError, TypeError, OSError
        The file of images is missing or is not the one that was written with it, or the record is
        damaged.
    """
    named = record["predictions"]["images"]
    place = _images_folder(file) / PurePath(named["file"]).name
    images = _read_images(place, named["sha256"], place.stat().st_mtime_ns)
    return unpacked(record["predictions"][part], images)


def _images_folder(file: Path) -> Path:
    """``OUT/images`` of ``OUT/runs/DATA/BACKBONE/ROW/NAME.json``."""
    return file.parents[4] / "images"


def _write_images(folder: Path, images: Images) -> dict[str, str]:
    """Write the file if it is not there; its name, which tells its content, and its hash."""
    content = (
        {"format": IMAGES_FORMAT, "version": VERSION} | vars(images) | {"labels": images.labels.tolist()}
    )
    text = _as_json(content).encode()
    sha256 = hashlib.sha256(text).hexdigest()
    file = folder / f"{file_name(images.data)}-{sha256[:LETTERS]}.json"
    if not file.is_file() or file.read_bytes() != text:
        write_atomically(file, text)
    return {"file": file.name, "sha256": sha256}


@lru_cache(maxsize=16)
def _read_images(file: Path, sha256: str, changed: int) -> Images:
    """Kept in memory; `changed` tells a file from what it was before."""
    text = file.read_bytes()
    if hashlib.sha256(text).hexdigest() != sha256:
        raise ValueError(f"{file.name} is not the file that the run was written with")
    read = json.loads(text)
    classes, ids, groups = (tuple(read[name]) for name in ("classes", "ids", "groups"))
    return Images(read["data"], classes, ids, groups, np.array(read["labels"], dtype=np.int64))


def _as_json(content: dict[str, Any]) -> str:
    lines = [
        f"{json.dumps(key)}: {json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(',', ':'))}"
        for key, value in content.items()
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


_PLACES = re.compile(
    r"file:\S+|(?<![\w./\\~-])(?:[A-Za-z]:|~)?(?:/|\\{1,2})[^\s/\\'\":;,()<>|][^\s'\":;,()<>|]*"
)
_PICTURES = re.compile(r"[^\s'\":;,()<>|]+\.(?:png|jpe?g|bmp|gif|tiff?|webp|dcm|npy|npz)\b", re.IGNORECASE)


def private(text: str, paths: Iterable[str] = ()) -> str:
    """Text without names of pictures and without absolute paths, which may name a patient or a user.

    Parameters
    ----------
    text
        Of an error or a warning.
    paths
        Of the pictures that it may name.

    Examples
    --------
    >>> private("/data/a.png and Anna (1).png are cut off; see http://a.org/b", ["/x/Anna (1).png"])
    '[path] and [picture] are cut off; see http://a.org/b'
    """
    met = sorted(
        (PurePath(path) for path in paths if PurePath(path).name in text), key=lambda p: -len(p.name)
    )
    for path in met:
        for first in range(len(path.parts)):
            text = text.replace(str(PurePath(*path.parts[first:])), "[picture]")
    for known in (Path.cwd(), Path.home()):  # these may hold spaces
        text = text.replace(f"{known}{os.sep}", os.sep)
    return _PICTURES.sub("[picture]", _PLACES.sub("[path]", text))


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
