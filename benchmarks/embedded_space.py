"""Which numbers of the image tower's stages make the best image vector: on folds, no test images.

    python benchmarks/embedded_space.py DATA [--only NAME ...] [--out FILE.jsonl]

Training and validation images of five sets, dealt into folds by group as in better/material.py. Each
candidate is asked with 1, 4, 16 and all images a class, in two draws: logistic regression (the method
`linear-probe`), the regression inside `vip-whitened` without symptoms, class means, and one vector a class
learned by cosine with the recipe `fast`, as `vip` learns without its symptoms. Printed: means over sets
and draws. Each candidate takes one to three minutes; what is in OUT is not computed again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import medvip
from better import material
from measure_image_space import DRAWINGS, drawing
from medvip.backbones.efficientnet import load_image_tower
from medvip.backbones.embedded import EmbeddedBackbone
from medvip.backbones.image_space import HEAD, SHAPES, ImageSpace
from medvip.features import FeatureTable
from medvip.images import read_picture
from medvip.methods import LinearProbe, NearestClassMean
from medvip.methods.whitened_regression import Strengths, WhitenedRegression
from medvip.progress import progress_bar
from medvip.training import RECIPES
from medvip.types import Sample

SHOTS, DRAWS = ("1", "4", "16", "all"), 2
WIDTHS = (16, 24, 40, 80, 112, 192, 320, 1280)
"""Channels of the seven stages and of the head."""
Seen = dict[str, list[Tensor]]
"""``mean``, ``deviation`` and ``square`` (second moment) of each stage and the head [picture, channel]."""
Space = Callable[[Seen, Seen, Seen], Tensor]
"""From a set's pictures, the drawings, and the set's own training pictures to vectors."""


class AllStages:
    """The tower, with what it sees at all seven stages and at the head."""

    def __init__(self, backbone: EmbeddedBackbone) -> None:
        nothing = ImageSpace({name: torch.zeros(shape) for name, shape in SHAPES.items()})
        self.network = load_image_tower(backbone._image_weights, nothing).network
        rows = torch.load(backbone._image_weights, weights_only=True)["_fc.weight"]
        self.directions = torch.linalg.svd(rows - rows.mean(0), full_matrices=False).Vh[:HEAD].T

    @torch.no_grad()
    def look(self, pictures: Callable[[int], Tensor], count: int, what: str) -> Seen:
        """The moments of so many preprocessed pictures."""
        seen: Seen = {"mean": [], "deviation": [], "square": []}
        with progress_bar(what, count, "pictures") as advance:
            for start in range(0, count, 4):
                some = [pictures(row) for row in range(start, min(start + 4, count))]
                maps = self._maps(torch.stack(some).to(memory_format=torch.channels_last))
                means = [states.mean((2, 3)) for states in maps]
                squares = [states.square().mean((2, 3)) for states in maps]
                deviations = [states.std((2, 3), unbiased=False) for states in maps]
                for name, parts in zip(seen, (means, deviations, squares), strict=True):
                    seen[name].append(torch.cat(parts, 1))
                advance(len(some))
        return {name: list(torch.cat(parts).split(WIDTHS, 1)) for name, parts in seen.items()}

    def _maps(self, pixels: Tensor) -> list[Tensor]:
        network: Any = self.network  # the package has no type hints
        maps = []
        states = network._swish(network._bn0(network._conv_stem(pixels)))
        for index, block in enumerate(network._blocks):
            states = block(states)
            if index in (0, 2, 4, 7, 10, 14, 15):
                maps.append(states)
        return [*maps, network._swish(network._bn1(network._conv_head(states)))]


def standardised(own: Tensor, by: Tensor) -> Tensor:
    return (own - by.mean(0)) / (by.std(0) + 1e-6)


def stages(blocks: dict[str, range], by_own: bool = False, weight: float = 1.0) -> Space:
    """Moments of some stages, each standardised by the drawings, or by the set's own training pictures."""

    def space(seen: Seen, drawn: Seen, own: Seen) -> Tensor:
        by = own if by_own else drawn
        return torch.cat(
            [
                standardised(seen[name][b], by[name][b]) * (weight if name != "mean" else 1)
                for b in range(8)
                for name in blocks
                if b in blocks[name]
            ],
            1,
        )

    return space


