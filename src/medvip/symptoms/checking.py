"""Find what would make symptoms useless or misleading, before anything is trained on them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from medvip.errors import SymptomError, UsageError
from medvip.symptoms.plain_text import shown
from medvip.symptoms.symptom_set import SymptomSet


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a symptom set.

    Attributes
    ----------
    severity
        ``"error"``: it cannot be used so; ``"warning"``: it can, but it should be looked at.
    class_name
        The class it is about; None for the whole set.
    symptom
        The symptom it is about; None for the whole class.
    problem, fix
        What is wrong, and how to mend it.

    Examples
    --------
    >>> print(Finding("warning", "nevus", "a mole", "too short", "say more"))
    warning: class 'nevus', symptom 'a mole': too short (to mend it: say more)
    """

    severity: Literal["error", "warning"]
    class_name: str | None
    symptom: str | None
    problem: str
    fix: str

    @property
    def where(self) -> str:
        """The class and symptom, in words."""
        if self.class_name is None:
            return "the set"
        place = f"class {shown(self.class_name)}"
        return place if self.symptom is None else f"{place}, symptom {shown(self.symptom)}"

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.problem} (to mend it: {self.fix})"


def check_symptoms(
    symptom_set: SymptomSet,
    *,
    count_tokens: Callable[[str], int] | None = None,
    context_length: int | None = None,
    context: int = 4,
) -> list[Finding]:
    """Look for symptoms that are empty, doubled, too long, or name their own class.

    Parameters
    ----------
    symptom_set
        What to check.
    count_tokens
        Number of tokens of a text, start and end token included; None leaves lengths alone.
    context_length
        How many tokens the text encoder takes; needed with `count_tokens`.
    context
        Number of learned context vectors that stand beside the symptom's tokens.

    Returns
    -------
    list of Finding
        Errors first, then warnings; each in the order of the class names.

    Raises
    ------
    UsageError
        Only one of `count_tokens` and `context_length` is given.

    Examples
    --------
    >>> classes = {"nevus": ["even color", "Even color."], "melanoma": ["a melanoma"]}
    >>> for finding in check_symptoms(SymptomSet.from_mapping(classes)):
    ...     print(finding)
    error: class 'nevus', symptom 'Even color.': it stands in this class already \
(to mend it: remove it, or say something else)
    warning: class 'melanoma', symptom 'a melanoma': it names its own class \
(to mend it: say what can be seen instead)
    """
    if (count_tokens is None) != (context_length is None):
        raise UsageError(
            "lengths cannot be checked with only one of count_tokens and context_length",
            fix="give both or none",
        )
    findings = [*_too_few(symptom_set), *_empty(symptom_set)]
    if count_tokens is not None and context_length is not None:
        findings += _too_long(symptom_set, count_tokens, context_length, context)
    findings += [*_doubled_within(symptom_set), *_shared_between(symptom_set), *_names_itself(symptom_set)]
    return sorted(findings, key=lambda finding: (finding.severity != "error", finding.class_name or ""))


def require_usable(findings: Iterable[Finding]) -> None:
    """Refuse a symptom set that has errors, naming all of them at once; warnings pass.

    Raises
    ------
    SymptomError
        There is an error among `findings`.

    Examples
    --------
    >>> require_usable(check_symptoms(SymptomSet.load("phantoms")))
    >>> require_usable([Finding("error", "nevus", None, "it has no symptom", "write some")])
    Traceback (most recent call last):
    medvip.errors.SymptomError: the symptoms cannot be used: class 'nevus': it has no symptom \
(to mend it: write some)
    """
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        problems = "; ".join(f"{finding.where}: {finding.problem}" for finding in errors)
        fixes = "; ".join(dict.fromkeys(finding.fix for finding in errors))
        raise SymptomError(f"the symptoms cannot be used: {problems}", fix=fixes)


def _each_symptom(symptom_set: SymptomSet) -> list[tuple[str, str]]:
    return [(name, symptom) for name in sorted(symptom_set.classes) for symptom in symptom_set.classes[name]]


