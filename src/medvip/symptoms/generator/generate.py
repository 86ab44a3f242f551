"""The visual symptom generator: from class names, and pictures where there are some, to a symptom set."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace

from medvip.errors import LanguageModelError, MedvipError, UsageError
from medvip.progress import progress_bar
from medvip.symptoms.generator.acceptance import Rules
from medvip.symptoms.generator.class_questions import Wanted
from medvip.symptoms.generator.grid import picture_grid
from medvip.symptoms.generator.outcome import as_set
from medvip.symptoms.generator.plan import classes_in_data, names_of, plan, require_range
from medvip.symptoms.generator.questions import Questions
from medvip.symptoms.generator.sharing import shared, to_replace
from medvip.symptoms.generator.side_by_side import side_by_side
from medvip.symptoms.generator.sight import pictures_left_no_trace
from medvip.symptoms.generator.stages import OfClass, look_for_symptoms, symptoms_of
from medvip.symptoms.language_model import LanguageModel, Picture, PicturesRefused, Server
from medvip.symptoms.plain_text import shown
from medvip.symptoms.plain_words import zipf
from medvip.symptoms.symptom_set import SymptomSet
from medvip.types import ImageDataset


def tell(line: str) -> None:
    """One line on standard error, without control characters."""
    print("".join(c if c.isprintable() else repr(c)[1:-1] for c in line), file=sys.stderr)


def generate_symptoms(
    classes: Sequence[str],
    modality: str,
    model: LanguageModel,
    *,
    images: ImageDataset | None = None,
    may_send_images: bool = False,
    names: Mapping[str, str] | None = None,
    per_class: int = 4,
    contrastive: bool = False,
    rounds: int = 3,
    seed: int = 1,
    questions: Questions | None = None,
    tokens_over: Callable[[str], int] | None = None,
    at_once: int = 4,
    quiet: bool = True,
    say: Callable[[str], None] = tell,
) -> SymptomSet:
    """Ask a language model for the visual symptoms of each class (the paper's VSG).

    First what it knows (*coarse*); with `images` also what it sees in 16 training pictures of a
    class (*fine*), and then which of the first the second supports (*reconcile*). What may not be a
    symptom is sent back with the reason until `per_class` are left, `rounds` times at most. A class
    that ends with a symptom of another is asked about once more, and keeps it if nothing else is found.

    Parameters
    ----------
    classes
        Two class names or more, as the data set has them.
    modality
        What the pictures are: "dermoscopic image".
    model
        Whom to ask, and within which limits.
    images
        Its training split alone is looked at. None: from knowledge only.
    may_send_images
        Pictures of patients leave this machine only when this is True. Not needed where the
        model runs on this machine.
    names
        Class name -> plain name for the questions and the set; the class name in words otherwise.
    per_class
        Symptoms of each class (4 in the paper's files).
    contrastive
        Ask what tells a class from the others, instead of the paper's plain question.
    rounds
        How often more candidates are asked for.
    seed
        Of the choice of pictures.
    questions
        Others than the built-in ones.
    tokens_over
        By how many tokens a text is too long for the text encoder that will read it.
    at_once
        Classes asked about at the same time.
    quiet
        Without live progress.
    say
        Called with lines that a user should see: what is sent where, what could not be done. They
        go to standard error when nothing is given.

    Returns
    -------
    SymptomSet
        With provenance and the record of its generation; not reviewed by anybody.

    Raises
    ------
    UsageError
        Fewer than two classes, a number out of range, or pictures would go to another machine
        without `may_send_images`.
    SymptomError
        A class name is not in `images`, or the package wordfreq is not installed.
    LanguageModelError
        For one class or more there is no usable answer; all of them are named. What was answered
        is kept, and not asked again.

    Examples
    --------
    >>> from medvip.symptoms.language_model import LanguageModel, Server
    >>> model = LanguageModel(Server("http://127.0.0.1:11434/v1", "llava"))             # doctest: +SKIP
    >>> generate_symptoms(["melanoma", "nevus"], "dermoscopic image", model).classes    # doctest: +SKIP
    mappingproxy({'melanoma': ('several colors', ...), 'nevus': ('one even color', ...)})
    """
    zipf("edge")  # that words cannot be looked up is found out before anything is paid for
    require_range("at_once", at_once, 1, 64)
    require_range("seed", seed, 0, 2**32 - 1)
    plain, wanted = plan(
        classes, modality, names, per_class=per_class, contrastive=contrastive, rounds=rounds
    )
    rules = _rules(wanted, tokens_over)
    questions = questions or Questions.load()
    clean = list(wanted.spoken)
    grids = _grids(clean, images, model, may_send_images, seed, say) if images is not None else {}

    def ask(shown_pictures: Mapping[str, Picture]) -> dict[str, OfClass]:
        def first(name: str) -> OfClass:
            return symptoms_of(name, wanted, rules[name], model, questions, shown_pictures.get(name))

        def once_more(name: str) -> OfClass:
            own = replace(rules[name], taken=taken[name])
            try:
                again = look_for_symptoms(name, wanted, own, model, questions, shown_pictures.get(name))
            except LanguageModelError:  # what there is will do
                return found[name]
            return again if len(again.symptoms) == per_class else found[name]

        found = _each_class(clean, first, model, at_once, quiet)
        taken = to_replace(found)
        return found | _each_class(list(taken), once_more, model, at_once, quiet) if taken else found

    notes = [] if model.seed == seed else [f"the server was given seed {model.seed}"]

    def note(text: str) -> None:
        notes.append(text)
        say(f"note: {text}")

    with model.counting() as used:
        try:
            found = ask(grids)
        except PicturesRefused as refused:
            note(f"the model takes no pictures, so this is from its knowledge alone ({refused})")
            grids, found = {}, ask({})
        if grids and pictures_left_no_trace(used.record):
            note("the server counted no tokens for the pictures: the model may not have seen them")
    if doubled := shared(found):
        say(f"note: these symptoms stand in more than one class: {', '.join(map(shown, doubled))}")
    return as_set(found, plain, model.server, used, questions, grids, seed, "; ".join(notes) or None)


def _rules(wanted: Wanted, tokens_over: Callable[[str], int] | None) -> dict[str, Rules]:
    called = {name: names_of(name, wanted) for name in wanted.spoken}
    return {
        name: Rules(
            own,
            tokens_over,
            other_names=[each for other in called if other != name for each in called[other]],
        )
        for name, own in called.items()
    }


def _each_class(
    classes: Sequence[str],
    about: Callable[[str], OfClass],
    model: LanguageModel,
    at_once: int,
    quiet: bool,
) -> dict[str, OfClass]:
    """Ask about all classes side by side; one that fails does not stop the others."""
    found: dict[str, OfClass] = {}
    failed: dict[str, MedvipError] = {}
    refused: PicturesRefused | None = None
    with (
        progress_bar("asking", len(classes), "classes", quiet=quiet) as advance,
        closing(side_by_side(about, classes, at_once, give_up=model.close)) as outcomes,
    ):
        for name, outcome in outcomes:
            if isinstance(outcome, OfClass):
                found[name] = outcome
            elif isinstance(outcome, PicturesRefused):
                refused = outcome
            elif isinstance(outcome, MedvipError):
                failed[name] = outcome
            else:
                raise outcome
            advance(1, f"{model.calls} calls")
    if failed:
        errors = [failed[name] for name in sorted(failed)]
        problems = dict.fromkeys(error.problem for error in errors)
        raise LanguageModelError(
            "; ".join(problems), fix="; ".join(dict.fromkeys(error.fix for error in errors))
        )
    if refused:
        raise refused
    return found


def _grids(
    classes: Sequence[str],
    images: ImageDataset,
    model: LanguageModel,
    may_send: bool,
    seed: int,
    say: Callable[[str], None],
) -> dict[str, Picture]:
    """The picture of each class that is to be sent, once it is clear that it may be."""
    require_may_send(model.server, may_send)
    matched = classes_in_data(classes, images.classes)
    grids = {name: picture_grid(images, matched[name], seed=seed) for name in classes}
    counts = ", ".join(f"{len(grids[name].ids)} of {shown(name)}" for name in classes)
    say(
        f"note: training pictures go to {model.server.host}: {counts}; pixels only, no file names, no "
        "metadata; text burnt into a picture goes with it"
    )
    return grids


def require_may_send(server: Server, may_send: bool) -> None:
    """Refuse to show pictures to another machine, before any is read.

    Raises
    ------
    UsageError
        `server` is not this machine (or hands on to a cloud what it is asked), and nobody said
        that pictures may go there.

    Examples
    --------
    >>> require_may_send(Server("http://127.0.0.1:11434/v1", "llava"), may_send=False)
    >>> require_may_send(Server("https://api.openai.com/v1", "gpt-4o"), may_send=True)
    """
    if not (may_send or server.keeps_to_itself):
        far = f"from {server.host} to a cloud" if server.is_loopback else f"to {server.host}"
        raise UsageError(
            f"training pictures would be sent {far}, which is not this machine",
            fix="if you may do that, say so with --i-may-send-these-images; or leave --images out",
        )
