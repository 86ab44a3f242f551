"""From the records of a study's runs to the numbers of its tables. No run, data or weights are needed."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from medvip.evaluation.benchmark.cells import Cell, Task, cell_run_for, cells_of, digest_of, method_settings
from medvip.evaluation.benchmark.records import Predictions, read_predictions, read_record
from medvip.evaluation.benchmark.rows import learned_row, takes_backbone
from medvip.evaluation.benchmark.study import WITHOUT_BACKBONE, Study, backbone_label
from medvip.evaluation.bootstrap import group_codes, group_weights, percentile_interval
from medvip.evaluation.comparison import (
    FIGURES,
    Difference,
    McNemar,
    combined_over_seeds,
    critical_difference,
    figures_on,
    friedman_p,
    holm,
    mcnemar_exact,
    paired_difference,
    ranks,
)

RESAMPLES = 1000
COMPARED = ("macro_f1", "auroc")
"""Figures that are compared by paired bootstrap; accuracy is by McNemar's test."""
SHOWN = {"accuracy": "accuracy", "macro_f1": "macro-F1", "auroc": "AUROC"}
"""Figures with tables, ranks and curves, as these call them."""

Amount = int | Literal["all"]


@dataclass(frozen=True)
class Measured:
    """One run, read back.

    Attributes
    ----------
    cell
        Which it is.
    seconds
        To fit and to predict.
    figures
        On the test images as they are.
    resampled
        The same on resampled patients; all runs of a data set share the resamples.
    right
        Which test images it gets right.
    """

    cell: Cell
    seconds: dict[str, float]
    figures: dict[str, float]
    resampled: dict[str, Float[np.ndarray, "resample"]]
    right: Bool[np.ndarray, "image"]


@dataclass(frozen=True)
class Figure:
    """A figure over the seeds of one place of the tables.

    Attributes
    ----------
    mean
        Over the seeds.
    spread
        Standard deviation over the seeds; NaN for one run.
    low, high
        95 % interval of the mean over patients: in each resample of the patients, the mean over
        the seeds.
    """

    mean: float
    spread: float
    low: float
    high: float


@dataclass(frozen=True)
class Place:
    """One place of the tables: a row on a data set, with a backbone and a number of shots."""

    data: str
    backbone: str
    shots: Amount
    row: str
    expected: int
    runs: tuple[Measured, ...]
    figures: dict[str, Figure]


@dataclass(frozen=True)
class Compared:
    """Two rows on the same test images.

    Attributes
    ----------
    figure
        ``"accuracy"`` is by McNemar's exact test, the others are by paired bootstrap.
    difference
        The first row's figure less the second's; its `p` is that of the test.
    adjusted
        The p-value after Holm's correction over all pairs of this table.
    only
        For accuracy: by seed, how many images only the first and only the second gets right.
    """

    data: str
    backbone: str
    shots: Amount
    first: str
    second: str
    figure: str
    difference: Difference
    adjusted: float
    only: tuple[McNemar, ...] = ()


@dataclass(frozen=True)
class Ranking:
    """Rows ranked over data sets.

    Attributes
    ----------
    mean_ranks
        By row; 1 is the best.
    sets
        How many data sets.
    p
        Of Friedman's test.
    critical_difference
        Nemenyi's, at 5 %.
    """

    backbone: str
    shots: Amount
    figure: str
    mean_ranks: dict[str, float]
    sets: int
    p: float
    critical_difference: float


@dataclass(frozen=True)
class NewClasses:
    """Base to novel on one data set: means over the seeds, by part (base, novel, harmonic mean)."""

    data: str
    backbone: str
    shots: Amount
    row: str
    runs: int
    accuracy: dict[str, float]
    macro_f1: dict[str, float]


@dataclass(frozen=True)
class Summary:
    """All numbers of a study's tables."""

    study: Study
    places: tuple[Place, ...]
    comparisons: tuple[Compared, ...]
    rankings: tuple[Ranking, ...]
    new_classes: tuple[NewClasses, ...]
    notes: tuple[str, ...] = field(default=())


def how_many(shots: int | str) -> float:
    """For sorting: "all" is the most.

    Examples
    --------
    >>> sorted(["all", 16, 4], key=how_many)
    [4, 16, 'all']
    """
    return math.inf if isinstance(shots, str) else float(shots)


def summarise(study: Study, out: Path, *, resamples: int = RESAMPLES) -> Summary:
    """Read the records below `out` that belong to the study and compute its tables.

    A record belongs to the study if its row has the same method, options and tuning. Whether its
    data and weights are still the same, only a run of the study finds out.
    """
    done, notes = _read_done(study, out)
    alike = _same_images(done)
    notes += [f"no ranks: {' and '.join(labels)} are the same images" for labels in alike]
    measured: dict[Cell, Measured] = {}
    for data in study.data:
        of_data = {cell: pair for cell, pair in done.items() if cell.data == data.label}
        some, said = _measure(of_data, "all-classes", resamples)
        measured |= some
        notes += said
    places = tuple(_places(study, measured))
    comparisons = tuple(_comparisons(study, places, notes))
    rankings = () if alike else tuple(_rankings(study, places, notes))
    new_classes = tuple(_new_classes(study, done))
    return Summary(study, places, comparisons, rankings, new_classes, tuple(dict.fromkeys(notes)))


