"""ViP and both zero-shots on five real image sets: the README's table.

    python benchmarks/five_sets.py DATA [--recipe paper] [--seeds 1 2 3] [--out benchmarks/results]

DATA holds the folders named in `SETS`. Every run of every method is kept in one JSON file with
what made it; the table is made from that file. Selection is on validation images; the table
shows test images.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch

import medvip
from medvip.atomic import write_atomically
from medvip.evaluation import evaluate

SETS = {
    "kermany_cxr_pneumonia": "paediatric-pneumonia",
    "isic_uda1_melanoma_nevus": "melanoma-nevus",
    "ham10000_7class_224": "ham10000",
    "busi_breast_ultrasound_256": "breast-ultrasound",
    "bccd_wbc_type": "white-blood-cells",
}
METHODS = ("zero-shot-names", "zero-shot-symptoms", "zero-shot-symptoms-max", "vip")
FIGURES = ("accuracy", "macro_f1", "auroc")


def measure(data: Path, recipe: str, seeds: list[int]) -> list[dict]:
    """One entry for each set, method and seed (zero-shots have no seed and run once)."""
    backbone = medvip.load_backbone("embedded", device="cpu")
    entries = []
    for name, symptom_name in SETS.items():
        symptoms = medvip.SymptomSet.load(symptom_name)
        features = medvip.compute_features(medvip.load_dataset(data / name), backbone)
        for method in METHODS:
            for seed in seeds if method == "vip" else [None]:
                options = {} if seed is None else {"seed": seed, "recipe": recipe}
                started = time.perf_counter()
                fitted = medvip.create_method(method, backbone, symptoms, **options)
                fitted.fit(features.train, features.val)
                seconds = time.perf_counter() - started
                test = features.test
                metrics = evaluate(
                    fitted.predict_proba(test.plain), test.labels.numpy(), test.classes, groups=test.groups
                )
                entry = {"set": name, "method": method, "recipe": recipe if seed else None, "seed": seed}
                entries.append(entry | {"seconds": round(seconds, 2), "test": metrics.to_json()})
                print(f"{name} {method} {seed or ''} {seconds:.1f} s: {metrics.summary()}", flush=True)
    return entries


def table(entries: list[dict]) -> str:
    """Markdown: mean over the seeds, ± their standard deviation where there are several."""
    lines = ["| images | method | accuracy | macro-F1 | AUROC |", "|---|---|---|---|---|"]
    for name in SETS:
        for method in METHODS:
            runs = [entry for entry in entries if entry["set"] == name and entry["method"] == method]
            cells = [_cell([run["test"][figure]["value"] for run in runs]) for figure in FIGURES]
            lines.append(f"| {name} | {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", default="paper")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args()
    entries = measure(given.data, given.recipe, given.seeds)
    made = {
        "command": f"python benchmarks/five_sets.py DATA --recipe {given.recipe} --seeds "
        + " ".join(map(str, given.seeds)),
        "versions": {
            "medvip": medvip.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "processors": torch.get_num_threads(),
    }
    stem = given.out / f"five_sets_{given.recipe}"
    write_atomically(stem.with_suffix(".json"), json.dumps(made | {"runs": entries}, indent=1) + "\n")
    write_atomically(stem.with_suffix(".md"), table(entries))
    print(table(entries))


if __name__ == "__main__":
    main()
