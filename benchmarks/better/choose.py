"""Reads what try_out.py wrote: means, and which setting three sets would choose for the other two.

    python benchmarks/better/choose.py OUT.jsonl

A setting's score is the mean over shots and draws of macro-F1 + AUROC (both matter, AUROC has less noise).
Every three of the five sets choose once; the other two say what that choice is worth there, against the
probe, and against the setting that these two themselves would have chosen.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np

BASELINES = ("linear-probe", "gda", "nearest-class-mean", "lp++")
FIGURES = ("macro_f1", "auroc", "ece", "loss")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("lines", type=Path)
    lines = [json.loads(line) for line in parser.parse_args().lines.read_text(encoding="utf-8").splitlines()]
    by_candidate: dict[str, dict[tuple[str, str], list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        by_candidate[line["candidate"]][line["shots"], line["set"]].append([line[name] for name in FIGURES])
    full = max(len(cells) for cells in by_candidate.values())
    means = {
        name: {cell: np.mean(draws, 0) for cell, draws in cells.items()}
        for name, cells in by_candidate.items()
        if len(cells) == full
    }
    shots = sorted({line["shots"] for line in lines}, key=lambda word: (word == "all", len(word), word))
    sets = sorted({line["set"] for line in lines})
    print(
        "| candidate | " + " | ".join(f"{k}: F1, AUROC" for k in shots) + " | mean F1 | AUROC | ECE | loss |"
    )
    print("|---" * (len(shots) + 5) + "|")
    for name, cells in means.items():
        columns = [np.mean([cells[k, one] for one in sets], 0) for k in shots]
        over_all = np.mean(columns, 0)
        print(
            f"| {name} | "
            + " | ".join(f"{column[0]:.3f}, {column[1]:.3f}" for column in columns)
            + f" | {over_all[0]:.4f} | {over_all[1]:.4f} | {over_all[2]:.3f} | {over_all[3]:.3f} |"
        )
    settings = [name for name in means if name not in BASELINES]

    def score(name: str, of: tuple[str, ...]) -> np.ndarray:
        return np.mean([means[name][k, one] for k in shots for one in of], 0)

    def best(of: tuple[str, ...]) -> str:
        return max(settings, key=lambda name: score(name, of)[0] + score(name, of)[1])

    print("\n| chosen on | setting | on the other two: F1, AUROC | their own best | linear probe | gda |")
    print("|---|---|---|---|---|---|")
    for three in combinations(sets, 3):
        two = tuple(one for one in sets if one not in three)
        shown = [best(three), best(two), "linear-probe", "gda"]
        cells = ["{:.3f}, {:.3f}".format(*score(name, two)[:2]) for name in shown]
        print(f"| {', '.join(one.split('_')[0] for one in three)} | {shown[0]} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
