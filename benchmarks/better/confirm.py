r"""Settings of `vip-whitened` chosen on three sets, on the test images of the other two.

    python benchmarks/better/confirm.py DATA benchmarks/results/better_tries.jsonl \
        --study benchmarks/results/better --out benchmarks/results/better_confirmed.json

Every three of the five sets choose by their folds, as choose.py does, over all shots together. The test
images of the other two are then predicted with that setting, with the study's shots and seeds, and
compared with the study's own runs. Means over the two sets and all seeds.
What is in OUT is not computed again.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
from choose import Tries
from material import SETS, figures
from try_out import learner

import medvip
from medvip.atomic import write_atomically

ROWS = ("vip", "linear-probe", "gda")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("tries", type=Path)
    parser.add_argument("--study", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    tries = Tries.read(given.tries)
    chosen = {three: tries.best(three) for three in combinations(SETS, 3)}
    of_study = studied(given.study)
    known = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else {}
    backbone = medvip.load_backbone("embedded", device="cpu")
    for name, symptoms in SETS.items():
        settings = {setting for three, setting in chosen.items() if name not in three}
        cells = {key[1:] for key in of_study if key[0] == name}
        dataset = medvip.load_dataset(given.data / name)
        for shots, seed in sorted(cells, key=str):
            wanted = [s for s in sorted(settings) if f"{name}|{s}|{shots}|{seed}" not in known]
            if not wanted:
                continue
            few = dataset if shots == "all" else medvip.few_shot(dataset, int(shots), seed=seed)
            tables = medvip.compute_features(few, backbone, quiet=True)
            for setting in wanted:
                model = learner(setting, backbone, medvip.SymptomSet.load(symptoms))
                model.fit(tables.train, tables.val)
                found = figures(model.predict_proba(tables.test.plain), tables.test)
                known[f"{name}|{setting}|{shots}|{seed}"] = {k: found[k] for k in ("macro_f1", "auroc")}
        write_atomically(given.out, json.dumps(known, indent=0) + "\n")
    print("\n".join(table(chosen, known, of_study)))


def studied(folder: Path) -> dict[tuple[str, str, int], dict[str, dict[str, float]]]:
    """Of each set, shots and seed the test figures of the rows to compare with."""
    found: dict[tuple[str, str, int], dict[str, dict[str, float]]] = defaultdict(dict)
    for file in sorted((folder / "runs").rglob("*.json")):
        run = json.loads(file.read_text(encoding="utf-8"))
        cell = run["cell"]
        if run["status"] == "done" and cell["row"] in ROWS:
            value = {key: run["metrics"]["test"][key]["value"] for key in ("macro_f1", "auroc")}
            found[cell["data"], str(cell["shots"]), cell["seed"]][cell["row"]] = value
    return found


def table(
    chosen: dict[tuple[str, ...], str],
    known: dict[str, dict[str, float]],
    of_study: dict[tuple[str, str, int], dict[str, dict[str, float]]],
) -> Iterator[str]:
    """For each three sets what they chose, and what it is worth on the other two at each number of shots."""
    shots = sorted({key[1] for key in of_study}, key=lambda word: (word == "all", len(word), word))
    for figure in ("macro_f1", "auroc"):
        yield f"\n{figure} on the other two sets' test images (less {', less '.join(ROWS)})\n"
        yield "| chosen on | setting | " + " | ".join(shots) + " |\n" + "|---" * (len(shots) + 2) + "|"
        for three, setting in chosen.items():
            columns = []
            for word in shots:
                cells = [key for key in of_study if key[0] not in three and key[1] == word]
                ours = by_set(
                    (key[0], known["|".join([key[0], setting, *map(str, key[1:])])]) for key in cells
                )
                theirs = [
                    by_set((key[0], of_study[key][row]) for key in cells if row in of_study[key])
                    for row in ROWS  # a method without chance runs once with all images
                ]
                apart = ", ".join(f"{ours[figure] - other[figure]:+.3f}" for other in theirs)
                columns.append(f"{ours[figure]:.3f} ({apart})")
            yield f"| {', '.join(one.split('_')[0] for one in three)} | {setting} | {' | '.join(columns)} |"


def by_set(runs: Iterable[tuple[str, dict[str, float]]]) -> dict[str, float]:
    """Of runs by set, the mean over sets of the means over seeds."""
    groups: dict[str, list[dict[str, float]]] = defaultdict(list)
    for name, values in runs:
        groups[name].append(values)
    figures = next(iter(groups.values()))[0]
    return {f: float(np.mean([np.mean([one[f] for one in g]) for g in groups.values()])) for f in figures}


if __name__ == "__main__":
    main()
