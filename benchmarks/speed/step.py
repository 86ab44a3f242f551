"""Seconds of one training step of ViP on ViT-B/16 shapes: medvip's, and the long way round.

    python benchmarks/speed/step.py [--rounds 3] [--tokens 8 9 11 12] [--out FILE.json]

Random weights, 32-bit numbers, batch 32, 2 classes with 4 symptoms each, recipe ``paper`` (the text
is encoded at every step). The long way is `naive.py`: pixels in, all encoded. medvip's is what
`ViP.fit` takes: an epoch of `STEPS` steps on vectors that are there already, its validation pass and
the choice of the best epoch included, divided by `STEPS`. Each side runs in processes of its own,
by turns, so that its peak memory is its own and a slow spell of the machine meets both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from machine import (
    Product,
    against_peak,
    description,
    in_child,
    peak_memory_mb,
    products,
    seconds_of,
    summary,
)
from made_up import TOKENS, class_names, clip_vit_b16, load_clip, symptoms, table
from naive import NaiveViP, optimizer_of, train_step

from medvip import SymptomSet, ViP, load_backbone
from medvip.atomic import write_atomically
from medvip.backbones import Backbone
from medvip.training import get_recipe

CLASSES, SYMPTOMS, BATCH, STEPS = 2, 4, 32, 20


def naive_part(folder: Path, tokens: list[int], repeats: int) -> dict[str, Any]:
    """The long way: pictures and padded symptoms at every step."""
    model = NaiveViP(load_clip(folder), token_ids(folder, tokens))
    optimizer = optimizer_of(model)
    pixels, labels = torch.randn(BATCH, 3, 224, 224), torch.arange(BATCH) % CLASSES

    def step() -> None:
        train_step(model, optimizer, pixels, labels)

    work = products(step)  # warms up, too
    memory = peak_memory_mb()
    return {"seconds": seconds_of(step, repeats, warm_up=0), "peak_memory_mb": memory, "work": listed(work)}


def medvip_part(folder: Path, tokens: list[int], repeats: int) -> dict[str, Any]:
    """The same step as `ViP.fit` makes it."""
    backbone, texts = load_backbone(str(folder), device="cpu"), symptoms(CLASSES, SYMPTOMS, tokens)
    seconds = steps_of(backbone, texts, repeats)
    memory = peak_memory_mb()
    return {"seconds": seconds, "peak_memory_mb": memory, "work": listed(work_of_a_step(backbone, texts))}


def steps_of(backbone: Backbone, texts: SymptomSet, repeats: int, steps: int = STEPS) -> list[float]:
    """Seconds a step in each of `repeats` epochs of `steps` steps, after one that is not counted."""
    count = len(texts.classes)
    train = table(BATCH * steps, backbone.embed_dim, count)
    recipe = get_recipe("paper", epochs=repeats + 1)
    # Without it, the texts have as many tokens as they are made up to have, on both sides.
    learner = ViP(backbone, texts, recipe=recipe, full_stop=False)
    model = learner.fit(train, table(BATCH, backbone.embed_dim, count, seed=1))
    return [entry["seconds"] / steps for entry in model.history[1:]]


def work_of_a_step(backbone: Backbone, texts: SymptomSet) -> Counter[Product]:
    """The matrix products of one step: those of an epoch of three steps less those of one of two."""

    def epoch(steps: int) -> Counter[Product]:
        return products(lambda: steps_of(backbone, texts, repeats=0, steps=steps))

    return epoch(3) - epoch(2)


def token_ids(folder: Path, tokens: list[int]) -> list[list[list[int]]]:
    """Token numbers of each class's symptoms."""
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(folder)
    texts = symptoms(CLASSES, SYMPTOMS, tokens).for_classes(class_names(CLASSES))
    return [[list(tokenizer(text)["input_ids"]) for text in of_class] for of_class in texts]


def listed(work: Counter[Product]) -> list[list[int]]:
    """As JSON takes it: rows, inner, columns, count."""
    return [[*size, count] for size, count in sorted(work.items())]


def counted(work: list[list[int]]) -> Counter[Product]:
    """From what `listed` gave."""
    return Counter({Product(*size): count for *size, count in work})


def measure(
    folder: Path, tokens: list[int], rounds: int, repeats: tuple[int, int] = (2, 5)
) -> dict[str, Any]:
    """Both sides by turns, `rounds` times; `repeats` timings of each in a round."""
    parts: dict[str, list[dict[str, Any]]] = {"naive": [], "medvip": []}
    for _ in range(rounds):
        for (name, done), count in zip(parts.items(), repeats, strict=True):
            given = ["--part", name, "--folder", str(folder), "--repeats", str(count)]
            done.append(in_child(Path(__file__), *given, "--tokens", *map(str, tokens)))
    sides = {}
    for name, done in parts.items():
        seconds = [second for part in done for second in part["seconds"]]
        sides[name] = {
            "seconds": summary(seconds),
            "peak_memory_mb": max(part["peak_memory_mb"] for part in done),
            **against_peak(counted(done[0]["work"]), statistics.median(seconds)),
        }
    naive, ours = (sides[name]["seconds"]["median"] for name in ("naive", "medvip"))
    return {
        "vit_b16_step_seconds": ours,
        "naive_step_seconds": naive,
        "ratio": naive / ours,
        "tokens_of_symptoms": [tokens[index % len(tokens)] for index in range(SYMPTOMS)],
        **sides,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="turns of both sides")
    parser.add_argument("--repeats", type=int, default=5, help="timings in a part")
    parser.add_argument(
        "--tokens", type=int, nargs="+", default=list(TOKENS), help="of the symptoms, start and end included"
    )
    parser.add_argument("--out", type=Path, help="JSON file, besides the terminal")
    parser.add_argument("--folder", type=Path, help="model folder, instead of one made for this run")
    parser.add_argument("--part", choices=["naive", "medvip"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        part = {"naive": naive_part, "medvip": medvip_part}[given.part]
        print(json.dumps(part(given.folder, given.tokens, given.repeats)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or clip_vit_b16(Path(temporary) / "vit_b16")
        found = measure(folder, given.tokens, given.rounds)
    text = json.dumps({"command": _command(), "machine": description(), **found}, indent=1) + "\n"
    if given.out:
        write_atomically(given.out, text)
    print(text, end="")


def _command() -> str:
    return " ".join(["python benchmarks/speed/step.py", *sys.argv[1:]])


if __name__ == "__main__":
    main()
