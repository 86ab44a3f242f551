"""A study's tables: Markdown, LaTeX and CSV files, and what the command shows on the terminal."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medvip.atomic import write_atomically
from medvip.evaluation.benchmark.plots import draw_plots
from medvip.evaluation.benchmark.study import Study, backbone_label
from medvip.evaluation.benchmark.summary import (
    SHOWN,
    Compared,
    NewClasses,
    Place,
    Ranking,
    Summary,
    how_many,
    summarise,
)
from medvip.evaluation.benchmark.text_tables import Table, markdown_escaped

ON_TERMINAL = "macro_f1"

EXPLANATION = """\
Every figure is of test images. ± is the standard deviation over the seeds. The intervals in the CSV files,
and those of differences here, are 95 % percentile bootstrap intervals over patients (groups) of the mean
over the seeds: they say how much other patients of the same kind would change it, not other draws of
training pictures. Accuracy is compared by McNemar's exact test (several seeds: twice the median p-value),
which takes images as independent although a patient may have several. Macro-F1 and AUROC are compared by
paired bootstrap over patients: the difference divided by its standard error, the standard deviation over
the resamples, taken as normal. p-values are corrected by Holm over all pairs of one table. Ranks are of
methods, not of rows that are there for control; their p-value is of Friedman's test in the form of Iman
and Davenport. A method that learns nothing is the same at every number of shots. Tests are shown at the
largest number of shots; the others, base to novel, and more figures are in the CSV files."""


@dataclass(frozen=True)
class Report:
    """What `write_tables` wrote.

    Attributes
    ----------
    summary
        The numbers.
    shown
        The tables for the terminal.
    files
        All files.
    notes
        What should be said aloud.
    """

    summary: Summary
    shown: tuple[Table, ...]
    files: tuple[Path, ...]
    notes: tuple[str, ...] = field(default=())


def write_tables(study: Study, out: Path) -> Report:
    """Make a study's tables and plots from the records below `out`, and nothing else.

    Writes ``tables/results.md``, ``.tex`` and ``.csv``, ``tables/comparisons.csv``, ``ranks.csv``,
    ``seconds.csv`` and ``base-to-novel.csv``, and ``plots/*.svg`` where matplotlib is installed.
    """
    summary = summarise(study, out)
    by_shots = {figure: list(_by_shots(summary, figure)) for figure in SHOWN}
    rankings = list(_ranking_tables(summary))
    tables = [table for figure in SHOWN for table in by_shots[figure]]
    tables += [*rankings, *_comparison_tables(summary)]
    notes = list(summary.notes)
    folder = out / "tables"
    texts = {
        "results.md": _markdown(study, tables, notes),
        "results.tex": "\n".join(table.latex() for table in tables),
        "results.csv": _csv(_RESULT_COLUMNS, _result_lines(summary.places)),
        "comparisons.csv": _csv(_COMPARISON_COLUMNS, _comparison_lines(summary.comparisons)),
        "ranks.csv": _csv(_RANK_COLUMNS, _rank_lines(summary.rankings)),
        "seconds.csv": _csv(_SECONDS_COLUMNS, _seconds_lines(summary)),
    }
    if study.base_to_novel:
        texts["base-to-novel.csv"] = _csv(_NEW_COLUMNS, _new_lines(summary.new_classes))
    for name, text in texts.items():
        write_atomically(folder / name, text)
    plots, said = draw_plots(summary, out / "plots")
    return Report(
        summary,
        (*by_shots[ON_TERMINAL], *rankings[:1]),
        (*(folder / name for name in texts), *plots),
        (*notes, *said),
    )


def _markdown(study: Study, tables: Sequence[Table], notes: Sequence[str]) -> str:
    parts = [f"# {markdown_escaped(study.name)}\n", EXPLANATION + "\n"]
    if notes:
        parts.append("\n".join(f"- {markdown_escaped(note)}" for note in notes) + "\n")
    return "\n".join([*parts, *(table.markdown() for table in tables)])


# Tables as text


def _by_shots(summary: Summary, figure: str) -> Iterable[Table]:
    """For each backbone: a table a data set, one row a method and one column a number of shots."""
    study = summary.study
    columns = ("method", *(shots_words(shots) for shots in study.shots))
    for name in study.backbones:
        backbone = backbone_label(name)
        for entry in study.data:
            found = {
                (p.row, p.shots): p for p in summary.places if (p.data, p.backbone) == (entry.label, backbone)
            }
            rows = [
                (row, *(_mean_and_spread(found.get((row, shots)), figure) for shots in study.shots))
                for row in (method.title for method in study.method)
                if any((row, shots) in found for shots in study.shots)
            ]
            if rows:
                title = f"{SHOWN[figure]}, {entry.label}, {backbone}, by training pictures a class"
                yield Table(title, columns, tuple(rows))
        if len(study.data) > 1:
            yield from _mean_over_sets(summary, figure, backbone, columns)


def _mean_over_sets(
    summary: Summary, figure: str, backbone: str, columns: tuple[str, ...]
) -> Iterable[Table]:
    study = summary.study
    rows = []
    for row in (method.title for method in study.method):
        cells = []
        for shots in study.shots:
            means = [
                p.figures[figure].mean
                for p in summary.places
                if (p.backbone, p.shots, p.row) == (backbone, shots, row)
            ]
            whole = len(means) == len(study.data)
            cells.append(number(statistics.fmean(means)) if whole else "")
        if any(cells):
            rows.append((row, *cells))
    if rows:
        title = f"{SHOWN[figure]}, mean over {len(study.data)} data sets, {backbone}"
        yield Table(title, columns, tuple(rows))


def _comparison_tables(summary: Summary) -> Iterable[Table]:
    """With a reference and most shots only: all pairs would be too long to read, they are in the CSV."""
    reference, most = summary.study.reference, max(summary.study.shots, key=how_many)
    if reference is None:
        return
    columns = ("against", *(f"{f}: difference" for f in SHOWN.values()), *(f"{f}: p" for f in SHOWN.values()))
    places = dict.fromkeys((c.data, c.backbone, c.shots) for c in summary.comparisons if c.shots == most)
    for data, backbone, shots in places:
        here = {
            (c.second, c.figure): c
            for c in summary.comparisons
            if (c.data, c.backbone, c.shots) == (data, backbone, shots)
        }
        rows = []
        for other in dict.fromkeys(second for second, _ in here):
            found = [here[other, figure] for figure in SHOWN]
            rows.append(
                (
                    other,
                    *(_signed(c.difference.value, c.difference.low, c.difference.high) for c in found),
                    *(p_value(c.adjusted) for c in found),
                )
            )
        yield Table(f"{reference} against others, {data}, {backbone}, {shots_words(shots)}", columns,
                    tuple(rows))  # fmt: skip


def _ranking_tables(summary: Summary) -> Iterable[Table]:
    """Mean ranks by macro-F1 first: that is the one shown on the terminal."""
    shots_of: dict[tuple[str, str], list[Ranking]] = {}
    for ranking in sorted(summary.rankings, key=lambda r: r.figure != ON_TERMINAL):
        shots_of.setdefault((ranking.figure, ranking.backbone), []).append(ranking)
    for (figure, backbone), rankings in shots_of.items():
        columns = ("method", *(shots_words(r.shots) for r in rankings))
        titles = [m.title for m in summary.study.method if any(m.title in r.mean_ranks for r in rankings)]
        rows = [
            (row, *(f"{r.mean_ranks[row]:.2f}" if row in r.mean_ranks else "" for r in rankings))
            for row in titles
        ]
        rows.append(("(Friedman's p)", *(p_value(r.p) for r in rankings)))
        rows.append(("(critical difference, 5 %)", *(f"{r.critical_difference:.2f}" for r in rankings)))
        sets = rankings[0].sets
        yield Table(f"mean rank by {SHOWN[figure]} over {sets} data sets, {backbone}", columns, tuple(rows))


# Files of numbers

_RESULT_COLUMNS = ("data", "backbone", "shots", "method", "figure", "mean", "spread", "low", "high", "runs",
                   "runs_expected")  # fmt: skip
_COMPARISON_COLUMNS = ("data", "backbone", "shots", "first", "second", "figure", "difference", "low", "high",
                       "p", "p_holm", "only_first_by_seed", "only_second_by_seed")  # fmt: skip
_RANK_COLUMNS = ("backbone", "shots", "figure", "method", "mean_rank", "data_sets", "friedman_p",
                 "critical_difference")  # fmt: skip
_SECONDS_COLUMNS = ("method", "shots", "runs", "fit", "fit_processor", "fit_processor_most", "predict")
_NEW_COLUMNS = ("data", "backbone", "shots", "method", "runs", "part", "accuracy", "macro_f1")


def _result_lines(places: Iterable[Place]) -> Iterable[tuple[Any, ...]]:
    for p in places:
        for name, figure in p.figures.items():
            where = (p.data, p.backbone, p.shots, p.row, name)
            yield (*where, figure.mean, figure.spread, figure.low, figure.high, len(p.runs), p.expected)


def _comparison_lines(comparisons: Iterable[Compared]) -> Iterable[tuple[Any, ...]]:
    for c in comparisons:
        d = c.difference
        only = [" ".join(str(getattr(test, side)) for test in c.only) for side in
                ("first_only", "second_only")]  # fmt: skip
        where = (c.data, c.backbone, c.shots, c.first, c.second, c.figure)
        yield (*where, d.value, d.low, d.high, d.p, c.adjusted, *only)


def _rank_lines(rankings: Iterable[Ranking]) -> Iterable[tuple[Any, ...]]:
    for r in rankings:
        for row, rank in r.mean_ranks.items():
            yield (r.backbone, r.shots, r.figure, row, rank, r.sets, r.p, r.critical_difference)


def _seconds_lines(summary: Summary) -> Iterable[tuple[Any, ...]]:
    """By row and shots, each run once, whatever backbone and data set."""
    of: dict[tuple[str, Any], dict[Any, dict[str, float]]] = {}
    for place in summary.places:
        for run in place.runs:
            of.setdefault((place.row, run.cell.shots), {})[run.cell] = run.seconds
    for (row, shots), by_run in of.items():
        runs = list(by_run.values())
        means = [statistics.fmean(one[name] for one in runs) for name in ("fit", "fit_processor", "predict")]
        most = max(one["fit_processor"] for one in runs)
        yield (row, shots, len(runs), means[0], means[1], most, means[2])


def _new_lines(found: Iterable[NewClasses]) -> Iterable[tuple[Any, ...]]:
    for one in found:
        for part, accuracy in one.accuracy.items():
            where = (one.data, one.backbone, one.shots, one.row, one.runs)
            yield (*where, part, accuracy, one.macro_f1[part])


def _csv(columns: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_csv_cell(value) for value in line] for line in lines)
    return text.getvalue()


def _csv_cell(value: Any) -> str:
    """Numbers in full, nothing where undefined; text that a spreadsheet would compute is quoted."""
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(value)
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


# Words and escapes


def shots_words(shots: int | str | None) -> str:
    """A column's heading.

    Examples
    --------
    >>> shots_words(4), shots_words("all"), shots_words(None)
    ('4 shots', 'all', 'no training')
    """
    if shots is None:
        return "no training"
    return "all" if shots == "all" else f"{shots} shot{'' if shots == 1 else 's'}"


def number(value: float) -> str:
    """Three digits.

    Examples
    --------
    >>> number(0.81249), number(float("nan"))
    ('0.812', 'undefined')
    """
    return "undefined" if math.isnan(value) else f"{value:.3f}"


def p_value(p: float) -> str:
    """A p-value; a very small one as a bound.

    Examples
    --------
    >>> p_value(0.0421), p_value(0.00002), p_value(float("nan"))
    ('0.042', '< 0.001', '')
    """
    if math.isnan(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _mean_and_spread(place: Place | None, figure: str) -> str:
    if place is None:
        return ""
    found = place.figures[figure]
    return number(found.mean) + ("" if math.isnan(found.spread) else f" ± {found.spread:.3f}")


def _signed(value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return "undefined"
    return f"{value:+.3f}" + ("" if math.isnan(low) else f" [{low:+.3f}, {high:+.3f}]")