def _same_images(done: dict[Cell, tuple[Path, dict[str, Any]]]) -> list[list[str]]:
    """Labels of data sets that are one and the same."""
    of_digest: dict[str, dict[str, None]] = {}
    for cell, (_, record) in done.items():
        of_digest.setdefault(record["settings"]["data"]["digest"], {})[cell.data] = None
    return [list(labels) for labels in of_digest.values() if len(labels) > 1]


def _read_done(study: Study, out: Path) -> tuple[dict[Cell, tuple[Path, dict[str, Any]]], list[str]]:
    wanted = {entry.title: digest_of(method_settings(study, entry)) for entry in study.method}
    done: dict[Cell, tuple[Path, dict[str, Any]]] = {}
    states, versions, failed = Counter[str](), set(), []
    for cell in cells_of(study):
        record = read_record(out / cell.path)
        state = "missing" if record is None else str(record.get("status"))
        if record is not None and digest_of(record["settings"]["method"]) != wanted[cell.row]:
            state = "made with other options"
        states[state] += 1
        if record is not None and state == "done":
            done[cell] = out / cell.path, record
            versions.add(json.dumps(record["made"]["versions"], sort_keys=True))
        elif state == "failed":
            failed.append(f"{cell.words}: {record and record.get('reason')}")
    notes = [f"{number} runs {state}" for state, number in sorted(states.items()) if state != "done"]
    notes += [f"failed: {words}" for words in failed]
    if len(versions) > 1:
        notes.append(f"runs were made with {len(versions)} different sets of versions of the software")
    return done, notes


def _measure(
    runs: dict[Cell, tuple[Path, dict[str, Any]]], task: Task, resamples: int
) -> tuple[dict[Cell, Measured], list[str]]:
    """The runs of one data set, all on the same resamples of its patients."""
    measured: dict[Cell, Measured] = {}
    notes: list[str] = []
    shared: tuple[Predictions, Float[np.ndarray, "resample image"]] | None = None
    for cell, (file, record) in runs.items():
        if cell.task != task:
            continue
        said = read_predictions(file, record)
        if shared is None:
            codes = group_codes(said.groups, len(said.groups))
            number = resamples if codes.max() > 0 else 0  # one patient says nothing about others
            shared = said, group_weights(codes, number, np.random.default_rng(1))
        first, weights = shared
        same = (said.ids, said.groups, said.classes) == (first.ids, first.groups, first.classes)
        if not same or not np.array_equal(said.labels, first.labels):
            notes.append(f"left out: {cell.words}: it was measured on other test images than the first")
            continue
        plain = figures_on(said.probabilities, said.labels, np.ones((1, len(said.labels))))
        measured[cell] = Measured(
            cell,
            record["seconds"],
            {name: float(values[0]) for name, values in plain.items()},
            figures_on(said.probabilities, said.labels, weights),
            said.probabilities.argmax(axis=1) == said.labels,
        )
    return measured, notes


def _cells_at(
    study: Study, data: str, backbone: str, shots: Amount, row: str, task: Task = "all-classes"
) -> list[Cell]:
    """The runs that stand in one place of the tables; none where the row has no such shots."""
    entry = study.row(row)
    if entry.shots is not None and shots not in entry.shots:
        return []
    own = backbone if takes_backbone(learned_row(study, entry).name) else None
    cells = (cell_run_for(study, Cell(data, row, own, shots, seed, task)) for seed in study.seeds)
    return list(dict.fromkeys(cells))


def _all_places(study: Study) -> Iterator[tuple[str, str, Amount]]:
    """Data set, backbone and shots, in the order of the study."""
    backbones = [backbone_label(name) for name in study.backbones]
    return itertools.product([entry.label for entry in study.data], backbones, study.shots)


def _places(study: Study, measured: dict[Cell, Measured]) -> Iterator[Place]:
    for data, backbone, shots in _all_places(study):
        for entry in study.method:
            cells = _cells_at(study, data, backbone, shots, entry.title)
            runs = tuple(measured[cell] for cell in cells if cell in measured)
            if runs:
                figures = {name: _over_seeds(name, runs) for name in FIGURES}
                yield Place(data, backbone, shots, entry.title, len(cells), runs, figures)


def _over_seeds(name: str, runs: Sequence[Measured]) -> Figure:
    values = [run.figures[name] for run in runs]
    mean = statistics.fmean(values)
    spread = statistics.stdev(values) if len(values) > 1 else math.nan
    interval = percentile_interval(mean, np.mean([run.resampled[name] for run in runs], axis=0))
    return Figure(mean, spread, interval.low, interval.high)


