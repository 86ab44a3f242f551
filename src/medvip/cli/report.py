"""``medvip report``: one HTML file on a run, its figures and its failures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medvip.cli import options as o
from medvip.cli.console import say


def report(
    run: o.RunFolder,
    data: o.Data,
    out: Annotated[Path, typer.Option(help="Folder for report.html.", show_default=False)],
    split: o.PartName = "test",
    failures: Annotated[int, typer.Option(help="Failures to show, the surest first.", min=0)] = 20,
    images: Annotated[
        bool, typer.Option("--images/--no-images", help="Whether pictures are put into the report.")
    ] = True,
    split_file: o.SplitFile = None,
    split_seed: o.SplitSeed = 1,
    allow_leakage: o.AllowLeakage = False,
    skip_unreadable: o.SkipUnreadable = False,
    with_companions: o.WithCompanions = False,
    backbone: o.OtherBackbone = None,
    device: o.Device = "auto",
    force: o.Force = False,
    quiet: o.Quiet = False,
) -> None:
    """Write one HTML file: what was trained, how good it is, what it saw, and where it failed.

    The file needs no network and holds pictures of DATA: whoever gets it sees them. --no-images
    leaves them out.

    Example: medvip report run images/ --out report
    """
    import medvip
    from medvip.runs.report import FILE

    split = o.require_part(split)
    o.require_free_file(out / FILE, force=force)
    loaded = o.load_given_run(run, backbone, device)
    dataset = o.load_data_with(
        data,
        split,
        split_file=split_file,
        split_seed=split_seed,
        allow_leakage=allow_leakage,
        skip_unreadable=skip_unreadable,
        with_companions=with_companions,
    )
    file = medvip.write_report(
        loaded, dataset, out, split=split, failures=failures, pictures=images, force=force, quiet=quiet
    )
    held = "no pictures" if not images else "pictures of your data: mind whom you give it to"
    say(f"report written to {file} ({file.stat().st_size / 1e6:.1f} MB); it holds {held}")
