"""The paper's Pneumonia run from end to end: medvip's way, and the long way round.

    python benchmarks/speed/paper_run.py [--epochs 2] [--out FILE.json]

4,710 training, 522 validation and 624 test images, 50 epochs, 3 seeds, CLIP ViT-B/16 shapes with
random weights, 32-bit numbers, recipe ``paper``, 2 classes with 4 symptoms each. What is measured:

- medvip: pictures from JPEG files to vectors (`compute_features` does the same), images a second;
  `ViP.fit` for all seeds on as many vectors as the paper has, `--epochs` epochs of the 50.
- the long way (`naive.py`): training steps, and a batch of its test pass; pictures are in memory
  already, so that reading and decoding, which it does at every step, are not held against it.

All else is multiplication, and the JSON says of what.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from growth import fit_seeds
from machine import description, in_child, peak_memory_mb, seconds_of
from made_up import TOKENS, clip_vit_b16, load_clip, pictures, symptoms, table
from naive import TEST_BATCH, NaiveViP, evaluation_pass, optimizer_of, train_step
from step import BATCH, CLASSES, SYMPTOMS, token_ids

from medvip import load_backbone
from medvip.atomic import write_atomically
from medvip.features import encode_paths
from medvip.training import get_recipe

TRAIN, VALIDATION, TEST = 4710, 522, 624
EPOCHS, SEEDS = 50, (1, 2, 3)
PICTURE_SIZE = (1328, 971)
"""Width and height of the made-up JPEGs: about the mean of the paper's chest X-rays."""


def naive_part(folder: Path, repeats: int) -> dict[str, Any]:
    """Seconds of a step and of a batch of the test pass."""
    model = NaiveViP(load_clip(folder), token_ids(folder, list(TOKENS)))
    optimizer = optimizer_of(model)
    pixels, labels = torch.randn(BATCH, 3, 224, 224), torch.arange(BATCH) % CLASSES
    steps = seconds_of(lambda: train_step(model, optimizer, pixels, labels), repeats)
    pixels = torch.randn(TEST_BATCH, 3, 224, 224)
    batches = seconds_of(lambda: evaluation_pass(model, [pixels]), 1, warm_up=0)
    return {"step": steps, "test_batch": batches, "peak_memory_mb": peak_memory_mb()}


def features_part(folder: Path, repeats: int) -> dict[str, Any]:
    """Seconds a picture, from the file to the kept vector; the first batch warms up."""
    backbone = load_backbone(str(folder), device="cpu")
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        paths = [str(path) for path in pictures(place / "pictures", 32 * (repeats + 1), PICTURE_SIZE)]
        encode_paths(paths[:32], backbone, cache=place / "cache", quiet=True)
        started = time.perf_counter()
        encode_paths(paths[32:], backbone, cache=place / "cache", quiet=True)
        seconds = (time.perf_counter() - started) / (len(paths) - 32)
    return {"seconds_a_picture": seconds, "pictures": 32 * repeats, "peak_memory_mb": peak_memory_mb()}


def training_part(folder: Path, epochs: int) -> dict[str, Any]:
    """Seconds of `epochs` epochs of all seeds, all that `ViP.fit` does around them included."""
    backbone = load_backbone(str(folder), device="cpu")
    train, validation = (table(count, backbone.embed_dim, CLASSES) for count in (TRAIN, VALIDATION))
    texts, recipe = symptoms(CLASSES, SYMPTOMS), get_recipe("paper", epochs=epochs)
    seconds = fit_seeds(backbone, texts, train, validation, recipe, SEEDS)
    return {"seconds": seconds, "epochs": epochs, "peak_memory_mb": peak_memory_mb()}


PARTS = {"naive": naive_part, "features": features_part, "training": training_part}


def totals(naive: dict[str, Any], features: dict[str, Any], training: dict[str, Any]) -> dict[str, Any]:
    """From what was measured to the whole run."""
    steps = TRAIN // BATCH  # the released code drops an epoch's last, smaller batch
    step, picture = statistics.median(naive["step"]), statistics.median(naive["test_batch"]) / TEST_BATCH
    the_long_way = len(SEEDS) * (EPOCHS * (steps * step + VALIDATION * picture) + TEST * picture)
    images = TRAIN + VALIDATION + TEST
    encoding = images * features["seconds_a_picture"]
    learning = training["seconds"] * EPOCHS / training["epochs"]
    return {
        "naive_hours": the_long_way / 3600,
        "medvip_hours": (encoding + learning) / 3600,
        "medvip_encoding_minutes": encoding / 60,
        "medvip_training_minutes": learning / 60,
        "ratio": the_long_way / (encoding + learning),
        "how": {
            "naive_hours": f"{len(SEEDS)} seeds x ({EPOCHS} epochs x ({steps} steps x measured step + "
            f"{VALIDATION} images of a test pass) + {TEST} images of a test pass), "
            f"an image of a test pass = measured batch of {TEST_BATCH} / {TEST_BATCH}",
            "medvip_encoding_minutes": f"{images} images, each once, x measured seconds an image",
            "medvip_training_minutes": f"all {len(SEEDS)} seeds, {training['epochs']} epochs measured "
            f"x {EPOCHS} / {training['epochs']}",
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=2, help=f"of {EPOCHS}: so many are measured")
    parser.add_argument("--repeats", type=int, default=3, help="naive steps, and batches of pictures")
    parser.add_argument("--out", type=Path, help="JSON file, besides the terminal")
    parser.add_argument("--folder", type=Path, help="model folder, instead of one made for this run")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        amount = given.epochs if given.part == "training" else given.repeats
        print(json.dumps(PARTS[given.part](given.folder, amount)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or clip_vit_b16(Path(temporary) / "vit_b16")
        passed_on = ["--folder", str(folder), "--epochs", str(given.epochs), "--repeats", str(given.repeats)]
        measured = {part: in_child(Path(__file__), "--part", part, *passed_on) for part in PARTS}
    found = {
        "command": " ".join(["python benchmarks/speed/paper_run.py", *sys.argv[1:]]),
        "machine": description(),
        **totals(**measured),
        "measured": measured,
    }
    text = json.dumps(found, indent=1) + "\n"
    if given.out:
        write_atomically(given.out, text)
    print(text, end="")


if __name__ == "__main__":
    main()
