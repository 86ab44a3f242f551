"""``medvip fit``: train on a data set and keep the run in a folder."""

from __future__ import annotations

import statistics
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from medvip.cli import options as o
from medvip.cli.console import complain, say


def fit(
    data: o.Data,
    out: Annotated[Path, typer.Option(help="Folder to write the run to.", show_default=False)],
    symptoms: Annotated[
        str | None,
        typer.Option(
            help="Symptom file, or the name of a ready-made set (medvip symptoms list).", show_default=False
        ),
    ] = None,
    backbone: o.BackboneName = "embedded",
    method: Annotated[
        str,
        typer.Option(
            help="vip, or what it is compared with: linear-probe, gda, coop ... (any wrong name lists all)."
        ),
    ] = "vip",
    recipe: Annotated[
        str | None, typer.Option(help="paper or fast; paper when not given.", show_default=False)
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Instead of the recipe's.", show_default=False)] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Instead of the recipe's.", show_default=False)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Instead of the recipe's.", show_default=False)
    ] = None,
    select_by: Annotated[
        str | None,
        typer.Option(
            help="Validation score that chooses the epoch: accuracy, macro_f1, loss or last.",
            show_default=False,
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other value of the recipe, as NAME=VALUE; may be repeated."),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="Any other option of the method, as NAME=VALUE; may be repeated."),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(help="Number of learned context vectors (M); vip's is 4.", min=0, show_default=False),
    ] = None,
    shots: Annotated[
        int | None, typer.Option(help="Training pictures a class; all when not given.", show_default=False)
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Of training and few-shot sampling.", min=0, max=2**32 - 1, show_default="1"),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            help="Several seeds, as 1,2,3: all trained together, each kept in OUT/seed-N.",
            show_default=False,
        ),
    ] = None,
    views_seed: o.ViewsSeed = 1,
    views: o.Views = 0,
    crop: o.Crop = True,
    flip: o.Flip = True,
    split_file: o.SplitFile = None,
    split_seed: o.SplitSeed = 1,
    allow_leakage: o.AllowLeakage = False,
    skip_unreadable: o.SkipUnreadable = False,
    with_companions: o.WithCompanions = False,
    device: o.Device = "auto",
    force: o.Force = False,
    quiet: o.Quiet = False,
) -> None:
    """Train a classifier on the pictures of DATA and measure it on their test split.

    Example: medvip fit images/ --symptoms symptoms.json --out run
    """
    import medvip
    from medvip.errors import UsageError
    from medvip.methods import find_method, options_of
    from medvip.runs.folder import require_free
    from medvip.training import get_recipe

    several = None if seeds is None else _seeds(seeds, seed)
    if several is None:
        require_free(out, force=force)
    changes = {
        "epochs": epochs,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "select_by": select_by,
    }
    changes = {name: value for name, value in changes.items() if value is not None} | o.changes_of(set_)
    takes = options_of(method)
    options: dict[str, Any] = o.parse_options(method, option)
    useless = []
    if "recipe" in takes:
        options["recipe"] = get_recipe(recipe or "paper", find_method(method).recipes, **changes)
    else:
        useless += [*changes, *(["recipe"] if recipe else [])]
    for name, value in {"seed": seed, "context": context}.items():
        if value is not None and name in takes:
            options[name] = value
        elif value is not None and not (name == "seed" and shots is not None):
            useless.append(name)
    if useless:
        why = "has no such option" if find_method(method).learns else "is not trained"
        raise UsageError(
            f"{method} {why}, so {', '.join(sorted(useless))} would do nothing", fix="leave it out"
        )
    symptom_set = medvip.SymptomSet.load(symptoms) if symptoms else None
    dataset = medvip.load_dataset(
        data,
        split_file=split_file,
        seed=split_seed,
        allow_leakage=allow_leakage,
        skip_unreadable=skip_unreadable,
        companions=with_companions,
    )
    given: dict[str, Any] = {
        "method": method,
        "augmentation": o.augmentation(views, crop, flip, views_seed),
        "out": out,
        "force": force,
        "quiet": quiet,
        **options,
    }
    loaded = partial(medvip.load_backbone, backbone, device=device)
    if several is not None:
        _note(dataset, symptom_set)
        runs = medvip.fit_seeds(dataset, loaded(), symptom_set, seeds=several, shots=shots, **given)
        for split in runs[0].metrics:
            of_split = [run.metrics[split] for run in runs]
            for number, figures in zip(several, of_split, strict=True):
                say(f"seed {number}, {split}: {one_line(figures)}")
            say(f"mean of {len(runs)} seeds, {split}: {_over_seeds(of_split)}")
        say(f"runs written to {out}; use one with: medvip predict {out / f'seed-{several[0]}'} PICTURES")
        return
    if shots is not None:
        dataset = medvip.few_shot(dataset, shots, seed=1 if seed is None else seed)
    _note(dataset, symptom_set)
    run = medvip.fit(dataset, loaded(), symptom_set, **given)
    for split, figures in run.metrics.items():
        say(f"{split}: {one_line(figures)}")
    say(f"run written to {out}; use it with: medvip predict {out} PICTURES")


def _seeds(text: str, seed: int | None) -> list[int]:
    """The numbers in "1,2,3"."""
    from medvip.errors import UsageError

    if seed is not None:
        raise UsageError("both --seed and --seeds are given", fix="leave one out")
    numbers = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) < 2**32 for part in numbers):
        raise UsageError(f"--seeds is {text!r}", fix="give whole numbers, as in --seeds 1,2,3")
    return [int(part) for part in numbers]


def _note(dataset: Any, symptoms: Any) -> None:
    for note in dataset.notes:
        complain(f"note: {note}")
    if symptoms is not None:
        complain(f"note: symptoms: {symptoms.review_state()}")


FIGURES = (("accuracy", "accuracy"), ("macro_f1", "macro-F1"), ("auroc", "AUROC"))


def one_line(figures: dict) -> str:
    """The headline figures of one entry of `metrics.json`, with intervals."""
    return ", ".join(f"{label} {o.estimate(figures[name])}" for name, label in FIGURES)


def _over_seeds(metrics: list[dict]) -> str:
    """Mean of each headline figure, and its standard deviation over the seeds."""
    said = []
    for name, label in FIGURES:
        values = [figures[name]["value"] for figures in metrics if figures[name]["value"] is not None]
        if values:
            spread = f" +- {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            said.append(f"{label} {statistics.mean(values):.3f}{spread}")
    return ", ".join(said)
