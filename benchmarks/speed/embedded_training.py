"""Training with the embedded backbone: recipe ``fast`` on a real set, one seed alone and several together.

    python benchmarks/speed/embedded_training.py --data FOLDER [--symptoms NAME] [--seeds 8] [--rounds 3]

Seconds from vectors that are there to learned prompts, by turns: `ViP.fit` of one seed, and
`medvip.fit_seeds`'s way of all seeds together. Then the test accuracy of each seed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from machine import description, peak_memory_mb, summary

import medvip
from medvip.atomic import write_atomically
from medvip.evaluation import evaluate
from medvip.features import Features
from medvip.methods.prompt_method import fit_together


def measure(features: Features, symptoms: medvip.SymptomSet, seeds: int, rounds: int) -> dict[str, Any]:
    """One alone and all together, in turns; the first of each is not counted."""
    backbone = medvip.load_backbone("embedded", device="cpu")
    seconds: dict[str, list[float]] = {"one": [], "together": []}
    learners: list[medvip.ViP] = []
    for _ in range(rounds + 1):
        for name, count in (("one", 1), ("together", seeds)):
            learners = [medvip.ViP(backbone, symptoms, recipe="fast", seed=1 + seed) for seed in range(count)]
            started = time.perf_counter()
            fit_together(learners, [(features.train, features.val)] * count)
            seconds[name].append(time.perf_counter() - started)
    one, together = (statistics.median(taken[1:]) for taken in seconds.values())
    return {
        "seconds": {name: summary(taken[1:]) for name, taken in seconds.items()},
        "seeds": seeds,
        "together_against_one": together / one,
        "test_accuracy": [_accuracy(learner, features) for learner in learners],
    }


def _accuracy(learner: medvip.ViP, features: Features) -> float:
    test = features.test
    probabilities = learner.predict_proba(test.plain)
    return evaluate(probabilities, test.labels.numpy(), test.classes, resamples=0).accuracy.value


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="as medvip fit takes it")
    parser.add_argument("--symptoms", default="paediatric-pneumonia", help="ready-made set or file")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file, besides the terminal")
    given = parser.parse_args()
    features = medvip.compute_features(medvip.load_dataset(given.data), medvip.load_backbone("embedded"))
    found = measure(features, medvip.SymptomSet.load(given.symptoms), given.seeds, given.rounds)
    command = " ".join(["python benchmarks/speed/embedded_training.py", *sys.argv[1:]])
    found = {"command": command, "machine": description(), **found}
    text = json.dumps(found | {"peak_memory_mb": peak_memory_mb()}, indent=1) + "\n"
    if given.out:
        write_atomically(given.out, text)
    print(text, end="")


if __name__ == "__main__":
    main()
