"""The study of faithfulness asks about the symptoms that are there, and the document shows its table."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from medvip.phantoms import SYMPTOMS
from medvip.symptoms import SymptomSet

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "faithfulness"


@pytest.fixture(scope="module")
def study() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "faithfulness_study", ROOT / "benchmarks" / "faithfulness.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_symptom_of_the_set_has_its_truth(study) -> None:
    symptoms = SymptomSet.load("phantoms")
    assert set(study.MEANS) == {text for texts in symptoms.classes.values() for text in texts}
    for presence, name in ((True, "suspicious"), (False, "harmless")):
        told = [study.MEANS[text] for text in symptoms.classes[name]]
        assert sorted(what for what, _ in told) == sorted(SYMPTOMS)
        assert {of for _, of in told} == {presence}


def test_seeds_are_averaged_resample_by_resample(study) -> None:
    figures = [
        {"value": 0.5, "resamples": list(np.linspace(0.4, 0.6, 101))},
        {"value": 0.7, "resamples": list(np.linspace(0.6, 0.8, 101))},
    ]
    assert study.over_seeds(figures) == "0.600 [0.505, 0.695]"


def test_the_document_shows_the_table_of_the_committed_results(study) -> None:
    table = (RESULTS / "table.md").read_text(encoding="utf-8")
    assert study.table(RESULTS) == table
    document = (ROOT / "docs" / "explanations.md").read_text(encoding="utf-8")
    assert table.strip() in document
    seeds = [json.loads(file.read_text())["seed"] for file in sorted(RESULTS.glob("seed_?.json"))]
    assert seeds == [1, 2, 3]
