"""Verdicts on symptoms: in the file, one by one, in any order."""

from __future__ import annotations

import copy
import json
import pickle
import re
import string
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvip.errors import SymptomError, UsageError
from medvip.symptoms import Generation, Provenance, Review, SymptomSet

KEPT = {"symptom": "one even color", "verdict": "keep", "by": "A. Doctor", "date": "2026-11-23"}
REWORDED = {
    "symptom": "smooth edge",
    "verdict": "reworded",
    "by": "B. Nurse",
    "date": "2026-11-24T09:30:00+00:00",
    "was": "regular border",
    "note": "said more plainly",
}
DROPPED = {"symptom": "itching", "verdict": "drop", "by": "A. Doctor", "date": "2026-11-25"}
NATIVE: dict[str, Any] = {
    "format": "medvip-symptoms",
    "version": 1,
    "modality": "dermoscopic image",
    "classes": {"nevus": ["one even color", "smooth edge"], "melanoma": ["several colors", "jagged edge"]},
    "provenance": {"author": "A. Doctor", "method": "written by hand", "date": "2024-07-26"},
    "reviews": {"nevus": [KEPT, REWORDED], "melanoma": [DROPPED]},
}
TWO = SymptomSet.from_mapping(NATIVE["classes"])


def loaded(document: object) -> SymptomSet:
    return SymptomSet.from_json(json.dumps(document), origin="a.json")


# -- in the file -----------------------------------------------------------------------------


def test_reviews_are_read_and_written_as_they_were():
    symptoms = loaded(NATIVE)
    assert symptoms.reviews["nevus"][1] == Review(
        "smooth edge",
        "reworded",
        by="B. Nurse",
        date="2026-11-24T09:30:00+00:00",
        was="regular border",
        note="said more plainly",
    )
    assert symptoms.reviews["melanoma"][0].verdict == "drop"
    assert json.loads(symptoms.to_json()) == NATIVE


def test_reviews_do_not_change_what_a_model_is_trained_on():
    plain = loaded({name: value for name, value in NATIVE.items() if name != "reviews"})
    assert plain.digest == loaded(NATIVE).digest
    assert plain != loaded(NATIVE)
    assert "reviews" not in json.loads(plain.to_json())


def test_a_reviewed_set_is_immutable_hashable_and_travels_to_other_processes():
    symptoms = loaded(NATIVE)
    with pytest.raises(TypeError):
        symptoms.reviews["nevus"] = ()  # pyright: ignore[reportIndexIssue]
    for other in (pickle.loads(pickle.dumps(symptoms)), copy.deepcopy(symptoms)):
        assert other == symptoms
        assert hash(other) == hash(symptoms)


def test_classes_of_reviews_match_without_regard_to_case_and_separators():
    document = NATIVE | {"reviews": {"NEVUS ": [KEPT], "Melanoma": [], "reviews_of-nothing": []}}
    with pytest.raises(SymptomError, match="'reviews_of-nothing' is not a class of the set"):
        loaded(document)
    del document["reviews"]["reviews_of-nothing"]
    assert {name: len(each) for name, each in loaded(document).reviews.items()} == {"nevus": 1}


def test_null_is_as_good_as_no_reviews():
    assert loaded(NATIVE | {"reviews": None}).reviews == {}


def without(given: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in given.items() if key != name}


