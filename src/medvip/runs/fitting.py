"""From a data set to a run: features, training, figures, folder."""

from __future__ import annotations

import platform
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import medvip
from medvip.backbones import Backbone
from medvip.errors import TrainingError
from medvip.features import Augmentation, Features, Pictures, compute_features, open_pictures
from medvip.methods import Method, create_method
from medvip.methods.prompts import require_fitting
from medvip.runs.folder import require_free
from medvip.runs.run import Run
from medvip.symptoms import SymptomSet
from medvip.types import SPLITS, ImageDataset


def fit(
    dataset: ImageDataset,
    backbone: Backbone,
    symptoms: SymptomSet | None = None,
    *,
    method: str = "vip",
    augmentation: Augmentation | None = None,
    out: str | Path | None = None,
    force: bool = False,
    cache: Path | None = None,
    workers: int | None = None,
    quiet: bool = False,
    **options: Any,
) -> Run:
    """Train a method on a data set and measure it; keep the run in a folder if `out` is given.

    Parameters
    ----------
    dataset
        With its splits; `medvip.few_shot` makes it a few-shot one.
    backbone
        The frozen encoders.
    symptoms
        Of every class, by name; methods that need none do without.
    method
        By name: ``vip``, ``zero-shot-names``, ...
    augmentation
        Augmented views of the training pictures. None: none.
    out, force
        Folder of the run, and whether an earlier run there may be replaced.
    cache, workers, quiet
        As in `compute_features`.
    options
        Of the method (`medvip.methods.options_of`): ``recipe``, ``seed``, ``context`` ...

    Raises
    ------
    MedvipError
        Anything that makes the result impossible or false. When training stops because the
        loss is not finite, the best epoch before that is still kept in `out`.

    Examples
    --------
    >>> import medvip
    >>> run = medvip.fit(                                          # doctest: +SKIP
    ...     medvip.load_dataset("images"), medvip.load_backbone(),
    ...     medvip.SymptomSet.load("symptoms.json"), seed=1, out="run",
    ... )
    >>> run.metrics["test"]["accuracy"]["value"]                   # doctest: +SKIP
    0.952
    """
    if out is not None:
        require_free(Path(out), force=force)
    learner = create_method(method, backbone, symptoms, **options)
    if symptoms is not None and (learner.uses_symptoms or learner.options().get("text") == "symptoms"):
        # Refused now, not after hours of encoding.
        symptoms.for_classes(dataset.classes)
        require_fitting(symptoms, backbone, learner.options().get("context", 0))
    augmentation = augmentation or Augmentation()
    if learner.needs == "pixels":
        features = open_pictures(dataset, backbone, augmentation=augmentation, workers=workers)
    else:
        features = compute_features(
            dataset, backbone, augmentation=augmentation, cache=cache, workers=workers, quiet=quiet
        )
    return fit_features(learner, features, dataset, augmentation, out=out, force=force, quiet=quiet)


def fit_features(
    method: Method,
    features: Features | Pictures,
    dataset: ImageDataset,
    augmentation: Augmentation,
    *,
    out: str | Path | None = None,
    force: bool = False,
    quiet: bool = False,
) -> Run:
    """The same from vectors (or opened pictures) that are there already; methods and seeds share them."""
    stopped: TrainingError | None = None
    try:
        method.fit(features.train, features.val, quiet=quiet)
    except TrainingError as error:
        if not method.classes:
            raise
        stopped = error
    run = Run(
        method.backbone, method, method.symptoms, _config(method, dataset, augmentation, features, stopped)
    )
    for split, table in (("val", features.val), ("test", features.test)):
        if len(table):
            run.metrics[split] = run.evaluate_table(table).to_json()
    if out is not None:
        run.save(out, force=force)
        if stopped:
            raise TrainingError(f"{stopped.problem}, in {out}", fix=stopped.fix) from stopped
    elif stopped:
        raise stopped
    return run


def _config(
    method: Method,
    dataset: ImageDataset,
    augmentation: Augmentation,
    features: Features | Pictures,
    stopped: TrainingError | None,
) -> dict[str, Any]:
    """What `config.json` holds: everything that decided the result."""
    import torch

    backbone, symptoms = method.backbone, method.symptoms
    return {
        "format": "medvip-run",
        "version": 1,
        "classes": list(method.classes),
        "method": method.name,
        "options": method.options(),
        "backbone": {
            "name": _lasting_name(backbone.name),
            "fingerprint": backbone.fingerprint,
            "embed_dim": backbone.embed_dim,
            "logit_scale": backbone.logit_scale,
        },
        "data": {
            "name": dataset.name,
            "images": {split: dataset.only(split).counts() for split in SPLITS},
            "groups": {split: len(set(getattr(features, split).groups)) for split in SPLITS},
            "notes": list(dataset.notes),
        },
        "augmentation": asdict(augmentation),
        "symptoms": symptoms and {"digest": symptoms.digest, "review": symptoms.review_state()},
        "stopped": stopped.problem if stopped else None,
        "made": {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "medvip": medvip.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
    }


def _lasting_name(name: str) -> str:
    """The backbone's name; a folder's in full, so that the run works from any other folder."""
    path = Path(name).expanduser()
    return str(path.resolve()) if name != "embedded" and path.is_dir() else name
