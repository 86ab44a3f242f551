"""The tables of docs/vip-whitened.md from those of a study.

    python benchmarks/better/summary.py benchmarks/results/better

Means over the sets; mean ranks; differences to `vip`, the probe and GDA, set by set (Holm-corrected as the
study did, and not) and over the sets. The interval of a difference over the sets takes the sets' own
intervals as normal and independent; it is about patients, not about other sets or draws.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

FIRST = "vip-whitened"
AGAINST = ("vip", "linear-probe", "gda")
FIGURES = ("macro_f1", "auroc", "ece")
Row = dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", type=Path)
    tables = parser.parse_args().study / "tables"
    rows = {name: _read(tables / f"{name}.csv") for name in ("results", "ranks", "comparisons", "seconds")}
    for part in (means(rows["results"], rows["ranks"]), at_all(rows["results"])):
        print("\n".join(part))
    print("\n".join(differences(rows["comparisons"])))
    print("\n".join(seconds(rows["seconds"])))


def _read(file: Path) -> list[Row]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def _shots(rows: list[Row]) -> list[str]:
    return sorted({row["shots"] for row in rows}, key=lambda word: (word == "all", len(word), word))


def means(results: list[Row], ranks: list[Row]) -> Iterator[str]:
    """Each figure over the sets, and the mean of the mean ranks at each number of shots."""
    shots, methods = _shots(results), list(dict.fromkeys(row["method"] for row in results))
    for figure in FIGURES:
        yield f"\n| {figure} | " + " | ".join(shots) + " | mean rank |\n" + "|---" * (len(shots) + 2) + "|"
        for method in methods:
            of_method = [row for row in results if (row["method"], row["figure"]) == (method, figure)]
            values = [np.mean([float(r["mean"]) for r in of_method if r["shots"] == k]) for k in shots]
            own = [float(r["mean_rank"]) for r in ranks if (r["method"], r["figure"]) == (method, figure)]
            rank = f"{np.mean(own):.1f}" if own else ""
            yield f"| {method} | " + " | ".join(f"{value:.3f}" for value in values) + f" | {rank} |"
    yield f"\ncritical difference: {ranks[0]['critical_difference']}"


def at_all(results: list[Row]) -> Iterator[str]:
    """With all images, set by set."""
    rows = [row for row in results if row["shots"] == "all"]
    sets = list(dict.fromkeys(row["data"] for row in rows))
    for figure in FIGURES:
        yield f"\n| {figure}, all | " + " | ".join(sets) + " |\n" + "|---" * (len(sets) + 1) + "|"
        for method in (FIRST, *AGAINST):
            found = {r["data"]: r["mean"] for r in rows if (r["method"], r["figure"]) == (method, figure)}
            yield f"| {method} | " + " | ".join(f"{float(found[name]):.3f}" for name in sets) + " |"


def differences(comparisons: list[Row]) -> Iterator[str]:
    """Where the method is better or worse than each of the others."""
    shots = _shots(comparisons)
    for figure in ("macro_f1", "auroc"):
        yield f"\n| {figure} less that of | " + " | ".join(shots) + " |\n" + "|---" * (len(shots) + 1) + "|"
        found = [row for row in comparisons if row["figure"] == figure]
        for other in AGAINST:
            pairs = [_signed(row) for row in found if {row["first"], row["second"]} == {FIRST, other}]
            by_shots: dict[str, list[tuple[float, float]]] = defaultdict(list)
            counts: Counter[str] = Counter()
            worse = []
            for name, word, value, low, high, p_holm in pairs:
                by_shots[word].append((value, (high - low) / 3.92))
                sign = "better" if value > 0 else "worse"
                counts["corrected " + sign] += p_holm < 0.05
                counts["interval " + sign] += low > 0 or high < 0
                if high < 0:
                    worse.append(f"{name.split('_')[0]} {word}: {value:+.3f} [{low:+.3f}, {high:+.3f}]")
            cells = []
            for word in shots:
                value = np.mean([value for value, _ in by_shots[word]])
                half = 1.96 * math.hypot(*(error for _, error in by_shots[word])) / len(by_shots[word])
                cells.append(f"{value:+.3f} ± {half:.3f}")
            yield f"| {other} | " + " | ".join(cells) + " |"
            yield f"  {len(pairs)} pairs: {dict(counts)}; interval below zero: {'; '.join(worse) or 'none'}"


def _signed(row: Row) -> tuple[str, str, float, float, float, float]:
    """Set, shots, difference, its interval and p after Holm; FIRST less the other."""
    value, low, high, p_holm = (float(row[key] or "nan") for key in ("difference", "low", "high", "p_holm"))
    if row["first"] != FIRST:
        value, low, high = -value, -high, -low
    return row["data"], row["shots"], value, low, high, p_holm


def seconds(rows: list[Row]) -> Iterator[str]:
    """Processor seconds of fitting."""
    shots = _shots(rows)
    yield "\n| processor seconds to fit | " + " | ".join(shots) + " |\n" + "|---" * (len(shots) + 1) + "|"
    for method in dict.fromkeys(row["method"] for row in rows):
        found = {row["shots"]: float(row["fit_processor"]) for row in rows if row["method"] == method}
        yield f"| {method} | " + " | ".join(f"{found[k]:.2f}" if k in found else "" for k in shots) + " |"


if __name__ == "__main__":
    main()
