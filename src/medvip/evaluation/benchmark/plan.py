"""What a study would do, found out without weights: its data, its runs, what is missing, what is there."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from medvip.backbones.loading import EMBEDDED
from medvip.errors import MedvipError, UsageError
from medvip.evaluation.benchmark.cells import (
    PROTOCOL,
    Cell,
    cells_of,
    digest_of,
    impossible,
    method_settings,
)
from medvip.evaluation.benchmark.records import group_id, read_record
from medvip.evaluation.benchmark.rows import check_creation, learned_row
from medvip.evaluation.benchmark.study import DataEntry, Study, backbone_label
from medvip.features import Augmentation
from medvip.images import content_hash, load_dataset
from medvip.symptoms import SymptomSet
from medvip.types import ImageDataset

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class ImageSet:
    """One data set of a study, with all that its runs need besides vectors.

    Attributes
    ----------
    label
        What tables call it.
    dataset
        With its splits.
    contents
        Content hash of each sample, in their order.
    symptoms
        Of its classes, where the study names some.
    augmentation
        Of its training pictures.
    """

    label: str
    dataset: ImageDataset
    contents: tuple[str, ...]
    symptoms: SymptomSet | None
    augmentation: Augmentation

    @cached_property
    def digest(self) -> str:
        """sha256 of pictures, labels, groups and splits in their order; names and places do not matter."""
        lines = [
            [content, sample.label, group_id(sample.group, content), sample.split]
            for content, sample in zip(self.contents, self.dataset, strict=True)
        ]
        return hashlib.sha256(json.dumps([self.dataset.classes, lines]).encode()).hexdigest()

    @property
    def content_of(self) -> dict[str, str]:
        """Path -> content hash."""
        return {sample.path: content for sample, content in zip(self.dataset, self.contents, strict=True)}


@dataclass(frozen=True)
class Run:
    """One cell with what decides its numbers.

    Attributes
    ----------
    cell
        Which it is.
    settings, digest
        What decides its numbers, the backbone's weights aside, and the hash of that.
    symptoms
        The row's own, else the data set's.
    impossible
        Why it cannot be, if so. A backbone that the method cannot work on shows when it is loaded.
    """

    cell: Cell
    settings: dict[str, Any]
    digest: str
    symptoms: SymptomSet | None
    impossible: str | None = None


@dataclass(frozen=True)
class Plan:
    """All that a study would do.

    Attributes
    ----------
    study
        As read.
    sets
        By label; those that could be read.
    backbones
        Label -> name or folder, as `medvip.load_backbone` takes it.
    runs
        Of the data sets that could be read.
    problems
        What has to be mended before it can start: (what, how).
    notes
        What should be said aloud.
    """

    study: Study
    sets: dict[str, ImageSet]
    backbones: dict[str, str]
    runs: tuple[Run, ...]
    problems: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = field(default=())

    def states(self, out: Path) -> Counter[str]:
        """How many runs are ``done``, ``failed``, ``not possible`` or ``to do`` in a folder.

        A run counts as done when its settings are the wanted ones; whether its backbone had the
        same weights is seen only when it is loaded.
        """
        return Counter(state_of(run, read_record(out / run.cell.path)) for run in self.runs)


def state_of(run: Run, record: dict[str, Any] | None, fingerprint: str | None = None) -> str:
    """``done``, ``failed``, ``not possible`` or ``to do``.

    Parameters
    ----------
    run
        What is wanted.
    record
        What is there.
    fingerprint
        Of its backbone; None: it is not looked at.
    """
    if run.impossible is not None:
        return "not possible"
    if record is None or record.get("digest") != run.digest:
        return "to do"
    if fingerprint is not None and record.get("fingerprint") != fingerprint:
        return "to do"
    status = record.get("status")
    return status if status in ("done", "not possible") else "failed"


def plan_study(study: Study, folder: Path, data: Path | None = None, *, verify: bool = True) -> Plan:
    """Read the data sets and symptoms and make the list of runs. No weights are read.

    Parameters
    ----------
    study
        As `load_study` gives it.
    folder
        Where the study's file is; paths in it are found from here.
    data
        A folder where paths are looked for first.
    verify
        Decode every picture once (`medvip.load_dataset`).
    """
    problems: list[tuple[str, str]] = []
    notes: list[str] = []

    def attempt(where: str, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except MedvipError as error:
            problems.append((f"{where}: {error.problem}", error.fix))
            return None

    backbones = {}
    for name in study.backbones:
        place = _found(name, folder, data)
        is_folder = place.is_dir() and name not in EMBEDDED
        backbones[backbone_label(name)] = str(place) if is_folder else name
        attempt(f"backbone {name}", lambda name=name, place=place: _check_backbone(name, place, notes))
    settings = {
        entry.title: attempt(f"row {entry.title}", lambda entry=entry: method_settings(study, entry))
        for entry in study.method
    }
    sets: dict[str, ImageSet] = {}
    symptoms_for: dict[tuple[str, str], SymptomSet | None] = {}
    for entry in study.data:
        image_set = attempt(f"data {entry.label}", lambda entry=entry: _read_set(entry, folder, data, verify))
        if image_set is None:
            continue
        sets[entry.label] = image_set
        notes += [f"{entry.label}: {note}" for note in image_set.dataset.notes]
        for row in study.method:
            where, own = f"row {row.title} on {entry.label}", learned_row(study, row).symptoms
            symptoms = image_set.symptoms
            if own is not None:
                classes = image_set.dataset.classes
                symptoms = attempt(
                    where, lambda own=own, classes=classes: _read_symptoms(own, classes, folder, data)
                )
            symptoms_for[entry.label, row.title] = symptoms
            if (wanted := settings[row.title]) is not None and (own is None or symptoms is not None):
                attempt(where, lambda wanted=wanted, symptoms=symptoms: _check_row(wanted, symptoms))
    runs = []
    if all(value is not None for value in settings.values()):
        runs = [
            _run(cell, sets[cell.data], settings[cell.row], symptoms_for[cell.data, cell.row])
            for cell in cells_of(study)
            if cell.data in sets
        ]
    return Plan(study, sets, backbones, tuple(runs), tuple(dict.fromkeys(problems)), tuple(notes))


def _run(cell: Cell, image_set: ImageSet, method: dict[str, Any], symptoms: SymptomSet | None) -> Run:
    with_backbone = cell.backbone is not None
    decisive = {
        "protocol": PROTOCOL,
        "method": method,
        "shots": cell.shots,
        "seed": cell.seed,
        "task": cell.task,
        "backbone": cell.backbone,
        "data": {
            "name": cell.data,
            "digest": image_set.digest,
            "classes": list(image_set.dataset.classes),
        },
        "views": _views(image_set.augmentation) if with_backbone else None,
        "symptoms": {"digest": symptoms.digest, "names": dict(sorted(symptoms.names.items()))}
        if symptoms and with_backbone
        else None,
    }
    why_not = impossible(cell, method, len(image_set.dataset.classes))
    return Run(cell, decisive, digest_of(decisive), symptoms, why_not)


def _check_row(settings: dict[str, Any], symptoms: SymptomSet | None) -> None:
    for options in (settings["options"], *settings["tried"]):
        try:
            check_creation(settings["name"], symptoms, options)
        except UsageError as error:
            if symptoms is not None or "symptoms" not in error.problem:
                raise
            fix = 'write symptoms = "..." in that [[data]] or row, or leave the row out'
            raise UsageError(error.problem, fix=fix) from error


def _views(augmentation: Augmentation) -> dict[str, Any] | None:
    if augmentation.views == 0:
        return None
    return {"number": augmentation.views, "key": augmentation.key(1)}


def _read_set(entry: DataEntry, folder: Path, data: Path | None, verify: bool) -> ImageSet:
    split_file = None if entry.split_file is None else _found(entry.split_file, folder, data)
    augmentation = Augmentation(views=entry.views, scale=(0.08, 1.0) if entry.crop else None, flip=entry.flip)
    dataset = load_dataset(
        _found(entry.path, folder, data),
        split_file=split_file,
        seed=entry.split_seed,
        allow_leakage=entry.allow_leakage,
        companions=entry.companions,
        verify=verify,
    )
    symptoms = None
    if entry.symptoms is not None:
        symptoms = _read_symptoms(entry.symptoms, dataset.classes, folder, data)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        contents = tuple(pool.map(content_hash, [sample.path for sample in dataset]))
    return ImageSet(entry.label, dataset, contents, symptoms, augmentation)


def _read_symptoms(name: str, classes: tuple[str, ...], folder: Path, data: Path | None) -> SymptomSet:
    """A symptom file, or a ready-made set; it has to have these classes."""
    place = _found(name, folder, data)
    symptoms = SymptomSet.load(place if place.is_file() else name)
    symptoms.for_classes(classes)
    return symptoms


def _found(path: str, folder: Path, data: Path | None) -> Path:
    """A study's path: as it is if absolute, else below ROOT, else below the study's folder."""
    given = Path(path).expanduser()
    places = [place / given for place in (data, folder) if place is not None]
    return next((place for place in places if place.exists()), places[0])


def _check_backbone(name: str, place: Path, notes: list[str]) -> None:
    if name in EMBEDDED:
        from medvip.backbones import load_backbone

        load_backbone(name, device="cpu")  # looks whether its packages are there; reads no weights
    elif place.is_dir():
        if not (place / "config.json").is_file():
            raise UsageError(f"{place} holds no config.json", fix="give the folder of a CLIP or SigLIP")
    elif not _HUB_ID.fullmatch(name):
        raise UsageError(
            f"there is no folder {name} and it has not the form of a hub id",
            fix="use embedded, the path of a model folder, or a hub id such as openai/clip-vit-base-patch16",
        )
    else:
        from huggingface_hub import try_to_load_from_cache

        if not isinstance(try_to_load_from_cache(name, "config.json"), str):
            notes.append(f"backbone {name} is not on this machine: the run downloads it from the hub")
