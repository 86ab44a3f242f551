"""The ready-made sets keep what they promise: plain, short, contrastive, honest about their origin."""

from __future__ import annotations

from importlib import resources

import pytest

from medvip.symptoms import SymptomSet, check_symptoms, ready_made

JARGON = {
    *(
        "effusion",
        "cavitation",
        "consolidation",
        "bronchogram",
        "opacity",
        "opacities",
        "hypoechoic",
        "lacunae",
    ),
    *("telangiectasia", "nucleus", "cytoplasm", "granules", "lobed", "echogenic", "posterior", "pigment"),
}


def test_every_file_is_listed():
    files = {
        file.name.removesuffix(".json")
        for file in (resources.files("medvip.symptoms") / "ready_made").iterdir()
        if file.is_file()
    }
    assert files == set(ready_made())
    assert all(description and "\n" not in description for description in ready_made().values())


@pytest.mark.parametrize("name", ready_made())
def test_a_ready_made_set(name: str):
    symptoms = SymptomSet.load(name)
    assert (
        check_symptoms(symptoms, count_tokens=lambda text: 2 * len(text.split()) + 2, context_length=32) == []
    )
    assert symptoms.provenance.method == "drafted by a language model, not reviewed by a clinician"
    assert symptoms.provenance.reviewed_by is None
    assert len({len(texts) for texts in symptoms.classes.values()}) == 1
    for texts in symptoms.classes.values():
        assert len(texts) >= 4
        for text in texts:
            assert 3 <= len(text.split()) <= 12
            assert not JARGON & set(text.replace(",", " ").split())
    assert set(symptoms.names) == set(symptoms.classes)
    assert SymptomSet.from_json(symptoms.to_json()) == symptoms


@pytest.mark.parametrize("name", ready_made())
def test_no_class_of_a_set_is_named_in_a_symptom_of_another(name: str):
    symptoms = SymptomSet.load(name)
    for texts in symptoms.classes.values():
        for text in texts:
            assert not {plain.replace("_", " ") for plain in symptoms.classes} & set(text.lower().split())


def test_the_phantoms_are_told_apart_by_how_they_are_drawn():
    symptoms = SymptomSet.load("phantoms")
    assert set(symptoms.classes) == {"suspicious", "harmless"}
    assert "no patient" in (symptoms.provenance.note or "")
