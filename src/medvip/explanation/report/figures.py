"""The report's two drawings, as SVG that takes the page's colours.

No text of a user's stands in them: class names are put beside a drawing, as HTML. The ink is
written as placeholders that become CSS, so that one drawing serves light, dark and paper.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from medvip.evaluation.calibration import ConfidenceBin
from medvip.evaluation.plot_style import drawing

DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 2, 1, 2)))
MINUS = "\N{MINUS SIGN}"
COLOURS = 8
"""How many the style sheet has: ``--series-1`` ... ``--series-8``, Okabe and Ito's."""
INK, FAINT = "#010203", "#040506"
SERIES = tuple(f"#0708{number:02x}" for number in range(COLOURS))
"""Colours that nothing else has, to be replaced by the page's."""

Curve = tuple[Float[np.ndarray, "point"], Float[np.ndarray, "point"]]


def series(number: int) -> tuple[int, int]:
    """Colour (from 1) and dash (from 0) of the curve with that number: 32 that can be told apart.

    Examples
    --------
    >>> series(0), series(7), series(8)
    ((1, 0), (8, 3), (1, 1))
    """
    colour = number % COLOURS
    return colour + 1, (colour + number // COLOURS) % len(DASHES)


def roc_figure(curves: Sequence[Curve | None], description: str) -> Markup:
    """ROC curves, one a class; None for a class for which there is none.

    Parameters
    ----------
    curves
        1 - specificity and sensitivity, as `medvip.evaluation.ranking.roc_curve` gives them.
    description
        What a screen reader says in the figure's place.
    """
    picture, axes = _square()
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=(0, (2, 3)))
    for number, curve in enumerate(curves):
        if curve is not None:
            colour, dash = series(number)
            axes.plot(*curve, color=SERIES[colour - 1], linestyle=DASHES[dash], linewidth=2, clip_on=False)
    axes.set_xlabel(f"1 {MINUS} specificity")
    axes.set_ylabel("sensitivity")
    return _svg(picture, "roc", description)


def reliability_figure(bins: Sequence[ConfidenceBin], description: str) -> Markup:
    """Share right against confidence, with intervals; below, how many images have that confidence."""
    from matplotlib.figure import Figure

    with drawing():
        picture = Figure(figsize=(4.2, 4.6), layout="constrained")
        above, below = picture.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    axes: Any = above
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=(0, (2, 3)))
    x = np.array([b.confidence for b in bins])
    y = np.array([b.accuracy.value for b in bins])
    for b in bins:
        low, high = np.nan_to_num([b.accuracy.low, b.accuracy.high], nan=b.accuracy.value)
        axes.plot([b.confidence] * 2, [low, high], color=SERIES[0], linewidth=1.2, alpha=0.6)
    axes.plot(x, y, color=SERIES[0], linewidth=1.6, marker="o", markersize=5, clip_on=False)
    axes.set_ylabel("share of images that are right")
    _frame(axes)
    axes.set_aspect("auto")
    below.bar(
        [(b.low + b.high) / 2 for b in bins],
        [b.images for b in bins],
        width=0.9 * (bins[0].high - bins[0].low),
        color=SERIES[0],
    )
    below.set_xlabel("confidence")
    below.set_ylabel("images")
    below.yaxis.get_major_locator().set_params(integer=True, nbins=3)
    _inked(below)
    return _svg(picture, "reliability", description)


def _square() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    with drawing():
        picture = Figure(figsize=(4.2, 4.2), layout="constrained")
        axes: Any = picture.subplots()
    _frame(axes)
    return picture, axes


def _frame(axes: Any) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
    ticks = np.linspace(0, 1, 6)
    axes.set_xticks(ticks)
    axes.set_yticks(ticks)
    axes.grid(color=FAINT, linewidth=0.6, alpha=0.45)
    axes.set_axisbelow(True)
    _inked(axes)


def _inked(axes: Any) -> None:
    axes.patch.set_alpha(0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)
    axes.tick_params(colors=INK, length=3)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)


def _svg(picture: Any, name: str, description: str) -> Markup:
    """The drawing as one ``svg`` element with ids of its own, a text alternative, and no style sheet."""
    buffer = io.StringIO()
    with drawing():
        picture.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<style[^>]*>.*?</style>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*</defs>\s*", "", text)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'((?:xlink:)?href="|url\()#([^")]+)', rf"\1#{name}-\2", text)
    text = re.sub(r"font: [^;\"]*?([\d.]+)px[^;\"]*", r"font-size: \1px", text)
    colours = {INK: "currentColor", FAINT: "var(--faint)"}
    colours |= {colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, start=1)}
    for placeholder, colour in colours.items():
        text = text.replace(placeholder, colour)
    # width and height go: the style sheet says how wide a figure is
    text = re.sub(r'<svg [^>]*viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1" role="img" aria-label="@">', text)
    # Everything in `text` is ours, numbers and fixed words; the description is escaped.
    return Markup(text.replace('aria-label="@"', f'aria-label="{Markup.escape(description)}"', 1))
