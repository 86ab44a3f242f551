"""Two ready-made symptom sets audited on real images: the tables of docs/symptom-audit.md.

    python benchmarks/symptom_audits.py DATA [--out benchmarks/results/symptom_audits]

DATA holds the folders named in `SETS`. Three questions, a JSON file or two each; what is there is not
computed again, and the tables are made from the files.

- What does the audit say? Training images only.
- Does it help to drop what it suggests? Measured on validation images; no test image is looked at.
- How alike are paraphrases, and how alike different symptoms, by raw and by centred cosine? The
  paraphrases (one of each symptom of the medical sets) were written without looking at cosines.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

import medvip
from medvip.atomic import write_atomically
from medvip.backbones import Backbone
from medvip.backbones.protocol import encode_texts
from medvip.evaluation import evaluate
from medvip.evaluation.symptom_audit import centred_cosines
from medvip.evaluation.symptom_suggestions import NEAR_DUPLICATE
from medvip.training import get_recipe

SETS = {
    "kermany_cxr_pneumonia": "paediatric-pneumonia",
    "isic_uda1_melanoma_nevus": "melanoma-nevus",
}
FAST = get_recipe("fast", select_by="accuracy", min_validation=0)
METHODS = ("zero-shot-symptoms", "vip")
SEEDS = (1, 2, 3)
PARAPHRASES = Path(__file__).parent / "symptom_paraphrases.json"


def audit(data: Path, name: str, backbone: Backbone) -> dict[str, Any]:
    """The audit of one set, in its own form."""
    dataset = medvip.load_dataset(data / name)
    return medvip.audit_symptoms(medvip.SymptomSet.load(SETS[name]), dataset, backbone).to_json()


def follow(data: Path, name: str, audited: dict[str, Any], backbone: Backbone) -> list[dict[str, Any]]:
    """Validation figures with all symptoms, and without those that the audit suggests to drop."""
    whole = medvip.SymptomSet.load(SETS[name])
    kept = {
        class_name: [
            row["symptom"]
            for row in audited["symptoms"]
            if row["class"] == class_name and row["suggestion"]["action"] != "drop"
        ]
        for class_name in whole.classes
    }
    pruned = medvip.SymptomSet.from_mapping(kept, modality=whole.modality)
    dataset = medvip.load_dataset(data / name)
    learning = dataset.with_samples(sample for sample in dataset if sample.split != "test")
    features = medvip.compute_features(learning, backbone)
    entries = []
    for symptoms, number in ((whole, "all"), (pruned, "without those to drop")):
        for method in METHODS:
            for seed in SEEDS if method == "vip" else [None]:
                options = {} if seed is None else {"seed": seed, "recipe": FAST}
                fitted = medvip.create_method(method, backbone, symptoms, **options)
                fitted.fit(features.train, features.val)
                val = features.val
                metrics = evaluate(
                    fitted.predict_proba(val.plain), val.labels.numpy(), val.classes, groups=val.groups
                )
                figures = {key: metrics.to_json()[key] for key in ("macro_f1", "auroc")}
                entries.append({"symptoms": number, "method": method, "seed": seed, "val": figures})
                print(f"{name} {number} {method} {seed}: {metrics.summary()}", flush=True)
    return entries


def compare_likeness(backbone: Backbone) -> dict[str, Any]:
    """Paraphrases against pairs of different symptoms of one class, by both cosines."""
    cosines: dict[str, dict[str, list[float]]] = {
        kind: {"paraphrases": [], "different": []} for kind in ("raw", "centred")
    }
    mean_raw: dict[str, float] = {}
    paraphrases = json.loads(PARAPHRASES.read_text(encoding="utf-8"))
    for name in paraphrases:
        classes = medvip.SymptomSet.load(name).classes
        owners = np.array([owner for owner in sorted(classes) for _ in classes[owner]])
        texts = [text for owner in sorted(classes) for text in classes[owner]]
        vectors = _unit_vectors(backbone, texts)
        first, second = np.triu_indices(len(texts), 1)
        same = owners[first] == owners[second]
        mean_raw[name] = float((vectors @ vectors.T)[first, second].mean())
        for kind, matrix in (("raw", vectors @ vectors.T), ("centred", centred_cosines(vectors))):
            cosines[kind]["different"] += matrix[first[same], second[same]].tolist()
        for index, text in enumerate(texts):
            added = _unit_vectors(backbone, [*texts, paraphrases[name][text]])
            for kind, matrix in (("raw", added @ added.T), ("centred", centred_cosines(added))):
                cosines[kind]["paraphrases"].append(float(matrix[index, -1]))
    return {
        "near_duplicate": NEAR_DUPLICATE,
        "mean_raw_of_all_pairs": mean_raw,
        **{kind: _summary(found["paraphrases"], found["different"]) for kind, found in cosines.items()},
    }


def _unit_vectors(backbone: Backbone, texts: list[str]) -> np.ndarray:
    vectors = encode_texts(backbone, texts).double().numpy()
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _summary(paraphrases: list[float], different: list[float]) -> dict[str, Any]:
    def spread(values: list[float]) -> dict[str, float]:
        middle = float(np.median(values))
        return {"pairs": len(values), "least": min(values), "median": middle, "largest": max(values)}

    truth = [1] * len(paraphrases) + [0] * len(different)
    return {
        "paraphrases": spread(paraphrases),
        "different": spread(different),
        "auroc": float(roc_auc_score(truth, [*paraphrases, *different])),
        "paraphrases_from_threshold": sum(value >= NEAR_DUPLICATE for value in paraphrases),
        "different_from_threshold": sum(value >= NEAR_DUPLICATE for value in different),
    }


def audit_table(audits: dict[str, dict[str, Any]]) -> str:
    """Markdown: one row for each symptom of each set."""
    lines = [
        "| images | class: symptom | AUROC on training images | points to | likest of its class | "
        "likest of others | rarest word | suggestion |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, audited in audits.items():
        for row in audited["symptoms"]:
            area, aim, word = row["auroc"], row["points_to"], row["rarest_word"]
            points_to = (
                "its class" if aim["class"] == row["class"] else f"{aim['class']} ({aim['auroc']:.3f})"
            )
            cells = [
                name,
                f"{row['class']}: {row['symptom']}",
                f"{area['value']:.3f} [{area['low']:.3f}, {area['high']:.3f}]",
                points_to,
                f"{row['likest_in_class']['likeness']:+.2f}",
                f"{row['likest_elsewhere']['likeness']:+.2f}",
                f"{word['word']} {word['zipf']:.1f}",
                row["suggestion"]["action"],
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def follow_table(followed: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: mean over the seeds ± their standard deviation where there are several."""
    lines = ["| images | method | symptoms | macro-F1 | AUROC |", "|---|---|---|---|---|"]
    for name, entries in followed.items():
        for method in METHODS:
            for number in dict.fromkeys(entry["symptoms"] for entry in entries):
                runs = [e["val"] for e in entries if e["method"] == method and e["symptoms"] == number]
                cells = [_cell([run[key]["value"] for run in runs]) for key in ("macro_f1", "auroc")]
                lines.append(f"| {name} | {method} | {number} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def likeness_table(compared: dict[str, Any]) -> str:
    """Markdown: one row for each cosine."""
    lines = [
        "| cosine | paraphrases: least, median, largest | different: least, median, largest | AUROC |",
        "|---|---|---|---|",
    ]
    for kind in ("raw", "centred"):
        cells = [
            ", ".join(f"{compared[kind][pairs][key]:+.2f}" for key in ("least", "median", "largest"))
            for pairs in ("paraphrases", "different")
        ]
        lines.append(f"| {kind} | " + " | ".join(cells) + f" | {compared[kind]['auroc']:.3f} |")
    return "\n".join(lines) + "\n"


def _cell(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "symptom_audits")
    given = parser.parse_args()
    made = {
        "command": "python benchmarks/symptom_audits.py DATA",
        "versions": {
            "medvip": medvip.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "threads": torch.get_num_threads(),
    }
    backbone = medvip.load_backbone("embedded", device="cpu")

    def kept(file: str, key: str, compute) -> Any:
        path = given.out / file
        if not path.exists():
            write_atomically(path, json.dumps(made | {key: compute()}, indent=1) + "\n")
        return json.loads(path.read_text())[key]

    audits, followed = {}, {}
    for name in SETS:
        audits[name] = kept(f"{name}.json", "audit", lambda name=name: audit(given.data, name, backbone))
        followed[name] = kept(
            f"{name}_followed.json",
            "runs",
            lambda name=name: follow(given.data, name, audits[name], backbone),
        )
    compared = kept("likeness.json", "likeness", lambda: compare_likeness(backbone))
    for file, text in {
        "table.md": audit_table(audits),
        "followed.md": follow_table(followed),
        "likeness.md": likeness_table(compared),
    }.items():
        write_atomically(given.out / file, text)
        print(text)


if __name__ == "__main__":
    main()
