"""Audits of real images: figures by scikit-learn, without validation or test pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import medvip
from medvip.backbones.protocol import encode_texts
from medvip.features import encode_paths

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "symptom_audits"
SETS = {"kermany_cxr_pneumonia": "paediatric-pneumonia", "isic_uda1_melanoma_nevus": "melanoma-nevus"}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_the_audit_of_a_real_set(real_data, tmp_path, name):
    dataset = medvip.load_dataset(real_data / name)
    backbone = medvip.load_backbone("embedded", device="cpu")
    symptoms = medvip.SymptomSet.load(SETS[name])
    # Opening a validation or test picture would fail: their paths lead nowhere.
    blind = dataset.with_samples(
        s if s.split == "train" else replace(s, path=f"{s.path}.gone") for s in dataset
    )
    made = medvip.audit_symptoms(symptoms, blind, backbone, cache=tmp_path, quiet=True)

    training = [sample for sample in dataset if sample.split == "train"]
    vectors = encode_paths([s.path for s in training], backbone, cache=tmp_path, quiet=True).double().numpy()
    texts = encode_texts(backbone, [row.symptom for row in made.rows]).double().numpy()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = np.array([sample.label for sample in training])
    assert sum(made.images.values()) == len(training)
    for row, text in zip(made.rows, texts, strict=True):
        expected = roc_auc_score(labels == row.class_name, vectors @ text)
        assert row.separation.value == pytest.approx(expected, abs=1e-9)
        assert 0 < row.separation.low < row.separation.value < row.separation.high < 1

    # The committed results are these figures (another machine's last bits may differ).
    committed = json.loads((RESULTS / f"{name}.json").read_text())["audit"]
    assert committed["images"] == made.images
    for row, entry in zip(made.rows, committed["symptoms"], strict=True):
        assert (row.class_name, row.symptom) == (entry["class"], entry["symptom"])
        assert row.separation.value == pytest.approx(entry["auroc"]["value"], abs=0.005)
        assert row.separation.high == pytest.approx(entry["auroc"]["high"], abs=0.01)
        assert row.elsewhere.likeness == pytest.approx(entry["likest_elsewhere"]["likeness"], abs=0.01)
        assert row.zipf == entry["rarest_word"]["zipf"]
