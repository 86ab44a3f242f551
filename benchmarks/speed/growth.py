"""How cost grows with classes, symptoms, images and seeds: a table and a plot each.

    python benchmarks/speed/growth.py [classes symptoms images pictures seeds] [--out FOLDER]

- classes: seconds of a training step and peak memory, 2 to 200 classes with 4 symptoms each;
- symptoms: the same, 2 classes with 4 to 64 symptoms each;
- images: seconds of an epoch and peak memory, 1,000 to 1,000,000 made-up vectors, recipe ``fast``;
- pictures: seconds from JPEG files to kept vectors, embedded backbone, 250 to 4,000 pictures;
- seeds: seconds of `STEPS` steps of 1 to 16 seeds.

All but `pictures` have ViT-B/16's text tower with random weights; classes, symptoms and seeds have
recipe ``paper``. Each point runs in a process of its own. The results are JSON files in FOLDER; a
point that is there is not measured again. `--draw` only makes table and plots from them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from machine import against_peak, description, in_child, peak_memory_mb, seconds_of
from made_up import clip_vit_b16, pictures, symptoms, table
from step import BATCH, STEPS, steps_of, work_of_a_step

from medvip import SymptomSet, ViP, load_backbone
from medvip.atomic import write_atomically
from medvip.backbones import Backbone
from medvip.features import FeatureTable, encode_paths
from medvip.methods.prompt_method import fit_together
from medvip.training import Recipe, get_recipe


def fit_seeds(
    backbone: Backbone,
    texts: SymptomSet,
    train: FeatureTable,
    validation: FeatureTable,
    recipe: Recipe,
    seeds: Sequence[int],
) -> float:
    """Seconds of training all seeds together, as `medvip.fit_seeds` does."""
    learners = [ViP(backbone, texts, recipe=recipe, seed=seed) for seed in seeds]
    started = time.perf_counter()
    fit_together(learners, [(train, validation)] * len(learners))
    return time.perf_counter() - started


def classes_point(folder: Path, classes: int) -> dict[str, Any]:
    """Seconds a step, in each of three epochs, and what share of them is matrix products."""
    return _steps(folder, classes, 4)


def symptoms_point(folder: Path, each: int) -> dict[str, Any]:
    """The same."""
    return _steps(folder, 2, each)


def _steps(folder: Path, classes: int, each: int) -> dict[str, Any]:
    backbone, texts = load_backbone(str(folder), device="cpu"), symptoms(classes, each)
    steps = max(2, STEPS * 8 // (classes * each))  # about as much work at each point
    seconds = steps_of(backbone, texts, 3, steps)
    memory = peak_memory_mb()
    share = against_peak(work_of_a_step(backbone, texts), statistics.median(seconds))
    return {"all_seconds": seconds, "peak_memory_mb": memory, "share_of_peak": share["share_of_peak"]}


def images_point(folder: Path, images: int) -> dict[str, Any]:
    """Seconds an epoch (one of a million images, three of fewer), and those of taking the batches alone."""
    backbone = load_backbone(str(folder), device="cpu")
    train = table(images, backbone.embed_dim, 2)
    recipe = replace(get_recipe("fast"), epochs=1 if images > 100_000 else 3, min_steps=0)
    validation = table(1000, backbone.embed_dim, 2, seed=1)
    model = ViP(backbone, symptoms(2, 4), recipe=recipe).fit(train, validation)
    memory = peak_memory_mb()
    order, view = torch.randperm(images), torch.zeros(images, dtype=torch.long)
    taking = seconds_of(lambda: deque(train.batches(order, view, BATCH), maxlen=0), 1, warm_up=0)
    return {
        "all_seconds": [entry["seconds"] for entry in model.history],
        "peak_memory_mb": memory,
        "seconds_of_taking_batches": taking[0],
    }


def pictures_point(folder: Path, count: int) -> dict[str, Any]:
    """Seconds from files to kept vectors; the same 250 pictures again and again, no two files equal."""
    backbone = load_backbone("embedded", device="cpu")
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        drawn = [path.read_bytes() for path in pictures(place / "drawn", min(count, 250), (256, 256))]
        paths = []
        for index in range(count):
            paths.append(place / f"{index}.jpg")
            # What stands behind a JPEG's end is not read, but makes it another file.
            paths[-1].write_bytes(drawn[index % len(drawn)] + str(index).encode())
        encode_paths([str(place / "drawn" / "00000.jpg")], backbone, cache=place / "other", quiet=True)
        started = time.perf_counter()
        encode_paths([str(path) for path in paths], backbone, cache=place / "cache", quiet=True)
        return {"all_seconds": [time.perf_counter() - started], "peak_memory_mb": peak_memory_mb()}


def seeds_point(folder: Path, seeds: int) -> dict[str, Any]:
    """Seconds of all seeds."""
    backbone, texts = load_backbone(str(folder), device="cpu"), symptoms(2, 4)
    train = table(BATCH * STEPS, backbone.embed_dim, 2)
    validation = table(BATCH, backbone.embed_dim, 2, seed=1)
    recipe = get_recipe("paper", epochs=1)
    fit_seeds(backbone, texts, train, validation, recipe, [0])
    seconds = fit_seeds(backbone, texts, train, validation, recipe, range(1, seeds + 1))
    return {"all_seconds": [seconds], "peak_memory_mb": peak_memory_mb()}


@dataclass(frozen=True)
class Axis:
    """One thing that grows, where it is measured, and what the figure is."""

    point: Callable[[Path, int], dict[str, Any]]
    sizes: tuple[int, ...]
    figure: str


AXES = {
    "classes": Axis(classes_point, (2, 5, 10, 20, 50, 100, 200), "seconds a step"),
    "symptoms": Axis(symptoms_point, (4, 8, 16, 32, 64), "seconds a step"),
    "images": Axis(images_point, (1_000, 10_000, 100_000, 1_000_000), "seconds an epoch"),
    "pictures": Axis(pictures_point, (250, 500, 1_000, 2_000, 4_000), "seconds to encode all"),
    "seeds": Axis(seeds_point, (1, 2, 4, 8, 16), "seconds for all seeds"),
}


def grown(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each point with its cost per unit, and that against the cheapest unit of all points."""
    units = [point["seconds"] / point["size"] for point in points]
    return [
        point | {"unit": unit, "against_best": unit / min(units)}
        for point, unit in zip(points, units, strict=True)
    ]


