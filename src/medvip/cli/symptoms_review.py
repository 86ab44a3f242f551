"""``medvip symptoms review``: a person reads the symptoms one by one and says what to do with each."""

from __future__ import annotations

import io
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medvip.cli import options as o
from medvip.cli.console import printable, say, say_table

if TYPE_CHECKING:
    from medvip.symptoms import Review, SymptomSet

QUESTION = "[k]eep, [d]rop, [r]eword, [s]kip or [q]uit?"
_Choice = Literal["keep", "drop", "reworded", "skip", "quit"]
_CHOICES: dict[str, _Choice] = {
    "k": "keep",
    "keep": "keep",
    "d": "drop",
    "drop": "drop",
    "r": "reworded",
    "reword": "reworded",
    "s": "skip",
    "skip": "skip",
    "q": "quit",
    "quit": "quit",
}


def review(
    symptoms: Annotated[
        str,
        typer.Argument(
            help="A symptom file; or, with --out, the name of a ready-made set.", show_default=False
        ),
    ],
    by: Annotated[str | None, typer.Option(help="Your name; it is noted.", show_default=False)] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File to write; when not given, the file that is read.", show_default=False),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="All symptoms, also those reviewed or dropped before.")
    ] = False,
    list_: Annotated[
        bool, typer.Option("--list", help="Only show who has reviewed which symptom, and when.")
    ] = False,
    force: o.Force = False,
) -> None:
    """Read the symptoms one by one and keep, drop or reword each; every verdict is saved at once.

    Example: medvip symptoms review symptoms.json --by "A. Doctor"
    """
    from medvip.errors import SymptomError, UsageError
    from medvip.symptoms import SymptomSet, ready_made
    from medvip.symptoms.provenance import filled_line

    if list_:
        return _say_list(SymptomSet.load(symptoms))
    try:
        reviewer = filled_line(by or "", "--by", "the name of the reviewer")
    except SymptomError as error:
        raise UsageError(error.problem, fix='write --by "YOUR NAME"') from error
    if symptoms in ready_made() and out is None:
        raise UsageError(
            f"{symptoms} is a ready-made set, which stays as it is",
            fix="say where to write yours: --out FILE.json",
        )
    if out is not None and os.path.lexists(out) and not force:
        raise SymptomError(f"{out} is there already", fix="choose another --out, or replace it with --force")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # refused as a control character, not a crash
    sitting = _Sitting(SymptomSet.load(symptoms), out or Path(symptoms), reviewer, written=out is None)
    say(f"modality: {sitting.symptoms.modality}\nsymptoms: {sitting.symptoms.review_state()}")
    try:
        _walk(sitting, again)
    finally:  # also when interrupted: what was said before then is kept
        _say_end(sitting)
    return None


@dataclass
class _Sitting:
    """One person's reading of one set, and where it is kept."""

    symptoms: SymptomSet
    file: Path
    by: str
    written: bool  # whether `file` holds `symptoms`

    def note(self, changed: SymptomSet) -> None:
        """Keep what a verdict made of the set; refuse to undo what someone else wrote meanwhile."""
        from medvip.errors import SymptomError
        from medvip.symptoms import SymptomSet

        if self.written and SymptomSet.load(self.file) != self.symptoms:
            raise SymptomError(
                f"{self.file} was changed by someone else, so the last verdict is not written",
                fix="start again; the verdicts before it are kept",
            )
        # Through a link to the file that it stands for.
        changed.save(os.path.realpath(self.file), force=True)
        self.symptoms, self.written = changed, True


def _walk(sitting: _Sitting, again: bool) -> None:
    """Ask about each symptom, until all are judged or the person has had enough."""
    at = None
    for number, count, name, symptom in list(_numbered(sitting.symptoms, again)):
        if name != at:
            at, plain = name, sitting.symptoms.plain_name(name)
            say(f"\nclass {name}" + ("" if plain == name else f" ({plain})"))
        say(f"\n{number} of {count}: {symptom}")
        _say_what_is_known(sitting.symptoms, name, symptom)
        if not _judged(sitting, name, symptom):
            return


