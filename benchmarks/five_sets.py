"""ViP and both zero-shots on five real image sets: the README's table.

    python benchmarks/five_sets.py DATA [--recipe paper] [--seeds 1 2 3] [--out benchmarks/results]

DATA holds the folders named in `SETS`. Every set has a JSON file of its own with all its runs and
what made them; a set whose file is there is not run again. The table is made from the files.
Selection is on validation images; the table shows test images.
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


def measure(data: Path, name: str, recipe: str, seeds: list[int]) -> list[dict]:
    """One entry for each method and seed on one set (zero-shots have no seed and run once)."""
    backbone = medvip.load_backbone("embedded", device="cpu")
    symptoms = medvip.SymptomSet.load(SETS[name])
    features = medvip.compute_features(medvip.load_dataset(data / name), backbone)
    entries = []
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
            entry = {"set": name, "method": method, "recipe": None if seed is None else recipe, "seed": seed}
            entries.append(entry | {"test": metrics.to_json()})
            print(
                f"{name} {method} {'' if seed is None else seed} {seconds:.1f} s: {metrics.summary()}",
                flush=True,
            )
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
    made = {
        "command": f"python benchmarks/five_sets.py DATA --recipe {given.recipe} --seeds "
        + " ".join(map(str, given.seeds)),
        "versions": {
            "medvip": medvip.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "threads": torch.get_num_threads(),
    }
    folder = given.out / f"five_sets_{given.recipe}"
    entries = []
    for name in SETS:
        file = folder / f"{name}.json"
        if not file.exists():
            runs = measure(given.data, name, given.recipe, given.seeds)
            write_atomically(file, json.dumps(made | {"runs": runs}, indent=1) + "\n")
        entries += json.loads(file.read_text())["runs"]
    write_atomically(folder / "table.md", table(entries))
    print(table(entries))


if __name__ == "__main__":
    main()
