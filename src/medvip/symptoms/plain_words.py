"""How common the words of a text are in everyday English.

Symptoms are to be in plain words: text encoders learned from captions that anybody wrote, and
"costophrenic blunting" stands in few of them. How common a word is, is its Zipf frequency: the
base-10 logarithm of how often it occurs among a billion words (van Heuven, Mandera, Keuleers and
Brysbaert 2014, *SUBTLEX-UK*). "the" has 7.7, "edge" 4.7, "opacity" 2.8, "nevus" 1.9.
The frequencies come with the package wordfreq (optional, offline), which is only imported here.
"""

from __future__ import annotations

import re
import unicodedata

from medvip.errors import SymptomError


def words_of(text: str) -> list[str]:
    """The words of a text, in small letters: runs of letters, with apostrophes inside them.

    Hyphens part words and numbers are none, since "star-like" is as plain as "star" and "like",
    and how common "3" is says nothing. An ending ``'s`` is left out.

    Examples
    --------
    >>> words_of("Star-like dark area's 3 mm edge; it doesn't fade")
    ['star', 'like', 'dark', 'area', 'mm', 'edge', 'it', "doesn't", 'fade']
    """
    plain = unicodedata.normalize("NFC", text.casefold()).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    # Letters, marks on letters, and the two invisible characters that some scripts need between them.
    parts = "".join(c if unicodedata.category(c)[0] in "LM" or c in "'\u200c\u200d" else " " for c in plain)
    words = (re.sub("'['s]*$", "", part).lstrip("'") for part in parts.split())
    return [word for word in words if any(map(str.isalpha, word))]


def zipf(word: str) -> float:
    """Zipf frequency of an English word; 0.0 for one that the word list does not hold.

    Looked up in wordfreq's largest English list, which holds what occurs at least ten times in a
    billion words: a known word has 1.0 or more.

    Raises
    ------
    SymptomError
        wordfreq is not installed.

    Examples
    --------
    >>> zipf("edge"), zipf("opacity"), zipf("costophrenic")
    (4.74, 2.84, 0.0)
    """
    return _frequency(word, "best")


def rarest_word(text: str) -> tuple[str, float]:
    """The least common word of a text, the first of equals, and its Zipf frequency.

    ``("", 0.0)`` for a text without words.

    Raises
    ------
    SymptomError
        wordfreq is not installed.

    Examples
    --------
    >>> rarest_word("ground-glass opacity at the edge")
    ('opacity', 2.84)
    """
    frequencies = {word: zipf(word) for word in words_of(text)}
    return min(frequencies.items(), key=lambda pair: pair[1], default=("", 0.0))


def mean_zipf(text: str) -> float:
    """Mean Zipf frequency over the words of a text, unknown ones counting 0, to see if it is English.

    Looked up in wordfreq's small list, which holds what occurs at least once in a million words: the
    large one knows more words of other languages. The ready-made symptoms have 3.5 to 6; sentences of
    the same kind in other European languages had 2 or less.

    Raises
    ------
    SymptomError
        wordfreq is not installed.

    Examples
    --------
    >>> round(mean_zipf("white cloudy patches in the lungs"), 1)
    5.3
    >>> round(mean_zipf("weiße wolkige Flecken in der Lunge"), 1)
    1.9
    """
    words = words_of(text)
    return sum(_frequency(word, "small") for word in words) / len(words) if words else 0.0


def _frequency(word: str, wordlist: str) -> float:
    try:
        from wordfreq import zipf_frequency
    except ImportError as error:
        raise SymptomError(
            f"how common words are cannot be looked up without the package wordfreq: {error}",
            fix="pip install 'medvip[words]'",
        ) from error
    return float(zipf_frequency(word, "en", wordlist=wordlist))
