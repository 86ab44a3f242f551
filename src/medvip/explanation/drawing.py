"""One explanation as one picture: the original, the shares as bars, and where each comes from.

Drawn are the predicted class and the runner-up, between which the decision was; all classes are in
the JSON. All symptoms' maps of one picture share one symmetric scale, so that their colours can be
compared. The class vectors' have one of their own, said beside it: on the symptoms' scale nothing
else could be seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from medvip.evaluation.plot_style import (
    AGAINST,
    FOR,
    PRINT_WIDTH,
    UNEXPLAINED,
    diverging,
    drawing,
    label,
)
from medvip.explanation.contributions import ClassContributions, Explanation
from medvip.explanation.maps import SymptomMaps

LONGEST_SIDE = 512
"""Of the pictures within a drawing, in pixels: they are a few centimetres wide in print."""
COLUMNS = 5
CLASS_VECTOR = "class vector (no symptom)"
COLOUR_BAR = {
    "share": "symptoms: added to the logit at each place",
    "patch similarity": "patch similarity: cosine of each patch alone (does not sum to the share)",
}


def draw_explanation(explanation: Explanation, picture: Image.Image) -> Any:
    """The picture of one explanation.

    Parameters
    ----------
    explanation
        With or without maps.
    picture
        The picture that was explained, RGB.

    Returns
    -------
    matplotlib.figure.Figure
        As wide as a printed page.
    """
    from matplotlib.figure import Figure

    decided = explanation.decision
    shown = [explanation.of_class(name) for name in (decided.prediction, decided.runner_up)]
    panels = [] if explanation.maps is None else _panels(explanation, shown)
    bars = sum(len(one.symptoms) + 1 for one in shown)
    above = max(2.5, 0.22 * bars + 0.75)
    heights = [0.62 + above]
    if panels:
        heights += [1.76 * sum(math.ceil(len(row) / COLUMNS) for row in panels), 0.55]
    with drawing():
        figure: Any = Figure(figsize=(PRINT_WIDTH, sum(heights)), layout="constrained")
        rows = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        _draw_above(rows[0], explanation, shown, picture)
        if panels:
            _draw_maps(rows[1], rows[2], explanation, panels, shown, picture)
    return figure


def _draw_above(
    figure: Any, explanation: Explanation, shown: Sequence[ClassContributions], picture: Image.Image
) -> None:
    """Title, the picture as it is, and the bars."""
    name = label(PurePath(explanation.path).name or explanation.path, width=70, lines=1)
    prediction = label(explanation.prediction, width=50, lines=1)
    figure.suptitle(
        f"{name}: {prediction} ({explanation.confidence:.2f})\n"
        + label(explanation.decision.in_words(), width=112, lines=3),
        fontsize=8,
    )
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.25])
    left.imshow(np.asarray(_small(picture)), extent=(0, picture.width, picture.height, 0))
    left.set_axis_off()
    title = "the picture"
    if explanation.maps is not None:
        _outline(left, explanation.maps)
        if not _is_whole(explanation.maps):
            title = "the picture; what is inside\nthe line was looked at"
    left.set_title(title, fontsize=7)
    _draw_bars(right, explanation, shown)


def _draw_bars(axes: Any, explanation: Explanation, shown: Sequence[ClassContributions]) -> None:
    """Shares of both classes below each other, each with its number and percentile."""
    y, ticks, names, headings = 0.0, [], [], []
    knows = any(s.percentile is not None for one in shown for s in one.symptoms)
    values = [s.share for one in shown for s in one.symptoms] + [one.class_vector for one in shown]
    low, high = min(0.0, *values), max(0.0, *values)
    reach = (high - low) or 1.0
    for one in shown:
        ticks.append(y)
        names.append(f"{label(one.class_name, 36, 1)}: logit {one.logit:.2f}")
        headings.append(len(ticks) - 1)
        rows = [(s.symptom, s.share, s.percentile, FOR if s.share >= 0 else AGAINST) for s in one.symptoms]
        rows.append((CLASS_VECTOR, one.class_vector, None, UNEXPLAINED))
        for text, share, percentile, colour in rows:
            y += 1
            hatch = "////" if colour == UNEXPLAINED else None
            axes.barh(y, share, height=0.72, color=colour, hatch=hatch, edgecolor="white", linewidth=0)
            side = 0.012 * reach if share >= 0 else -0.012 * reach
            axes.text(
                share + side, y, f"{share:+.2f}", fontsize=6.5, va="center",
                ha="left" if share >= 0 else "right",
            )  # fmt: skip
            if percentile is not None:
                axes.text(
                    1.01, y, f"{percentile:.0f} %", transform=axes.get_yaxis_transform(),
                    fontsize=6.5, va="center", color="0.25",
                )  # fmt: skip
            ticks.append(y)
            names.append(label(text, 44, 1))
        y += 1.15
    for place, text in enumerate(axes.set_yticks(ticks, names, fontsize=7)):
        if place in headings:
            text.label1.set(fontweight="bold", fontsize=7.5)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=7)
    axes.set_ylim(y - 0.6, -0.6)
    axes.set_xlim(low - 0.2 * reach, high + 0.2 * reach)
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("share of the logit (right: for the class, left: against it)", fontsize=7)
    if knows:
        axes.text(
            1.01, -0.05, "more similar than\nof training images", transform=axes.get_yaxis_transform(),
            fontsize=5.5, va="center", color="0.25",
        )  # fmt: skip


Panel = tuple[str, str, Float[np.ndarray, "row column"]]
"""Name, number beside it, map."""


def _panels(explanation: Explanation, shown: Sequence[ClassContributions]) -> list[list[Panel]]:
    """The maps of each shown class."""
    maps, rows = explanation.maps, []
    assert maps is not None
    for one in shown:
        c = explanation.classes.index(one)
        row: list[Panel] = []
        for i, share in enumerate(one.symptoms):
            number = f"{share.share:+.2f}" if maps.exact else f"similarity {share.similarity:+.2f}"
            row.append((share.symptom, number, maps.symptoms[c, i]))
        if maps.exact and explanation.classes[c].class_vector != 0:
            row.append((CLASS_VECTOR, f"{one.class_vector:+.2f}", maps.class_vector[c]))
        rows.append(row)
    return rows


def _draw_maps(
    figure: Any,
    below: Any,
    explanation: Explanation,
    panels: Sequence[Sequence[Panel]],
    shown: Sequence[ClassContributions],
    picture: Image.Image,
) -> None:
    """A row or more of maps for each class over the picture in grey; colour bars `below`."""
    maps = explanation.maps
    assert maps is not None
    everything = [panel for row in panels for panel in row]
    scales = {
        of_class_vector: max(
            (float(np.abs(p[2]).max()) for p in everything if (p[0] == CLASS_VECTOR) is of_class_vector),
            default=0.0,
        )
        for of_class_vector in (False, True)
    }
    columns = min(COLUMNS, max(map(len, panels)))
    lines = [math.ceil(len(row) / columns) for row in panels]
    grid = figure.add_gridspec(sum(lines), columns)
    grey = np.asarray(_small(picture).convert("L"))
    first, bordered = 0, []
    for one, row, number in zip(shown, panels, lines, strict=True):
        for place, (name, value, values) in enumerate(row):
            axes = figure.add_subplot(grid[first + place // columns, place % columns])
            _overlay(axes, grey, picture.size, maps, values, scales[name == CLASS_VECTOR] or 1.0)
            if name == CLASS_VECTOR:
                bordered.append(axes)
            axes.set_title(f"{label(name, 24, 2)}\n{value}", fontsize=6.3, pad=2)
            if place == 0:
                axes.text(
                    -0.06, 0.5, label(one.class_name, 24, 1), transform=axes.transAxes, rotation=90,
                    fontsize=7.5, fontweight="bold", ha="right", va="center",
                )  # fmt: skip
        first += number
    for axes in bordered:
        for spine in axes.spines.values():
            spine.set(visible=True, color=UNEXPLAINED, linewidth=1.2)
    bars = below.subplots(1, 2 if bordered else 1, squeeze=False)[0]
    _colour_bar(bars[0], scales[False], COLOUR_BAR[maps.kind])
    if bordered:
        times = f": {scales[True] / scales[False]:.1f} times the symptoms' scale" if scales[False] else ""
        _colour_bar(bars[1], scales[True], f"class vector (grey border){times}")


def _colour_bar(axes: Any, largest: float, said: str) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    end = largest or 1.0
    ticks = [share * end for share in (-1, -0.5, 0, 0.5, 1)]  # few: numbers of places are long
    scale = ScalarMappable(Normalize(-end, end), diverging())
    bar = axes.figure.colorbar(scale, cax=axes, orientation="horizontal", ticks=ticks)
    bar.set_ticklabels([f"{tick:.2g}" for tick in ticks])
    axes.set_box_aspect(0.04)
    axes.tick_params(labelsize=6.5, length=2, pad=1)
    bar.set_label(said, fontsize=6.5, labelpad=1)
    bar.outline.set_linewidth(0.5)


def _overlay(
    axes: Any,
    grey: np.ndarray,
    size: tuple[int, int],
    maps: SymptomMaps,
    values: Float[np.ndarray, "row column"],
    largest: float,
) -> None:
    """A map over the picture, laid where the backbone looked; strong where its number is large."""
    width, height = size
    left, top, right, bottom = maps.box
    axes.imshow(grey, cmap="gray", vmin=-60, vmax=315, extent=(0, width, height, 0))
    opacity = 0.1 + 0.7 * np.clip(np.abs(values) / largest, 0, 1)
    axes.imshow(
        values, cmap=diverging(), vmin=-largest, vmax=largest, alpha=opacity,
        extent=(left, right, bottom, top), interpolation="bilinear" if maps.exact else "nearest",
    )  # fmt: skip
    axes.set_xlim(max(0, left), min(width, right))
    axes.set_ylim(min(height, bottom), max(0, top))
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _outline(axes: Any, maps: SymptomMaps) -> None:
    """A line around what the backbone saw, white on black so that it shows on anything."""
    if _is_whole(maps):
        return
    left, top, right, bottom = maps.box
    xs, ys = [left, right, right, left, left], [top, top, bottom, bottom, top]
    axes.plot(xs, ys, color="black", linewidth=1.6, clip_on=True)
    axes.plot(xs, ys, color="white", linewidth=0.8, linestyle="--", clip_on=True)
    axes.set_xlim(0, maps.picture_size[0])
    axes.set_ylim(maps.picture_size[1], 0)


def _is_whole(maps: SymptomMaps) -> bool:
    """Whether the backbone saw all of the picture."""
    left, top, right, bottom = maps.box
    width, height = maps.picture_size
    return left <= 0.5 and top <= 0.5 and right >= width - 0.5 and bottom >= height - 0.5


def _small(picture: Image.Image) -> Image.Image:
    """Not larger than it will be seen."""
    factor = LONGEST_SIDE / max(picture.size)
    if factor >= 1:
        return picture
    width, height = (max(1, round(length * factor)) for length in picture.size)
    return picture.resize((width, height), Image.Resampling.BILINEAR)