WRONG_REVIEWS = {
    "list": ([KEPT], "a.json, reviews: a list where an object is expected"),
    "no list": ({"nevus": KEPT}, "reviews of 'nevus': an object where a list is expected"),
    "text": ({"nevus": "keep"}, "reviews of 'nevus': text where a list is expected"),
    "no object": ({"nevus": ["keep"]}, "reviews of 'nevus', review: text where an object is expected"),
    "no class": (
        {"nevuss": [KEPT]},
        "'nevuss' is not a class of the set (to mend it: did you mean 'nevus'?)",
    ),
    "class twice": ({"nevus": [KEPT], "Nevus": []}, "the classes 'nevus' and 'Nevus' differ only in case"),
    "unknown field": (
        {"nevus": [KEPT | {"verdikt": "keep"}]},
        "there is no field 'verdikt' (to mend it: did you mean 'verdict'?)",
    ),
    "no verdict": ({"nevus": [without(KEPT, "verdict")]}, "reviews of 'nevus', review: verdict is missing"),
    "no name": ({"nevus": [without(KEPT, "by")]}, "review: by is missing"),
    "no date": ({"nevus": [without(KEPT, "date")]}, "review: date is missing"),
    "other verdict": ({"nevus": [KEPT | {"verdict": "good"}]}, "there is no verdict 'good'"),
    "verdict, a list": ({"nevus": [KEPT | {"verdict": ["keep"]}]}, "there is no verdict"),
    "verdict null": ({"nevus": [KEPT | {"verdict": None}]}, "there is no verdict 'None'"),
    "blank name": ({"nevus": [KEPT | {"by": " "}]}, "review: by is blank"),
    "name, a number": ({"nevus": [KEPT | {"by": 3}]}, "review, by: a number where text is expected"),
    "escape in name": ({"nevus": [KEPT | {"by": "A\x1b[2J"}]}, "control character U+001B at position 2"),
    "escape in note": ({"nevus": [KEPT | {"note": "A\x1b"}]}, "review, note: control character U+001B"),
    "line break": ({"nevus": [REWORDED | {"was": "a\nb"}]}, "review, was: control character U+000A"),
    "blank note": ({"nevus": [KEPT | {"note": ""}]}, "review: note is blank"),
    "date": ({"nevus": [KEPT | {"date": "yesterday"}]}, "review: 'yesterday' is not a date"),
    "unknown date": ({"nevus": [KEPT | {"date": "unknown"}]}, "review: 'unknown' is not a date"),
    "reworded from what": ({"nevus": [without(REWORDED, "was")]}, "was is missing"),
    "reworded to the same": ({"nevus": [REWORDED | {"was": "smooth edge"}]}, "was the same before"),
    "kept and not there": (
        {"nevus": [KEPT | {"symptom": "one color"}]},
        "class 'nevus': the reviewed symptom 'one color' is not there "
        "(to mend it: remove that review, or write the symptom as it was reviewed)",
    ),
    "reworded and not there": (
        {"nevus": [REWORDED | {"symptom": "x"}]},
        "the reviewed symptom 'x' is not there",
    ),
    "of another class": ({"melanoma": [KEPT]}, "the reviewed symptom 'one even color' is not there"),
    "dropped and there": (
        {"nevus": [KEPT | {"verdict": "drop"}]},
        "class 'nevus': 'one even color' was dropped, but it is there "
        "(to mend it: remove the symptom, or the review that dropped it)",
    ),
    "twice": ({"nevus": [KEPT, KEPT | {"by": "B"}]}, "'one even color' has two reviews"),
    "dropped twice": ({"nevus": [DROPPED, DROPPED]}, "'itching' has two reviews"),
}


@pytest.mark.parametrize(("reviews", "problem"), WRONG_REVIEWS.values(), ids=WRONG_REVIEWS.keys())
def test_wrong_reviews_are_refused_in_one_line(reviews: object, problem: str):
    with pytest.raises(SymptomError) as caught:
        loaded(NATIVE | {"reviews": reviews})
    assert problem in str(caught.value)
    assert str(caught.value).startswith("a.json")
    assert str(caught.value).isprintable()


def test_a_plain_file_has_no_reviews():
    """There ``reviews`` is a class like any other."""
    symptoms = loaded({"reviews": ["one"], "generation": ["two"]})
    assert symptoms.classes == {"reviews": ("one",), "generation": ("two",)}
    assert symptoms.reviews == {}


# -- verdicts --------------------------------------------------------------------------------