def markdown(name: str, points: list[dict[str, Any]]) -> str:
    """A table of one axis: figure, cost of one more unit, memory."""
    unit = f"ms for each of the {name}"
    lines = [
        f"| {name} | {AXES[name].figure} | {unit} | against the cheapest | peak memory, MB |",
        "|---|---|---|---|---|",
    ]
    for point in grown(points):
        lines.append(
            f"| {point['size']:,} | {point['seconds']:.3g} | {1000 * point['unit']:.3g} | "
            f"{point['against_best']:.2f} | {point['peak_memory_mb']:,.0f} |"
        )
    return "\n".join(lines) + "\n"


def draw(name: str, points: list[dict[str, Any]], file: Path) -> None:
    """Cost over size, both logarithmic, and a line in proportion through the largest."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    sizes, seconds = ([point[key] for point in points] for key in ("size", "seconds"))
    with mpl.rc_context({"svg.hashsalt": "medvip", "svg.fonttype": "none"}):
        figure = Figure(figsize=(5, 3.5), layout="constrained")
        axes = figure.add_subplot()
        axes.loglog(sizes, seconds, "o-", color="#1f5fa8", label="measured")
        line = [seconds[-1] * size / sizes[-1] for size in sizes]
        axes.loglog(sizes, line, ":", color="#777777", label="in proportion")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.xaxis.minorticks_off()
        axes.set(xlabel=name, ylabel=AXES[name].figure)
        axes.legend(frameon=False)
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "axes", nargs="*", metavar="AXIS", help=f"of {', '.join(AXES)}; all when none is named"
    )
    parser.add_argument("--most", type=int, default=10**9, help="leave out larger sizes")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "speed")
    parser.add_argument("--folder", type=Path, help="model folder, instead of one made for this run")
    parser.add_argument("--draw", action="store_true", help="only table and plots, of what is there")
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    names = given.axes or list(AXES)
    if unknown := set(names) - AXES.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    if given.size:
        print(json.dumps(AXES[names[0]].point(given.folder, given.size)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        for name in names:
            file = given.out / f"growth_{name}.json"
            known = json.loads(file.read_text(encoding="utf-8"))["points"] if file.exists() else []
            measured = {point["size"]: point for point in known}
            for size in AXES[name].sizes:
                if given.draw or size in measured or size > given.most:
                    continue
                folder = given.folder or _model(Path(temporary) / "vit_b16")
                point = in_child(Path(__file__), name, "--size", str(size), "--folder", str(folder))
                seconds = statistics.median(point["all_seconds"])
                measured[size] = {"size": size, "seconds": seconds, **point, "machine": description()}
                print(f"{name} {size:,}: {seconds:.4g} {AXES[name].figure}", file=sys.stderr, flush=True)
                points = [measured[key] for key in sorted(measured)]
                command = f"python benchmarks/speed/growth.py {name}"
                write_atomically(file, json.dumps({"command": command, "points": points}, indent=1) + "\n")
            points = [measured[key] for key in sorted(measured)]
            if points:
                write_atomically(given.out / f"growth_{name}.md", markdown(name, points))
                draw(name, points, given.out / f"growth_{name}.svg")
                print(markdown(name, points))


def _model(folder: Path) -> Path:
    return folder if (folder / "config.json").exists() else clip_vit_b16(folder)


if __name__ == "__main__":
    main()
