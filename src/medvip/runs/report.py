"""A run and a data set to one HTML file: all that the report says is gathered here, and shown there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor, nn

from medvip.atomic import write_atomically
from medvip.backbones.protocol import SpatialBackbone
from medvip.errors import DataError, RunError, UsageError
from medvip.evaluation import evaluate
from medvip.evaluation.benchmark.cues import cues_of
from medvip.evaluation.plot_style import require_matplotlib
from medvip.evaluation.shortcuts import find_shortcuts
from medvip.evaluation.subgroups import measure_subgroups
from medvip.explanation import Explanation, can_be_explained, parts_of
from medvip.explanation.report import (
    Facts,
    Failure,
    Neighbour,
    Report,
    maps_of_failure,
    overview,
    render,
    thumbnail,
)
from medvip.features import FeatureTable, compute_features, open_pictures
from medvip.images import read_picture
from medvip.runs.run import Run, splits_differ
from medvip.types import SPLITS, ImageDataset, Sample, Split

FILE = "report.html"
SHOWN = 20
"""Failures with their pictures; more are counted, not shown."""
NEAREST = 3
"""Training images of each of the two classes beside a failure."""
PICTURE_SIDE, NEIGHBOUR_SIDE = 400, 160
"""Longer side in pixels, of a failure and of a training image beside it."""

Part = Split | Literal["all"]


def write_report(
    run: Run,
    dataset: ImageDataset,
    out: str | Path,
    *,
    split: Part = "test",
    failures: int = SHOWN,
    pictures: bool = True,
    force: bool = False,
    cache: Path | None = None,
    workers: int | None = None,
    quiet: bool = False,
) -> Path:
    """Measure a run on a split and write ``report.html``, which needs nothing else, into a folder.

    Parameters
    ----------
    run
        Of any method; what symptoms said stands in it for those whose logits are sums over symptoms.
    dataset
        With the run's classes. Its train images are what failures are compared with.
    out
        Folder; made where it is not there.
    split
        What to measure; ``"all"`` for a data set all of which is new.
    failures
        How many wrongly named images are shown, the surest first.
    pictures
        Whether any picture is shown.
    force
        Whether an earlier report there may be replaced.
    cache, workers, quiet
        As in `medvip.compute_features`.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    DataError
        The data set has other classes, or no picture in that split.
    RunError
        There is a report already and `force` is not set.

    Examples
    --------
    >>> medvip.write_report(run, medvip.load_dataset("images"), "why")          # doctest: +SKIP
    PosixPath('why/report.html')
    """
    file = Path(out) / FILE
    require_matplotlib("which draws the report's figures")
    if file.exists() and not force:
        raise RunError(f"{file} is there already", fix="choose another --out, or replace it with --force")
    report = gather_report(
        run,
        dataset,
        split=split,
        failures=failures,
        pictures=pictures,
        cache=cache,
        workers=workers,
        quiet=quiet,
    )
    write_atomically(file, render(report))
    return file


def gather_report(
    run: Run,
    dataset: ImageDataset,
    *,
    split: Part = "test",
    failures: int = SHOWN,
    pictures: bool = True,
    cache: Path | None = None,
    workers: int | None = None,
    quiet: bool = False,
) -> Report:
    """All that the report says, as plain values; parameters as of `write_report`."""
    if failures < 0:
        raise UsageError(f"failures is {failures}", fix="give 0 or a larger number")
    facts = _facts(run)
    run.require_classes(dataset)
    samples = dataset.samples if split == "all" else dataset.only(split).samples
    if not samples:
        raise DataError(
            f"{dataset.name} has no {split} images",
            fix="choose another split (--split train, val, test or all)",
        )
    # Only training images that are not measured themselves are neighbours to learn from.
    near = dataset.only("train").samples if split in ("val", "test") else ()
    read = dataset.with_samples(
        (*(replace(s, split="test") for s in samples), *(replace(s, split="train") for s in near))
    )
    features = compute_features(read, run.backbone, cache=cache, workers=workers, quiet=quiet)
    table, train = features.test, features.train
    probabilities = _probabilities(run, read, table, workers)
    position = {name: c for c, name in enumerate(run.classes)}
    labels = np.array([position[sample.label] for sample in samples])
    explained = run.explain_table(table) if can_be_explained(run.method) else []
    class_vectors = bool(explained) and parts_of(run.method).has_class_vector
    wrong = _failures_first(probabilities, labels, table.paths)
    groups = table.groups
    cues = _cues(table.paths, workers)
    return Report(
        facts=facts,
        split=split,
        data=dataset.name,
        warnings=_warnings(run, facts, dataset, split),
        metrics=evaluate(probabilities, labels, run.classes, groups=groups),
        recorded=_recorded(run),
        probabilities=probabilities,
        labels=labels,
        groups=groups,
        divisions=measure_subgroups(
            probabilities, labels, run.classes, _further_columns(samples), groups=groups
        ),
        shortcuts=find_shortcuts(cues, labels, run.classes, groups=groups),
        overview=overview(explained, labels, class_vectors=class_vectors) if explained else (),
        reliance=run.reliance(table) if class_vectors else None,
        symptom_facts=_symptom_facts(run),
        failures=_shown(run, wrong[:failures], samples, table, train, probabilities, explained, pictures),
        failures_in_all=len(wrong),
        neighbours_from=_neighbours_from(facts, dataset, train),
        pictures=pictures,
    )


# What was measured --------------------------------------------------------------------------------


def _probabilities(
    run: Run, read: ImageDataset, table: FeatureTable, workers: int | None
) -> Float[np.ndarray, "image class"]:
    """In the order of `run.classes`."""
    if run.method.needs == "features":
        return run.probabilities_of(table)
    return run.probabilities_of(open_pictures(read, run.backbone, workers=workers).test)


def _failures_first(
    probabilities: Float[np.ndarray, "image class"], labels: Int[np.ndarray, "image"], paths: Sequence[str]
) -> list[int]:
    """Images that were named wrongly, the surest first, equals by their path."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return sorted(map(int, wrong), key=lambda i: (-probabilities[i].max(), paths[i]))


