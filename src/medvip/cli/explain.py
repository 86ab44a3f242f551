"""``medvip explain``: which symptoms a prediction rests on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from medvip.cli import options as o
from medvip.cli.console import say, say_table


def explain(
    run: o.RunFolder,
    pictures: o.Pictures,
    out: Annotated[Path, typer.Option(help="Folder for explanations.json.", show_default=False)],
    skip_unreadable: o.SkipUnreadable = False,
    backbone: o.OtherBackbone = None,
    device: o.Device = "auto",
    force: o.Force = False,
    quiet: o.Quiet = False,
) -> None:
    """Split each class's logit into the shares of its symptoms and of the class vector; exact.

    Example: medvip explain run lesion.png --out why
    """
    from medvip.atomic import write_atomically
    from medvip.errors import RunError

    file = out / "explanations.json"
    if file.exists() and not force:
        raise RunError(f"{file} is there already", fix="choose another --out, or replace it with --force")
    paths = o.picture_paths(pictures)
    loaded = o.load_given_run(run, backbone, device)
    explained = o.without_unreadable(lambda ps: loaded.explain(ps, quiet=quiet), paths, skip_unreadable)
    content = [explanation.to_json() for explanation in explained]
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_atomically(file, text.encode("utf-8", errors="backslashreplace"))
    for explanation in explained[:3]:
        rows = []
        for part in explanation.classes:
            rows.append([part.class_name, f"{part.logit:+.2f}", "", f"{part.class_vector:+.2f}"])
            rows += [
                [f"  {share.symptom}", f"{share.share:+.2f}", f"{share.similarity:+.3f}", ""]
                for share in part.symptoms
            ]
        confidence = explanation.probabilities[explanation.prediction]
        say_table(
            f"{explanation.path}: {explanation.prediction} ({confidence:.3f})",
            ["class and symptoms", "logit, shares", "similarity", "class vector's share"],
            rows,
        )
    say(f"{len(explained)} explanations written to {file}")
