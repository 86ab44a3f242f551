"""A human's verdict on each symptom: kept, dropped or put in other words, by whom and when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

from medvip.errors import SymptomError, UsageError
from medvip.symptoms.class_names import closest, find_name, refuse_ambiguous
from medvip.symptoms.plain_text import clean_line, kind_of, shown
from medvip.symptoms.provenance import filled_line, refuse_unknown_fields, require_date

if TYPE_CHECKING:
    from medvip.symptoms.symptom_set import SymptomSet

Verdict = Literal["keep", "drop", "reworded"]
VERDICTS: tuple[str, ...] = get_args(Verdict)
_NEEDED = ("symptom", "verdict", "by", "date")


@dataclass(frozen=True)
class Review:
    """What one person found about one symptom.

    Attributes
    ----------
    symptom
        The symptom as it stands in the set now; of a dropped one, the words that were dropped.
    verdict
        ``"keep"``, ``"drop"`` or ``"reworded"``.
    by
        Who read it.
    date
        ISO date or time.
    was
        The words before the first rewording; needed with ``"reworded"``, and carried on by
        later verdicts on the same symptom.
    note
        Anything else worth knowing.

    Raises
    ------
    SymptomError
        A field is not one clean line of text, a needed one is blank, or the date is none.

    Examples
    --------
    >>> Review("several colors", "keep", by="A. Doctor", date="2026-11-23").to_dict()
    {'symptom': 'several colors', 'verdict': 'keep', 'by': 'A. Doctor', 'date': '2026-11-23'}
    """

    symptom: str
    verdict: Verdict
    by: str
    date: str
    was: str | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        # A set may hold a blank symptom, and dropping it is a verdict too.
        clean = {"symptom": clean_line(self.symptom, "review, symptom")}
        _require_verdict(self.verdict)
        clean |= {name: filled_line(getattr(self, name), "review", name) for name in ("by", "date")}
        require_date(clean["date"], "review")
        if self.was is not None:
            clean["was"] = clean_line(self.was, "review, was")
            if clean["was"] == clean["symptom"]:
                raise SymptomError(
                    f"review: {shown(self.symptom)} was the same before", fix='remove "was", or mend it'
                )
        elif self.verdict == "reworded":
            raise SymptomError(
                f"review: was is missing, for {shown(self.symptom)} was reworded",
                fix="write the words that stood there before",
            )
        if self.note is not None:
            clean["note"] = filled_line(self.note, "review", "note", fix="remove it")
        for name, value in clean.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_dict(cls, value: object, where: str) -> Review:
        """Read a review from a parsed file.

        Raises
        ------
        SymptomError
            A field is missing, unknown or malformed.

        Examples
        --------
        >>> Review.from_dict({"symptom": "several colors", "verdict": "good"}, "a.json")
        Traceback (most recent call last):
        medvip.errors.SymptomError: a.json, review: by is missing (to mend it: add it)
        """
        if not isinstance(value, Mapping):
            raise SymptomError(
                f"{where}, review: {kind_of(value)} where an object is expected",
                fix='write {"symptom": ..., "verdict": "keep", "by": ..., "date": ...}',
            )
        refuse_unknown_fields(value, tuple(field.name for field in fields(cls)), f"{where}, review")
        for name in _NEEDED:
            if name not in value:
                raise SymptomError(f"{where}, review: {name} is missing", fix="add it")
        try:
            return cls(**value)
        except SymptomError as error:
            raise SymptomError(f"{where}, {error.problem}", fix=error.fix) from error

    def to_dict(self) -> dict[str, str]:
        """Give the fields that are known."""
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in known.items() if value is not None}


def _require_verdict(verdict: object) -> None:
    if verdict not in VERDICTS:
        raise SymptomError(f"review: there is no verdict {shown(verdict)}", fix=f"use {', '.join(VERDICTS)}")


def read_reviews(value: object, where: str) -> dict[str, list[Review]]:
    """Read the field `reviews` of a parsed file.

    Raises
    ------
    SymptomError
        It is not of the form ``{"class name": [review, ...]}``.

    Examples
    --------
    >>> given = {"symptom": "one even color", "verdict": "keep", "by": "A. Doctor", "date": "2026-11-23"}
    >>> [review.by for review in read_reviews({"nevus": [given]}, "a.json")["nevus"]]
    ['A. Doctor']
    """
    return {
        name: [Review.from_dict(review, place) for review in reviews]
        for name, reviews, place in _each_class(value, where)
    }


def clean_reviews(
    value: object, classes: Mapping[str, Sequence[str]], where: str
) -> dict[str, tuple[Review, ...]]:
    """Check reviews against the symptoms, and give them under the classes' own names.

    Raises
    ------
    SymptomError
        A review is of no class or symptom of the set, two are of one symptom, or a symptom that
        was dropped is there.

    Examples
    --------
    >>> review = Review("one color", "keep", by="A. Doctor", date="2026-11-23")
    >>> clean_reviews({"nevus": [review]}, {"nevus": ["one even color"]}, "a.json")
    Traceback (most recent call last):
    medvip.errors.SymptomError: a.json, class 'nevus': the reviewed symptom 'one color' is not there \
