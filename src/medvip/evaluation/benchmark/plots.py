"""A study's pictures: figures against shots, and critical-difference diagrams. As SVG.

Lines differ by marker and dash too, so that they can be told apart in black and white. Drawn only
where matplotlib is installed.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medvip.atomic import write_atomically
from medvip.evaluation.benchmark.cells import file_name
from medvip.evaluation.benchmark.rows import learned_row, row_class
from medvip.evaluation.benchmark.study import Study, backbone_label
from medvip.evaluation.benchmark.summary import SHOWN, Place, Ranking, Summary, how_many
from medvip.evaluation.plot_style import COLOURS, DASHES, MARKERS, SETTINGS

OTHERS = "other methods"


def draw_plots(summary: Summary, folder: Path) -> tuple[list[Path], list[str]]:
    """Draw a study's pictures.

    Returns
    -------
    tuple
        The files, and what should be said aloud (that there is no matplotlib).
    """
    try:
        import matplotlib as mpl
    except ImportError:
        return [], ["no plots: matplotlib is not installed (pip install 'medvip[plots]')"]
    files: list[Path] = []
    study = summary.study
    with mpl.rc_context(SETTINGS):
        for entry, name in itertools.product(study.data, study.backbones):
            backbone = backbone_label(name)
            places = [p for p in summary.places if (p.data, p.backbone) == (entry.label, backbone)]
            if len({p.shots for p in places}) < 2:
                continue
            for figure in SHOWN:
                stem = f"curve_{file_name(entry.label)}_{file_name(backbone)}_{figure}"
                files.append(_kept(curves(study, places, figure), folder / f"{stem}.svg"))
        for ranking in summary.rankings:
            stem = f"ranks_{file_name(ranking.backbone)}_{ranking.shots}-shots_{ranking.figure}"
            files.append(_kept(critical_difference_diagram(ranking), folder / f"{stem}.svg"))
    return files, []


def curves(study: Study, places: Sequence[Place], figure: str) -> Any:
    """One figure against the number of shots, with 95 % intervals over patients.

    At most eight methods are in colour (the study's ``curves``, else all or, of more, the first that
    learn), the other ones grey; a method that learns nothing is a horizontal line.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    picture = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes: Any = picture.subplots()
    shots = sorted({p.shots for p in places}, key=how_many)
    at = {value: position for position, value in enumerate(shots)}
    for row in (entry.title for entry in study.method):
        found = sorted((p for p in places if p.row == row), key=lambda p: at[p.shots])
        found = [p for p in found if not math.isnan(p.figures[figure].mean)]
        if found:
            _draw_row(axes, study, row, found, at, figure)
    axes.set_xticks(range(len(shots)), [str(value) for value in shots])
    axes.set_xlabel("training pictures a class")
    axes.set_ylabel(SHOWN[figure])
    axes.set_title(f"{places[0].data}, {places[0].backbone}", fontsize=9)
    picture.legend(loc="outside right upper", fontsize=7, frameon=False)
    return picture


def _draw_row(
    axes: Any, study: Study, row: str, found: Sequence[Place], at: dict[Any, int], figure: str
) -> None:
    coloured = _coloured(study)
    x = [at[p.shots] for p in found]
    y = [p.figures[figure].mean for p in found]
    if row not in coloured:
        others = any(line.get_label() == OTHERS for line in axes.lines)
        axes.plot(x, y, color="0.8", linewidth=0.8, zorder=1, label=None if others else OTHERS)
        return
    number = coloured.index(row)
    style = {
        "color": COLOURS[number],
        "linestyle": DASHES[number % len(DASHES)],
        "label": row if not row.startswith("_") else f" {row}",  # matplotlib hides names that start so
    }
    learns = row_class(learned_row(study, study.row(row)).name).learns
    marker = MARKERS[number] if learns else "None"
    axes.plot(x, y, marker=marker, markersize=4, linewidth=1.4, zorder=3, **style)
    low = [p.figures[figure].low for p in found]
    high = [p.figures[figure].high for p in found]
    if learns and not any(math.isnan(value) for value in low):
        axes.fill_between(x, low, high, color=COLOURS[number], alpha=0.10, linewidth=0, zorder=2)


def _coloured(study: Study) -> list[str]:
    if study.curves is not None:
        return study.curves[: len(COLOURS)]
    rows = [entry.title for entry in study.method]
    if len(rows) > len(COLOURS):
        rows = [row for row in rows if row_class(learned_row(study, study.row(row)).name).learns]
    return rows[: len(COLOURS)]


def critical_difference_diagram(ranking: Ranking) -> Any:
    """Mean ranks on a line; rows that differ by less than the critical difference are joined by a bar.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    ordered = sorted(ranking.mean_ranks.items(), key=lambda item: item[1])
    number = len(ordered)
    groups = joined([rank for _, rank in ordered], ranking.critical_difference)
    picture = Figure(figsize=(6.4, 1.2 + 0.09 * len(groups) + 0.11 * number), layout="constrained")
    axes: Any = picture.subplots()
    axes.set_axis_off()
    axes.set_xlim(0.9 - 0.35 * number, number + 0.1 + 0.35 * number)
    axes.hlines(0, 1, number, color="black", linewidth=1)
    for tick in range(1, number + 1):
        axes.vlines(tick, 0, 0.12, color="black", linewidth=0.8)
        axes.text(tick, 0.2, str(tick), ha="center", va="bottom", fontsize=7)
    axes.hlines(0.9, 1, min(number, 1 + ranking.critical_difference), color="black", linewidth=1.5)
    axes.text(1, 1.0, f"critical difference {ranking.critical_difference:.2f}", va="bottom", fontsize=7)
    for level, (first, last) in enumerate(groups):
        y = -0.18 - 0.18 * level
        axes.hlines(y, ordered[first][1] - 0.03, ordered[last][1] + 0.03, color=COLOURS[1], linewidth=2.5)
    below = -0.3 - 0.18 * len(groups)
    for place, (row, rank) in enumerate(ordered):
        left = place < math.ceil(number / 2)
        depth = place if left else number - 1 - place
        y = below - 0.32 * (depth + 1)
        end = 0.9 if left else number + 0.1
        axes.plot([rank, rank, end], [0, y, y], color="0.4", linewidth=0.6)
        text = f"{row} {rank:.2f}" if left else f"{rank:.2f} {row}"
        axes.text(end, y, text, ha="right" if left else "left", va="center", fontsize=7)
    axes.set_title(
        f"mean rank by {SHOWN[ranking.figure]} over {ranking.sets} data sets, {ranking.shots} shots",
        fontsize=8,
        pad=14,
    )
    return picture


def joined(mean_ranks: Sequence[float], difference: float) -> list[tuple[int, int]]:
    """Longest stretches of sorted ranks within the critical difference: (first, last) of each.

    Examples
    --------
    >>> joined([1.0, 1.5, 2.0, 4.0], 1.0)
    [(0, 2)]
    >>> joined([1.0, 1.8, 2.6], 1.0)
    [(0, 1), (1, 2)]
    """
    found: list[tuple[int, int]] = []
    for first, rank in enumerate(mean_ranks):
        last = max(i for i, other in enumerate(mean_ranks) if other - rank <= difference)
        if last > first and not (found and found[-1][1] >= last):
            found.append((first, last))
    return found


def _kept(picture: Any, file: Path) -> Path:
    buffer = io.BytesIO()
    picture.savefig(buffer, format="svg", metadata={"Date": None})
    write_atomically(file, buffer.getvalue())
    return file
