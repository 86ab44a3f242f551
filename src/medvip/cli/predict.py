"""``medvip predict``: the class of each picture, as CSV."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Annotated

import typer

from medvip.cli import options as o
from medvip.cli.console import say


def predict(
    run: o.RunFolder,
    pictures: o.Pictures,
    out: Annotated[
        Path | None,
        typer.Option(
            help="CSV file; when not given, the terminal, with control characters escaped.",
            show_default=False,
        ),
    ] = None,
    skip_unreadable: o.SkipUnreadable = False,
    backbone: o.OtherBackbone = None,
    device: o.Device = "auto",
    force: o.Force = False,
    quiet: o.Quiet = False,
) -> None:
    """Classify pictures: path, prediction, confidence and every class's probability as CSV.

    A path that a spreadsheet would take for a formula (it begins with =, +, - or @) is written as
    ./PATH; class names are written as they are.

    Example: medvip predict run scans/ "more/*.png" --out predictions.csv
    """
    from medvip.atomic import write_atomically
    from medvip.errors import RunError

    if out is not None and out.exists() and not force:
        raise RunError(f"{out} is there already", fix="choose another --out, or replace it with --force")
    paths = o.picture_paths(pictures)
    loaded = o.load_given_run(run, backbone, device)
    lines = [_csv_line(["path", "prediction", "confidence", *loaded.classes])]
    predicted = o.without_unreadable(lambda ps: loaded.predict(ps, quiet=quiet), paths, skip_unreadable)
    for made in predicted:
        probabilities = [f"{value:.6f}" for value in made.probabilities.values()]
        path = f"./{made.path}" if made.path[0] in "=+-@\t\r" else made.path
        lines.append(_csv_line([path, made.prediction, f"{made.confidence:.6f}", *probabilities]))
    if out is None:
        say("\n".join(lines))
    else:
        text = "".join(f"{line}\n" for line in lines)
        write_atomically(out, text.encode("utf-8", errors="backslashreplace"))
        say(f"{len(predicted)} predictions written to {out}")


def _csv_line(fields: list[str]) -> str:
    """One line without its end. Names may hold line ends of any kind: those are quoted."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(fields)
    return text.getvalue().removesuffix("\r\n")
