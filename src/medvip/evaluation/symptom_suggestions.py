"""Which symptoms of a set to look at again, by rules that fit on a screen.

A suggestion is a reason to look, not a verdict: the figures behind it come from one backbone's
zero-shot similarity, and a backbone that does not know the pictures makes good symptoms look bad.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from medvip.evaluation.metrics import Estimate
from medvip.symptoms.plain_text import shown

#: Likeness from which one symptom is taken for another in other words. Of 72 paraphrases 13 lie
#: above, of 108 pairs of different symptoms of one class none (docs/symptom-audit.md).
NEAR_DUPLICATE = 0.6

#: Zipf frequency below which a word is rare: said less than once in ten million words.
RARE_WORD = 2.0


@dataclass(frozen=True)
class Suggestion:
    """What to do with a symptom, and why.

    Attributes
    ----------
    action
        ``"keep"``, ``"reword"`` or ``"drop"``.
    reasons
        One clause each; "keep" has one only where something spoke against it.
    """

    action: Literal["keep", "reword", "drop"]
    reasons: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """``{"action": .., "reasons": [..]}``."""
        return {"action": self.action, "reasons": list(self.reasons)}


def suggest(
    class_names: Sequence[str],
    symptoms: Sequence[str],
    separations: Sequence[Estimate],
    likeness: Float[np.ndarray, "symptom symptom"],
    rarest: Sequence[tuple[str, float]],
) -> tuple[Suggestion, ...]:
    """Suggest for each symptom to keep it, to reword it or to drop it.

    - Drop what points away from its class: the upper end of its AUROC's interval is below 0.5.
    - Drop what nearly repeats a symptom of its class that separates better and stays: likeness
      `NEAR_DUPLICATE` or more.
    - Reword what has a word that hardly anybody uses: Zipf frequency below `RARE_WORD`.
    - Keep the rest, and in every class the symptom that separates best of those that stay: where
      all point away, the best of them is kept and the reason says so.

    Parameters
    ----------
    class_names, symptoms, separations, rarest
        Of each symptom: its class, its text, its AUROC for its own class with an interval, its
        rarest word with that word's Zipf frequency.
    likeness
        Of each symptom with each; in [-1, 1].

    Returns
    -------
    tuple of Suggestion
        One for each symptom, in the same order.

    Examples
    --------
    >>> separations = [Estimate(0.7, 0.6, 0.8), Estimate(0.3, 0.2, 0.4), Estimate(0.6, 0.5, 0.7)]
    >>> rarest = [("edge", 4.7), ("even", 5.9), ("telangiectasia", 1.75)]
    >>> suggested = suggest(
    ...     ["melanoma", "melanoma", "nevus"],
    ...     ["jagged edge", "one even color", "telangiectasia"],
    ...     separations, np.eye(3), rarest,
    ... )
    >>> [suggestion.action for suggestion in suggested]
    ['keep', 'drop', 'reword']
    >>> suggested[1].reasons
    ('it points away from its class: AUROC 0.300 [0.200, 0.400]',)
    """
    away = [estimate.high < 0.5 for estimate in separations]
    spared = _best_where_all(away, class_names, separations)
    dropped, repeats = _dropped(class_names, separations, likeness, away, spared)
    suggestions = []
    for index, (word, frequency) in enumerate(rarest):
        rare = frequency < RARE_WORD
        reasons = []
        if away[index]:
            reasons.append(f"it points away from its class: AUROC {separations[index]}")
        if index in spared:
            reasons.append("kept as the best of its class, since all symptoms of the class point away")
        if (twin := repeats.get(index)) is not None:
            reasons.append(
                f"it says nearly the same as {shown(symptoms[twin])}, which separates better "
                f"(likeness {likeness[index, twin]:+.2f})"
            )
        if rare:
            reasons.append(_rare(word, frequency))
        action = "drop" if index in dropped else "reword" if rare else "keep"
        suggestions.append(Suggestion(action, tuple(reasons)))
    return tuple(suggestions)


def _best_first(separations: Sequence[Estimate]) -> list[int]:
    return sorted(range(len(separations)), key=lambda index: -separations[index].value)


def _best_where_all(
    away: Sequence[bool], class_names: Sequence[str], separations: Sequence[Estimate]
) -> set[int]:
    """The best symptom of each class all of whose symptoms point away."""
    some_stay = {name for name, leaves in zip(class_names, away, strict=True) if not leaves}
    best = {class_names[index]: index for index in reversed(_best_first(separations))}
    return {index for name, index in best.items() if name not in some_stay}


def _dropped(
    class_names: Sequence[str],
    separations: Sequence[Estimate],
    likeness: Float[np.ndarray, "symptom symptom"],
    away: Sequence[bool],
    spared: set[int],
) -> tuple[set[int], dict[int, int]]:
    """What to drop, and what repeats what: best first, so that only what stays makes another leave."""
    dropped = {index for index, leaves in enumerate(away) if leaves and index not in spared}
    repeats: dict[int, int] = {}
    staying: list[int] = []
    for index in _best_first(separations):
        twins = [
            other
            for other in staying
            if class_names[other] == class_names[index] and likeness[index, other] >= NEAR_DUPLICATE
        ]
        if twins:
            repeats[index] = max(twins, key=lambda other: likeness[index, other])
        if twins or index in dropped:
            dropped.add(index)
        else:
            staying.append(index)
    return dropped, repeats


def _rare(word: str, frequency: float) -> str:
    if not word:
        return "it has no word"
    known = f"is rare (Zipf frequency {frequency:.2f})" if frequency else "is in no list of English words"
    return f"{shown(word)} {known}: say it in plain words"
