"""Room 2: class names -> visual symptoms in plain words, checked, kept with provenance."""

from __future__ import annotations

from medvip.symptoms.checking import Finding, check_symptoms, require_usable
from medvip.symptoms.class_names import spoken
from medvip.symptoms.importing import import_descriptors
from medvip.symptoms.ready import ready_made
from medvip.symptoms.symptom_set import Provenance, SymptomSet

__all__ = [
    "Finding",
    "Provenance",
    "SymptomSet",
    "check_symptoms",
    "import_descriptors",
    "ready_made",
    "require_usable",
    "spoken",
]