def _cues(paths: Sequence[str], workers: int | None) -> Float[np.ndarray, "image cue"]:
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        return np.stack(list(pool.map(lambda path: cues_of(read_picture(path)), paths)))


def _further_columns(samples: Sequence[Sample]) -> dict[str, list[str]]:
    """Column -> cell of each image; empty where a sample has no such column."""
    names = dict.fromkeys(name for sample in samples for name, _ in sample.further)
    cells = [dict(sample.further) for sample in samples]
    return {name: [of_image.get(name, "") for of_image in cells] for name in names}


# Failures -----------------------------------------------------------------------------------------


def _shown(
    run: Run,
    which: Sequence[int],
    samples: Sequence[Sample],
    table: FeatureTable,
    train: FeatureTable,
    probabilities: Float[np.ndarray, "image class"],
    explained: Sequence[Explanation],
    pictures: bool,
) -> tuple[Failure, ...]:
    """The failures at these positions, each with what was near it in training."""
    root = _common_folder([*table.paths, *train.paths])
    found = []
    paths = [table.paths[image] for image in which]
    where = (
        run.explain(paths, maps=True, quiet=True)
        if pictures and explained and isinstance(run.backbone, SpatialBackbone)
        else [None] * len(which)
    )
    for image, mapped in zip(which, where, strict=True):
        row = probabilities[image]
        truth, prediction = samples[image].label, run.classes[int(row.argmax())]
        neighbours = {
            name: _nearest(table.plain[image], train, name, root, pictures) for name in (prediction, truth)
        }
        picture = read_picture(table.paths[image])
        found.append(
            Failure(
                path=_below(table.paths[image], root),
                truth=truth,
                prediction=prediction,
                probabilities=dict(zip(run.classes, map(float, row), strict=True)),
                picture=thumbnail(picture, PICTURE_SIDE) if pictures else None,
                shares=tuple(explained[image].of_class(name) for name in (prediction, truth) if explained),
                neighbours={name: near for name, near in neighbours.items() if near},
                maps=mapped and maps_of_failure(mapped, picture, (prediction, truth)),
            )
        )
    return tuple(found)


def _nearest(
    image: Float[Tensor, " dim"], train: FeatureTable, label: str, root: str, pictures: bool
) -> tuple[Neighbour, ...]:
    """The training images of a class whose vectors have the largest cosine with this image's."""
    of_class = np.flatnonzero(train.labels.numpy() == train.classes.index(label))
    cosines = nn.functional.cosine_similarity(train.plain[of_class].double(), image.double()[None], dim=-1)
    nearest = cosines.argsort(descending=True, stable=True)[:NEAREST].tolist()
    return tuple(
        Neighbour(
            path=_below(path, root),
            cosine=float(cosines[i]),
            picture=thumbnail(read_picture(path), NEIGHBOUR_SIDE) if pictures else None,
        )
        for i in nearest
        for path in [train.paths[of_class[i]]]
    )


