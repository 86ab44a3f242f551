"""The visual symptom generator: from class names, and pictures where there are some, to a symptom set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime

from medvip.errors import LanguageModelError, MedvipError, SymptomError, UsageError
from medvip.progress import progress_bar
from medvip.symptoms.checking import check_symptoms, require_usable
from medvip.symptoms.class_names import match_names, spoken
from medvip.symptoms.generation import STAGES, Generation
from medvip.symptoms.generator.acceptance import Rules
from medvip.symptoms.generator.grid import picture_grid
from medvip.symptoms.generator.questions import Questions
from medvip.symptoms.generator.side_by_side import side_by_side
from medvip.symptoms.generator.sight import pictures_left_no_trace
from medvip.symptoms.generator.stages import OfClass, Wanted, symptoms_of
from medvip.symptoms.language_model import LanguageModel, Picture, PicturesRefused, Server
from medvip.symptoms.plain_text import clean_line, shown
from medvip.symptoms.provenance import Provenance
from medvip.symptoms.symptom_set import SymptomSet
from medvip.types import ImageDataset


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
    say: Callable[[str], None] = lambda _: None,
) -> SymptomSet:
    """Ask a language model for the visual symptoms of each class (the paper's VSG).

    First what it knows (*coarse*); with `images` also what it sees in 16 training pictures of a
    class (*fine*), and then which of the first the second supports (*reconcile*). What may not be a
    symptom is sent back with the reason until `per_class` are left, `rounds` times at most.

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
        Called with lines that a user should see: what is sent where, what could not be done.

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
        A class name is not in `images`.
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
    clean = _clean_classes(classes)
    _require_ranges(per_class=per_class, rounds=rounds, at_once=at_once, seed=seed)
    plain = SymptomSet.from_mapping(dict.fromkeys(clean, ()), modality=modality, names=names or {})
    wanted = Wanted(
        modality=plain.modality,
        spoken={name: plain.plain_name(name) for name in clean},
        per_class=per_class,
        rounds=rounds,
        contrastive=contrastive,
    )
    rules = {name: Rules([name, spoken(name), wanted.spoken[name]], tokens_over) for name in clean}
    questions = questions or Questions.load()
    grids = _grids(clean, images, model, may_send_images, seed, say) if images is not None else {}

    def ask(shown_pictures: Mapping[str, Picture]) -> dict[str, OfClass]:
        def about(name: str) -> OfClass:
            return symptoms_of(name, wanted, rules[name], model, questions, shown_pictures.get(name))

        return _each_class(clean, about, model, at_once, quiet)

    note = None
    try:
        found = ask(grids)
    except PicturesRefused as refused:
        note = f"the model takes no pictures, so this is from its knowledge alone ({refused})"
        say(f"note: {note}")
        grids, found = {}, ask({})
    if grids and pictures_left_no_trace(model.record):
        note = "the server counted no tokens for the pictures: the model may not have seen them"
        say(f"note: {note}")
    return _as_set(found, plain, model, questions, grids, seed, note)


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
    matched = match_names(classes, images.classes, where=images.name, allow_extra=True)
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


def _as_set(
    found: Mapping[str, OfClass],
    plain: SymptomSet,
    model: LanguageModel,
    questions: Questions,
    grids: Mapping[str, Picture],
    seed: int,
    note: str | None,
) -> SymptomSet:
    asked = set[str]().union(*(each.asked for each in found.values()))
    stages = tuple(stage for stage in STAGES if stage in asked)
    how = "from its knowledge and from training pictures" if grids else "from its knowledge alone"
    made = SymptomSet.from_mapping(
        {name: found[name].symptoms for name in sorted(found)},
        modality=plain.modality,
        names=plain.names,
        provenance=Provenance(
            author=f"the language model {model.server.model}",
            method=f"generated by a language model {how}, in the stages {', '.join(stages)}",
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            model=model.server.model,
            questions="see generation",
            note=note,
        ),
        generation=Generation(
            server=model.server.host,
            model=model.server.model,
            questions=questions.digests(stages),
            seed=seed,
            stages=stages,
            calls=model.calls,
            answers=len(model.record),
            prompt_tokens=model.prompt_tokens or None,
            completion_tokens=model.completion_tokens or None,
            pictures={name: grids[name].ids for name in sorted(grids)},
            decisions={name: tuple(found[name].decisions) for name in sorted(found)},
            note=note,
        ),
    )
    require_usable(check_symptoms(made))
    return made


def _clean_classes(classes: Sequence[str]) -> list[str]:
    clean = [clean_line(name, "a class's name") for name in classes]
    if len(set(clean)) < 2:
        raise UsageError(
            f"there are {len(set(clean))} classes; there is nothing to tell apart",
            fix='give two or more: --class "melanoma" --class "nevus"',
        )
    if len(set(clean)) < len(clean):
        raise SymptomError("a class is named twice", fix="name each class once")
    return sorted(clean)


def _require_ranges(**values: int) -> None:
    least = {"per_class": 1, "rounds": 0, "at_once": 1, "seed": 0}
    most = {"per_class": 12, "rounds": 10, "at_once": 64, "seed": 2**32 - 1}
    for name, value in values.items():
        if not least[name] <= value <= most[name]:
            raise UsageError(f"{name} is {value}", fix=f"use {least[name]} to {most[name]}")
