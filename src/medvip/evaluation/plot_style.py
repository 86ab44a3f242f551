"""One look for all drawings: colours that the colour-blind tell apart, sizes that can be read in print.

The colours are Okabe and Ito's. Where sign matters, blue is for and vermilion is against, with
white between, and numbers stand beside: nothing is told by colour alone. matplotlib is imported
when something is drawn, never before.
"""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from medvip.errors import MedvipError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D00")
MARKERS = "osD^vP*X"
DASHES = ("-", "--", "-.", ":")
FOR, AGAINST, UNEXPLAINED = COLOURS[0], COLOURS[1], "#8A8A8A"
"""A share that speaks for a class, one that speaks against it, and one that no symptom explains."""

SETTINGS: dict[Any, Any] = {
    "text.parse_math": False,  # a label may hold a dollar sign
    "svg.hashsalt": "medvip",  # the same picture gives the same file
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
PRINT_WIDTH = 7.2
"""Inches: a page of A4 or Letter between its margins."""
DOTS_PER_INCH = 150


def require_matplotlib(instead: str) -> None:
    """Raise where nothing can be drawn.

    Parameters
    ----------
    instead
        What else can be done, for the error: "or give --no-images".

    Raises
    ------
    MedvipError
        matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MedvipError(
            "drawing needs matplotlib, which is not installed",
            fix=f"pip install 'medvip[plots]', {instead}",
        ) from error


@contextmanager
def drawing() -> Iterator[None]:
    """Draw inside it: the settings above, and no warning where a font lacks a letter of some label."""
    import matplotlib as mpl

    with mpl.rc_context(SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from")
        warnings.filterwarnings("ignore", message=r".*does not have a glyph")
        yield


def diverging() -> Any:
    """Colours of signed numbers: `AGAINST` below 0, white at 0, `FOR` above.

    Returns
    -------
    matplotlib.colors.Colormap
    """
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("against_for", [AGAINST, "#FFFFFF", FOR])


def label(text: str, width: int = 40, lines: int = 3) -> str:
    r"""Any text as a label: what cannot be printed escaped, wrapped, and cut where it is too long.

    Examples
    --------
    >>> label("a\x1b[31m\nb")
    'a\\x1b[31m\\nb'
    >>> print(label("dark dots scattered inside the lesion", width=12, lines=2))
    dark dots
    scattered …
    """
    plain = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    return "\n".join(textwrap.wrap(plain, width, max_lines=lines, placeholder=" …")) or "…"


def as_png(figure: Any) -> bytes:
    """A matplotlib figure as the bytes of a PNG; the same figure gives the same bytes."""
    return _saved(figure, "png", dpi=DOTS_PER_INCH, metadata={"Software": None})


def as_svg(figure: Any) -> bytes:
    """A matplotlib figure as the bytes of an SVG, its letters as text."""
    return _saved(figure, "svg", dpi=DOTS_PER_INCH, metadata={"Date": None})


def _saved(figure: Any, form: str, **how: Any) -> bytes:
    buffer = io.BytesIO()
    with drawing():
        figure.savefig(buffer, format=form, **how)
    return buffer.getvalue()
