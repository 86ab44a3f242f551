"""How long a report on 1,000 test images takes, and how large its file is.

    python benchmarks/report_limits.py

Draws 1,320 phantoms, trains ViP (recipe ``fast``) on 256 of them and reports on 1,000: once with no
vector kept, once with all kept. Phantoms of one patient stand on both sides here: the figures in
these reports mean nothing, time and size are what is measured.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import medvip
from medvip.phantoms import draw_phantoms
from medvip.types import Split

TRAIN, VAL, TEST = 256, 64, 1000
SECONDS, MEGABYTES = 60, 30
"""What it has to stay below."""


def split_of(place: int) -> Split:
    return "train" if place < TRAIN else "val" if place < TRAIN + VAL else "test"


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        folder = draw_phantoms(place / "phantoms", images=TRAIN + VAL + TEST)
        started = time.perf_counter()
        drawn = medvip.load_dataset(folder)
        loading = time.perf_counter() - started
        by_name = sorted(drawn.samples, key=lambda sample: Path(sample.path).name)
        dataset = drawn.with_samples(
            replace(sample, split=split_of(place)) for place, sample in enumerate(by_name)
        )
        backbone = medvip.load_backbone("embedded", device="cpu")
        learned_from = dataset.with_samples(sample for sample in dataset if sample.split != "test")
        symptoms = medvip.SymptomSet.load("phantoms")
        kept = {"cache": place / "cache", "quiet": True}
        run = medvip.fit(learned_from, backbone, symptoms, recipe="fast", **kept)
        found: dict[str, object] = {"seconds to load the data, to be added": round(loading, 1)}
        for what in ("no vector of a test image kept", "all vectors kept", "all failures shown"):
            started = time.perf_counter()
            file = medvip.write_report(
                run,
                dataset,
                place / "report",
                failures=TEST if what == "all failures shown" else 20,
                force=True,
                **kept,
            )
            seconds, size = time.perf_counter() - started, file.stat().st_size / 1e6
            shown = file.read_text(encoding="utf-8").count('<article class="case"')
            found[what] = {
                "seconds": round(seconds, 1),
                "megabytes": round(size, 2),
                "failures_shown": shown,
                "within": loading + seconds < SECONDS and size < MEGABYTES,
            }
        print(json.dumps({"images": TEST, "processors": os.cpu_count(), **found}, indent=2))


if __name__ == "__main__":
    main()
