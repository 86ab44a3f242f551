"""The ready-made sets fit the real image sets, class by class."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from medvip.symptoms import SymptomSet

DATA = Path(os.environ.get("MEDVIP_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("kermany_cxr_pneumonia", "paediatric-pneumonia"),
        ("isic_uda1_melanoma_nevus", "melanoma-nevus"),
        ("ham10000_7class_224", "ham10000"),
        ("busi_breast_ultrasound_256", "breast-ultrasound"),
        ("bccd_wbc_type", "white-blood-cells"),
    ],
)
def test_a_ready_made_set_has_the_classes_of_its_data(folder: str, name: str):
    if not (DATA / folder).is_dir():
        pytest.skip(f"the image set {folder} is not in {DATA} (set MEDVIP_TEST_DATA)")
    classes = sorted(entry.name for entry in (DATA / folder).iterdir() if entry.is_dir())
    symptoms = SymptomSet.load(name)
    assert sorted(symptoms.classes) == classes
    assert len(symptoms.for_classes(classes)) == len(classes)
