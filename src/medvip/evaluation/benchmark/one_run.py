"""One run from vectors or pictures to its record: draw, tune, fit, predict, measure."""

from __future__ import annotations

import math
import platform
import time
import warnings
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

import medvip
from medvip.backbones import Backbone
from medvip.errors import MedvipError, UnreadableImages
from medvip.evaluation.benchmark.material import Splits, drawn, with_permuted_labels
from medvip.evaluation.benchmark.new_classes import (
    halves,
    harmonic_mean,
    of_classes,
    on_new_classes,
    symptoms_of,
)
from medvip.evaluation.benchmark.plan import ImageSet, Run
from medvip.evaluation.benchmark.records import (
    Images,
    group_id,
    image_id,
    numbered,
    one_line,
    packed,
    private,
    unpacked,
)
from medvip.evaluation.benchmark.rows import create, options_tried
from medvip.evaluation.comparison import FIGURES
from medvip.evaluation.inputs import check_inputs
from medvip.evaluation.measure import evaluate
from medvip.features import Table
from medvip.methods.method import Predict
from medvip.methods.selection import macro_f1_and_accuracy
from medvip.symptoms import SymptomSet

MOST_WARNINGS = 5


def perform(
    run: Run, image_set: ImageSet, splits: Splits, backbone: Backbone
) -> tuple[dict[str, Any], Images]:
    """Do one run.

    Parameters
    ----------
    run
        A possible one.
    image_set
        Its data.
    splits
        The whole data set: its vectors, or its pictures for a method that needs pixels.
    backbone
        The frozen encoders; for the rows that look at none, any.

    Returns
    -------
    tuple
        The record, and the test images that its predictions are of, as `write_record` takes them.
    """
    images = _test_images(splits.test, image_set)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        outcome = _measured(run, image_set, splits, images, backbone)
    said = dict.fromkeys(_private(str(warning.message), image_set) for warning in caught)
    made = heading(run, splits.train.fingerprint, str(backbone.device))
    return made | {"warnings": list(said)[:MOST_WARNINGS]} | outcome, images


def words_of(error: Exception) -> str:
    """An error in one line, for a terminal; it may name pictures and folders."""
    if isinstance(error, MedvipError):
        return one_line(str(error))
    return one_line(f"{type(error).__name__}: {error}")


def failure(error: Exception, image_set: ImageSet) -> dict[str, Any]:
    """What the record of a run holds that could not be done: no name of a picture and no path."""
    if isinstance(error, UnreadableImages):
        return {"status": "failed", "reason": f"{len(error.reasons)} pictures cannot be read"}
    return {"status": "failed", "reason": _private(words_of(error), image_set)}


def _private(text: str, image_set: ImageSet) -> str:
    return one_line(private(text, (sample.path for sample in image_set.dataset)))


def heading(run: Run, fingerprint: str | None, device: str | None) -> dict[str, Any]:
    """What every record starts with: what was wanted, and what it was made with."""
    cell = run.cell
    return {
        "digest": run.digest,
        "fingerprint": fingerprint,
        "cell": {
            "data": cell.data,
            "backbone": cell.backbone,
            "row": cell.row,
            "shots": cell.shots,
            "seed": cell.seed,
            "task": cell.task,
        },
        "settings": run.settings,
        "made": {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {
                "medvip": medvip.__version__,
                "python": platform.python_version(),
                **{name: version(name) for name in ("torch", "transformers", "numpy", "scikit-learn")},
            },
            "machine": platform.machine(),
            "system": platform.system(),
            "device": device,
            "threads": torch.get_num_threads(),
        },
    }


