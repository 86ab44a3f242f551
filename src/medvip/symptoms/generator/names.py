"""Whether a text gives a class's name away, also where it is hidden or bent."""

from __future__ import annotations

import unicodedata

from medvip.symptoms.checking import mentions, words
from medvip.symptoms.plain_words import rarest_word

EVERYDAY_ZIPF = 4.0
"""Zipf frequency from which a word is an everyday one: "normal" has 5.0, "melanoma" 3.2."""
_SHORTEST_HIDDEN, _SHORTEST_BENT = 4, 6


def is_everyday(name: str) -> bool:
    """Whether all words of a class's name are everyday ones, which may well describe another class.

    Examples
    --------
    >>> is_everyday("normal"), is_everyday("melanoma"), is_everyday("7")
    (True, False, True)
    """
    rarest, frequency = rarest_word(name)
    return not rarest or frequency >= EVERYDAY_ZIPF


def gives_away(text: str, name: str) -> bool:
    """Whether `text` holds `name`: in words, in pieces, or as the stem of another word.

    The stem is the name without its last two letters; everyday and short names have none, since
    many other words begin like them.

    Examples
    --------
    >>> gives_away("a mela-noma", "melanoma"), gives_away("melanomatous edge", "melanoma")
    (True, True)
    >>> gives_away("circular outline", "circle"), gives_away("a brown mole", "melanoma")
    (False, False)
    """
    if mentions(text, name):
        return True
    said, letters = words(_plain(text)), "".join(words(_plain(name)))
    if len(letters) < _SHORTEST_HIDDEN:
        return False
    rests = ["".join(said[start:]) for start in range(len(said))]
    pieces = {"".join(said[a:b]) for a in range(len(said)) for b in range(a + 1, len(said) + 1)}
    if letters in pieces:
        return True
    has_stem = len(letters) >= _SHORTEST_BENT and not is_everyday(name)
    return has_stem and any(rest.startswith(letters[:-2]) for rest in rests)


def _plain(text: str) -> str:
    """Letters without accents."""
    apart = unicodedata.normalize("NFKD", text)
    return "".join(character for character in apart if not unicodedata.combining(character))
