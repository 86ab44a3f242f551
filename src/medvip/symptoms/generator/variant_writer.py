"""Texts for the paper's Fig. 5 in place of symptoms, written by a language model."""

from __future__ import annotations

from collections.abc import Callable

from medvip.symptoms.checking import words
from medvip.symptoms.generator.acceptance import Rules
from medvip.symptoms.generator.asking import ask_about
from medvip.symptoms.generator.outcome import latest_date
from medvip.symptoms.generator.questions import Questions
from medvip.symptoms.generator.reading import read_symptoms
from medvip.symptoms.language_model import BadAnswer, LanguageModel
from medvip.symptoms.plain_words import zipf
from medvip.symptoms.provenance import Provenance
from medvip.symptoms.symptom_set import SymptomSet


def variant_writer(
    model: LanguageModel, questions: Questions | None = None
) -> Callable[[SymptomSet, str], SymptomSet]:
    """Give the `write` of `knowledge_variants`: it asks `model` for a set's texts of one kind.

    What it gives raises `LanguageModelError` where a class has no usable answer.

    Examples
    --------
    >>> from medvip.symptoms.variants import knowledge_variants             # doctest: +SKIP
    >>> knowledge_variants(symptoms, write=variant_writer(model)).keys()    # doctest: +SKIP
    dict_keys(['out-of-domain', 'useless', 'opposite', 'symptoms'])
    """
    asked = questions or Questions.load()

    def write(real: SymptomSet, kind: str) -> SymptomSet:
        zipf("edge")  # that words cannot be looked up is found out before anything is paid for
        taken = {words(text) for texts in real.classes.values() for text in texts}
        with model.counting() as used:
            written = {
                name: _of_class(name, real, kind, taken, model, asked) for name in sorted(real.classes)
            }
        provenance = Provenance(
            author=f"the language model {model.server.model}",
            method=f"written by a language model on {model.server.host} as a control",
            date=latest_date(used),
            model=model.server.model,
            questions=f"{kind}, sha256 {asked.digests((kind,))[kind]}",
        )
        return SymptomSet.from_mapping(
            written, modality=real.modality, names=real.names, provenance=provenance
        )

    return write


def _of_class(
    name: str,
    real: SymptomSet,
    kind: str,
    taken: set[tuple[str, ...]],
    model: LanguageModel,
    questions: Questions,
) -> list[str]:
    texts = real.classes[name]
    slots = {"category": real.plain_name(name), "modality": real.modality, "count": len(texts)}
    if kind == "useless":
        slots["others"] = ", ".join(real.plain_name(other) for other in sorted(real.classes) if other != name)
    listed = "\n".join(f"{number}. {text}" for number, text in enumerate(texts, start=1))
    question = questions.ask(kind, symptoms=listed, **slots)
    others = [each for other in real.classes if other != name for each in (other, real.plain_name(other))]
    rules = Rules([name, real.plain_name(name)], other_names=others)

    def read(answer: str) -> list[str]:
        phrases = read_symptoms(answer)
        if len(phrases) != len(texts):
            raise BadAnswer(f"it has {len(phrases)} phrases where {len(texts)} are asked for")
        for position, phrase in enumerate(phrases):
            fault = rules.fault(phrase, phrases[:position])
            if fault is None and words(phrase) in taken:
                fault = "it is one of the given phrases"
            if fault is not None:
                raise BadAnswer(f"phrase {position + 1}: {fault}")
        return phrases

    return ask_about(name, kind, question, read, model, questions)