def _numbered(symptom_set: SymptomSet, again: bool) -> Iterator[tuple[int, int, str, str]]:
    """Number, count, class and symptom of what is to be asked, numbered as in the whole set."""
    entries = [
        (name, symptom, judged)
        for name in sorted(symptom_set.classes)
        for symptom, judged in _verdicts(symptom_set, name, dropped=again)
    ]
    for number, (name, symptom, judged) in enumerate(entries, start=1):
        if again or judged is None:
            yield number, len(entries), name, symptom


def _verdicts(symptom_set: SymptomSet, name: str, *, dropped: bool) -> list[tuple[str, Review | None]]:
    """The symptoms of a class with their reviews; those dropped last, if they are wanted."""
    judged = {review.symptom: review for review in symptom_set.reviews.get(name, ())}
    gone = [text for text, review in judged.items() if review.verdict == "drop" and dropped]
    return [(text, judged.get(text)) for text in dict.fromkeys((*symptom_set.classes[name], *gone))]


def _say_what_is_known(symptom_set: SymptomSet, name: str, symptom: str) -> None:
    """What was seen in pictures of it, and what was said of it before."""
    reviews = {review.symptom: review for review in symptom_set.reviews.get(name, ())}
    before = reviews.get(symptom)
    was = before.was if before else None
    if symptom_set.generation is not None:
        for decision in symptom_set.generation.decided_on(name, symptom, was or symptom):
            if decision.feature:
                say(f"    seen in the pictures as: {decision.feature}")
            if decision.reason:
                say(f"    reason: {decision.reason}")
    if before is not None:
        say(f"    so far: {in_short(before)}")


def _judged(sitting: _Sitting, name: str, symptom: str) -> bool:
    """Ask until there is an answer that can be followed; False when the person stops."""
    from medvip.errors import SymptomError

    while True:
        answer = _ask(QUESTION)
        choice = "quit" if answer is None else _CHOICES.get(answer.casefold())
        if choice == "quit":
            return False
        if choice == "skip":
            return True
        if choice is None:
            say("answer with k, d, r, s or q")
            continue
        reworded = _ask("in which words?") if choice == "reworded" else None
        if choice == "reworded" and not reworded:
            if reworded is None:
                return False
            continue  # nothing written: asked again
        try:
            changed = sitting.symptoms.with_review(name, symptom, choice, by=sitting.by, reworded=reworded)
        except SymptomError as error:
            say(f"not noted: {error.problem}\nto mend it: {error.fix}")
            continue
        sitting.note(changed)
        return True


def _ask(question: str) -> str | None:
    """One line of standard input without the space around it; None at its end."""
    print(printable(question), end=" ", flush=True)
    line = sys.stdin.readline()
    if not sys.stdin.isatty():
        say()  # what is typed ends its line on a terminal, what is piped does not
    return line.strip() if line else None


def _say_end(sitting: _Sitting) -> None:
    left = sum(map(len, sitting.symptoms.not_reviewed().values()))
    say(f"\nsymptoms: {sitting.symptoms.review_state()}")
    if not sitting.written:
        say(f"no verdict was given, so {sitting.file} is not written")
    elif left:
        command = ["medvip", "symptoms", "review", str(sitting.file), "--by", sitting.by]
        say(f"not reviewed yet: {left}; go on with: {shlex.join(command)}")
    else:
        say("not reviewed yet: none; --again goes through all of them anew")


def _say_list(symptom_set: SymptomSet) -> None:
    rows = []
    for name in sorted(symptom_set.classes):
        for symptom, judged in _verdicts(symptom_set, name, dropped=True):
            said = ["-", "-", "-"] if judged is None else [judged.verdict, judged.by, judged.date]
            rows.append([name, symptom, *said])
    say_table(f"symptoms: {symptom_set.review_state()}", ["class", "symptom", "verdict", "by", "when"], rows)


def in_short(judged: Review) -> str:
    """A review in one line, without the symptom itself."""
    line = f"{judged.verdict} by {judged.by}, {judged.date}"
    if judged.was is not None:
        line += f"; at first: {judged.was}"
    return line if judged.note is None else f"{line}; note: {judged.note}"
