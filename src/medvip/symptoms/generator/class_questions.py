"""The questions about one class, word for word as they are sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medvip.symptoms.generation import Decision
from medvip.symptoms.generator.questions import Questions


@dataclass(frozen=True)
class Wanted:
    """What is asked of each class.

    Attributes
    ----------
    modality
        "dermoscopic image".
    spoken
        Class name -> its plain name in the questions.
    per_class
        Symptoms to end with.
    rounds
        How often more are asked for when too few are left.
    contrastive
        Whether the questions name the other classes.
    """

    modality: str
    spoken: dict[str, str]
    per_class: int
    rounds: int
    contrastive: bool


@dataclass(frozen=True)
class ClassQuestions:
    """The questions about `class_name`."""

    class_name: str
    wanted: Wanted
    questions: Questions

    @property
    def first(self) -> str:
        """The name of the first question."""
        return "contrastive" if self.wanted.contrastive else "coarse"

    def candidates(self) -> str:
        """For what is known: twice as many as wanted, since some will fall."""
        others = {"others": self._others()} if self.wanted.contrastive else {}
        return self._text(self.first, count=2 * self.wanted.per_class, **others)

    def fine(self, pictures: int) -> str:
        """For what is seen in so many pictures."""
        return self._text("fine", pictures=pictures)

    def reconcile(self, symptoms: Sequence[str], features: Sequence[str]) -> str:
        """For which symptoms the features support."""
        return self._text("reconcile", symptoms=_numbered(symptoms), features=_numbered(features))

    def refine(self, kept: Sequence[str], refused: Sequence[Decision], features: Sequence[str]) -> str:
        """For more candidates, told what there is and why others fell."""
        contrast = f"They have to tell it from: {self._others()}." if self.wanted.contrastive else ""
        seen = "Choose among what was seen in real pictures:\n" + _numbered(features) if features else ""
        return self._text(
            "refine",
            count=2 * (self.wanted.per_class - len(kept)),
            kept=_numbered(kept) or "(none)",
            reasons="\n".join(f"- {each.symptom}: {each.reason}" for each in refused) or "(none)",
            contrast=contrast,
            seen=seen,
        )

    def _others(self) -> str:
        return ", ".join(name for key, name in sorted(self.wanted.spoken.items()) if key != self.class_name)

    def _text(self, name: str, **slots: object) -> str:
        spoken = self.wanted.spoken[self.class_name]
        return self.questions.ask(name, category=spoken, modality=self.wanted.modality, **slots)


def _numbered(phrases: Sequence[str]) -> str:
    return "\n".join(f"{number}. {phrase}" for number, phrase in enumerate(phrases, start=1))
