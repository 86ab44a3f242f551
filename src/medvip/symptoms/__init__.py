"""Room 2: class names -> visual symptoms in plain words, checked, kept with provenance."""

from __future__ import annotations

from medvip.symptoms.checking import Finding, check_symptoms, require_usable
from medvip.symptoms.class_names import spoken
from medvip.symptoms.generation import Decision, Generation
from medvip.symptoms.importing import import_descriptors
from medvip.symptoms.ready import ready_made
from medvip.symptoms.reviewing import Review
from medvip.symptoms.symptom_set import Provenance, SymptomSet
from medvip.symptoms.variants import KINDS, knowledge_variants, save_variants

__all__ = [
    "KINDS",
    "Decision",
    "Finding",
    "Generation",
    "Provenance",
    "Review",
    "SymptomSet",
    "check_symptoms",
    "import_descriptors",
    "knowledge_variants",
    "ready_made",
    "require_usable",
    "save_variants",
    "spoken",
]
