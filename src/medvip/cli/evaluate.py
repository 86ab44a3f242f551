"""``medvip evaluate``: a run's figures on a data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from medvip.cli import options as o
from medvip.cli.console import complain, say, say_table
from medvip.types import ImageDataset


def evaluate(
    run: o.RunFolder,
    data: o.Data,
    split: o.PartName = "test",
    out: Annotated[Path | None, typer.Option(help="JSON file for the figures.", show_default=False)] = None,
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
    """Measure a run on one split of DATA, with 95 % intervals over groups (patients, where known).

    Example: medvip evaluate run images/ --split test --out figures.json
    """
    from dataclasses import replace

    from medvip.atomic import write_atomically

    split = o.require_part(split)
    if out is not None:
        o.require_free_file(out, force=force)
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
    if split == "all":
        dataset = dataset.with_samples(replace(sample, split="test") for sample in dataset)
    if split != "all":
        warn_of_other_splits(loaded.config, dataset)
    metrics = loaded.evaluate(dataset, "test" if split == "all" else split, quiet=quiet)
    if out is not None:
        write_atomically(out, json.dumps({split: metrics.to_json()}, indent=2) + "\n")
    say(metrics.summary())
    say_table(
        f"{split}, class by class",
        ["class", "images", "sensitivity", "specificity", "F1", "AUROC"],
        [
            [name, str(c.support), str(c.sensitivity), str(c.specificity), str(c.f1), str(c.auroc)]
            for name, c in metrics.per_class.items()
        ],
    )


def warn_of_other_splits(config: dict, dataset: ImageDataset) -> None:
    """Say aloud where pictures that the run learned from may be among those measured."""
    from medvip.runs.run import splits_differ

    if splits_differ(config, dataset):
        complain(
            "warning: these splits are not those of the run's training, so pictures that it learned from may "
            "be measured; give the training's --split-seed or --split-file, or --split all for new pictures"
        )
