"""The paper's Fig. 5: symptoms against food, useless text and their own opposites.

    python benchmarks/knowledge_kinds.py DATA [--seeds 1 2 3] [--out benchmarks/results/knowledge_kinds]

DATA holds the folders named in `SETS`. Every run has a JSON file of its own; a run whose file is
there is not run again, and one made from other texts than medvip now has is refused. Both tables
are made from the files alone. Selection is on validation images; the tables show test images.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

import medvip
from medvip import confusion
from medvip.atomic import write_atomically
from medvip.evaluation import Estimate, evaluate, ranking
from medvip.evaluation.bootstrap import group_codes, group_weights, percentile_interval
from medvip.features import Features
from medvip.symptoms.variants import KINDS, knowledge_variants
from medvip.training import get_recipe

SETS = {
    "kermany_cxr_pneumonia": "paediatric-pneumonia",
    "isic_uda1_melanoma_nevus": "melanoma-nevus",
}
FIGURES = {"accuracy": "accuracy", "macro_f1": "macro-F1", "auroc": "AUROC"}
# The epoch by validation accuracy in all of them, the earliest of equals, however few the images.
RECIPES = {"paper": "paper", "fast": get_recipe("fast", select_by="accuracy", min_validation=0)}
RESAMPLES = 2000
REAL = KINDS[-1]


@dataclass(frozen=True)
class Setting:
    """What is trained, and on how many training images a class (None: all)."""

    method: str
    recipe: str | None = None
    shots: int | None = None

    def __str__(self) -> str:
        images = "" if self.shots is None else f", {self.shots} shots"
        return self.method + (f", {self.recipe}" if self.recipe else "") + images


SETTINGS = (
    Setting("zero-shot-symptoms"),
    Setting("vip", "fast", 4),
    Setting("vip", "fast", 16),
    Setting("vip", "fast"),
    Setting("vip", "paper"),
)


def files(out: Path, seeds: list[int]) -> Iterator[tuple[str, Setting, str, int | None, Path]]:
    """Every run of the study and its file (a zero-shot has no seed and runs once)."""
    for setting in SETTINGS:
        for name in SETS:
            for seed in seeds if setting.recipe else [None]:
                for kind in KINDS:
                    parts = [setting.method, setting.recipe, setting.shots, kind, seed]
                    label = "_".join(str(part) for part in parts if part is not None)
                    yield name, setting, kind, seed, out / name / f"{label}.json"


def measure(features: Features, setting: Setting, symptoms: medvip.SymptomSet, seed: int | None) -> dict:
    """One run: headline figures on the test images, and what paired differences need of each."""
    options = {"seed": seed, "recipe": RECIPES[setting.recipe]} if setting.recipe else {}
    fitted = medvip.create_method(setting.method, backbone(), symptoms, **options)
    fitted.fit(features.train, features.val)
    test = features.test
    labels, probabilities = test.labels.numpy(), fitted.predict_proba(test.plain)
    metrics = evaluate(probabilities, labels, test.classes, groups=test.groups)
    print(f"{setting}, {'' if seed is None else seed}: {metrics.summary()}", flush=True)
    odds = np.log(probabilities[:, 1] / probabilities[:, 0])
    return {
        "test": {figure: getattr(metrics, figure).to_json() for figure in FIGURES},
        "classes": test.classes,
        "labels": labels.tolist(),
        "groups": group_codes(test.groups, len(labels)).tolist(),
        "log_odds": [float(f"{value:.7g}") for value in odds],
    }


@cache
def backbone() -> Any:
    return medvip.load_backbone("embedded", device="cpu")


@cache
def features_of(folder: Path, shots: int | None, seed: int | None) -> Features:
    dataset = medvip.load_dataset(folder)
    if shots is not None and seed is not None:
        dataset = medvip.few_shot(dataset, shots, seed=seed)
    return medvip.compute_features(dataset, backbone(), quiet=True)


def tables(runs: list[dict[str, Any]]) -> str:
    """Markdown: the figures, then what each kind's are above or below those of the symptoms."""
    by_row: defaultdict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for run in runs:
        setting = Setting(run["method"], run["recipe"], run["shots"])
        by_row[run["set"], str(setting), run["kind"]].append(run)
    heads = " | ".join(FIGURES.values())
    values = [f"| images | method | kind | {heads} |", "|---|---|---|---|---|---|"]
    against = [f"| images | method | kind against the symptoms | {heads} |", "|---|---|---|---|---|---|"]
    for name in SETS:
        for setting in map(str, SETTINGS):
            real = by_row[name, setting, REAL]
            for kind in KINDS:
                row = by_row[name, setting, kind]
                cells = [_cell([run["test"][figure]["value"] for run in row]) for figure in FIGURES]
                values.append(f"| {name} | {setting} | {kind} | " + " | ".join(cells) + " |")
                if kind != REAL:
                    cells = [_signed(estimate) for estimate in differences(row, real)]
                    against.append(f"| {name} | {setting} | {kind} | " + " | ".join(cells) + " |")
    return "\n".join([*values, "", *against]) + "\n"


