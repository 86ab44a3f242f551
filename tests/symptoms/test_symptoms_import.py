"""Released descriptor files become native ones that say where they came from."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from medvip.errors import SymptomError
from medvip.symptoms import SymptomSet, import_descriptors


@pytest.fixture
def released(tmp_path: Path) -> Path:
    path = tmp_path / "descriptors_demo.json"
    path.write_text('{"normal lung": ["dark and clear"], "pneumonia": ["white cloud"]}')
    return path


def test_import_keeps_the_source_and_the_date(released: Path, tmp_path: Path):
    symptoms = import_descriptors(released, modality="chest X-ray")
    assert symptoms.modality == "chest X-ray"
    assert symptoms.provenance.source == "descriptors_demo.json"
    assert symptoms.provenance.date == date.today().isoformat()
    assert symptoms.provenance.author == "unknown"
    assert SymptomSet.load(symptoms.save(tmp_path / "native.json")) == symptoms


def test_import_renames_by_name(released: Path):
    symptoms = import_descriptors(released, modality="chest X-ray", rename={"Normal_Lung": "normal"})
    assert symptoms.for_classes(["pneumonia", "normal"]) == (("white cloud",), ("dark and clear",))
    swapped = import_descriptors(
        released, modality="chest X-ray", rename={"pneumonia": "normal lung", "normal lung": "pneumonia"}
    )
    assert swapped.for_classes(["pneumonia", "normal lung"]) == (("dark and clear",), ("white cloud",))


def test_import_errors(released: Path, tmp_path: Path):
    with pytest.raises(
        SymptomError, match="rename: no symptoms for 'pneumona'; close: 'pneumonia' ~ 'pneumona'"
    ):
        import_descriptors(released, modality="chest X-ray", rename={"pneumona": "x"})
    with pytest.raises(SymptomError, match="the classes 'Pneumonia' and 'pneumonia' differ only"):
        import_descriptors(released, modality="chest X-ray", rename={"normal lung": "Pneumonia"})
    with pytest.raises(SymptomError, match="the modality is blank"):
        import_descriptors(released, modality="")
    native = SymptomSet.load("phantoms").save(tmp_path / "native.json")
    with pytest.raises(SymptomError, match="has its own provenance already"):
        import_descriptors(native, modality="drawing")
    with pytest.raises(SymptomError, match="there is no symptom file"):
        import_descriptors(tmp_path / "none.json", modality="chest X-ray")
