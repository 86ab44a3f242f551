"""Training time of recipe ``fast`` beside ``paper``, on the five sets, embedded backbone, one seed.

    python benchmarks/speed/recipes.py --data FOLDER [--epochs 3] [--out FILE.json]

FOLDER holds the five sets' folders. ``fast`` is run whole; of ``paper`` `--epochs` epochs after the first,
and its 50 are extrapolated from them. From vectors that are there to learned prompts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import tomllib
from pathlib import Path

from machine import description

import medvip
from medvip.atomic import write_atomically
from medvip.training import get_recipe

STUDY = Path(__file__).parents[1] / "studies" / "ours.toml"
"""Names the five sets and their symptoms."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file, besides the terminal")
    given = parser.parse_args()
    backbone = medvip.load_backbone("embedded", device="cpu")
    found = {}
    for one in tomllib.loads(STUDY.read_text(encoding="utf-8"))["data"]:
        name, symptoms = one["path"], medvip.SymptomSet.load(one["symptoms"])
        dataset = medvip.load_dataset(given.data / name)
        features = medvip.compute_features(dataset, backbone, quiet=True)
        if not found:  # the text tower is read at its first use, and its weights packed
            medvip.ViP(backbone, symptoms, recipe=get_recipe("fast", epochs=1)).fit(
                features.train, features.val
            )
        started = time.perf_counter()
        medvip.ViP(backbone, symptoms, recipe="fast").fit(features.train, features.val)
        fast = time.perf_counter() - started
        few = get_recipe("paper", epochs=given.epochs + 1)
        history = medvip.ViP(backbone, symptoms, recipe=few).fit(features.train, features.val).history
        epoch = statistics.mean(entry["seconds"] for entry in history[1:])
        paper = epoch * get_recipe("paper").epochs
        found[name] = {"fast_seconds": fast, "paper_seconds": paper, "fast_against_paper": fast / paper}
    command = " ".join(["python benchmarks/speed/recipes.py", *sys.argv[1:]])
    text = json.dumps({"command": command, "machine": description(), "sets": found}, indent=1) + "\n"
    if given.out:
        write_atomically(given.out, text)
    print(text, end="")


if __name__ == "__main__":
    main()
