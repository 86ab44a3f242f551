"""One class's symptoms: coarse from knowledge, fine from pictures, reconciled, refined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from medvip.errors import LanguageModelError
from medvip.symptoms.checking import words
from medvip.symptoms.generation import Decision
from medvip.symptoms.generator.acceptance import THERE_ALREADY, Rules, safe
from medvip.symptoms.generator.asking import about, ask_about
from medvip.symptoms.generator.class_questions import ClassQuestions, Wanted
from medvip.symptoms.generator.questions import Questions
from medvip.symptoms.generator.reading import Support, read_decisions, read_features, read_symptoms
from medvip.symptoms.language_model import LanguageModel, Picture
from medvip.symptoms.plain_text import shown

Read = TypeVar("Read")
_NOT_SEEN = "it was not seen in the pictures"


@dataclass
class OfClass:
    """What was found for one class, and why the rest was not kept."""

    symptoms: list[str] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)

    @property
    def refused(self) -> list[Decision]:
        """What was not kept."""
        return [decision for decision in self.decisions if not decision.kept]


def symptoms_of(
    class_name: str,
    wanted: Wanted,
    rules: Rules,
    model: LanguageModel,
    questions: Questions,
    grid: Picture | None,
) -> OfClass:
    """The symptoms of one class, as many as are wanted.

    Raises
    ------
    LanguageModelError
        Too few are left in the end, or the model gives no usable answer. What led to too few is
        set aside, so that it is asked anew the next time.
    PicturesRefused
        `grid` is given and the model takes no pictures.
    """
    found = look_for_symptoms(class_name, wanted, rules, model, questions, grid)
    if len(found.symptoms) == wanted.per_class:
        return found
    last = next(name for name in ("refine", "coarse", "contrastive") if name in found.asked)
    for name in found.asked & {last, "fine", "reconcile"}:
        model.forget(about(class_name, name))
    telling = [each for each in found.refused if each.reason != THERE_ALREADY] or found.refused
    reasons = "; ".join(f"{shown(each.symptom)}: {each.reason}" for each in telling[-3:])
    raise LanguageModelError(
        f"class {shown(class_name)}: {len(found.symptoms)} of {wanted.per_class} symptoms are left after "
        f"{wanted.rounds + 1} rounds; refused last: {reasons}",
        fix="run it again (other answers so far are kept), with --ask-again or another --seed for other "
        "answers, with more --rounds or a smaller --per-class, or use another --model",
    )


def look_for_symptoms(
    class_name: str,
    wanted: Wanted,
    rules: Rules,
    model: LanguageModel,
    questions: Questions,
    grid: Picture | None,
) -> OfClass:
    """Ask for one class until enough symptoms are left, `wanted.rounds` times more at most."""
    text = ClassQuestions(class_name, wanted, questions)
    found = OfClass()

    def ask(name: str, text: str, read: Callable[[str], Read], picture: Picture | None = None) -> Read:
        found.asked.add(name)
        return ask_about(class_name, name, text, read, model, questions, picture)

    candidates = ask(text.first, text.candidates(), read_symptoms)
    features = ask("fine", text.fine(len(grid.ids)), read_features, grid) if grid else []
    for round_ in range(wanted.rounds + 1):
        accepted = _accept(candidates, rules, found)
        if features and accepted:
            counts = len(accepted), len(features)
            decisions = ask(
                "reconcile",
                text.reconcile(accepted, features),
                lambda answer, counts=counts: read_decisions(answer, *counts),
            )
            accepted = _keep_supported(accepted, features, decisions, found)
        else:
            found.decisions += [Decision(each, True, None, None) for each in accepted]
        found.symptoms += accepted
        if len(found.symptoms) >= wanted.per_class:
            return _cut(found, wanted.per_class)
        if round_ < wanted.rounds:
            candidates = ask("refine", text.refine(found.symptoms, found.refused, features), read_symptoms)
    return found


def _accept(candidates: Sequence[str], rules: Rules, found: OfClass) -> list[str]:
    """The candidates that may be symptoms; the others are noted with the reason, each once."""
    accepted: list[str] = []
    refused = {each.symptom for each in found.refused}
    unseen = {words(each.symptom) for each in found.refused if each.reason == _NOT_SEEN}
    for text in candidates:
        if safe(text) in refused or words(text) in unseen:
            continue
        fault = rules.fault(text, [*found.symptoms, *accepted])
        if fault is None:
            accepted.append(text)
        else:
            refused.add(safe(text))
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
            found.decisions.append(Decision(text, False, None, _NOT_SEEN))
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
