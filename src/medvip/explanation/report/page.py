"""From a `Report` to one HTML page that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from medvip.evaluation.bootstrap import group_codes, group_weights
from medvip.evaluation.calibration import ConfidenceBin, reliability
from medvip.evaluation.metrics import Estimate
from medvip.evaluation.plot_style import require_matplotlib
from medvip.evaluation.ranking import roc_curve, sensitivity_at
from medvip.explanation.contributions import Decision, decision
from medvip.explanation.report.content import Failure, Report
from medvip.explanation.report.figures import MINUS, reliability_figure, roc_figure, series

HEADLINES = (
    ("accuracy", "Accuracy", "share of images that are right"),
    ("balanced_accuracy", "Balanced accuracy", "mean sensitivity of classes with images"),
    ("macro_f1", "Macro-F1", "mean F1 of classes with images"),
    ("auroc", "AUROC", "a class's image ranks above another's"),
    ("ece", "Calibration error", "confidence off by this much; less is better"),
)
SPECIFICITIES = (0.80, 0.90, 0.95)
DASH = "\N{EN DASH}"
LONGEST = 60
"""Longer names are shortened, except where they stand for themselves."""
SURE = 0.9
"""A failure with at least this confidence is counted as a sure one."""
NARROW = 28
"""Where columns share the width, names longer than this are."""
_KEPT = "\u200c\u200d\u00a0"
"""Not seen, yet harmless: joiners, which some scripts and emoji need, and the space that does not break."""


def render(report: Report) -> str:
    """The page.

    Raises
    ------
    MedvipError
        matplotlib is not installed.
    """
    require_matplotlib("which draws the report's figures")
    environment = Environment(
        loader=PackageLoader("medvip.explanation.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "data": data,
        "brief": lambda text: data(shortened(text)),
        "narrow": lambda text: data(shortened(text, NARROW)),
        "plain": lambda text: visible(shortened(text)),
        "last": lambda path: data(shortened(PurePath(path).name)),
        "number": number,
        "signed": signed,
        "percent": percent,
        "interval": interval,
        "counted": counted,
        "cue": cue_name,
    }
    # The loader was given above; to pyright an environment may have none.
    style = environment.loader.get_source(environment, "report.css")[0]  # type: ignore[union-attr]
    return environment.get_template("report.html.jinja").render(
        report=report,
        style=Markup(style),
        headlines=HEADLINES,
        specificities=SPECIFICITIES,
        points=key_points(report),
        roc=_roc(report),
        calibration=_calibration(report),
        heaviest=_heaviest_share(report.failures),
        widest=_widest_difference(report),
        series=series,
        margin=margin,
    )


# Text of users' files -----------------------------------------------------------------------------


def visible(text: str) -> str:
    r"""The text with control, direction-changing and other invisible characters written out.

    Examples
    --------
    >>> visible("a\nb\u202ec"), visible("😀 ن")
    ('a\\nb\\u202ec', '😀 ن')
    """
    return "".join(c if c.isprintable() or c in _KEPT else repr(c)[1:-1] for c in text)


def shortened(text: str, longest: int = LONGEST) -> str:
    """Long text without its middle.

    Examples
    --------
    >>> shortened("abcdefghij", 5)
    'ab…ij'
    """
    if len(text) <= longest:
        return text
    half = (longest - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


def data(text: str) -> Markup:
    """Text of a file as text: escaped, and apart from the direction of what stands around it.

    Lines may break where names have their joints.

    Examples
    --------
    >>> data("<b>_x")
    Markup('<bdi>&lt;b&gt;_<wbr>x</bdi>')
    """
    pieces = re.split(r"(?<=[_/.-])(?=[^\W\d_])", visible(text))
    return Markup("<bdi>{}</bdi>").format(Markup("<wbr>").join(pieces))


# Numbers ------------------------------------------------------------------------------------------


def number(value: float | None, digits: int = 3) -> str:
    """A figure, or a dash where it is undefined."""
    if value is None or math.isnan(value):
        return DASH
    return f"{value:.{digits}f}".replace("-", MINUS)


def signed(value: float, digits: int = 2) -> str:
    """A number with its sign.

    Examples
    --------
    >>> signed(-1.234), signed(0.001), signed(2.0)
    ('−1.23', '0.00', '+2.00')
    """
    if math.isnan(value):
        return DASH
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def percent(share: float) -> str:
    """A share in per cent."""
    return DASH if math.isnan(share) else f"{100 * share:.0f}\u00a0%"


def interval(estimate: Estimate) -> str:
    """The ends of an interval, or nothing where there is none."""
    if math.isnan(estimate.low):
        return ""
    return f"{number(estimate.low)} to {number(estimate.high)}"


def counted(amount: int, noun: str, more: str | None = None) -> str:
    """A number of things, in words.

    Examples
    --------
    >>> counted(1, "image"), counted(1200, "class", "classes")
    ('1 image', '1,200 classes')
    """
    return f"{amount:,} {noun if amount == 1 else more or noun + 's'}"


# What the page says -------------------------------------------------------------------------------


def key_points(report: Report) -> list[Markup]:
    """What to take away, in a few sentences."""
    metrics, wrong = report.metrics, report.failures_in_all
    right, sure = metrics.images - wrong, int(_wrong_and_sure(report).sum())
    first = f"{right:,} of {counted(metrics.images, 'image')} named rightly, {wrong:,} wrongly"
    points = [first + (f"; {sure:,} of these with a confidence of {SURE:.2f} or more." if wrong else ".")]
    if report.shortcuts:
        best = max(report.shortcuts, key=lambda s: s.separation.value)
        if best.strong:
            points.append(
                Markup(
                    "Shortcut: {} alone tells {} apart with an AUROC of {} on these images. The run's "
                    "figures may owe something to it."
                ).format(cue_name(best.cue), data(shortened(best.class_name)), number(best.separation.value))
            )
        else:
            points.append(
                f"No strong shortcut in size or brightness: the best of {len(report.shortcuts)} cues, "
                f"{cue_name(best.cue)}, has an AUROC of {number(best.separation.value)}. "
                "Others were not looked for."
            )
    if report.reliance is not None:
        same = report.reliance.same_by_symptoms.value
        points.append(
            f"By symptoms alone {percent(same)} of the images would get the same class; the rest is decided "
            "by class vectors, which no symptom explains."
        )
    few = sum(part.few for division in report.divisions for part in division.subgroups)
    if few:
        points.append(f"{counted(few, 'subgroup')} too small to say anything; marked below.")
    return [Markup.escape(point) for point in points]


def cue_name(cue: str) -> str:
    """A cue's name as one says it."""
    return {"mean": "mean brightness"}.get(cue, cue)


