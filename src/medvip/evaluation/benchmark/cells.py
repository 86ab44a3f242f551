"""The runs that a study asks for: which there are, where each is kept, what decides its numbers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medvip.evaluation.benchmark.new_classes import can_name_new_classes
from medvip.evaluation.benchmark.rows import (
    combinations,
    full_options,
    learned_row,
    options_tried,
    row_class,
    takes_backbone,
    takes_seed,
)
from medvip.evaluation.benchmark.study import MAJORITY, MethodEntry, Study, backbone_label

Task = Literal["all-classes", "base-to-novel"]
PROTOCOL = 1
"""Raised whenever a run of the same settings gives other numbers than before."""


@dataclass(frozen=True)
class Cell:
    """One run.

    Attributes
    ----------
    data, row
        Labels of the data set and of the row.
    backbone
        Label of the backbone; None for rows that look at none.
    shots
        Training pictures a class, or ``"all"``; None for a method that learns nothing, and for the
        majority of all training pictures, which are run once for all shots.
    seed
        None where nothing is random: a method without a seed of its own, on all pictures.
    task
        Whether all classes are learned, or half of them.
    """

    data: str
    row: str
    backbone: str | None
    shots: int | Literal["all"] | None
    seed: int | None
    task: Task = "all-classes"

    @property
    def path(self) -> Path:
        """Where its record is, below the study's folder.

        Examples
        --------
        >>> Cell("busi", "ViP", "embedded", 4, 1).path.as_posix()
        'runs/busi/embedded/ViP/4-shots_seed-1.json'
        """
        folder = Path("runs", file_name(self.data), file_name(self.backbone or "no backbone"))
        shots = {None: "no-training", "all": "all-shots"}.get(self.shots, f"{self.shots}-shots")
        seed = "" if self.seed is None else f"_seed-{self.seed}"
        task = "" if self.task == "all-classes" else f"_{self.task}"
        return folder / file_name(self.row) / f"{shots}{seed}{task}.json"

    @property
    def words(self) -> str:
        """For messages."""
        shots = {None: "no training", "all": "all pictures"}.get(self.shots, f"{self.shots} shots")
        parts = [self.row, self.data, self.backbone, shots, self.seed is not None and f"seed {self.seed}"]
        return ", ".join(str(part) for part in (*parts, self.task != "all-classes" and self.task) if part)


def cells_of(study: Study) -> Iterator[Cell]:
    """All runs of a study, each once.

    Raises
    ------
    UsageError
        A row has no such method.
    """
    tasks: tuple[Task, ...] = ("all-classes", "base-to-novel") if study.base_to_novel else ("all-classes",)
    found: dict[Cell, None] = {}
    for data in study.data:
        for entry in study.method:
            name = learned_row(study, entry).name
            backbones = [backbone_label(b) for b in study.backbones] if takes_backbone(name) else [None]
            for backbone in backbones:
                for shots in entry.shots or study.shots:
                    for seed in study.seeds:
                        for task in tasks:
                            cell = Cell(data.label, entry.title, backbone, shots, seed, task)
                            found[cell_run_for(study, cell)] = None
    yield from found


def cell_run_for(study: Study, cell: Cell) -> Cell:
    """The run that stands for a place of the tables: the same one where nothing differs."""
    entry = study.row(cell.row)
    name = learned_row(study, entry).name
    # The majority is that of all training pictures: among so many of each class there is none.
    if not row_class(name).learns or name == MAJORITY:
        return Cell(cell.data, cell.row, cell.backbone, None, None, cell.task)
    random = cell.shots != "all" or takes_seed(name) or entry.of is not None
    return Cell(cell.data, cell.row, cell.backbone, cell.shots, cell.seed if random else None, cell.task)


def method_settings(study: Study, entry: MethodEntry) -> dict[str, Any]:
    """What of a row decides its numbers: the method with all options, tuning, permuted labels.

    Raises
    ------
    UsageError
        An option that the method does not have, or a value of the wrong kind.
    """
    learned = learned_row(study, entry)
    tried = [full_options(learned.name, learned.options | changes) for changes in combinations(learned)]
    return {
        "name": learned.name,
        "options": full_options(learned.name, learned.options),
        "tune": learned.tune,
        "tried": tried if learned.tune else [],
        "permuted_labels": entry.of is not None,
    }


def impossible(cell: Cell, method: dict[str, Any], classes: int) -> str | None:
    """Why a run cannot be, if so: it is recorded as such and the rest goes on.

    Whether the method can work on the backbone is known only when that is loaded.

    Parameters
    ----------
    cell
        The run.
    method
        Of its row, as `method_settings` gives it.
    classes
        How many its data has.
    """
    if cell.task == "base-to-novel":
        if classes < 4:
            return f"{classes} classes cannot be halved into two that each have two"
        learned = row_class(method["name"])
        if not all(can_name_new_classes(learned, options) for options in options_tried(method)):
            return "what the method learns does not carry over to classes that it has not seen"
    return None


def digest_of(settings: dict[str, Any]) -> str:
    """sha256 of settings, whatever their order.

    Examples
    --------
    >>> digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    True
    """
    canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def file_name(label: str) -> str:
    """A label as part of a path: readable, harmless, and different for different labels.

    Examples
    --------
    >>> file_name("ViP-fast"), file_name("../etc")
    ('ViP-fast', '_.._etc-f7f9121f')
    """
    plain = re.sub(r"[^A-Za-z0-9_.+-]+", "_", label)
    plain = f"_{plain}" if plain.startswith((".", "-")) else plain
    if plain == label:
        return label
    return f"{plain[:60]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"