def _common_folder(paths: Iterable[str]) -> str:
    """What all paths begin with: a report need not say where on a machine the data lie."""
    folders = {os.path.dirname(os.path.abspath(path)) for path in paths}  # noqa: PTH100, PTH120 (texts)
    return os.path.commonpath(folders)


def _below(path: str, root: str) -> str:
    return os.path.relpath(os.path.abspath(path), root)  # noqa: PTH100 (texts)


def _neighbours_from(facts: Facts, dataset: ImageDataset, train: FeatureTable) -> str:
    if not len(train):
        return "No training images are shown beside them: there are none here other than those measured."
    said = (
        f"Beside them are the nearest of {len(train):,} training images of the predicted and of the true "
        "class, by the cosine of the frozen image encoder's vectors."
    )
    if facts.images.get("train") != dataset.only("train").counts():
        said += (
            " These are the train images of the data given here; by number they are not those that the run "
            "was trained on (few-shot, or other data)."
        )
    return said


# What was trained ---------------------------------------------------------------------------------


def _warnings(run: Run, facts: Facts, dataset: ImageDataset, split: Part) -> tuple[str, ...]:
    said = []
    if split == "train":
        said.append("measured on training images: the run has learned from these very pictures")
    elif split != "all" and splits_differ(run.config, dataset):
        said.append(
            "these splits are not those of the run's training, so pictures that it learned from may be "
            "measured"
        )
    if split == "val":
        said.append("measured on validation images, by which the epoch and other choices were made")
    if facts.data != dataset.name:
        said.append(f"measured on {dataset.name}, trained on {facts.data}")
    said += [note for note in dataset.notes if note.startswith("leakage allowed")]
    return tuple(said)


def _facts(run: Run) -> Facts:
    """From the run's record, which is a file and may have been changed by anyone.

    Raises
    ------
    RunError
        It does not say what the run was trained on.
    """
    try:
        return _facts_of(run.config, sum(tensor.numel() for tensor in run.method.state().values()))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"the run's config.json does not say what it was trained on ({type(error).__name__}: {error})",
            fix="copy the run again, or train again",
        ) from error


def _facts_of(config: dict[str, Any], numbers: int) -> Facts:
    data, backbone, made = config["data"], config["backbone"], config["made"]
    views = config.get("augmentation", {}).get("views", 0)
    settings = {
        "Method": config["method"],
        "Backbone": f"{_last_part(backbone['name'])} (fingerprint {backbone['fingerprint'][:12]})",
        "Data": data["name"],
        **{name.replace("_", " ").capitalize(): _plain(value) for name, value in config["options"].items()},
        "Augmented views": f"{views} of each training picture" if views else "none",
        "Kept": f"{numbers:,} numbers",
        "Made with": f"medvip {made['medvip']}, torch {made['torch']}, Python {made['python']}",
    }
    return Facts(
        method=str(config["method"]),
        data=str(data["name"]),
        settings=tuple((what, str(value)) for what, value in settings.items()),
        images={
            split: {str(name): int(count) for name, count in data["images"][split].items()}
            for split in SPLITS
            if split in data["images"]
        },
        groups={str(split): int(count) for split, count in data["groups"].items()},
        notes=tuple(map(str, data["notes"])),
        made=str(made["date"])[:10],
        medvip=str(made["medvip"]),
        stopped=None if config.get("stopped") is None else str(config["stopped"]),
    )


def _recorded(run: Run) -> dict[str, float] | None:
    """The headline figures that the run recorded of its own test images, where it has usable ones."""
    try:
        return {name: float(run.metrics["test"][name]["value"]) for name in ("accuracy", "macro_f1", "auroc")}
    except (LookupError, TypeError, ValueError):
        return None


def _symptom_facts(run: Run) -> tuple[tuple[str, str], ...]:
    if run.symptoms is None:
        return ()
    origin = run.symptoms.provenance
    known = origin.to_dict()
    named = {
        "Modality": run.symptoms.modality,
        "Written by": origin.author,
        "How": origin.method,
        "When": origin.date,
        "Model": known.get("model"),
        "Source": known.get("source"),
        "Note": known.get("note"),
        "Review": run.symptoms.review_state(),
        "Checksum": run.symptoms.digest[:12],
    }
    return tuple((what, value) for what, value in named.items() if value)


def _plain(value: Any) -> str:
    """An option as a reader wants it: the settings of a recipe by name, not as Python."""
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_plain(inner)}" for name, inner in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def _last_part(name: str) -> str:
    """A backbone's name; of a folder the last part alone: a report need not say where it lies."""
    return Path(name).name if Path(name).is_absolute() else name
