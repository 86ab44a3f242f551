"""Makes the file that says where the embedded backbone's image space has its centre and how wide it is.

    python benchmarks/measure_image_space.py [--drawings 3000] [--out FILE]

Draws pictures (`medvip.drawings`), looks at them with all stages of the image tower, and writes of each
number the mean and the standard deviation over the drawings, and the directions of the last stage in which
ImageNet's classes differ most. No picture of anybody is used. Without --out it compares with the file that
comes with medvip and says how far they are apart. Two to five minutes on two cores.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from medvip.atomic import write_atomically
from medvip.backbones.efficientnet import StagedTower, load_image_tower
from medvip.backbones.embedded import EmbeddedBackbone
from medvip.backbones.image_space import HEAD, SHAPES, SPACE_FILE, ImageSpace, moments, rooted_mean
from medvip.drawings import VERSION, draw, random_scene
from medvip.progress import progress_bar

DRAWINGS = 3000
BATCH = 20


def measured(drawings: int) -> dict[str, Tensor]:
    """The tensors of `medvip.backbones.image_space.ImageSpace`."""
    backbone = EmbeddedBackbone(torch.device("cpu"))
    stages, head = looked_at(backbone, drawings)
    centre = head.mean(0)
    directions = leading_directions(backbone._image_weights)
    turned = (head - centre) @ directions
    return {
        "centre": stages.mean(0).float(),
        "spread": stages.std(0).float(),
        "head_centre": centre.float(),
        "head_directions": (directions / turned.var(0).mean().sqrt()).half(),
    }


@torch.no_grad()
def looked_at(backbone: EmbeddedBackbone, drawings: int) -> tuple[Tensor, Tensor]:
    """Of each drawing the moments of stages 1 to 6 and the rooted means of the head, in double precision."""
    nothing = ImageSpace({name: torch.zeros(shape) for name, shape in SHAPES.items()})
    tower: StagedTower = load_image_tower(backbone._image_weights, nothing)
    stages, heads = [], []
    with ProcessPoolExecutor() as pool, progress_bar("drawing", drawings, "pictures") as advance:
        made = pool.map(drawing, range(drawings), chunksize=BATCH)
        for start in range(0, drawings, BATCH):
            pixels = [next(made) for _ in range(start, min(start + BATCH, drawings))]
            *maps, head = tower.maps((torch.from_numpy(np.stack(pixels)) - 127) / 128)
            stages.append(torch.cat(list(map(moments, maps)), 1).double())
            heads.append(rooted_mean(head).double())
            advance(len(pixels))
    return torch.cat(stages), torch.cat(heads)


def drawing(seed: int) -> np.ndarray:
    """One picture [3, 224, 224], from 0 to 255."""
    return draw(random_scene(seed)).transpose(2, 0, 1).astype(np.float32)


def leading_directions(weights: Path) -> Tensor:
    """The orthonormal directions [1280, head] in which the rows of ImageNet's classes differ most."""
    rows = torch.load(weights, weights_only=True)["_fc.weight"].double()
    directions = torch.linalg.svd(rows - rows.mean(0), full_matrices=False).Vh[:HEAD].T
    largest = directions.abs().argmax(0)
    return directions * directions[largest, range(HEAD)].sign()  # signs are anybody's; now they are fixed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--drawings", type=int, default=DRAWINGS)
    parser.add_argument("--out", type=Path, help=f"write here, for example {SPACE_FILE.name}")
    given = parser.parse_args()
    tensors = measured(given.drawings)
    if given.out:
        made_by = f"python benchmarks/measure_image_space.py --drawings {given.drawings}"
        write_atomically(given.out, save(tensors, {"made_by": made_by, "drawings": str(VERSION)}))
        print(f"{given.out}: {given.out.stat().st_size} bytes")
        return
    shipped = load_file(SPACE_FILE)
    for name, tensor in tensors.items():
        apart = (tensor.float() - shipped[name].float()).abs().max()
        print(f"{name}: at most {apart:.2g} apart, largest number {shipped[name].abs().max():.3g}")


if __name__ == "__main__":
    main()
