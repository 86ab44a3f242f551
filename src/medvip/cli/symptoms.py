"""``medvip symptoms``: ready-made sets, and files of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medvip.cli import options as o
from medvip.cli.console import say, say_table

app = typer.Typer(
    help="Lists, shows, checks and imports symptom sets.",
    epilog="Example: medvip symptoms show melanoma-nevus",
    no_args_is_help=True,
    rich_markup_mode=None,
)


Which = Annotated[
    str, typer.Argument(help="A symptom file, or the name of a ready-made set.", show_default=False)
]


@app.command("list")
def list_() -> None:
    """List the ready-made sets.

    Example: medvip symptoms list
    """
    from medvip.symptoms import ready_made

    say_table("ready-made symptom sets", ["name", "what for"], list(map(list, ready_made().items())))


@app.command()
def show(symptoms: Which) -> None:
    """Show a set's symptoms and who wrote them.

    Example: medvip symptoms show melanoma-nevus
    """
    from medvip.symptoms import SymptomSet

    loaded = SymptomSet.load(symptoms)
    say(f"modality: {loaded.modality}")
    for key, value in loaded.provenance.to_dict().items():
        say(f"{key}: {value}")
    for name, texts in loaded.classes.items():
        say(f"\n{name}")
        for text in texts:
            say(f"  - {text}")


@app.command()
def check(
    symptoms: Which,
    backbone: o.BackboneName = "embedded",
    context: Annotated[int, typer.Option(help="Number of learned context vectors.", min=0)] = 4,
) -> None:
    """Check a set: empty, too long, twice, or naming its own class. Exit code 1 on an error.

    Example: medvip symptoms check symptoms.json --backbone embedded
    """
    from medvip.backbones import load_backbone
    from medvip.symptoms import SymptomSet, check_symptoms, require_usable

    loaded = SymptomSet.load(symptoms)
    encoders = load_backbone(backbone, device="cpu")
    findings = check_symptoms(
        loaded,
        count_tokens=lambda text: int(encoders.tokenize([text]).end[0]) + 1,
        context_length=encoders.context_length,
        context=context,
    )
    for finding in findings:
        say(str(finding))
    require_usable(findings)
    number = sum(map(len, loaded.classes.values()))
    say(f"{len(loaded.classes)} classes, {number} symptoms, {len(findings)} warnings, no errors")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help='A plain {"class name": ["symptom", ...]} file.')],
    out: Annotated[Path, typer.Option(help="Symptom file to write.", show_default=False)],
    modality: Annotated[str, typer.Option(help="What the pictures are, in words: chest X-ray, ...")],
    rename: Annotated[
        list[str] | None, typer.Option(help="OLD=NEW class name; may be given several times.")
    ] = None,
    force: o.Force = False,
) -> None:
    """Turn a released descriptor file into a symptom file with provenance.

    Example: medvip symptoms import descriptors.json --modality "dermoscopic image" --out symptoms.json
    """
    from medvip.errors import UsageError
    from medvip.symptoms import import_descriptors

    pairs = [pair.partition("=") for pair in rename or []]
    if any(not (old and sign and new) for old, sign, new in pairs):
        raise UsageError("--rename is not of the form OLD=NEW", fix="write --rename 'normal lung=normal'")
    made = import_descriptors(file, modality=modality, rename={old: new for old, _, new in pairs})
    made.save(out, force=force)
    say(f"{len(made.classes)} classes written to {out}")
