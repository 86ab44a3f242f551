"""Which space and which logit scale suit the embedded backbone: cross-validation, no test images.

    python benchmarks/embedded_space.py DATA

For each candidate a cosine classifier (one vector a class, started from the mean of its symptoms'
vectors plus noise) is trained by the recipe `paper` on three quarters of the training and
validation images of each of five sets and measured on the last quarter, four times. Printed: means
over the five sets.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn

import medvip
from five_sets import SETS
from medvip import confusion
from medvip.backbones.embedded import EmbeddedBackbone
from medvip.backbones.protocol import encode_texts
from medvip.training import get_recipe

SCALES = (10.0, 30.0, 100.0)
FOLDS = 4


def candidate_spaces(backbone: EmbeddedBackbone) -> dict[str, tuple]:
    """Of each space: how centred image vectors and text vectors get into it."""
    weights = torch.load(backbone._image_weights, weights_only=True)
    rows = weights["_fc.weight"] - weights["_fc.weight"].mean(0)
    leading = torch.linalg.svd(rows, full_matrices=False).Vh[:512].T
    mean = backbone._image_tower.mean
    spread = weights["_bn1.weight"].abs()
    return {
        "1280 centred": (lambda x: x, lambda t: t),
        "1280 not centred": (lambda x: x + mean, lambda t: t),
        "1280 standardised": (lambda x: x / spread, lambda t: t * spread),
        "512 leading, centred": (lambda x: x @ leading, lambda t: t @ leading),
        "512 leading, not centred": (lambda x: (x + mean) @ leading, lambda t: t @ leading),
    }


def train_cosine_classifier(images: Tensor, labels: Tensor, start: Tensor, scale: float, seed: int) -> Tensor:
    """Unit class vectors [class, dim] after the recipe `paper`."""
    recipe, generator = get_recipe("paper"), torch.Generator().manual_seed(seed)
    learned = nn.Parameter(0.02 * torch.randn(start.shape, generator=generator))
    optimizer = torch.optim.SGD([learned], lr=1.0, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    for epoch in range(recipe.epochs):
        optimizer.param_groups[0]["lr"] = recipe.learning_rate_at(epoch)
        for batch in torch.randperm(len(images), generator=generator).split(recipe.batch_size):
            logits = scale * images[batch] @ nn.functional.normalize(start + learned, dim=-1).T
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits, labels[batch]).backward()
            optimizer.step()
    return nn.functional.normalize(start + learned, dim=-1).detach()


def figures(images: Tensor, labels: Tensor, start: Tensor, scale: float) -> list[float]:
    """Accuracy, macro-F1, AUROC and log loss over all folds' held-out images."""
    probabilities = torch.zeros(len(labels), len(start), dtype=torch.double)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(images, labels)
    for seed, (known, held_out) in enumerate(folds):
        vectors = train_cosine_classifier(images[known], labels[known], start, scale, seed)
        probabilities[held_out] = (scale * images[held_out] @ vectors.T).double().softmax(-1)
    predicted, p = probabilities.argmax(-1), probabilities.numpy()
    auroc = roc_auc_score(labels, p[:, 1] if p.shape[1] == 2 else p, multi_class="ovr")
    counts = confusion.confusion_matrix(labels.numpy(), predicted.numpy(), len(start))
    f1 = float(confusion.macro_f1(counts[None])[0])
    return [accuracy_score(labels, predicted), f1, auroc, log_loss(labels, p)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    backbone = EmbeddedBackbone(torch.device("cpu"))
    sets = []
    for name, symptom_name in SETS.items():
        made = medvip.compute_features(medvip.load_dataset(data / name), backbone)
        by_class = medvip.SymptomSet.load(symptom_name).for_classes(made.train.classes)
        texts = torch.stack([encode_texts(backbone, texts).mean(0) for texts in by_class])
        images = torch.cat([made.train.plain, made.val.plain])
        sets.append((images, torch.cat([made.train.labels, made.val.labels]), texts))
    print("| space | logit scale | accuracy | macro-F1 | AUROC | log loss |\n|---|---|---|---|---|---|")
    for name, (of_images, of_texts) in candidate_spaces(backbone).items():
        for scale in SCALES:
            each = [
                figures(nn.functional.normalize(of_images(x), dim=-1), y, of_texts(t), scale)
                for x, y, t in sets
            ]
            means = torch.tensor(each).mean(0).tolist()
            print(
                f"| {name} | {scale:g} | " + " | ".join(f"{value:.3f}" for value in means) + " |", flush=True
            )


if __name__ == "__main__":
    main()