def test_keeping_changes_no_symptom():
    kept = TWO.with_review("Nevus", " smooth edge ", "keep", by=" A. Doctor ", date="2026-11-23", note="yes")
    assert kept.classes == TWO.classes
    assert kept.reviews == {
        "nevus": (Review("smooth edge", "keep", by="A. Doctor", date="2026-11-23", note="yes"),)
    }
    assert TWO.reviews == {}, "the set that was asked stays as it was"


def test_dropping_and_changing_ones_mind():
    dropped = TWO.with_review("nevus", "one even color", "drop", by="A")
    assert dropped.classes["nevus"] == ("smooth edge",)
    assert dropped.digest != TWO.digest
    with pytest.raises(SymptomError, match="'smooth edge' is its last symptom and cannot be dropped"):
        dropped.with_review("nevus", "smooth edge", "drop", by="A")
    back = dropped.with_review("nevus", "one even color", "keep", by="B")
    assert back.classes["nevus"] == ("smooth edge", "one even color")
    assert [(review.verdict, review.by) for review in back.reviews["nevus"]] == [("keep", "B")]
    reworded = dropped.with_review("nevus", "one even color", "reworded", by="B", reworded="evenly brown")
    assert reworded.classes["nevus"] == ("smooth edge", "evenly brown")
    assert [(review.was, review.verdict) for review in reworded.reviews["nevus"]] == [
        ("one even color", "reworded")
    ]


def test_rewording_stays_in_place_and_remembers_the_first_words():
    once = TWO.with_review("nevus", "one even color", "reworded", by="A", reworded=" a single color ")
    assert once.classes["nevus"] == ("a single color", "smooth edge")
    twice = once.with_review("nevus", "a single color", "reworded", by="B", reworded="brown all over")
    assert twice.classes["nevus"] == ("brown all over", "smooth edge")
    (review,) = twice.reviews["nevus"]
    assert (review.symptom, review.was, review.by) == ("brown all over", "one even color", "B")
    kept = twice.with_review("nevus", "brown all over", "keep", by="C")
    (review,) = kept.reviews["nevus"]
    assert (review.verdict, review.was, review.by) == ("keep", "one even color", "C")
    first = kept.with_review("nevus", "brown all over", "reworded", by="D", reworded="one even color")
    (review,) = first.reviews["nevus"]
    assert (review.verdict, review.was, review.by) == ("keep", None, "D")
    assert first.digest == TWO.digest


def test_words_that_were_dropped_may_come_back_as_new_words():
    dropped = TWO.with_review("nevus", "one even color", "drop", by="A")
    again = dropped.with_review("nevus", "smooth edge", "reworded", by="A", reworded="one even color")
    assert again.classes["nevus"] == ("one even color",)
    assert [(r.symptom, r.verdict, r.was) for r in again.reviews["nevus"]] == [
        ("one even color", "reworded", "smooth edge")
    ]


@pytest.mark.parametrize(
    ("new", "problem"),
    [
        (" ", "the new words are blank"),
        ("smooth edge", "the new words are the old ones"),
        ("one even color", "'one even color' stands there already"),
        ("One even -- color.", "it stands in this class already"),
        ("...", "it is empty"),
        ("a\x1b[31mb", "control character U+001B"),
    ],
)
def test_new_words_that_cannot_be_used(new: str, problem: str):
    with pytest.raises(SymptomError, match=re.escape(problem)) as caught:
        TWO.with_review("nevus", "smooth edge", "reworded", by="A", reworded=new)
    assert str(caught.value).isprintable()


