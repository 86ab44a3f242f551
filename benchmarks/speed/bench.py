"""The short benchmark behind `make bench`: one JSON, in less than three minutes.

    python benchmarks/speed/bench.py

Training step on ViT-B/16 shapes (`step.py`), a cold `medvip predict` of one picture and `medvip --help`
with the embedded backbone, and the embedded backbone's training with recipe ``fast`` on made-up
vectors. Times are medians; what is only read once (files that the system has not in memory yet) is
read before.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import description, seconds_of
from made_up import TOKENS, class_names, clip_vit_b16, pictures, symptoms, table
from step import measure

import medvip
from medvip.features import Augmentation, Features
from medvip.runs.fitting import fit_features
from medvip.types import ImageDataset

IMAGES = 602
"""Training images of the kermany_cxr_pneumonia set; a sixth as many for validation."""


def embedded_training() -> tuple[float, Features, Any]:
    """Seconds of `ViP.fit` with recipe ``fast``, and what it learned from and gave."""
    backbone = medvip.load_backbone("embedded", device="cpu")
    dim, texts = backbone.embed_dim, symptoms(2, 4)
    features = Features(table(IMAGES, dim, 2), table(IMAGES // 6, dim, 2, seed=1), table(60, dim, 2, seed=2))
    learner = medvip.ViP(backbone, texts, recipe="fast")
    learner.fit(features.train, features.val)  # warms up: the text tower is read at its first use
    seconds = seconds_of(lambda: learner.fit(features.train, features.val), 1, warm_up=0)
    return statistics.median(seconds), features, learner


def command_seconds(arguments: list[str], repeats: int, environment: dict[str, str]) -> float:
    """Median seconds of a `medvip` command in a fresh process; the first is not counted."""

    def run() -> None:
        command = [sys.executable, "-m", "medvip", *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)

    return statistics.median(seconds_of(run, repeats))


def main() -> None:
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        step = measure(clip_vit_b16(place / "vit_b16"), list(TOKENS), rounds=1)
        seconds, features, learner = embedded_training()
        nothing = ImageDataset("made up", class_names(2), ())
        fit_features(learner, features, nothing, Augmentation(), out=place / "run", quiet=True)
        (picture,) = pictures(place, 1, (256, 256))
        # No vector of the picture is there already, so that its encoding is part of the time.
        environment = {**os.environ, "MEDVIP_CACHE": str(place / "cache")}
        predict = ["predict", str(place / "run"), str(picture), "--quiet"]
        found = {
            **step,
            "predict_cold_seconds": command_seconds(predict, 3, environment),
            "help_seconds": command_seconds(["--help"], 5, environment),
            "embedded_fast_training_seconds": seconds,
            "embedded_fast_training_images": IMAGES,
        }
    found |= {"machine": description(), "took_seconds": time.perf_counter() - started}
    print(json.dumps({"command": "make bench", **found}, indent=1))


if __name__ == "__main__":
    main()
