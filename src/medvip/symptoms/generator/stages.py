"""One class's symptoms: coarse from knowledge, fine from pictures, reconciled, refined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from medvip.errors import LanguageModelError
from medvip.symptoms.generation import Decision
from medvip.symptoms.generator.acceptance import Rules, safe
from medvip.symptoms.generator.questions import Questions
from medvip.symptoms.generator.reading import (
    DECISIONS_EXAMPLE,
    DECISIONS_FORM,
    FEATURES_EXAMPLE,
    FEATURES_FORM,
    SYMPTOMS_EXAMPLE,
    SYMPTOMS_FORM,
    Support,
    read_decisions,
    read_features,
    read_symptoms,
)
from medvip.symptoms.language_model import LanguageModel, Message, Picture
from medvip.symptoms.plain_text import shown


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
        Whether the first question names the other classes.
    """

    modality: str
    spoken: dict[str, str]
    per_class: int
    rounds: int
    contrastive: bool


@dataclass
class OfClass:
    """What was found for one class, and why the rest was not kept."""

    symptoms: list[str] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)


def symptoms_of(
    class_name: str,
    wanted: Wanted,
    rules: Rules,
    model: LanguageModel,
    questions: Questions,
    grid: Picture | None,
) -> OfClass:
    """Ask for one class until enough symptoms are left, `wanted.rounds` times more at most.

    Raises
    ------
    LanguageModelError
        Too few are left in the end, or the model gives no usable answer.
    PicturesRefused
        `grid` is given and the model takes no pictures.
    """
    talk = _Talk(class_name, wanted, model, questions)
    found = OfClass(asked=talk.asked)
    candidates = talk.coarse()
    features = talk.fine(grid) if grid else []
    for round_ in range(wanted.rounds + 1):
        accepted = _accept(candidates, rules, found)
        if features and accepted:
            accepted = _keep_supported(accepted, features, talk.reconcile(accepted, features), found)
        else:
            found.decisions += [Decision(text, True, None, None) for text in accepted]
        found.symptoms += accepted
        if len(found.symptoms) >= wanted.per_class:
            return _cut(found, wanted.per_class)
        if round_ < wanted.rounds:
            candidates = talk.refine(found, features)
    talk.forget_last()
    refused = [decision for decision in found.decisions if not decision.kept]
    reasons = "; ".join(f"{shown(each.symptom)}: {each.reason}" for each in refused[-3:])
    raise LanguageModelError(
        f"class {shown(class_name)}: {len(found.symptoms)} of {wanted.per_class} symptoms are left after "
        f"{wanted.rounds + 1} rounds; refused last: {reasons}",
        fix="run it again (answers so far are kept), ask for fewer with --per-class, or use another --model",
    )


class _Talk:
    """The questions about one class, each with what its answer has to look like."""

    def __init__(self, class_name: str, wanted: Wanted, model: LanguageModel, questions: Questions) -> None:
        self._class_name, self._wanted, self._model, self._questions = class_name, wanted, model, questions
        self._others = ", ".join(name for key, name in sorted(wanted.spoken.items()) if key != class_name)
        self.asked: set[str] = set()

    def coarse(self) -> list[str]:
        """Candidates from general knowledge: twice as many as wanted, since some will fall."""
        if self._wanted.contrastive:
            question = self._text("contrastive", count=2 * self._wanted.per_class, others=self._others)
        else:
            question = self._text("coarse", count=2 * self._wanted.per_class)
        name = "contrastive" if self._wanted.contrastive else "coarse"
        return self._ask(name, question, SYMPTOMS_EXAMPLE, SYMPTOMS_FORM, read_symptoms)

    def fine(self, grid: Picture) -> list[str]:
        """What the model sees in the pictures."""
        question = self._text("fine", pictures=len(grid.ids))
        return self._ask("fine", question, FEATURES_EXAMPLE, FEATURES_FORM, read_features, grid)

    def reconcile(self, symptoms: Sequence[str], features: Sequence[str]) -> list[Support]:
        """Which symptoms the features support."""
        question = self._text("reconcile", symptoms=_numbered(symptoms), features=_numbered(features))

        def read(text: str) -> list[Support]:
            return read_decisions(text, len(symptoms), len(features))

        return self._ask("reconcile", question, DECISIONS_EXAMPLE, DECISIONS_FORM, read)

    def refine(self, found: OfClass, features: Sequence[str]) -> list[str]:
        """More candidates, told what there is and why others fell."""
        refused = [each for each in found.decisions if not each.kept]
        seen = "Choose among what was seen in real pictures:\n" + _numbered(features) if features else ""
        question = self._text(
            "refine",
            count=2 * (self._wanted.per_class - len(found.symptoms)),
            kept=_numbered(found.symptoms) or "(none)",
            reasons="\n".join(f"- {each.symptom}: {each.reason}" for each in refused) or "(none)",
            seen=seen,
        )
        return self._ask("refine", question, SYMPTOMS_EXAMPLE, SYMPTOMS_FORM, read_symptoms)

    def _text(self, name: str, **slots: object) -> str:
        """A question about this class."""
        spoken = self._wanted.spoken[self._class_name]
        return self._questions.ask(name, category=spoken, modality=self._wanted.modality, **slots)

    def _ask(
        self,
        name: str,
        question: str,
        example: str,
        form: dict[str, Any],
        read: Callable[[str], Any],
        grid: Picture | None = None,
    ) -> Any:
        self.asked.add(name)
        return self._model.ask_until(
            Message("user", f"{question}\n\n{example}", grid),
            form,
            read,
            about=self._about(name),
            again=lambda reason: f"{self._questions.ask('again', reason=reason)}\n{example}",
        )

    def forget_last(self) -> None:
        """Have candidates asked for anew the next time, since these came to nothing."""
        last = [name for name in ("refine", "coarse", "contrastive") if name in self.asked]
        self._model.forget(self._about(last[0]))

    def _about(self, name: str) -> str:
        return f"class {shown(self._class_name)}, question {name}"


def _accept(candidates: Sequence[str], rules: Rules, found: OfClass) -> list[str]:
    """The candidates that may be symptoms; the others are noted with the reason."""
    accepted: list[str] = []
    for text in candidates:
        fault = rules.fault(text, [*found.symptoms, *accepted])
        if fault is None:
            accepted.append(text)
        else:
            found.decisions.append(Decision(safe(text), False, None, fault))
    return accepted


def _keep_supported(
    accepted: Sequence[str], features: Sequence[str], decisions: Sequence[Support], found: OfClass
) -> list[str]:
    """The symptoms that were seen in the pictures, too: the paper's refinement."""
    kept = []
    for text, support in zip(accepted, decisions, strict=True):
        if support.feature is not None:
            kept.append(text)
            found.decisions.append(Decision(text, True, features[support.feature], None))
        else:
            found.decisions.append(Decision(text, False, None, "it was not seen in the pictures"))
    return kept


def _cut(found: OfClass, per_class: int) -> OfClass:
    """The first `per_class`; the model gave the most useful first."""
    surplus = set(found.symptoms[per_class:])
    found.decisions = [
        Decision(each.symptom, False, each.feature, f"there are {per_class} already")
        if each.kept and each.symptom in surplus
        else each
        for each in found.decisions
    ]
    found.symptoms = found.symptoms[:per_class]
    return found


def _numbered(phrases: Sequence[str]) -> str:
    return "\n".join(f"{number}. {phrase}" for number, phrase in enumerate(phrases, start=1))
