"""From a data set to a run: features, training, figures, folder."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import medvip
from medvip.backbones import Backbone
from medvip.backbones.loading import EMBEDDED
from medvip.errors import TrainingError, UsageError
from medvip.explanation import SimilarityQuantiles, can_be_explained, parts_of, similarity_quantiles
from medvip.features import (
    Augmentation,
    Features,
    FeatureTable,
    Pictures,
    Table,
    compute_features,
    open_pictures,
)
from medvip.images import few_shot
from medvip.methods import Method, create_method, options_of
from medvip.methods.prompt_method import fit_all
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
    _require_symptoms_for(learner, dataset)
    augmentation = augmentation or Augmentation()
    features = _features(learner, dataset, augmentation, cache, workers, quiet)
    return fit_features(learner, features, dataset, augmentation, out=out, force=force, quiet=quiet)


def fit_seeds(
    dataset: ImageDataset,
    backbone: Backbone,
    symptoms: SymptomSet | None = None,
    *,
    seeds: Sequence[int],
    shots: int | None = None,
    method: str = "vip",
    augmentation: Augmentation | None = None,
    out: str | Path | None = None,
    force: bool = False,
    cache: Path | None = None,
    workers: int | None = None,
    quiet: bool = False,
    **options: Any,
) -> list[Run]:
    """`fit` with each seed, all trained together: what they have encoded, is encoded as one batch.

    Each run has the numbers that it would have alone, to floating-point order.

    Parameters
    ----------
    seeds
        Of training, and of drawing the shots. All different.
    shots
        Training pictures a class, drawn with each seed. None: all.
    out, force
        Folder for the runs ``seed-1``, ``seed-2`` ..., and whether earlier ones may be replaced.
    dataset, backbone, symptoms, method, augmentation, cache, workers, quiet, options
        As in `fit`.

    Raises
    ------
    MedvipError
        As `fit`. When the training of one seed stops early, all runs are still kept in `out`.

    Examples
    --------
    >>> runs = medvip.fit_seeds(dataset, backbone, symptoms, seeds=[1, 2, 3]) # doctest: +SKIP
    >>> statistics.mean(run.metrics["test"]["accuracy"]["value"] for run in runs) # doctest: +SKIP
    0.953
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(f"seeds are {list(seeds)}", fix="give one or more, each once")
    if "seed" in options:
        raise UsageError("both a seed and seeds are given", fix="leave one out")
    has_seed = "seed" in options_of(method)
    if not has_seed and shots is None:
        raise UsageError(f"{method} has no seed, so all runs would be the same", fix="leave out the seeds")
    folders = [None if out is None else Path(out) / f"seed-{seed}" for seed in seeds]
    for folder in folders:
        if folder is not None:
            require_free(folder, force=force)
    learners = [
        create_method(method, backbone, symptoms, **options, **({"seed": seed} if has_seed else {}))
        for seed in seeds
    ]
    _require_symptoms_for(learners[0], dataset)
    augmentation = augmentation or Augmentation()
    datasets = [dataset if shots is None else few_shot(dataset, shots, seed=seed) for seed in seeds]
    features = [_features(learners[0], datasets[0], augmentation, cache, workers, quiet)]
    for of_seed in datasets[1:]:
        same = of_seed is datasets[0]
        features.append(
            features[0] if same else _features(learners[0], of_seed, augmentation, cache, workers, quiet)
        )
    errors = fit_all(learners, [(tables.train, tables.val) for tables in features], quiet=quiet)
    runs, stopped = [], None
    for given in zip(learners, features, datasets, errors, folders, strict=True):
        try:
            runs.append(_finished(*given, augmentation=augmentation, force=force))
        except TrainingError as error:
            stopped = stopped or error
    if stopped:
        raise stopped
    return runs


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
    (stopped,) = fit_all([method], [(features.train, features.val)], quiet=quiet)
    folder = None if out is None else Path(out)
    return _finished(method, features, dataset, stopped, folder, augmentation=augmentation, force=force)


def _finished(
    method: Method,
    features: Features | Pictures,
    dataset: ImageDataset,
    stopped: TrainingError | None,
    folder: Path | None,
    *,
    augmentation: Augmentation,
    force: bool,
) -> Run:
    """The measured run, kept in `folder` if there is one; then what stopped it is raised."""
    if stopped and not method.classes:  # not one epoch was good
        raise stopped
    config = _config(method, dataset, augmentation, features, stopped)
    run = Run(method.backbone, method, method.symptoms, config, seen=_seen(method, features.train))
    for split, table in (("val", features.val), ("test", features.test)):
        if len(table):
            run.metrics[split] = run.evaluate_table(table).to_json()
    if folder is not None:
        run.save(folder, force=force)
    if stopped:
        where = f", in {folder}" if folder is not None else ""
        raise TrainingError(f"{stopped.problem}{where}", fix=stopped.fix) from stopped
    return run


def _require_symptoms_for(learner: Method, dataset: ImageDataset) -> None:
    """Refuse what does not fit now, not after hours of encoding."""
    symptoms = learner.symptoms
    if symptoms is not None and (learner.uses_symptoms or learner.options().get("text") == "symptoms"):
        symptoms.for_classes(dataset.classes)
        options = learner.options()
        context, full_stop = options.get("context", 0), options.get("full_stop", False)
        require_fitting(symptoms, learner.backbone, context, full_stop=full_stop)


def _features(
    learner: Method,
    dataset: ImageDataset,
    augmentation: Augmentation,
    cache: Path | None,
    workers: int | None,
    quiet: bool,
) -> Features | Pictures:
    backbone = learner.backbone
    if learner.needs == "pixels":
        return open_pictures(dataset, backbone, augmentation=augmentation, workers=workers)
    return compute_features(
        dataset, backbone, augmentation=augmentation, cache=cache, workers=workers, quiet=quiet
    )


def _seen(method: Method, train: Table) -> SimilarityQuantiles | None:
    """What is kept of the training images so that a similarity can be compared with theirs."""
    if not (isinstance(train, FeatureTable) and can_be_explained(method)):
        return None
    parts = parts_of(method)
    return similarity_quantiles(parts.similarities(train.plain), parts.present)


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
    return str(path.resolve()) if name not in EMBEDDED and path.is_dir() else name