def margin(failure: Failure) -> Decision | None:
    """By how much the wrong class is ahead of the true one, and where that comes from."""
    return decision(failure.shares) if len(failure.shares) == 2 else None


def _wrong_and_sure(report: Report) -> np.ndarray:
    predictions = report.probabilities.argmax(axis=1)
    return (predictions != report.labels) & (report.probabilities.max(axis=1) >= SURE)


def _roc(report: Report) -> dict[str, Any]:
    rows, curves = [], []
    for c, name in enumerate(report.metrics.classes):
        scores, positive = report.probabilities[:, c], report.labels == c
        defined = 0 < positive.sum() < len(positive)
        curves.append(roc_curve(scores, positive) if defined else None)
        rows.append(
            {
                "name": name,
                "auroc": report.metrics.per_class[name].auroc,
                "at": [sensitivity_at(s, scores, positive) for s in SPECIFICITIES],
            }
        )
    figure = roc_figure(
        curves,
        f"ROC curves of {counted(len(rows), 'class', 'classes')}, each against all others. The table beside "
        "gives sensitivities at three specificities.",
    )
    return {"figure": figure, "rows": rows}


def _calibration(report: Report) -> dict[str, Any]:
    confidence = np.clip(report.probabilities.max(axis=1), 0, 1)
    correct = report.probabilities.argmax(axis=1) == report.labels
    codes = group_codes(report.groups, len(report.labels))
    weights = group_weights(codes, 1000, np.random.default_rng(1))
    bins: tuple[ConfidenceBin, ...] = reliability(confidence, correct, weights)
    figure = reliability_figure(
        bins,
        f"Share of right images against confidence in {counted(len(bins), 'bin')}, and how many images each "
        "holds. The table below gives the numbers.",
    )
    gap = float(correct.mean() - confidence.mean())
    return {"figure": figure, "bins": bins, "confidence": float(confidence.mean()), "gap": gap}


def _heaviest_share(failures: Iterable[Failure]) -> float:
    """The longest bar of all failures, so that bars can be compared between them."""
    found = [
        abs(share)
        for failure in failures
        for part in failure.shares
        for share in (part.class_vector, *(symptom.share for symptom in part.symptoms))
    ]
    return max(found, default=1.0) or 1.0


def _widest_difference(report: Report) -> float:
    found = [
        abs(line.difference)
        for part in report.overview
        for line in part.lines
        if not math.isnan(line.difference)
    ]
    return max(found, default=1.0) or 1.0
