"""How well the embedded backbone names ImageNet classes that its map has never seen.

    python benchmarks/embedded_alignment.py

Five times: the map from texts to classifier rows is fitted on 800 classes; each of the other
200 classes' rows (standing in for its pictures) is then given to the nearest of 200 texts.
Printed: how often the right text comes first, and among the first five. Chance is 0.005 and
0.025. No picture is used.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medvip.backbones.alignment import class_rows, imagenet_texts, ridge
from medvip.backbones.embedded import EmbeddedBackbone
from medvip.backbones.image_space import load_image_space

STRENGTHS = (0.3, 1.0, 3.0, 10.0)
CLASSES, HELD_OUT, REPEATS = 1000, 200, 5


@torch.no_grad()
def main() -> None:
    backbone = EmbeddedBackbone(torch.device("cpu"))
    classes, texts = imagenet_texts()
    class_of_text = torch.tensor(classes)
    sentences = backbone._sentences(texts).double()
    classifier = torch.load(backbone._image_weights, weights_only=True)["_fc.weight"].double()
    rows = class_rows(classifier, load_image_space())
    described = torch.arange(len(texts)) >= CLASSES
    print("| ridge strength | names: first | names: first five | descriptions: first | first five |")
    print("|---|---|---|---|---|")
    for strength in STRENGTHS:
        cells = []
        for kind in (~described, described):
            ranks = torch.cat(
                [
                    held_out_ranks(seed, strength, kind, class_of_text, sentences, rows)
                    for seed in range(REPEATS)
                ]
            )
            cells += [f"{(ranks < best).double().mean():.3f}" for best in (1, 5)]
        print(f"| {strength:g} | " + " | ".join(cells) + " |")


def held_out_ranks(
    seed: int, strength: float, kind: Tensor, class_of_text: Tensor, sentences: Tensor, rows: Tensor
) -> Tensor:
    """Rank of the right text for each held-out class that has a text of that kind, 0 the best."""
    order = torch.randperm(CLASSES, generator=torch.Generator().manual_seed(seed))
    held_out = torch.zeros(CLASSES, dtype=torch.bool)
    held_out[order[:HELD_OUT]] = True
    known = ~held_out[class_of_text]
    mean, matrix = ridge(sentences[known], rows[class_of_text[known]], strength)
    asked = held_out[class_of_text] & kind
    mapped = nn.functional.normalize((sentences[asked] - mean) @ matrix, dim=-1)
    similarity = nn.functional.normalize(rows[class_of_text[asked]], dim=-1) @ mapped.T
    return (similarity > similarity.diag()[:, None]).sum(1)


if __name__ == "__main__":
    main()