def with_head(rest: Space | None, directions: Tensor, root: bool = True, weight: float = 1.0) -> Space:
    """The head's leading directions behind the rest."""

    def space(seen: Seen, drawn: Seen, own: Seen) -> Tensor:
        head, by = seen["mean"][7], drawn["mean"][7]
        if root:
            head, by = head.sqrt(), by.sqrt()
        turned = (by - by.mean(0)) @ directions
        part = weight * (head - by.mean(0)) @ directions / turned.var(0).mean().sqrt()
        return part if rest is None else torch.cat([rest(seen, drawn, own), part], 1)

    return space


def candidates(tower: AllStages, old_centre: Tensor) -> dict[str, Space]:
    """All that are compared; the first is what version 0.1 had."""
    six = {"mean": range(6), "deviation": range(6)}
    directions = tower.directions
    return {
        "0.1: the head's means, centred": lambda seen, drawn, own: seen["mean"][7] - old_centre,
        "the head, 320 directions, rooted": with_head(None, directions),
        "stages 1 to 7, means": stages({"mean": range(7)}),
        "stages 1 to 7, means and deviations": stages({"mean": range(7), "deviation": range(7)}),
        "the same by the set's own pictures": stages({"mean": range(7), "deviation": range(7)}, by_own=True),
        "stages 1 to 7, means and second moments": stages({"mean": range(7), "square": range(7)}),
        "stages 1 to 7, means and deviations, head": with_head(
            stages({"mean": range(7), "deviation": range(7)}), directions
        ),
        "chosen: stages 1 to 6, means and deviations, head": with_head(stages(six), directions),
        "the same, head not rooted": with_head(stages(six), directions, root=False),
        "the same, head 1.4 times": with_head(stages(six), directions, weight=1.4),
        "the same, deviations 0.7 times": with_head(stages(six, weight=0.7), directions),
        "the same, whole picture": with_head(stages(six), directions),
    }


def regression(train: FeatureTable, held: FeatureTable) -> np.ndarray:
    """The regression inside `vip-whitened`, its settings, without symptoms that count."""
    owners = np.arange(len(train.classes))
    images = nn.functional.normalize(train.plain.double(), dim=-1).numpy()
    problem = WhitenedRegression(images, train.labels.numpy(), owners, Strengths(20.0, 0.07, 0.5, 1e4))
    vectors = problem.solve(np.zeros((len(owners), images.shape[1]))).vectors
    logits = nn.functional.normalize(held.plain.double(), dim=-1) @ torch.from_numpy(vectors).T
    return logits.softmax(-1).numpy()


def by_cosine(train: FeatureTable, held: FeatureTable, scale: float = 30.0) -> np.ndarray:
    """One vector a class by the recipe `fast`, its last epoch."""
    recipe, generator = RECIPES["fast"].for_images(len(train)), torch.Generator().manual_seed(1)
    images = nn.functional.normalize(train.plain, dim=-1)
    learned = nn.Parameter(0.02 * torch.randn(len(train.classes), images.shape[1], generator=generator))
    optimizer = torch.optim.SGD([learned], lr=1.0, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    for epoch in range(recipe.epochs):
        optimizer.param_groups[0]["lr"] = recipe.learning_rate_at(epoch)
        for batch in torch.randperm(len(images), generator=generator).split(recipe.batch_size):
            logits = scale * images[batch] @ nn.functional.normalize(learned, dim=-1).T
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits, train.labels[batch]).backward()
            optimizer.step()
    unit = nn.functional.normalize(learned.detach(), dim=-1)
    return (scale * nn.functional.normalize(held.plain, dim=-1) @ unit.T).double().softmax(-1).numpy()


