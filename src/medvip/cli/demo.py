"""``medvip demo``: the whole way through on drawn phantoms, or on pictures of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medvip.cli import options as o
from medvip.cli.console import complain, say, say_table

METHODS = ("zero-shot-names", "zero-shot-symptoms", "vip")


def demo(
    data: Annotated[
        Path | None, typer.Option(help="Pictures of your own instead of phantoms.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for phantoms and run.")] = Path("medvip-demo"),
    symptoms: Annotated[
        str | None, typer.Option(help="With --data: symptom file or ready-made set.", show_default=False)
    ] = None,
    seed: o.Seed = 1,
    force: o.Force = False,
    quiet: o.Quiet = False,
) -> None:
    """Compare zero-shot by names, zero-shot by symptoms and ViP, and leave a run folder.

    Without --data the pictures are phantoms: drawn, not medical.

    Example: medvip demo --data images/ --symptoms melanoma-nevus --out demo
    """
    import time

    import medvip
    from medvip.errors import UsageError
    from medvip.features import Augmentation, compute_features
    from medvip.phantoms import draw_phantoms
    from medvip.runs.fitting import fit_features
    from medvip.runs.folder import require_free

    started = time.monotonic()
    require_free(out / "run", force=force)
    if data is None:
        say("Drawing phantoms: pictures that look like skin lesions but are DRAWN, not medical.")
        data, symptoms = draw_phantoms(out / f"phantoms_seed_{seed}", seed=seed), symptoms or "phantoms"
    elif symptoms is None:
        symptoms = _fitting_set(medvip.load_dataset(data).classes)
    if symptoms is None:
        raise UsageError(
            f"no ready-made symptom set has the classes of {data}",
            fix="write a symptom file ({class name: [symptom, ...]}) and pass it with --symptoms",
        )
    symptom_set = medvip.SymptomSet.load(symptoms)
    dataset = medvip.load_dataset(data)
    for note in dataset.notes:
        complain(f"note: {note}")
    backbone = medvip.load_backbone("embedded")
    features = compute_features(dataset, backbone, quiet=quiet)
    rows = []
    for name in METHODS:
        options = {"seed": seed} if name == "vip" else {}
        method = medvip.create_method(name, backbone, symptom_set, **options)
        kept = {"out": out / "run", "force": force} if name == "vip" else {}
        run = fit_features(method, features, dataset, Augmentation(), quiet=quiet, **kept)
        figures = run.metrics["test"]
        rows.append([name, *(o.estimate(figures[key]) for key in ("accuracy", "macro_f1", "auroc"))])
    counts = " / ".join(str(len(part)) for part in (features.train, features.val, features.test))
    say_table(
        f"{dataset.name}: {counts} train / val / test images, 95 % intervals over groups",
        ["method", "accuracy", "macro-F1", "AUROC"],
        rows,
    )
    example = next(iter(features.test.paths))
    say(f"done in {time.monotonic() - started:.0f} s; the ViP run is in {out / 'run'}. Next:")
    say(f"  medvip explain {out / 'run'} {example} --out {out / 'why'}")
    say("  medvip fit YOUR_IMAGES --symptoms YOUR_SYMPTOMS.json --out YOUR_RUN")


def _fitting_set(classes: tuple[str, ...]) -> str | None:
    """The ready-made set with exactly these classes, if there is one."""
    from medvip.errors import SymptomError
    from medvip.symptoms import SymptomSet, ready_made

    for name in ready_made():
        try:
            SymptomSet.load(name).for_classes(classes)
            return name
        except SymptomError:
            continue
    return None
