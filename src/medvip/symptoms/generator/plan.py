"""What a generation is to do, once it is clear that it can be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medvip.errors import SymptomError, UsageError
from medvip.symptoms.class_names import closest, find_name, spoken
from medvip.symptoms.generator.class_questions import ClassQuestions, Wanted
from medvip.symptoms.generator.grid import pictures_shown
from medvip.symptoms.generator.questions import Questions
from medvip.symptoms.plain_text import clean_line, shown
from medvip.symptoms.symptom_set import SymptomSet
from medvip.types import ImageDataset


def plan(
    classes: Sequence[str],
    modality: str,
    names: Mapping[str, str] | None,
    *,
    per_class: int,
    contrastive: bool,
    rounds: int,
) -> tuple[SymptomSet, Wanted]:
    """A set of these classes without symptoms, and what is asked of each; wrong input is refused.

    Raises
    ------
    UsageError
        Fewer than two classes, one text in their place, or a number out of range.
    SymptomError
        A name cannot be used or stands there twice, or the modality is blank.
    """
    require_range("per_class", per_class, 1, 12)
    require_range("rounds", rounds, 0, 10)
    clean = _clean_classes(classes)
    plain = SymptomSet.from_mapping(dict.fromkeys(clean, ()), modality=modality, names=names or {})
    return plain, Wanted(
        modality=plain.modality,
        spoken={name: plain.plain_name(name) for name in clean},
        per_class=per_class,
        rounds=rounds,
        contrastive=contrastive,
    )


def first_questions(
    classes: Sequence[str],
    modality: str,
    *,
    names: Mapping[str, str] | None = None,
    contrastive: bool = False,
    per_class: int = 4,
    questions: Questions | None = None,
    images: ImageDataset | None = None,
) -> list[tuple[str, str, str]]:
    """What `generate_symptoms` would send first, word for word; nothing is sent.

    Parameters
    ----------
    classes, modality, names, contrastive, per_class, questions, images
        As for `generate_symptoms`.

    Returns
    -------
    list of tuple
        Stage, class and text, by class and then in the order of the stages.

    Raises
    ------
    MedvipError
        As `generate_symptoms` does for the same classes.

    Examples
    --------
    >>> asked = first_questions(["nevus", "melanoma"], "dermoscopic image")
    >>> [(stage, name) for stage, name, _ in asked]
    [('coarse', 'melanoma'), ('coarse', 'nevus')]
    >>> print(asked[0][2].splitlines()[-1])
    Give only JSON, in this form: {"symptoms": ["...", "..."]}
    """
    _, wanted = plan(classes, modality, names, per_class=per_class, contrastive=contrastive, rounds=0)
    in_data = classes_in_data(list(wanted.spoken), images.classes) if images is not None else {}
    asked = []
    for name in wanted.spoken:
        text = ClassQuestions(name, wanted, questions or Questions.load())
        asked.append((text.first, name, text.candidates()))
        if images is not None:
            asked.append(("fine", name, text.fine(pictures_shown(images, in_data[name]))))
    return asked


def names_of(class_name: str, wanted: Wanted) -> list[str]:
    """How a class may be called in a text."""
    return list(dict.fromkeys([class_name, spoken(class_name), wanted.spoken[class_name]]))


def classes_in_data(classes: Sequence[str], available: Sequence[str]) -> dict[str, str]:
    """Find each class among those of the data.

    Raises
    ------
    SymptomError
        One is not there.

    Examples
    --------
    >>> classes_in_data(["Nevus"], ["melanoma", "nevus"])
    {'Nevus': 'nevus'}
    >>> classes_in_data(["nevi"], ["melanoma", "nevus"])
    Traceback (most recent call last):
    medvip.errors.SymptomError: the data has no class 'nevi'; it has: 'melanoma', 'nevus' \
(to mend it: write 'nevus' for 'nevi')
    """
    found = {name: find_name(name, available) for name in classes}
    missing = [name for name, there in found.items() if there is None]
    if not missing:
        return {name: there for name, there in found.items() if there is not None}
    listed = ", ".join(shown(name) for name in available[:12]) + (", ..." if len(available) > 12 else "")
    near = {name: closest(name, available) for name in missing}
    fixes = [f"write {shown(other)} for {shown(name)}" for name, other in near.items() if other]
    raise SymptomError(
        f"the data has no class {', '.join(map(shown, missing))}; it has: {listed}",
        fix="; ".join(fixes) or "name classes of the data only",
    )


def require_range(name: str, value: int, least: int, most: int) -> None:
    """Raise `UsageError` when `value` is not within `least` and `most`."""
    if not least <= value <= most:
        raise UsageError(f"{name} is {value}", fix=f"use {least} to {most}")


def _clean_classes(classes: Sequence[str]) -> list[str]:
    if isinstance(classes, str):
        raise UsageError(
            f"the classes are given as one text, {shown(classes)}",
            fix='give a list: ["melanoma", "nevus"]',
        )
    clean = [clean_line(name, "a class's name") for name in classes]
    if len(set(clean)) < len(clean):
        raise SymptomError("a class is named twice", fix="name each class once")
    if len(clean) < 2:
        raise UsageError(
            f"there are {len(clean)} classes; there is nothing to tell apart",
            fix='give two or more: --class "melanoma" --class "nevus"',
        )
    return sorted(clean)