(to mend it: remove that review, or write the symptom as it was reviewed)
    """
    clean: dict[str, tuple[Review, ...]] = {}
    for name, reviews, _ in _each_class(value, where):
        found = _require_class(name, classes, f"{where}, reviews")
        place = f"{where}, class {shown(found)}"
        seen: set[str] = set()
        for review in reviews:
            if not isinstance(review, Review):
                raise SymptomError(
                    f"{place}: {kind_of(review)} where a Review is expected", fix="make a Review"
                )
            text = shown(review.symptom)
            if review.symptom in seen:
                raise SymptomError(f"{place}: {text} has two reviews", fix="keep the later one")
            seen.add(review.symptom)
            if (review.symptom in classes[found]) == (review.verdict == "drop"):
                raise SymptomError(
                    f"{place}: {text} was dropped, but it is there"
                    if review.verdict == "drop"
                    else f"{place}: the reviewed symptom {text} is not there",
                    fix="remove the symptom, or the review that dropped it"
                    if review.verdict == "drop"
                    else "remove that review, or write the symptom as it was reviewed",
                )
        if reviews:
            clean[found] = tuple(reviews)
    return clean


def with_review(
    symptom_set: SymptomSet,
    class_name: str,
    symptom: str,
    verdict: Verdict,
    *,
    by: str,
    date: str | None = None,
    reworded: str | None = None,
    note: str | None = None,
) -> SymptomSet:
    """Give the set with a verdict noted and followed; see `SymptomSet.with_review`."""
    where = symptom_set.origin or "the symptoms"
    _require_verdict(verdict)
    if (reworded is not None) != (verdict == "reworded"):
        raise UsageError(
            f"verdict {shown(verdict)} {'with' if reworded is not None else 'without'} new words",
            fix='give `reworded` with "reworded", and only then',
        )
    name = _require_class(class_name, symptom_set.classes, where)
    texts = symptom_set.classes[name]
    symptom = clean_line(symptom, f"{where}, symptom")
    earlier = symptom_set.reviews.get(name, ())
    before = next((review for review in earlier if review.symptom == symptom), None)
    if symptom not in texts and before is None:
        near = closest(symptom, texts)
        raise SymptomError(
            f"{where}, class {shown(name)}: there is no symptom {shown(symptom)}",
            fix="choose one of its symptoms" if near is None else f"did you mean {shown(near)}?",
        )
    if verdict == "drop":
        texts = tuple(text for text in texts if text != symptom)
        if not texts:
            raise SymptomError(
                f"{where}, class {shown(name)}: {shown(symptom)} is its last symptom and cannot be dropped",
                fix="reword it, or add another symptom to the file first",
            )
    elif symptom not in texts:  # dropped before, and wanted back
        texts = (*texts, symptom)
    now, was = symptom, None if before is None else before.was
    if reworded is not None:
        now, was = clean_line(reworded, f"{where}, new words"), symptom if was is None else was
        _require_new_words(now, symptom, texts, f"{where}, class {shown(name)}")
        place = texts.index(symptom)
        texts = (*texts[:place], now, *texts[place + 1 :])
    if now == was:  # back to the words that were there at first
        verdict, was = "keep", None
    when = datetime.now(UTC).isoformat(timespec="seconds") if date is None else date
    review = Review(now, verdict, by, when, was, note)
    others = tuple(other for other in earlier if other.symptom not in (symptom, now))
    changed = replace(
        symptom_set,
        classes={**symptom_set.classes, name: texts},
        reviews={**symptom_set.reviews, name: (*others, review)},
    )
    if reworded is not None:
        _refuse_new_errors(symptom_set, changed, f"{where}, class {shown(name)}, {shown(now)}")
        _refuse_words_that_are_there(now, texts, f"{where}, class {shown(name)}")
    return changed


def not_reviewed(symptom_set: SymptomSet) -> dict[str, tuple[str, ...]]:
    """Give the symptoms that nobody has judged; see `SymptomSet.not_reviewed`."""
    missing = {}
    for name, texts in symptom_set.classes.items():
        judged = {review.symptom for review in symptom_set.reviews.get(name, ())}
        if left := tuple(text for text in dict.fromkeys(texts) if text not in judged):
            missing[name] = left
    return missing


def review_state(symptom_set: SymptomSet) -> str:
    """Say in one line who has read what; see `SymptomSet.review_state`."""
    as_a_whole = symptom_set.provenance.reviewed_by
    whole = f"reviewed by {as_a_whole} (as the file says of the whole set)" if as_a_whole else ""
    reviews = [review for each in symptom_set.reviews.values() for review in each]
    if not reviews:
        return whole or "not reviewed by anyone"
    dropped = sum(review.verdict == "drop" for review in reviews)
    symptoms = sum(len(set(texts)) for texts in symptom_set.classes.values())
    people = ", ".join(dict.fromkeys(review.by for review in reviews))
    days = sorted({datetime.fromisoformat(review.date).date().isoformat() for review in reviews})
    line = (
        f"{len(reviews) - dropped} of {symptoms} symptoms reviewed"
        + (f" and {dropped} dropped" if dropped else "")
        + f" by {people} ({' to '.join(dict.fromkeys((days[0], days[-1])))})"
    )
    return f"{line}; {whole}" if whole else line


def _each_class(value: object, where: str) -> list[tuple[str, Sequence[Any], str]]:
    """Class name, its reviews, and what to call their place; all of the right kind."""
    if not isinstance(value, Mapping):
        raise SymptomError(
            f"{where}, reviews: {kind_of(value)} where an object is expected",
            fix='write {"class name": [{"symptom": ..., "verdict": ..., "by": ..., "date": ...}]}',
        )
    entries = []
    for name, reviews in value.items():
        place = f"{where}, reviews of {shown(name)}"
        if isinstance(reviews, str) or not isinstance(reviews, Sequence):
            raise SymptomError(f"{place}: {kind_of(reviews)} where a list is expected", fix="write a list")
        entries.append((clean_line(name, f"{where}, reviews, class name"), reviews, place))
    refuse_ambiguous((name for name, _, _ in entries), f"{where}, reviews")
    return entries


def _require_class(name: str, classes: Mapping[str, object], where: str) -> str:
    found = find_name(name, classes)
    if found is None:
        near = closest(name, classes)
        raise SymptomError(
            f"{where}: {shown(name)} is not a class of the set",
            fix=f"use one of {', '.join(map(shown, classes))}"
            if near is None
            else f"did you mean {shown(near)}?",
        )
    return found


def _require_new_words(new: str, old: str, texts: Sequence[str], where: str) -> None:
    if not new:
        raise SymptomError(f"{where}: the new words are blank", fix="write what can be seen, or drop it")
    if new == old:
        raise SymptomError(f"{where}: the new words are the old ones", fix="keep it, or write others")
    if new in texts:
        raise SymptomError(f"{where}: {shown(new)} stands there already", fix="drop it, or write others")


def _refuse_words_that_are_there(now: str, texts: Sequence[str], where: str) -> None:
    """Where a symptom stood twice before, the error is an old one, and must not be made anew all the same."""
    from medvip.symptoms.checking import words

    same = [text for text in texts if text != now and words(text) == words(now)]
    if same:
        raise SymptomError(
            f"{where}: {shown(now)} says what {shown(same[0])} says", fix="drop it, or write others"
        )


def _refuse_new_errors(before: SymptomSet, after: SymptomSet, where: str) -> None:
    # Imported here: checking speaks of whole sets, and a set asks for this module.
    from medvip.symptoms.checking import check_symptoms

    # Counted, for a symptom that stands there twice is found wrong twice in the same words.
    errors = [
        Counter(finding for finding in check_symptoms(each) if finding.severity == "error")
        for each in (before, after)
    ]
    for finding in errors[1] - errors[0]:
        raise SymptomError(f"{where}: {finding.problem}", fix=finding.fix)
