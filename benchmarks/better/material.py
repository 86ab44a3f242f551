"""The five sets' vectors and the folds that candidates are compared on. No test image is loaded.

Each set's training and validation images are dealt into four outer folds by group. A fold is held out
and plays the test images; of the rest a fifth, again by group, plays the validation images. So there
are four draws a set, and the images that studies report on are not looked at.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.model_selection import StratifiedGroupKFold

import medvip
from medvip.evaluation import evaluate
from medvip.features import FeatureTable
from medvip.images.order import shuffled

STUDY = Path(__file__).parents[1] / "studies" / "better.toml"
SETS = {one["path"]: one["symptoms"] for one in tomllib.loads(STUDY.read_text(encoding="utf-8"))["data"]}
"""Each set's folder and its symptoms."""
OUTER, INNER = 4, 5


@dataclass(frozen=True)
class Material:
    """One set: all that may be looked at, and its symptoms."""

    name: str
    table: FeatureTable
    symptoms: medvip.SymptomSet


def load(data: Path, backbone) -> list[Material]:
    """Training and validation images of the five sets."""
    found = []
    for name, symptom_name in SETS.items():
        dataset = medvip.load_dataset(data / name)
        seen = dataset.with_samples(sample for sample in dataset.samples if sample.split != "test")
        made = medvip.compute_features(seen, backbone)
        parts = [made.train, made.val]
        table = FeatureTable(
            vectors=torch.cat([part.vectors for part in parts]),
            labels=torch.cat([part.labels for part in parts]),
            classes=made.train.classes,
            paths=made.train.paths + made.val.paths,
            groups=made.train.groups + made.val.groups,
            contents=made.train.contents + made.val.contents,
            fingerprint=made.train.fingerprint,
        )
        found.append(Material(name, table, medvip.SymptomSet.load(symptom_name)))
    return found


def folds(table: FeatureTable) -> list[tuple[FeatureTable, FeatureTable, FeatureTable]]:
    """Training, validation and held-out images of each draw."""
    labels, groups = table.labels.numpy(), np.array(table.groups)
    made = []
    for seed, (rest, held) in enumerate(_split(labels, groups, OUTER, 0)):
        inside, validation = _split(labels[rest], groups[rest], INNER, seed)[0]
        made.append((table.taken(rest[inside]), table.taken(rest[validation]), table.taken(held)))
    return made


def _split(labels: np.ndarray, groups: np.ndarray, parts: int, seed: int):
    split = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    return list(split.split(np.zeros(len(labels)), labels, groups))


def drawn(table: FeatureTable, shots: int, seed: int, split: str) -> FeatureTable:
    """As `medvip.few_shot` draws: so many images a class."""
    kept = []
    for label, name in enumerate(table.classes):
        rows = {table.paths[i]: i for i in np.flatnonzero(table.labels.numpy() == label)}
        kept += [rows[path] for path in shuffled(list(rows), seed, split, name)[:shots]]
    return table.taken(np.array(sorted(kept)))


def figures(table: np.ndarray, held) -> dict[str, float]:
    """The figures of the held-out images that are compared."""
    found = evaluate(table, held.labels.numpy(), held.classes, groups=held.groups, resamples=0).to_json()
    loss = -np.log(np.maximum(table[np.arange(len(table)), held.labels.numpy()], 1e-12)).mean()
    names = ("accuracy", "macro_f1", "auroc", "ece")
    return {name: round(found[name]["value"], 5) for name in names} | {"loss": round(float(loss), 5)}
