"""Reads what try_out.py wrote: means, and which setting three sets would choose for the other two.

    python benchmarks/better/choose.py OUT.jsonl [--shots all]

A setting's score is the mean over shots and sets of macro-F1 + AUROC (both matter, AUROC has less noise).
Every three of the five sets choose once; the other two say what that choice is worth there, against the
probe, and against the setting that these two themselves would have chosen.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

BASELINES = ("linear-probe", "gda", "nearest-class-mean", "lp++")
FIGURES = ("macro_f1", "auroc", "ece", "loss")
DRAWS = 2


@dataclass(frozen=True)
class Tries:
    """Mean figures of each candidate on each set with each number of shots, over draws that all have.

    Attributes
    ----------
    draws
        How many.
    means
        By candidate, then by shots and set, in the order of `FIGURES`.
    """

    draws: int
    means: dict[str, dict[tuple[str, str], np.ndarray]]

    @classmethod
    def read(cls, file: Path, shots: Sequence[str] | None = None) -> Tries:
        """Over the first two draws of each set; a candidate that lacks one of them is left out."""
        by_candidate: dict[str, dict[tuple[str, str, int], list[float]]] = defaultdict(dict)
        for line in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
            if line["draw"] < DRAWS and (shots is None or line["shots"] in shots):
                draw = line["shots"], line["set"], line["draw"]
                by_candidate[line["candidate"]][draw] = [line[name] for name in FIGURES]
        wanted = set(by_candidate[BASELINES[0]])
        cells = sorted({draw[:2] for draw in wanted})
        return cls(
            len(wanted),
            {
                name: {cell: np.mean([draws[d] for d in wanted if d[:2] == cell], 0) for cell in cells}
                for name, draws in by_candidate.items()
                if wanted <= set(draws)
            },
        )

    @property
    def shots(self) -> list[str]:
        """In order."""
        words = {cell[0] for cells in self.means.values() for cell in cells}
        return sorted(words, key=lambda word: (word == "all", len(word), word))

    @property
    def sets(self) -> list[str]:
        """In order."""
        return sorted({cell[1] for cells in self.means.values() for cell in cells})

    def score(self, name: str, of: Sequence[str]) -> np.ndarray:
        """Mean figures of a candidate over all shots and some sets."""
        found = [value for (_, one), value in self.means[name].items() if one in of]
        return np.mean(found, 0)

    def best(self, of: Sequence[str]) -> str:
        """The setting that these sets choose."""
        settings = [name for name in self.means if name not in BASELINES]
        return max(settings, key=lambda name: float(self.score(name, of)[:2].sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("lines", type=Path)
    parser.add_argument("--shots", nargs="+", help="only these")
    given = parser.parse_args()
    print("\n".join(tables(Tries.read(given.lines, given.shots))))


def tables(tries: Tries) -> Iterator[str]:
    """Means of all candidates, and the swap of sets."""
    yield f"{tries.draws} draws that {len(tries.means)} candidates have\n"
    heads = " | ".join(f"{k}: F1, AUROC" for k in tries.shots)
    yield f"| candidate | {heads} | mean F1 | AUROC | ECE | loss |"
    yield "|---" * (len(tries.shots) + 5) + "|"
    for name, cells in tries.means.items():
        columns = [np.mean([v for (k, _), v in cells.items() if k == word], 0) for word in tries.shots]
        f1, area, ece, loss = np.mean(columns, 0)
        of_shots = " | ".join(f"{column[0]:.3f}, {column[1]:.3f}" for column in columns)
        yield f"| {name} | {of_shots} | {f1:.4f} | {area:.4f} | {ece:.3f} | {loss:.3f} |"
    yield "\n| chosen on | setting | on the other two: F1, AUROC | their own best | linear probe | gda |"
    yield "|---|---|---|---|---|---|"
    for three in combinations(tries.sets, 3):
        two = [one for one in tries.sets if one not in three]
        shown = [tries.best(three), tries.best(two), "linear-probe", "gda"]
        scores = " | ".join("{:.3f}, {:.3f}".format(*tries.score(name, two)[:2]) for name in shown)
        yield f"| {', '.join(one.split('_')[0] for one in three)} | {shown[0]} | {scores} |"


if __name__ == "__main__":
    main()
