"""``medvip symptoms audit``: which symptoms of a set to look at again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medvip.cli import options as o
from medvip.cli.console import complain, say, say_table

if TYPE_CHECKING:
    from medvip.evaluation import Audit, AuditedSymptom


def audit(
    symptoms: Annotated[
        str, typer.Argument(help="A symptom file, or the name of a ready-made set.", show_default=False)
    ],
    data: o.Data,
    backbone: o.BackboneName = "embedded",
    out: Annotated[Path | None, typer.Option(help="JSON file for all figures.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="Of the intervals' bootstrap.", min=0, max=2**32 - 1)] = 1,
    split_file: o.SplitFile = None,
    split_seed: o.SplitSeed = 1,
    allow_leakage: o.AllowLeakage = False,
    skip_unreadable: o.SkipUnreadable = False,
    with_companions: o.WithCompanions = False,
    device: o.Device = "auto",
    force: o.Force = False,
    quiet: o.Quiet = False,
) -> None:
    """Measure each symptom by itself on DATA's training pictures, and suggest which to look at again.

    Example: medvip symptoms audit symptoms.json images/ --backbone embedded --out audit.json
    """
    import medvip
    from medvip.atomic import write_atomically

    if out is not None:
        o.require_free_file(out, force=force)
    symptom_set = medvip.SymptomSet.load(symptoms)
    dataset = medvip.load_dataset(
        data,
        split_file=split_file,
        seed=split_seed,
        allow_leakage=allow_leakage,
        skip_unreadable=skip_unreadable,
        companions=with_companions,
    )
    for note in dataset.notes:
        complain(f"note: {note}")
    made = medvip.audit_symptoms(
        symptom_set, dataset, medvip.load_backbone(backbone, device=device), seed=seed, quiet=quiet
    )
    if out is not None:
        write_atomically(out, json.dumps(made.to_json(), indent=2) + "\n")
    _say_figures(made)
    _say_suggestions(made)


def _say_figures(audit: Audit) -> None:
    number = {(row.class_name, row.symptom): n for n, row in enumerate(audit.rows, start=1)}

    def neighbour(found) -> str:
        return f"{found.likeness:+.2f} ({number[found.class_name, found.symptom]})" if found else "-"

    counts = ", ".join(f"{count} of {name}" for name, count in audit.images.items())
    say_table(
        f"{sum(audit.images.values())} training pictures ({counts}), backbone {audit.backbone}",
        ["symptom", "AUROC", "points to", "like own", "like others", "rarest word", "tokens"],
        [
            [
                f"{n}. {row.class_name}: {row.symptom}",
                str(row.separation),
                _points_to(row),
                neighbour(row.in_class),
                neighbour(row.elsewhere),
                f"{row.rarest_word} {row.zipf:.1f}",
                f"{row.tokens_per_word:.1f}",
            ]
            for n, row in enumerate(audit.rows, start=1)
        ],
    )


def _points_to(row: AuditedSymptom) -> str:
    return "its class" if row.points_to == row.class_name else f"{row.points_to} {row.points_to_auroc:.3f}"


def _say_suggestions(audit: Audit) -> None:
    kept = sum(row.suggestion.action == "keep" for row in audit.rows)
    say(f"\nsuggestions: keep {kept} of {len(audit.rows)} symptoms")
    for n, row in enumerate(audit.rows, start=1):
        if row.suggestion.reasons:
            reasons = "; ".join(row.suggestion.reasons)
            say(f"  {row.suggestion.action} {n}. {row.class_name}: {row.symptom}\n      {reasons}")
    say(audit.caution)
