"""Two studies of the same runs on other image vectors, picture by picture: what the vectors are worth.

    python benchmarks/eye.py BEFORE AFTER [--also BEFORE2] [--out table.md]

BEFORE and AFTER are folders that `medvip benchmark` wrote (docs/embedded-backbone.md says which). Runs of the
same data set, method, number of images a class and seed are paired; both have seen the same training
pictures and are asked about the same test pictures. Groups of test pictures (patients, lesions) are
resampled once for both. A cell is the mean over the seeds. Intervals are about test patients, not about
other sets; those of means over sets resample each set by itself.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from medvip.atomic import write_atomically
from medvip.evaluation.benchmark.records import Predictions, read_predictions, read_record
from medvip.evaluation.bootstrap import group_codes, group_weights
from medvip.evaluation.comparison import figures_on

FIGURES = ("macro_f1", "auroc", "ece")
RESAMPLES = 1000
Key = tuple[str, str, str, int]
"""Data set, method, images a class, seed."""
Place = tuple[str, str, str]


def records(study: Path) -> dict[Key, Path]:
    """The records of a study that are done."""
    found = {}
    for file in sorted(study.glob("runs/**/*.json")):
        record = read_record(file)
        if record is not None and record["status"] == "done":
            cell = record["cell"]
            found[cell["data"], cell["row"], str(cell["shots"]), cell["seed"]] = file
    return found


def predictions(file: Path) -> Predictions:
    """With pictures in the order of their content."""
    record = read_record(file)
    assert record is not None
    return read_predictions(file, record)


def figures(file: Path, weights: np.ndarray) -> np.ndarray:
    """[figure, resample]; the first resample is the pictures as they are."""
    found = predictions(file)
    order = np.argsort(found.ids)
    values = figures_on(found.probabilities[order], found.labels[order], weights)
    return np.stack([values[name] for name in FIGURES])


def compared(before: dict[Key, Path], after: dict[Key, Path]) -> dict[Place, tuple[np.ndarray, np.ndarray]]:
    """Of each set, method and number of images: both [figure, resample], means over the common seeds."""
    pairs: dict[Place, list[Key]] = defaultdict(list)
    for key in sorted(before.keys() & after.keys()):
        pairs[key[:3]].append(key)
    weights_of: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    found = {}
    for place, keys in pairs.items():
        both = []
        for files in (before, after):
            values = []
            for key in keys:
                said = predictions(files[key])
                order = np.argsort(said.ids)
                ids = tuple(np.array(said.ids)[order])
                if place[0] not in weights_of:
                    codes = group_codes([said.groups[row] for row in order], len(ids))
                    drawn = group_weights(codes, RESAMPLES, np.random.default_rng(1))
                    weights_of[place[0]] = ids, np.concatenate([np.ones((1, len(ids))), drawn])
                known, weights = weights_of[place[0]]
                if ids != known:
                    raise SystemExit(f"{files[key]}: other test pictures than in the other study")
                values.append(figures(files[key], weights))
            both.append(np.mean(values, 0))
        found[place] = both[0], both[1]
    return found


def interval(resampled: np.ndarray) -> tuple[float, float, float]:
    """The value, and the 2.5th and 97.5th percentile of its resamples."""
    low, high = np.nanpercentile(resampled[1:], [2.5, 97.5])
    return float(resampled[0]), float(low), float(high)


def table(found: dict[Place, tuple[np.ndarray, np.ndarray]]) -> Iterator[str]:
    """Markdown: means over the sets, then set by set, then where an interval lies below zero."""
    sets, methods, shots = (sorted({place[part] for place in found}) for part in range(3))
    shots.sort(key=lambda word: (word == "all", len(word), word))
    for index, name in enumerate(FIGURES):
        yield f"\n| {name}, mean of {len(sets)} sets | " + " | ".join(shots) + " |"
        yield "|---" * (len(shots) + 1) + "|"
        for method in methods:
            cells = []
            for word in shots:
                chosen = [found[one, method, word] for one in sets]
                before, after = (np.mean([pair[side][index] for pair in chosen], 0) for side in (0, 1))
                value, low, high = interval(after - before)
                cells.append(f"{before[0]:.3f} to {after[0]:.3f}: {value:+.3f} [{low:+.3f}, {high:+.3f}]")
            yield f"| `{method}` | " + " | ".join(cells) + " |"
    for index, name in enumerate(FIGURES[:2]):
        yield f"\n| {name}, all images | " + " | ".join(sets) + " |\n" + "|---" * (len(sets) + 1) + "|"
        for method in methods:
            cells = []
            for one in sets:
                before, after = (side[index] for side in found[one, method, "all"])
                value, low, high = interval(after - before)
                cells.append(f"{before[0]:.3f} to {after[0]:.3f}: {value:+.3f} [{low:+.3f}, {high:+.3f}]")
            yield f"| `{method}` | " + " | ".join(cells) + " |"
    yield "\nWhere it is worse by more than its interval:\n"
    worse = []
    for (one, method, word), (before, after) in sorted(found.items()):
        for index, name in enumerate(FIGURES[:2]):
            value, low, high = interval(after[index] - before[index])
            if high < 0:
                worse.append(f"- {one}, `{method}`, {word}: {name} {value:+.3f} [{low:+.3f}, {high:+.3f}]")
    yield "\n".join(worse) or "nowhere."
    better = sum(interval((after - before)[i])[1] > 0 for before, after in found.values() for i in (0, 1))
    yield f"\nBetter by more than its interval: {better} of {2 * len(found)} places (macro-F1 and AUROC)."


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--also", type=Path, help="a second folder of runs before, of other sets")
    parser.add_argument("--out", type=Path, help="file for the table; beside it a JSON with all numbers")
    given = parser.parse_args()
    before = records(given.before) | (records(given.also) if given.also else {})
    found = compared(before, records(given.after))
    if not found:
        raise SystemExit("no run is in both studies")
    text = "\n".join(table(found)).strip() + "\n"
    print(text)
    if given.out:
        write_atomically(given.out, text)
        numbers = [
            {
                "set": place[0],
                "method": place[1],
                "shots": place[2],
                "before": dict(zip(FIGURES, map(float, before[:, 0]), strict=True)),
                "after": dict(zip(FIGURES, map(float, after[:, 0]), strict=True)),
                "difference": {name: interval((after - before)[index]) for index, name in enumerate(FIGURES)},
            }
            for place, (before, after) in sorted(found.items())
        ]
        write_atomically(given.out.with_suffix(".json"), json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    main()