def _too_few(symptom_set: SymptomSet) -> list[Finding]:
    findings = []
    if len(symptom_set.classes) < 2:
        count = "one class" if symptom_set.classes else "no class"
        problem = f"it has {count}; there is nothing to tell apart"
        findings.append(Finding("error", None, None, problem, "add symptoms for two classes or more"))
    for name, symptoms in symptom_set.classes.items():
        if not symptoms:
            findings.append(Finding("error", name, None, "it has no symptom", "write at least one symptom"))
    return findings


def _empty(symptom_set: SymptomSet) -> list[Finding]:
    return [
        Finding("error", name, symptom, "it is empty", "write what can be seen, or remove it")
        for name, symptom in _each_symptom(symptom_set)
        if not words(symptom)
    ]


def _too_long(
    symptom_set: SymptomSet, count_tokens: Callable[[str], int], context_length: int, context: int
) -> list[Finding]:
    findings = []
    for name, symptom in _each_symptom(symptom_set):
        tokens = count_tokens(symptom)
        excess = tokens + context - context_length
        if excess > 0:
            problem = (
                f"it is too long: {tokens} tokens and {context} learned context vectors, "
                f"where the text encoder takes {context_length}"
            )
            findings.append(
                Finding("error", name, symptom, problem, f"shorten it by {excess} tokens or more")
            )
    return findings


def _doubled_within(symptom_set: SymptomSet) -> list[Finding]:
    findings = []
    seen: set[tuple[str, tuple[str, ...]]] = set()
    for name, symptom in _each_symptom(symptom_set):
        key = (name, words(symptom))
        if key[1] and key in seen:
            problem = "it stands in this class already"
            findings.append(Finding("error", name, symptom, problem, "remove it, or say something else"))
        seen.add(key)
    return findings


def _shared_between(symptom_set: SymptomSet) -> list[Finding]:
    """One finding for each shared symptom, at the first of its classes."""
    holders: dict[tuple[str, ...], dict[str, str]] = {}
    for name, symptom in _each_symptom(symptom_set):
        if key := words(symptom):
            holders.setdefault(key, {}).setdefault(name, symptom)
    findings = []
    for classes in holders.values():
        if len(classes) > 1:
            (name, symptom), *others = classes.items()
            problem = "it also stands in class " + ", ".join(shown(other) for other, _ in others)
            fix = "say what tells the classes apart"
            findings.append(Finding("warning", name, symptom, problem, fix))
    return findings


def _names_itself(symptom_set: SymptomSet) -> list[Finding]:
    return [
        Finding("warning", name, symptom, "it names its own class", "say what can be seen instead")
        for name, symptom in _each_symptom(symptom_set)
        if any(mentions(symptom, own) for own in (name, symptom_set.plain_name(name)))
    ]


def words(text: str) -> tuple[str, ...]:
    """Split a text into its words, without case, punctuation and `_`.

    >>> words("Sharp, well-defined edge.")
    ('sharp', 'well', 'defined', 'edge')
    """
    return tuple(re.findall(r"[^\W_]+", text.casefold()))


def mentions(symptom: str, name: str) -> bool:
    """Whether the words of `name` follow each other in `symptom`, inflected or not.

    >>> mentions("several melanocytic nevi", "melanocytic_nevus"), mentions("abnormal shape", "normal")
    (True, False)
    """
    said, own = words(symptom), words(name)
    if not own or len("".join(own)) < 2:  # a class called "0" or "A" is no word
        return False
    windows = (said[start : start + len(own)] for start in range(len(said) - len(own) + 1))
    return any(all(map(_same_word, window, own)) for window in windows)


# Endings of one word in English and in medicine's Latin and Greek: singular, plural.
_INFLECTIONS = (
    ("", "s"),
    ("", "es"),
    ("y", "ies"),
    ("us", "i"),
    ("is", "es"),
    ("um", "a"),
    ("on", "a"),
    ("a", "ae"),
    ("ma", "mata"),
    ("x", "ces"),
    ("ex", "ices"),
    ("ix", "ices"),
)


def _same_word(one: str, other: str) -> bool:
    """Whether two words are the same or singular and plural of one another.

    >>> _same_word("melanomas", "melanoma"), _same_word("metastasis", "metastases"), _same_word("red", "reed")
    (True, True, False)
    """
    if one == other:
        return True
    return any(
        first.endswith(singular) and first.removesuffix(singular) + plural == second
        for first, second in ((one, other), (other, one))
        for singular, plural in _INFLECTIONS
    )
