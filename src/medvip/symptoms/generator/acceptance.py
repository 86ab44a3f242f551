"""Which texts of a language model may become symptoms: those that pass for a caption's words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from medvip.errors import SymptomError
from medvip.symptoms.checking import words
from medvip.symptoms.generator.names import gives_away, is_everyday
from medvip.symptoms.language_model import BadAnswer
from medvip.symptoms.plain_text import clean_line, shown
from medvip.symptoms.plain_words import mean_zipf, words_of, zipf

MOST_CHARACTERS = 120
MOST_WORDS = 20
THERE_ALREADY = "it is there already"
NOT_ENGLISH = "it is not in plain English"
LEAST_ZIPF = 2.0
"""Mean Zipf frequency below which a phrase is taken for jargon, another language, or noise."""
LEAST_ZIPF_OF_ALL = 2.5
"""The same for all phrases of an answer together, by the commonest words alone: a few short phrases
of another language may pass one by one, since English has borrowed their words."""

_MARKUP = re.compile(r"[<>{}\[\]|\\`*#_=~^@$]|https?:|www\.|//")
_NOISE = re.compile(r"[^\w\s]{3,}")
# What some models write for a space or a hyphen; a text encoder knows only the plain ones.
_TYPED = str.maketrans(dict.fromkeys("\u00a0\u2007\u202f", " ") | dict.fromkeys("\u2010\u2011", "-"))
# A symptom speaks of a picture; a text that speaks to somebody, or of itself, is none.
_SPEAKING = {"i", "i'm", "me", "my", "mine", "you", "you're", "your", "yours", "please", "sorry"} | {
    "ignore", "disregard", "instruction", "instructions", "prompt", "assistant", "ai", "json", "answer",
}  # fmt: skip


@dataclass(frozen=True)
class Rules:
    """What a symptom of one class has to satisfy.

    Attributes
    ----------
    own_names
        The class's names; a symptom may not hold one.
    tokens_over
        Text to number of tokens that are too many for the text encoder (0 or less: it fits);
        None leaves that to the limit in characters.
    other_names
        Names of the other classes. A symptom may hold none, except those of everyday words alone:
        "normal heart size" may well describe pneumonia where a class is called "normal".
    taken
        Words of a symptom of another class -> that class, where no symptom is to be shared.
    """

    own_names: Sequence[str]
    tokens_over: Callable[[str], int] | None = field(default=None, compare=False)
    other_names: Sequence[str] = ()
    taken: Mapping[tuple[str, ...], str] = field(default_factory=dict)

    def fault(self, text: str, others: Iterable[str] = ()) -> str | None:
        """Why `text` cannot be a symptom beside `others`, or None.

        Examples
        --------
        >>> rules = Rules(["melanoma"])
        >>> rules.fault("jagged edge"), rules.fault("edge of a melanoma")
        (None, "it names 'melanoma'")
        >>> Rules(["nevus"], other_names=["melanoma"]).fault("unlike a melanoma")
        "it names another class, 'melanoma'"
        >>> rules.fault("bords irréguliers et flous")
        'it is not in plain English'
        """
        try:
            line = clean_line(text, "symptom")
        except SymptomError:
            return "it holds a control character"
        if not line.isprintable():
            return "it holds an invisible character"
        own = words(line)
        if len("".join(own)) < 3:
            return "it says nothing"
        if len(line) > MOST_CHARACTERS or len(own) > MOST_WORDS:
            return f"it is longer than {MOST_WORDS} words"
        if _MARKUP.search(line):
            return "it holds markup or an address"
        if any(unicodedata.category(character)[0] == "L" and not _is_latin(character) for character in line):
            return "it holds a letter that is not Latin"
        if _NOISE.search(line) or any(unicodedata.category(character) == "So" for character in line):
            return "it holds signs that are no words"
        if _SPEAKING & set(line.casefold().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").split()) or (
            _SPEAKING & set(own)
        ):
            return "it speaks to somebody instead of describing"
        for name in self.own_names:
            if gives_away(line, name):
                return f"it names {shown(name)}"
        for name in self.other_names:
            if gives_away(line, name) and not is_everyday(name):
                return f"it names another class, {shown(name)}"
        if own in {words(other) for other in others}:
            return THERE_ALREADY
        if (other := self.taken.get(own)) is not None:
            return f"it also stands in class {shown(other)}"
        if _mean_zipf(line) < LEAST_ZIPF:
            return NOT_ENGLISH
        if self.tokens_over is not None and (over := self.tokens_over(line)) > 0:
            return f"it is {over} tokens too long for the text encoder"
        return None


def require_english(phrases: Sequence[str]) -> None:
    """Raise `BadAnswer` when the phrases of an answer are, taken together, not in English.

    Examples
    --------
    >>> require_english(["jagged edge", "hazy opacities", "uneven shape"])
    >>> require_english(["un bord net et lisse", "plusieurs couleurs"])
    Traceback (most recent call last):
    medvip.symptoms.language_model.answers.BadAnswer: it is not in plain English
    """
    if mean_zipf(" ".join(phrases)) < LEAST_ZIPF_OF_ALL:
        raise BadAnswer(NOT_ENGLISH)


def _is_latin(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith("LATIN ")


def _mean_zipf(line: str) -> float:
    found = words_of(line)
    return sum(map(zipf, found)) / len(found) if found else 0.0


def tidy(text: str) -> str:
    """A phrase without the bullet or number before it and the full stop behind it, typed plainly.

    Examples
    --------
    >>> tidy(" - Jagged edge. "), tidy("2) several colors"), tidy("well\N{NON-BREAKING HYPHEN}defined")
    ('Jagged edge', 'several colors', 'well-defined')
    """
    text = text.translate(_TYPED)
    return re.sub(r"^\s*(?:[-*\u2022]|\d{1,2}[.)])\s+", "", text).strip().rstrip(".;,").rstrip()


def safe(text: str, most: int = MOST_CHARACTERS) -> str:
    """`text` as it may stand in a record: one visible line, not too long."""
    try:
        line = clean_line(text, "text")
    except SymptomError:
        line = shown(text, limit=most)
    return line if len(line) <= most else line[:most] + "..."
