"""What the tests of studies share: drawn pictures of four classes, a small study, its records."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COLOURS = {"blue": (20, 40, 200), "green": (20, 200, 40), "red": (200, 40, 20), "white": (210, 210, 220)}
SYMPTOMS = {
    "blue": ["like the open sky", "the color of ink"],
    "green": ["like fresh grass", "leafy", "the color of a forest"],
    "red": ["warm like fire"],
    "white": ["like snow", "pale"],
}
SPLITS = ["train"] * 6 + ["val"] * 4 + ["test"] * 8
QUICK = '{ recipe = { from = "fast", epochs = 3, batch_size = 8 } }'


def draw_images(folder: Path, *, classes: int = 4, seed: int = 0) -> Path:
    """Noisy coloured squares with a ``split.csv``; two pictures a patient."""
    random = np.random.default_rng(seed)
    rows = []
    for label, colour in list(COLOURS.items())[:classes]:
        (folder / label).mkdir(parents=True)
        for index, split in enumerate(SPLITS):
            pixels = np.array(colour) + random.normal(0, 90, (36, 40, 3))
            path = f"{label}/{index}.png"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / path)
            rows.append([path, label, split, f"{label}-{index // 2}"])
    write_split(folder, rows)
    return folder


def write_split(folder: Path, rows: list[list[str]]) -> None:
    with (folder / "split.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "split", "patient"], *rows])


def read_split(folder: Path) -> list[list[str]]:
    with (folder / "split.csv").open(newline="") as file:
        return list(csv.reader(file))[1:]


def write_study(
    folder: Path,
    backbone: Path | str,
    methods: str,
    *,
    head: str = 'seeds = [1, 2]\nshots = [2, "all"]',
    data: str = '[[data]]\npath = "colours"\nsymptoms = "symptoms.json"',
) -> Path:
    """A study in `folder`, which also gets the symptoms."""
    (folder / "symptoms.json").write_text(json.dumps(SYMPTOMS))
    file = folder / "study.toml"
    file.write_text(f'name = "tiny"\nbackbones = ["{backbone}"]\n{head}\n{data}\n{methods}\n')
    return file


def method(name: str, **more: str) -> str:
    """A ``[[method]]`` section; values as TOML."""
    lines = [f"{key} = {value}" for key, value in more.items()]
    return "\n".join(["[[method]]", f'name = "{name}"', *lines, ""])


def records(out: Path) -> dict[str, dict[str, Any]]:
    """All records below a folder by their path, without what differs from run to run."""
    found = {}
    for file in sorted((out / "runs").rglob("*.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        record.pop("seconds", None)
        del record["made"]["date"]
        found[file.relative_to(out).as_posix()] = record
    return found


def record(out: Path, *parts: str) -> dict[str, Any]:
    """The one record whose path holds all of these."""
    (found,) = [one for path, one in records(out).items() if all(part in path for part in parts)]
    return found
