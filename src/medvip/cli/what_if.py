"""``medvip what-if``: what a run would say with a symptom dropped or reworded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medvip.cli import options as o
from medvip.cli.console import say, say_table
from medvip.cli.evaluate import warn_of_other_splits

if TYPE_CHECKING:
    from medvip.explanation.what_if import ChangedImage, LeftOut

FIGURES = {"accuracy": "accuracy", "macro_f1": "macro-F1", "balanced_accuracy": "balanced accuracy"}
FIGURES |= {"auroc": "AUROC", "ece": "calibration error"}
LISTED = 20
"""Of so many changed images the names are printed; all are written with --out."""


def what_if(
    run: o.RunFolder,
    data: o.Data,
    drop: Annotated[
        list[str] | None,
        typer.Option(help='"CLASS: symptom" to leave out; its beginning is enough. May be repeated.'),
    ] = None,
    reword: Annotated[
        list[str] | None,
        typer.Option(help='"CLASS: old words => new words"; may be repeated.'),
    ] = None,
    split: o.PartName = "test",
    out: Annotated[
        Path | None, typer.Option(help="JSON file for figures and changed images.", show_default=False)
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Folder to keep the changed run in.", show_default=False)
    ] = None,
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
    """Drop or reword symptoms without retraining, and see what changes; neither: drop each in turn.

    The learned context, class vectors and merge prompt stay as they are; attention goes to the symptoms
    that are there.

    Example: medvip what-if run images/ --drop "melanoma: ragged" --reword "nevus: round => evenly round"
    """
    from dataclasses import replace

    from medvip.atomic import write_atomically
    from medvip.errors import UsageError
    from medvip.explanation.what_if import find_change
    from medvip.features import compute_features
    from medvip.runs.folder import require_free

    split = o.require_part(split)
    if save is not None and not (drop or reword):
        raise UsageError("--save without a change would keep the run as it is", fix="give --drop or --reword")
    if out is not None:
        o.require_free_file(out, force=force)
    if save is not None:
        require_free(save, force=force)
    loaded = o.load_given_run(run, backbone, device)
    if loaded.symptoms is None:
        raise UsageError(f"{run} has no symptoms to change", fix="use a run of the method vip")
    changes = [find_change(loaded.symptoms, given) for given in drop or []]
    changes += [find_change(loaded.symptoms, given, reword=True) for given in reword or []]
    changed = loaded.what_if(*changes)  # refuses what cannot be, before any picture is read
    dataset = o.load_data_with(
        data,
        split,
        split_file=split_file,
        split_seed=split_seed,
        allow_leakage=allow_leakage,
        skip_unreadable=skip_unreadable,
        with_companions=with_companions,
    )
    loaded.require_classes(dataset)
    if split != "all":
        warn_of_other_splits(loaded.config, dataset)
        dataset = dataset.only(split)
    asked = dataset.with_samples(replace(sample, split="test") for sample in dataset)
    if not len(asked):
        raise UsageError(f"{data} has no {split} images", fix="choose another --split")
    table = compute_features(asked, loaded.backbone, quiet=quiet).test
    made = _compare(loaded, changed, changes, table, split) if changes else _in_turn(loaded, table, split)
    if save is not None:
        changed.save(save, force=force)
        say(f"the changed run is in {save}")
    if out is not None:
        text = json.dumps(made, indent=2, ensure_ascii=False) + "\n"
        write_atomically(out, text.encode("utf-8", errors="backslashreplace"))
        say(f"written to {out}")


def _compare(run: Any, changed: Any, changes: list[Any], table: Any, split: str) -> dict[str, Any]:
    """Figures before and after, and the images whose prediction changes."""
    from medvip.explanation.what_if import as_json, changed_images

    before, after = run.evaluate_table(table).to_json(), changed.evaluate_table(table).to_json()
    images = changed_images(
        table, run.method.predict_proba(table.plain), changed.method.predict_proba(table.plain), run.classes
    )
    for change in changes:
        say(change.in_words())
    say_table(
        f"{split}: {len(table)} images, 95 % intervals over groups",
        ["figure", "before", "after"],
        [[label, o.estimate(before[key]), o.estimate(after[key])] for key, label in FIGURES.items()],
    )
    say(_of_changed(images, len(table)))
    if images:
        rows = [
            [
                i.path,
                i.label,
                f"{i.before} ({i.confidence_before:.2f})",
                f"{i.after} ({i.confidence_after:.2f})",
            ]
            for i in images[:LISTED]
        ]
        more = f" (the first {LISTED} of {len(images)})" if len(images) > LISTED else ""
        say_table(f"predicted otherwise{more}", ["image", "true class", "before", "after"], rows)
    return {
        "split": split,
        "changes": [as_json(change) for change in changes],
        "before": before,
        "after": after,
        "changed_images": [as_json(image) for image in images],
    }


def _of_changed(images: list[ChangedImage], number: int) -> str:
    to_right = sum(image.after == image.label for image in images)
    to_wrong = sum(image.before == image.label for image in images)
    return (
        f"{len(images)} of {number} images are predicted otherwise: {to_right} become right, "
        f"{to_wrong} become wrong, {len(images) - to_right - to_wrong} stay wrong"
    )


def _in_turn(run: Any, table: Any, split: str) -> dict[str, Any]:
    """Each symptom left out alone."""
    from medvip.explanation.what_if import as_json, leave_one_out

    found: list[LeftOut] = leave_one_out(run.method, table)
    before = run.evaluate_table(table).to_json()
    say_table(
        f"{split}: {len(table)} images, accuracy {o.estimate(before['accuracy'])}; without one symptom:",
        [
            "class: symptom left out",
            "mean share",
            "effect",
            "agreement",
            "changed",
            "right",
            "wrong",
            "accuracy",
        ],
        [
            [
                f"{one.class_name}: {one.symptom}",
                f"{one.stated:+.3f}",
                f"{one.effect:+.3f}",
                "" if one.agreement is None else f"{one.agreement:+.2f}",
                str(one.changed),
                str(one.to_right),
                str(one.to_wrong),
                f"{one.accuracy:.3f}",
            ]
            for one in found
        ],
    )
    say(
        "mean share: of its class's logit; effect: how much that logit falls without it (the others get its "
        "attention);\nagreement: their correlation over images; changed: images predicted otherwise, and how "
        "many of them become right or wrong"
    )
    reliance = run.reliance(table)
    say(reliance.in_words())
    return {
        "split": split,
        "before": before,
        "left_out": [as_json(one) for one in found],
        "reliance": reliance.to_json(),
    }
