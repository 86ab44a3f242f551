"""The visual symptom generator (VSG): a language model's knowledge, and what it sees in pictures."""

from __future__ import annotations

from medvip.symptoms.generator.controls import variant_writer
from medvip.symptoms.generator.generate import generate_symptoms, require_may_send
from medvip.symptoms.generator.questions import Questions

__all__ = ["Questions", "generate_symptoms", "require_may_send", "variant_writer"]
