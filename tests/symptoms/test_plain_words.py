"""Words of a text and how common they are: against wordfreq's own lists, literally counted."""

from __future__ import annotations

import math
import sys
import unicodedata

import pytest
import wordfreq
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medvip.errors import MedvipError
from medvip.symptoms import SymptomSet, ready_made
from medvip.symptoms.plain_words import mean_zipf, rarest_word, words_of, zipf

READY = [text for name in ready_made() for texts in SymptomSet.load(name).classes.values() for text in texts]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Jagged, BLURRY edge", ["jagged", "blurry", "edge"]),
        ("star-like blue/gray", ["star", "like", "blue", "gray"]),
        ("the heart's edge, the lungs' corners", ["the", "heart", "edge", "the", "lungs", "corners"]),
        ("it doesn\N{RIGHT SINGLE QUOTATION MARK}t fade", ["it", "doesn't", "fade"]),
        ("3 mm, 2.5 times", ["mm", "times"]),
        ("'quoted' (bracketed) word_word", ["quoted", "bracketed", "word", "word"]),
        ("cafe\N{COMBINING ACUTE ACCENT}", ["caf\N{LATIN SMALL LETTER E WITH ACUTE}"]),
        ("हिन्दी", ["हिन्दी"]),
        ("", []),
        ("12 + 3 ' 's", []),
    ],
)
def test_words_of_a_text(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@settings(deadline=None)  # the first look-up reads the lists
@given(st.text(max_size=40))
@example("İ'S ß")
@example("x'''s's")
def test_words_are_letters_and_stay_what_they_are(text: str) -> None:
    for word in words_of(text):
        assert word
        assert all(unicodedata.category(c)[0] in "LM" or c in "'\u200c\u200d" for c in word)
        assert not word.startswith("'")
        assert not word.endswith(("'", "'s"))
        assert 0 <= zipf(word) < 9
        assert words_of(word) == [word]


@settings(deadline=None)
@given(st.lists(st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8), max_size=6))
def test_plain_words_are_parted_as_wordfreq_parts_them(words: list[str]) -> None:
    text = " ".join(words)
    assert words_of(text) == wordfreq.tokenize(text, "en") == words


def test_zipf_is_the_logarithm_of_the_count_in_a_billion_words() -> None:
    large = wordfreq.get_frequency_dict("en", wordlist="large")
    for word in ("the", "edge", "opacity", "nevus", "lopsided"):
        assert zipf(word) == pytest.approx(math.log10(large[word] * 1e9), abs=0.006)
    assert "costophrenic" not in large
    assert zipf("costophrenic") == 0.0


@pytest.mark.parametrize("text", READY)
def test_the_rarest_word_and_the_mean_by_a_literal_count(text: str) -> None:
    large, small = (wordfreq.get_frequency_dict("en", wordlist=kind) for kind in ("large", "small"))
    words = words_of(text)
    word, frequency = rarest_word(text)
    assert word == min(words, key=lambda w: large.get(w, 0.0))
    assert frequency == pytest.approx(math.log10(large[word] * 1e9), abs=0.006)
    logarithms = [math.log10(small[w] * 1e9) if w in small else 0.0 for w in words]
    assert mean_zipf(text) == pytest.approx(sum(logarithms) / len(words), abs=0.01)


def test_of_equally_rare_words_the_first() -> None:
    assert rarest_word("an xqzzw and a wqzzx") == ("xqzzw", 0.0)


def test_a_text_without_words() -> None:
    assert rarest_word("12") == ("", 0.0)
    assert mean_zipf("12") == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "taches blanches et floues dans les poumons, bords irréguliers et contours nets",
        "weiße wolkige Flecken in der Lunge, unregelmäßige Ränder und scharfe Kanten",
        "manchas blancas y borrosas en los pulmones, bordes irregulares y contornos nítidos",
        "macchie bianche e sfocate nei polmoni, bordi irregolari e contorni netti",
        "witte wazige vlekken in de longen, onregelmatige randen en scherpe contouren",
        "białe rozmyte plamy w płucach, nieregularne brzegi i ostre kontury",
        "manchas brancas nos pulmões com bordas irregulares",
        "белые размытые пятна в лёгких",
        "肺部有白色模糊斑块",
    ],
)
def test_the_mean_tells_other_languages_from_the_ready_made_symptoms(text: str) -> None:
    assert mean_zipf(text) < 2.1 < 3.5 < min(map(mean_zipf, READY))


def test_without_wordfreq_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    assert words_of("one edge") == ["one", "edge"]  # needs no list
    for function in (zipf, rarest_word, mean_zipf):
        with pytest.raises(MedvipError) as caught:
            function("edge")
        assert caught.value.fix == "pip install 'medvip[words]'"
        assert "\n" not in caught.value.problem