def test_errors_that_were_there_before_do_not_stand_in_the_way():
    """A set of one class, with a blank and a doubled symptom, can still be mended."""
    poor = SymptomSet.from_mapping({"nevus": ["", "round", "Round.", "round"]})
    mended = poor.with_review("nevus", "", "reworded", by="A", reworded="smooth")
    mended = mended.with_review("nevus", "Round.", "drop", by="A")
    # Of two that are the same, the first is reworded and the other is left to be judged.
    mended = mended.with_review("nevus", "round", "reworded", by="A", reworded="oval")
    assert mended.classes["nevus"] == ("smooth", "oval", "round")
    assert mended.not_reviewed() == {"nevus": ("round",)}
    assert loaded(json.loads(mended.to_json())) == mended
    # One error more is one too many, even where it reads like one that was there.
    with pytest.raises(SymptomError, match="it stands in this class already"):
        SymptomSet.from_mapping({"nevus": ["smooth", "round", "round"]}).with_review(
            "nevus", "smooth", "reworded", by="A", reworded="Round."
        )


def test_a_verdict_on_what_is_not_there():
    with pytest.raises(SymptomError, match=r"'nevuss' is not a class of the set .*did you mean 'nevus'"):
        TWO.with_review("nevuss", "smooth edge", "keep", by="A")
    with pytest.raises(SymptomError, match=r"no symptom 'smoth edge' .*did you mean 'smooth edge'"):
        TWO.with_review("nevus", "smoth edge", "keep", by="A")
    with pytest.raises(SymptomError, match=r"no symptom 'xyz' .*choose one of its symptoms"):
        TWO.with_review("nevus", "xyz", "keep", by="A")


def test_new_words_without_rewording_and_the_other_way_round():
    with pytest.raises(UsageError, match="verdict 'keep' with new words"):
        TWO.with_review("nevus", "smooth edge", "keep", by="A", reworded="x")
    with pytest.raises(UsageError, match="verdict 'reworded' without new words"):
        TWO.with_review("nevus", "smooth edge", "reworded", by="A")
    with pytest.raises(SymptomError, match=r"no verdict 'reword' .*use keep, drop, reworded"):
        TWO.with_review("nevus", "smooth edge", "reword", by="A")  # pyright: ignore[reportArgumentType]
    with pytest.raises(SymptomError, match="by is blank"):
        TWO.with_review("nevus", "smooth edge", "keep", by=" ")
    with pytest.raises(SymptomError, match="date is blank"):
        TWO.with_review("nevus", "smooth edge", "keep", by="A", date="")


def test_the_date_is_now_to_the_second_in_utc():
    before = datetime.now(UTC).replace(microsecond=0)
    (review,) = TWO.with_review("nevus", "smooth edge", "keep", by="A").reviews["nevus"]
    assert before <= datetime.fromisoformat(review.date) <= datetime.now(UTC)
    assert len(review.date) == len("2026-11-23T09:30:00+00:00")


# -- the state in one line -------------------------------------------------------------------


def test_the_state_in_words():
    whole = replace(TWO, provenance=Provenance("A", "by hand", "unknown", reviewed_by="C. Head"))
    assert TWO.review_state() == "not reviewed by anyone"
    assert whole.review_state() == "reviewed by C. Head (as the file says of the whole set)"
    assert loaded(NATIVE).review_state() == (
        "2 of 4 symptoms reviewed and 1 dropped by A. Doctor, B. Nurse (2026-11-23 to 2026-11-25)"
    )
    one = whole.with_review("nevus", "smooth edge", "keep", by="B", date="20261123")
    assert one.review_state() == (
        "1 of 4 symptoms reviewed by B (2026-11-23); reviewed by C. Head (as the file says of the whole set)"
    )
    every = TWO
    for name, texts in TWO.classes.items():
        for text in texts:
            every = every.with_review(name, text, "keep", by="A. Doctor", date="2026-11-23T23:59:59+00:00")
    assert every.review_state() == "4 of 4 symptoms reviewed by A. Doctor (2026-11-23)"
    assert every.not_reviewed() == {}


def test_what_nobody_has_judged_in_the_order_of_the_file():
    symptoms = TWO.with_review("nevus", "one even color", "keep", by="A")
    assert symptoms.not_reviewed() == {
        "nevus": ("smooth edge",),
        "melanoma": ("several colors", "jagged edge"),
    }
    assert loaded(NATIVE).not_reviewed() == {"melanoma": ("several colors", "jagged edge")}


