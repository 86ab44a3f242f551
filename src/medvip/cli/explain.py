"""``medvip explain``: which symptoms a prediction rests on, and where they were seen."""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated

import typer

from medvip.cli import options as o
from medvip.cli.console import say, say_table

if TYPE_CHECKING:
    from medvip.explanation import Explanation

TABLES = 3
"""Of so many pictures the shares are printed; of all of them they are written."""


def explain(
    run: o.RunFolder,
    pictures: o.Pictures,
    out: Annotated[
        Path,
        typer.Option(help="Folder for explanations.json, a PNG and an SVG a picture.", show_default=False),
    ],
    maps: Annotated[bool, typer.Option("--maps/--no-maps", help="Whether to say where, too.")] = True,
    grids: Annotated[
        bool,
        typer.Option(
            "--grids", help="Each stage's own maps in the JSON, too: up to 112 x 112 numbers a symptom."
        ),
    ] = False,
    images: Annotated[
        bool, typer.Option("--images/--no-images", help="Whether to draw; --no-images: JSON only.")
    ] = True,
    skip_unreadable: o.SkipUnreadable = False,
    backbone: o.OtherBackbone = None,
    device: o.Device = "auto",
    force: o.Force = False,
    quiet: o.Quiet = False,
) -> None:
    """Split each class's logit into the shares of its symptoms and of the class vector, and draw it.

    The shares are exact. On the embedded backbone the maps are too: each sums to its share. On vision
    transformers they are similarities of single patches, which sum to nothing, and are called so.

    Example: medvip explain run lesion.png --out why
    """
    from medvip.atomic import write_atomically
    from medvip.errors import RunError

    file = out / "explanations.json"
    if file.exists() and not force:
        raise RunError(f"{file} is there already", fix="choose another --out, or replace it with --force")
    if images:
        from medvip.evaluation.plot_style import require_matplotlib

        require_matplotlib("or give --no-images")
    paths = o.picture_paths(pictures)
    loaded = o.load_given_run(run, backbone, device)
    explained = o.without_unreadable(
        lambda ps: loaded.explain(ps, maps=maps, grids=grids, quiet=quiet), paths, skip_unreadable
    )
    names = [_file_name(number, one.path) if images else None for number, one in enumerate(explained, 1)]
    content = [
        {**one.to_json(), "drawings": [f"{name}.png", f"{name}.svg"] if name else []}
        for one, name in zip(explained, names, strict=True)
    ]
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in content)  # one picture a line
    text = f"[\n{lines}\n]\n"
    write_atomically(file, text.encode("utf-8", errors="backslashreplace"))
    if images:
        _draw(explained, out, [name for name in names if name], quiet)
    for one in explained[:TABLES]:
        _say(one)
    drawn = f", and {2 * len(explained)} drawings beside it" if images else ""
    say(f"{len(explained)} explanations written to {file}{drawn}")


def _draw(explained: list[Explanation], out: Path, names: list[str], quiet: bool) -> None:
    from medvip.atomic import write_atomically
    from medvip.evaluation.plot_style import as_png, as_svg
    from medvip.explanation.drawing import draw_explanation
    from medvip.images import read_picture
    from medvip.progress import progress_bar

    with progress_bar("drawing", len(names), "pictures", quiet=quiet) as advance:
        for one, name in zip(explained, names, strict=True):
            figure = draw_explanation(one, read_picture(one.path))
            write_atomically(out / f"{name}.png", as_png(figure))
            write_atomically(out / f"{name}.svg", as_svg(figure))
            advance(1)


def _say(one: Explanation) -> None:
    """The shares of one picture as a table, and what decided in a sentence."""
    rows = []
    for part in one.classes:
        rows.append([part.class_name, f"{part.logit:+.2f}", "", "", f"{part.class_vector:+.2f}"])
        rows += [
            [
                f"  {share.symptom}",
                f"{share.share:+.2f}",
                f"{share.similarity:+.3f}",
                "" if share.percentile is None else f"{share.percentile:.0f} %",
                "",
            ]
            for share in part.symptoms
        ]
    say_table(
        f"{one.path}: {one.prediction} ({one.confidence:.3f})",
        [
            "class and symptoms",
            "logit, shares",
            "similarity",
            "more than of training",
            "class vector's share",
        ],
        rows,
    )
    say(one.decision.in_words())


def _file_name(number: int, path: str) -> str:
    """Name of a drawing: its number, and what of the picture's name is harmless in a file name."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", PurePath(path).stem).strip("-")[:60]
    return f"{number:04d}-{stem}" if stem else f"{number:04d}"