def _measured(
    run: Run, image_set: ImageSet, splits: Splits, images: Images, backbone: Backbone
) -> dict[str, Any]:
    cell, method = run.cell, run.settings["method"]
    given = drawn(splits, image_set.dataset, cell.shots, cell.seed)
    if method["permuted_labels"]:
        given = with_permuted_labels(given, cell.seed or 0)
    symptoms, test_of = run.symptoms, {"test": given.test}
    novel_classes: tuple[str, ...] = ()
    if cell.task == "base-to-novel":
        base_classes, novel_classes = halves(splits.train.classes)
        test_of = {part: of_classes(given.test, c) for part, c in
                   (("base", base_classes), ("novel", novel_classes))}  # fmt: skip
        given = replace(
            given,
            train=of_classes(given.train, base_classes),
            val=of_classes(given.val, base_classes),
            test=test_of["base"],
        )
        symptoms = symptoms_of(run.symptoms, base_classes)

    started = time.perf_counter(), time.process_time()
    fitted, chosen = _fit(method, given, backbone, symptoms, cell.seed)
    fit_seconds = time.perf_counter() - started[0], time.process_time() - started[1]

    learned: Predict = fitted.predict_proba
    predict = dict.fromkeys(test_of, learned)
    if novel_classes:
        again = partial(create, method["name"], backbone, options=chosen["options"], seed=cell.seed)
        novel_symptoms = symptoms_of(run.symptoms, novel_classes)
        predict["novel"] = on_new_classes(fitted, again, novel_symptoms, given.train, novel_classes)

    started = time.perf_counter()
    said = {part: _probabilities(predict[part], table) for part, table in test_of.items()}
    predict_seconds = time.perf_counter() - started
    predictions, metrics = {}, dict[str, Any]()
    for part, table in test_of.items():
        check_inputs(said[part], table.labels.cpu().numpy(), table.classes)
        predictions[part] = packed(said[part], table.classes)
        one = unpacked(predictions[part], images)  # figures are of what is kept, to be made again exactly
        found = evaluate(one.probabilities, one.labels, one.classes, groups=one.groups)
        metrics[part] = {figure: getattr(found, figure).to_json() for figure in FIGURES}
    if novel_classes:
        metrics["harmonic_mean"] = {
            figure: harmonic_mean(*(metrics[part][figure]["value"] for part in ("base", "novel")))
            for figure in ("accuracy", "macro_f1")
        }
    return {
        "status": "done",
        "reason": None,
        "images": {
            split: dict(zip(table.classes, _counts(table), strict=True))
            for split, table in (("train", given.train), ("val", given.val), *test_of.items())
        },
        "chosen": chosen,
        "metrics": metrics,
        "seconds": {
            "fit": fit_seconds[0],
            "fit_processor": fit_seconds[1],
            "predict": predict_seconds,
        },
        "predictions": predictions,
    }


def _fit(
    method: dict[str, Any], given: Splits, backbone: Backbone, symptoms: SymptomSet | None, seed: int | None
) -> tuple[Any, dict[str, Any]]:
    """The fitted method, and what was chosen on the validation images, by which scores."""
    best: tuple[tuple[float, float], Any, dict[str, Any]] | None = None
    tried: list[dict[str, Any]] = []
    for options in options_tried(method):
        fitted = create(method["name"], backbone, symptoms, options, seed)
        fitted.fit(given.train, given.val)
        scores = _validation(fitted, given.val)
        tried.append({"options": options, "validation": scores})
        figures = (scores["macro_f1"], scores["accuracy"]) if scores else (0.0, 0.0)
        if best is None or figures > best[0]:
            best = figures, fitted, tried[-1]
    assert best is not None, "a row has at least one set of options"
    _, fitted, entry = best
    chosen = {**entry, "by_the_method": _chosen_by(fitted.history)}
    return fitted, chosen | ({"tried": tried} if method["tried"] else {})


def _chosen_by(history: list[dict[str, Any]]) -> dict[str, Any]:
    """The epoch that a method kept and the values that it chose, with their validation scores."""
    epochs = [entry for entry in history if "epoch" in entry and entry.get("best")]
    values = [entry for entry in history if "epoch" not in entry]
    last = {**(epochs[-1] if epochs else {}), **(values[-1] if values else {})}
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in last.items()
        if name not in ("seconds", "best")
    }


def _validation(fitted: Any, validation: Table) -> dict[str, float]:
    if len(validation) == 0:
        return {}
    predicted = _probabilities(fitted.predict_proba, validation).argmax(axis=1)
    labels = validation.labels.cpu().numpy()
    macro_f1, accuracy = macro_f1_and_accuracy(labels, predicted, len(validation.classes))
    return {"macro_f1": macro_f1, "accuracy": accuracy}


def _probabilities(predict: Predict, table: Table) -> Float[np.ndarray, "image class"]:
    of_parts = [np.asarray(predict(part)) for part in table.parts()]
    return np.concatenate([np.empty((0, len(table.classes))), *of_parts])


def _test_images(test: Table, image_set: ImageSet) -> Images:
    group_of = {sample.path: sample.group for sample in image_set.dataset}
    ids = tuple(map(image_id, test.contents))
    groups = [group_id(group_of[path], content) for path, content in
              zip(test.paths, test.contents, strict=True)]  # fmt: skip
    labels = test.labels.cpu().numpy()
    return Images(image_set.label, test.classes, ids, numbered(groups, ids), labels)


def _counts(table: Table) -> list[int]:
    return torch.bincount(table.labels.cpu(), minlength=len(table.classes)).tolist()