# -- any set, any sequence -------------------------------------------------------------------

LINE = st.text(
    st.characters(exclude_categories=("Cc", "Cf", "Cs", "Zl", "Zp", "Cn")), min_size=1, max_size=12
).filter(lambda text: text.strip() == text)
DATES = st.dates().map(lambda day: day.isoformat()) | st.datetimes(timezones=st.just(UTC)).map(
    lambda time: time.isoformat(timespec="seconds")
)


@st.composite
def reviewed_sets(draw: st.DrawFn) -> SymptomSet:
    classes = draw(
        st.dictionaries(
            st.sampled_from(["nevus", "melanoma", "no finding"]), st.lists(LINE, min_size=1), min_size=1
        )
    )
    reviews = {}
    for name, texts in classes.items():
        made = [
            Review(
                text,
                verdict := draw(st.sampled_from(["keep", "reworded"] if text in texts else ["drop"])),
                by=draw(LINE),
                date=draw(DATES),
                was=draw(
                    LINE.filter(lambda was, text=text: was != text)
                    if verdict == "reworded"
                    else st.none() | LINE.filter(lambda was, text=text: was != text)
                ),
                note=draw(st.none() | LINE),
            )
            for text in draw(st.lists(st.sampled_from(texts) | LINE, unique=True))
        ]
        reviews[name] = tuple(made)
    return replace(SymptomSet.from_mapping(classes), reviews=reviews)


@given(symptoms=reviewed_sets())
@settings(max_examples=100, deadline=None)
def test_random_reviewed_sets_survive_writing_and_reading(symptoms: SymptomSet):
    again = SymptomSet.from_json(symptoms.to_json())
    assert again == symptoms
    assert again.digest == symptoms.digest == SymptomSet.from_mapping(symptoms.classes).digest
    assert pickle.loads(pickle.dumps(symptoms)) == symptoms


POOL = ["red", "Red.", "round", "even edge", "even, edge", "...", "", "a spot", "a nevus"]
STEP = st.tuples(
    st.sampled_from(["nevus", "Melanoma", "other"]),
    st.sampled_from(POOL),
    st.sampled_from(["keep", "drop", "reworded"]),
    st.sampled_from(POOL),
    st.sampled_from(["A", "B"]),
)


def bare(text: str) -> list[str]:
    """The words of a text, found otherwise than in medvip."""
    return text.lower().translate(str.maketrans(string.punctuation, " " * len(string.punctuation))).split()


class Notebook:
    """The same rules, kept naively: lists, and one line for each symptom that was judged."""

    def __init__(self, classes: dict[str, list[str]]) -> None:
        self.classes = {name: list(texts) for name, texts in classes.items()}
        self.lines: dict[tuple[str, str], dict[str, str | None]] = {}

    def follow(self, name: str, symptom: str, verdict: str, new: str, by: str) -> bool:
        """Do as the verdict says; False where that has to be refused."""
        known = {"nevus": "nevus", "Melanoma": "melanoma"}
        if name not in known:
            return False
        name = known[name]
        texts, line = self.classes[name], self.lines.get((name, symptom))
        if symptom not in texts and line is None:
            return False
        if verdict == "drop" and set(texts) <= {symptom}:
            return False
        if verdict == "reworded":
            others = list(texts)
            if symptom in others:
                others.remove(symptom)
            if new == symptom or new in texts or not bare(new) or bare(new) in map(bare, others):
                return False
        self.lines.pop((name, symptom), None)
        first = line["was"] if line else None
        if verdict == "drop":
            self.classes[name] = [text for text in texts if text != symptom]
        elif symptom not in texts:
            texts.append(symptom)
        if verdict == "reworded":
            texts[texts.index(symptom)] = new
            first, symptom = (symptom if first is None else first), new
            if first == new:
                verdict, first = "keep", None
        self.lines[name, symptom] = {"verdict": verdict, "by": by, "was": first}
        return True