def differences(row: list[dict[str, Any]], real: list[dict[str, Any]]) -> list[Estimate]:
    """Of each figure, averaged over the seeds: the kind's minus the symptoms', on the same images.

    The interval is over patients: both sides see the same resamples of them. That another seed or
    another draw of training images gives another difference is not in it.
    """
    if [(run["seed"], run["labels"], run["groups"]) for run in row] != [
        (run["seed"], run["labels"], run["groups"]) for run in real
    ]:
        raise SystemExit("runs of different seeds or images cannot be compared; remove the older files")
    ours, theirs = (np.mean([_figures(run) for run in side], axis=0) for side in (row, real))
    difference = ours - theirs
    return [percentile_interval(float(column[0]), column[1:]) for column in difference.T]


def _figures(run: dict[str, Any]) -> np.ndarray:
    """[1 + resample, figure]: on the test images as they are, then on each resample of the patients."""
    labels, odds = np.array(run["labels"]), np.array(run["log_odds"])
    drawn = group_weights(np.array(run["groups"]), RESAMPLES, np.random.default_rng(1))
    weights = np.concatenate([np.ones((1, len(labels))), drawn])
    matrices = confusion.confusion_matrices(labels, (odds > 0).astype(int), weights, 2)
    figures = {
        "accuracy": confusion.accuracy(matrices),
        "macro_f1": confusion.macro_f1(matrices),
        "auroc": ranking.auroc(odds, labels == 1, weights),
    }
    return np.stack([figures[figure] for figure in FIGURES], axis=1)


def _cell(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def _signed(estimate: Estimate) -> str:
    """Bold where the interval does not hold zero."""
    # Differences of shares: what is zero may come out as 1e-17.
    value, low, high = (round(end, 9) + 0.0 for end in (estimate.value, estimate.low, estimate.high))
    text = f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"
    return text if low <= 0 <= high else f"**{text}**"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "knowledge_kinds")
    given = parser.parse_args()
    made = {
        "command": "python benchmarks/knowledge_kinds.py DATA --seeds " + " ".join(map(str, given.seeds)),
        "versions": {
            "medvip": medvip.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "threads": torch.get_num_threads(),
    }
    variants = {name: knowledge_variants(medvip.SymptomSet.load(SETS[name])) for name in SETS}
    runs = []
    for name, setting, kind, seed, file in files(given.out, given.seeds):
        symptoms = variants[name][kind]
        if not file.exists():
            identity = {"set": name, "method": setting.method, "recipe": setting.recipe}
            identity |= {"shots": setting.shots, "kind": kind, "seed": seed, "symptoms": symptoms.digest}
            print(f"{name}, {kind}: ", end="", flush=True)
            features = features_of(given.data / name, setting.shots, seed if setting.shots else None)
            write_atomically(
                file, json.dumps(identity | measure(features, setting, symptoms, seed) | made) + "\n"
            )
        run = json.loads(file.read_text(encoding="utf-8"))
        if run["symptoms"] != symptoms.digest:
            raise SystemExit(f"{file} was made from other texts than medvip now has; remove it")
        runs.append(run)
    write_atomically(given.out / "table.md", tables(runs))
    print(tables(runs))


if __name__ == "__main__":
    main()