def _comparisons(study: Study, places: Sequence[Place], notes: list[str]) -> Iterator[Compared]:
    for data, backbone, shots in _all_places(study):
        here = [p for p in places if (p.data, p.backbone, p.shots) == (data, backbone, shots)]
        pairs = []
        for one, other in itertools.combinations(here, 2):
            first, second = (other, one) if other.row == study.reference else (one, other)
            if study.reference not in (None, first.row):
                continue
            if runs := _same_seeds(first.runs, second.runs):
                pairs.append((first, second, runs))
            else:
                at = f"{data}, {backbone}, {shots} shots"
                notes.append(f"not compared, for no seed is common: {first.row} and {second.row}, {at}")
        for figure in ("accuracy", *COMPARED):
            found = [_compare(runs, figure) for _, _, runs in pairs]
            adjusted = holm([difference.p for difference, _ in found])
            for (first, second, _), (difference, only), p in zip(pairs, found, adjusted, strict=True):
                names = (data, backbone, shots, first.row, second.row, figure)
                yield Compared(*names, difference, p, only)


def _compare(
    both: Sequence[tuple[Measured, Measured]], figure: str
) -> tuple[Difference, tuple[McNemar, ...]]:
    means = [statistics.fmean(run.figures[figure] for run in side) for side in zip(*both, strict=True)]
    resampled = [np.mean([run.resampled[figure] for run in side], axis=0) for side in zip(*both, strict=True)]
    difference = paired_difference(means[0], means[1], resampled[0], resampled[1])
    if figure != "accuracy":
        return difference, ()
    tests = tuple(mcnemar_exact(one.right, other.right) for one, other in both)
    p = combined_over_seeds([test.p for test in tests])
    return Difference(difference.value, difference.low, difference.high, p), tests


def _same_seeds(first: Sequence[Measured], second: Sequence[Measured]) -> list[tuple[Measured, Measured]]:
    """The seeds that both have; a row that has one run for all seeds meets each of the other's."""
    if len(first) == 1 and first[0].cell.seed is None:
        return [(first[0], other) for other in second]
    if len(second) == 1 and second[0].cell.seed is None:
        return [(one, second[0]) for one in first]
    by_seed = {run.cell.seed: run for run in second}
    return [(run, by_seed[run.cell.seed]) for run in first if run.cell.seed in by_seed]


def _rankings(study: Study, places: Sequence[Place], notes: list[str]) -> Iterator[Ranking]:
    """Of the methods; rows that are there for control would only make room between their ranks."""
    sets = [entry.label for entry in study.data]
    methods = [m.title for m in study.method if m.of is None and m.name not in WITHOUT_BACKBONE]
    if len(sets) < 2:
        return
    for name, shots in itertools.product(study.backbones, study.shots):
        backbone = backbone_label(name)
        at = {(p.data, p.row): p for p in places if (p.backbone, p.shots) == (backbone, shots)}
        present = [row for row in methods if any((s, row) in at for s in sets)]
        rows = [row for row in present if all((s, row) in at for s in sets)]
        if missing := [row for row in present if row not in rows]:
            where = f"{backbone}, {shots} shots"
            notes.append(f"not ranked, for they lack a data set: {', '.join(missing)} ({where})")
        if len(rows) < 2:
            continue
        for figure in SHOWN:
            values = np.array([[at[s, row].figures[figure].mean for row in rows] for s in sets])
            if np.isnan(values).any():
                continue
            mean_ranks = dict(zip(rows, ranks(values).mean(axis=0).tolist(), strict=True))
            apart = critical_difference(len(rows), len(sets))
            yield Ranking(backbone, shots, figure, mean_ranks, len(sets), friedman_p(values), apart)


def _new_classes(study: Study, done: dict[Cell, tuple[Path, dict[str, Any]]]) -> Iterator[NewClasses]:
    if not study.base_to_novel:
        return
    for data, backbone, shots in _all_places(study):
        for entry in study.method:
            cells = _cells_at(study, data, backbone, shots, entry.title, "base-to-novel")
            records = [done[cell][1] for cell in cells if cell in done]
            if records:
                yield NewClasses(
                    data,
                    backbone,
                    shots,
                    entry.title,
                    len(records),
                    _mean_by_part(records, "accuracy"),
                    _mean_by_part(records, "macro_f1"),
                )


def _mean_by_part(records: Sequence[dict[str, Any]], figure: str) -> dict[str, float]:
    """Of base and novel classes the mean over the seeds, and the mean of the seeds' harmonic means."""
    metrics = [record["metrics"] for record in records]
    parts = {part: statistics.fmean(one[part][figure]["value"] for one in metrics) for part in
             ("base", "novel")}  # fmt: skip
    return parts | {"harmonic mean": statistics.fmean(one["harmonic_mean"][figure] for one in metrics)}
