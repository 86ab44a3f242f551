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
    parser.add_argument("--shots", nargs="+", help="only these")
    given = parser.parse_args()
    lines = [json.loads(line) for line in given.lines.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if given.shots is None or line["shots"] in given.shots]
    by_candidate: dict[str, dict[tuple[str, str, int], list[float]]] = defaultdict(dict)
    for line in lines:
        draw = line["shots"], line["set"], line["draw"]
        by_candidate[line["candidate"]][draw] = [line[name] for name in FIGURES]
    counts = [len(draws) for draws in by_candidate.values()]
    common = set.intersection(*(set(x) for x in by_candidate.values() if 2 * len(x) >= max(counts)))
    lines = [line for line in lines if (line["shots"], line["set"], line["draw"]) in common]
    means = {
        name: {
            cell: np.mean([draws[draw] for draw in common if draw[:2] == cell], 0)
            for cell in {draw[:2] for draw in common}
        }
        for name, draws in by_candidate.items()
        if common <= set(draws)
    }
    print(f"{len(common)} draws that {len(means)} candidates have\n")
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
