"""The visual symptom generator (VSG): a language model's knowledge, and what it sees in pictures."""

from __future__ import annotations

from medvip.symptoms.generator.generate import generate_symptoms, require_may_send
from medvip.symptoms.generator.plan import first_questions
from medvip.symptoms.generator.questions import Questions
from medvip.symptoms.generator.variant_writer import variant_writer

__all__ = ["Questions", "first_questions", "generate_symptoms", "require_may_send", "variant_writer"]
