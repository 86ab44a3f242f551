"""Pictures a second from files to vectors: read, decoded, encoded, and all of it as medvip does it.

    python benchmarks/speed/features.py --data FOLDER [--pictures 512] [--vit-pictures 96] [--out FILE.json]

On JPEGs from all over FOLDER, with the embedded backbone
and with a ViT-B/16 of random weights. Each stage alone, in as many threads as there are processors,
then the whole: `medvip.features.encode_paths` into an empty cache. How much the whole is slower than
the encoder alone is what reading and decoding take away from it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from machine import against_peak, description, peak_memory_mb, products, seconds_of, summary
from made_up import clip_vit_b16, load_clip

from medvip import load_backbone
from medvip.atomic import write_atomically
from medvip.backbones import Backbone
from medvip.features import encode_paths
from medvip.features.extraction import BATCH
from medvip.images import content_hash, read_picture


def stages(backbone: Backbone, paths: list[str], rounds: int) -> dict[str, Any]:
    """Each stage's pictures a second, median of `rounds` by turns."""

    def in_threads(make: Callable[[str], Any]) -> list[Any]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(make, paths))

    def decoded(path: str) -> torch.Tensor:
        return backbone.preprocess(read_picture(path))

    batches = [torch.stack(list(map(decoded, some))) for some in _parts(paths)]

    def encode() -> None:
        for batch in batches:
            backbone.encode_images(batch)

    def whole() -> None:
        with tempfile.TemporaryDirectory() as cache:
            encode_paths(paths, backbone, cache=Path(cache), quiet=True)

    work: dict[str, Callable[[], Any]] = {
        "read_and_hash": lambda: in_threads(content_hash),
        "decode_and_preprocess": lambda: in_threads(decoded),
        "encode": encode,
        "whole": whole,
    }
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(rounds):
        for name, run in work.items():
            seconds[name] += seconds_of(run, repeats=1, warm_up=int(turn == 0))
    return {
        name: {"pictures_per_second": len(paths) / statistics.median(taken), "seconds": summary(taken)}
        for name, taken in seconds.items()
    }


def vit_b16(paths: list[str], rounds: int) -> dict[str, Any]:
    """The same for a ViT-B/16, and its share of what the processor does in matrix products alone."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = clip_vit_b16(Path(temporary) / "vit_b16")
        found = stages(load_backbone(str(folder), device="cpu"), paths, rounds)
        model: Any = load_clip(folder).eval()
    with torch.no_grad():  # by transformers itself: nothing that is left out is counted
        work = products(lambda: model.get_image_features(pixel_values=torch.randn(BATCH, 3, 224, 224)))
    encode, whole = (found[name]["seconds"]["median"] for name in ("encode", "whole"))
    found["matrix_products"] = against_peak(work, encode * BATCH / len(paths))
    share = found["matrix_products"]["share_of_peak"]
    return found | {"encode_share_of_peak": share, "whole_share_of_peak": share * encode / whole}


def _parts(paths: list[str]) -> list[list[str]]:
    return [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]


def first_jpegs(folder: Path, count: int) -> list[str]:
    """`count` JPEGs below `folder`, the same each time, from all over it."""
    found = sorted(str(file) for file in folder.rglob("*.jpg"))
    if len(found) < count:
        sys.exit(f"{folder} has {len(found)} JPEGs, fewer than {count}")
    return found[:: len(found) // count][:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with JPEGs, at any depth")
    parser.add_argument("--pictures", type=int, default=512, help="for the embedded backbone")
    parser.add_argument("--vit-pictures", type=int, default=96, help="for ViT-B/16; 0: without")
    parser.add_argument("--rounds", type=int, default=5, help="turns of all stages")
    parser.add_argument("--out", type=Path, help="JSON file, besides the terminal")
    given = parser.parse_args()
    paths = first_jpegs(given.data, given.pictures)
    found: dict[str, Any] = {"command": " ".join(["python benchmarks/speed/features.py", *sys.argv[1:]])}
    found |= {"machine": description(), "pictures": len(paths)}
    found["embedded"] = stages(load_backbone("embedded", device="cpu"), paths, given.rounds)
    if given.vit_pictures:
        found["vit_b16"] = vit_b16(first_jpegs(given.data, given.vit_pictures), given.rounds)
    found["peak_memory_mb"] = peak_memory_mb()
    text = json.dumps(found, indent=1) + "\n"
    if given.out:
        write_atomically(given.out, text)
    print(text, end="")


if __name__ == "__main__":
    main()