def asked(backbone: EmbeddedBackbone, table: FeatureTable) -> list[dict]:
    """All methods on all draws of one set."""
    entries = []
    for draw, (train, validation, held) in enumerate(material.folds(table)[:DRAWS]):
        for shots in SHOTS:
            few, chosen_by = train, validation
            if shots != "all":
                few = material.drawn(train, int(shots), draw + 1, "train")
                chosen_by = material.drawn(validation, min(int(shots), 4), draw + 1, "val")
            probe, means = LinearProbe(backbone), NearestClassMean(backbone)
            said = {
                "linear-probe": probe.fit(few, chosen_by).predict_proba(held.plain),
                "regression of vip-whitened": regression(few, held),
                "class means": means.fit(few, chosen_by).predict_proba(held.plain),
                "learned by cosine": by_cosine(few, held),
            }
            entries += [
                {"method": name, "shots": shots, "draw": draw} | material.figures(one, held)
                for name, one in said.items()
            ]
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="+", help="these candidates")
    parser.add_argument("--out", type=Path, default=Path("embedded_space.jsonl"))
    given = parser.parse_args()
    backbone, whole = (EmbeddedBackbone(torch.device("cpu"), framing) for framing in ("centre", "whole"))
    tower = AllStages(backbone)
    own_tower: Any = backbone.image_tower()
    spaces = candidates(tower, own_tower.mean)
    lines = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    there = {(line["candidate"], line["set"]) for line in lines}
    wanted = [name for name in spaces if not given.only or name in given.only]
    sets = {name: medvip.load_dataset(given.data / name) for name in material.SETS}
    drawn: Seen = {}
    if any((name, one) not in there for name in wanted for one in sets):
        drawn = tower.look(lambda seed: torch.from_numpy((drawing(seed) - 127) / 128), DRAWINGS, "drawings")
    for one, dataset in sets.items():
        left = [name for name in wanted if (name, one) not in there]
        if not left:
            continue
        samples = [sample for sample in dataset.samples if sample.split != "test"]
        views = {}
        for name in left:
            framed = whole if name.endswith("whole picture") else backbone
            if framed.framing not in views:
                views[framed.framing] = tower.look(preprocessed(framed, samples), len(samples), one)
            seen = views[framed.framing]
            table = FeatureTable(
                vectors=spaces[name](seen, drawn, seen)[:, None],
                labels=torch.tensor([dataset.classes.index(sample.label) for sample in samples]),
                classes=dataset.classes,
                paths=tuple(sample.path for sample in samples),
                groups=tuple(sample.group or sample.path for sample in samples),
                contents=tuple(sample.path for sample in samples),
                fingerprint="",
            )
            made = [{"candidate": name, "set": one} | entry for entry in asked(backbone, table)]
            with given.out.open("a", encoding="utf-8") as out:
                out.write("".join(json.dumps(entry) + "\n" for entry in made))
            lines += made
    print("\n".join(printed(lines, wanted)))


def preprocessed(backbone: EmbeddedBackbone, samples: Sequence[Sample]) -> Callable[[int], Tensor]:
    """The picture of a row as the tower takes it."""
    return lambda row: backbone.preprocess(read_picture(samples[row].path))


def printed(lines: list[dict], names: list[str]) -> list[str]:
    """Markdown: macro-F1 and AUROC, means over sets and draws."""
    rows = []
    for method in dict.fromkeys(line["method"] for line in lines):
        rows += [f"\n| {method} | " + " | ".join(f"{shots}: F1, AUROC" for shots in SHOTS) + " |"]
        rows += ["|---" * (len(SHOTS) + 1) + "|"]
        for name in names:
            cells = []
            for shots in SHOTS:
                own = [x for x in lines if (x["candidate"], x["method"], x["shots"]) == (name, method, shots)]
                means = [float(np.mean([x[key] for x in own] or [0.0])) for key in ("macro_f1", "auroc")]
                cells.append(", ".join(f"{mean:.3f}" for mean in means) if own else "")
            rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return rows


if __name__ == "__main__":
    main()