def with_or_refusal(symptoms, name, symptom, verdict, by, reworded) -> SymptomSet | str:
    try:
        return symptoms.with_review(name, symptom, verdict, by=by, reworded=reworded)
    except SymptomError as error:
        return str(error)


def test_a_symptom_that_stands_twice_is_not_reworded_into_its_own_words():
    symptoms = SymptomSet.from_mapping({"nevus": ["red"], "melanoma": ["even edge", "even edge"]})
    with pytest.raises(SymptomError, match="'even, edge' says what 'even edge' says"):
        symptoms.with_review("melanoma", "even edge", "reworded", by="A", reworded="even, edge")


@given(
    nevus=st.lists(st.sampled_from(POOL), min_size=1, max_size=5),
    melanoma=st.lists(st.sampled_from(POOL), min_size=1, max_size=5),
    steps=st.lists(STEP, max_size=12),
)
@settings(max_examples=200, deadline=None)
def test_any_sequence_of_verdicts_keeps_the_set_in_order(nevus, melanoma, steps):
    symptoms = SymptomSet.from_mapping({"nevus": nevus, "melanoma": melanoma})
    notebook = Notebook({"nevus": nevus, "melanoma": melanoma})
    for name, symptom, verdict, new, by in steps:
        after = with_or_refusal(symptoms, name, symptom, verdict, by, new if verdict == "reworded" else None)
        assert isinstance(after, SymptomSet) == notebook.follow(name, symptom, verdict, new, by), after
        symptoms = after if isinstance(after, SymptomSet) else symptoms
        assert {name: list(texts) for name, texts in symptoms.classes.items()} == notebook.classes
        assert all(symptoms.classes.values())
        assert {
            (name, review.symptom): {"verdict": review.verdict, "by": review.by, "was": review.was}
            for name, each in symptoms.reviews.items()
            for review in each
        } == notebook.lines
        assert SymptomSet.from_json(symptoms.to_json()) == symptoms
        judged = {(name, text) for name, text in notebook.lines}
        missing = symptoms.not_reviewed()
        assert all((name, text) not in judged for name, texts in missing.items() for text in texts)
        there = {(name, text) for name, texts in notebook.classes.items() for text in texts}
        assert len(there - judged) == sum(map(len, missing.values()))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
REVIEW_LIKE = st.fixed_dictionaries(
    {name: st.just(value) | ANYTHING for name, value in KEPT.items()},
    optional={"was": st.text(max_size=8) | ANYTHING, "note": ANYTHING, "more": ANYTHING},
)


def set_or_refusal(document: object) -> SymptomSet | str:
    try:
        return loaded(document)
    except SymptomError as error:
        return str(error)


@given(
    reviews=ANYTHING
    | st.dictionaries(st.sampled_from(["nevus", "Nevus", "x"]), st.lists(REVIEW_LIKE, max_size=2)),
    generation=st.none() | ANYTHING,
)
@settings(max_examples=150, deadline=None)
def test_whatever_stands_in_the_field_it_loads_or_is_refused(reviews: object, generation: object):
    symptoms = set_or_refusal(NATIVE | {"reviews": reviews, "generation": generation})
    if isinstance(symptoms, str):
        assert symptoms.isprintable()
    else:
        assert SymptomSet.from_json(symptoms.to_json()) == symptoms


def test_reviews_and_the_record_of_generation_stand_beside_each_other():
    record = Generation("localhost", "a-model", {}, 1, ("coarse",), calls=1, answers=1)
    symptoms = replace(loaded(NATIVE), generation=record)
    symptoms = symptoms.with_review("melanoma", "jagged edge", "keep", by="A")
    assert symptoms.generation == record
    assert SymptomSet.from_json(symptoms.to_json()) == symptoms
