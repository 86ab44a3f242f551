"""``medvip symptoms generate`` and ``questions``: a language model writes the symptoms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from medvip.cli import language_model as lm
from medvip.cli import options as o
from medvip.cli.console import complain, say
from medvip.symptoms.language_model import OPENAI


def generate(
    class_: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            help="A class's name as in the data; once for each. All classes of --images when not given.",
            show_default=False,
        ),
    ] = None,
    modality: Annotated[
        str, typer.Option(help='What one picture is, in words: "dermoscopic image".', show_default=False)
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(help="Symptom file to write; the exchange is kept beside it.", show_default=False),
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(help='CLASS=PLAIN NAME for the questions: "normal=a normal lung".')
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Data set whose training pictures are shown, 16 of a class.", show_default=False),
    ] = None,
    may_send: Annotated[
        bool,
        typer.Option(
            "--i-may-send-these-images",
            help="You may send these pictures to the server. Needed each time, unless it is this machine.",
        ),
    ] = False,
    base_url: lm.BaseUrl = OPENAI,
    model: lm.Model = None,
    key_name: lm.KeyName = None,
    env_file: lm.EnvFile = Path(".env"),
    per_class: Annotated[int, typer.Option(help="Symptoms of each class.", min=1, max=12)] = 4,
    contrastive: Annotated[
        bool,
        typer.Option(
            "--contrastive", help="Ask what tells a class from the others, not the paper's plain question."
        ),
    ] = False,
    rounds: Annotated[
        int, typer.Option(help="How often more are asked for when too few can be used.", min=0, max=10)
    ] = 3,
    questions: lm.QuestionsFolder = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="Backbone that will read the symptoms: none is kept that is too long for it."),
    ] = None,
    max_calls: lm.MaxCalls = 100,
    max_tokens: lm.MaxTokens = 4000,
    timeout: lm.Timeout = 120.0,
    at_once: Annotated[int, typer.Option(help="Classes asked about at the same time.", min=1, max=64)] = 4,
    seed: Annotated[
        int, typer.Option(help="Of the choice of pictures; sent along.", min=0, max=2**31 - 1)
    ] = 1,
    ask_again: lm.AskAgain = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the first questions; ask nothing.")
    ] = False,
    split_file: o.SplitFile = None,
    split_seed: o.SplitSeed = 1,
    allow_leakage: o.AllowLeakage = False,
    skip_unreadable: o.SkipUnreadable = False,
    with_companions: o.WithCompanions = False,
    force: o.Force = False,
    quiet: o.Quiet = False,
) -> None:
    """Ask a language model for the visual symptoms of each class (the paper's generator).

    Example: medvip symptoms generate --class melanoma --class nevus --modality "dermoscopic image"
    --base-url http://127.0.0.1:11434/v1 --model llava --out symptoms.json
    """
    from medvip.errors import UsageError
    from medvip.symptoms import check_symptoms
    from medvip.symptoms.generator import Questions, first_questions, generate_symptoms, require_may_send

    if not modality.strip():
        raise UsageError(
            "the modality is not given", fix='say what the images are: --modality "chest X-ray of a child"'
        )
    if out is None and not dry_run:
        raise UsageError("no file to write is given", fix="say where with --out symptoms.json")
    exchange = out.with_suffix(".exchange.json") if out and out.name else None
    for path in filter(None, (out, exchange)):
        o.require_free_file(path, force=force)
    asked = Questions.load(questions)
    language_model = None
    if not dry_run:
        language_model = lm.language_model(
            base_url, model, key_name, env_file, max_calls, max_tokens, timeout, seed, ask_again
        )
        if images is not None:
            require_may_send(language_model.server, may_send)
    dataset = None
    if images is not None:
        dataset = _pictures(
            images,
            split_file=split_file,
            seed=split_seed,
            allow_leakage=allow_leakage,
            skip_unreadable=skip_unreadable,
            companions=with_companions,
        )
    classes = class_ or (list(dataset.classes) if dataset else [])
    names = o.named_values(name, "--name", "CLASS=PLAIN NAME", "normal=a normal lung")
    if language_model is None:
        for stage, class_name, text in first_questions(
            classes,
            modality,
            names=names,
            contrastive=contrastive,
            per_class=per_class,
            questions=asked,
            images=dataset,
        ):
            say(f"--- {stage}, {class_name}")
            say(text)
        return
    with lm.what_was_paid_for(language_model):
        symptoms = generate_symptoms(
            classes,
            modality,
            language_model,
            images=dataset,
            may_send_images=may_send,
            names=names,
            per_class=per_class,
            contrastive=contrastive,
            rounds=rounds,
            seed=seed,
            questions=asked,
            tokens_over=_tokens_over(backbone) if backbone else None,
            at_once=at_once,
            quiet=quiet,
            say=complain,
        )
    assert out is not None
    assert exchange is not None
    symptoms.save(out, force=force)
    _write_exchange(exchange, language_model.record)
    for class_name, texts in symptoms.classes.items():
        say(f"{class_name}: {'; '.join(texts)}")
    for finding in check_symptoms(symptoms):
        complain(f"note: {finding}")
    tokens = language_model.prompt_tokens + language_model.completion_tokens
    complain(f"note: {language_model.calls} requests, {tokens} tokens in all answers; exchange in {exchange}")
    complain("note: nobody has reviewed these symptoms")
    say(f"written to {out}; go on with: medvip symptoms review {out} --by YOUR-NAME")


def questions(
    out: Annotated[Path, typer.Option(help="Folder to write the questions to.", show_default=False)],
) -> None:
    """Write the built-in questions as text files, to be read or changed.

    Example: medvip symptoms questions --out questions
    """
    from medvip.errors import UsageError
    from medvip.symptoms.generator import Questions

    if out.exists() and (not out.is_dir() or any(out.iterdir()) or out.samefile(Path.cwd())):
        raise UsageError(f"{out} is there already", fix="choose a new or empty folder")
    from medvip.atomic import folder_written_whole

    with folder_written_whole(out.absolute()) as unfinished:
        for name, text in Questions.load().texts.items():
            (unfinished / f"{name}.md").write_text(text, encoding="utf-8")
    say(f"questions written to {out}; use them with --questions {out}")


def _pictures(images: Path, **reading: Any):
    """The data set; what is wrong with it is said without the name of any file, which may be a patient's.

    Raises
    ------
    DataError
        It is not there, or cannot be used.
    """
    import medvip
    from medvip.errors import DataError, LeakageError, UnreadableImages

    if not images.expanduser().exists():
        raise DataError(f"{images} does not exist", fix="check the path")
    try:
        return medvip.load_dataset(images, **reading)
    except UnreadableImages as error:
        count = len(error.reasons)
        raise DataError(
            f"{count} {'picture' if count == 1 else 'pictures'} of --images cannot be read",
            fix="medvip features DATA says which; mend them, or use --skip-unreadable",
        ) from None
    except (DataError, OSError) as error:
        # of a leak, and of what the system says, every word may be a file's name
        problem = "" if isinstance(error, (LeakageError, OSError)) else error.problem
        if problem and not any(name in problem for name in _names_below(images.expanduser())):
            raise
        raise DataError(
            "the pictures of --images cannot be used as they are",
            fix="medvip features DATA says why; here no file is named",
        ) from None


def _names_below(images: Path) -> set[str]:
    """Names of files, and of folders below the classes: each may be a patient's."""
    from medvip.images.reading import split_named
    from medvip.images.trees import read_tree

    if not images.is_dir():
        return set()
    names: set[str] = set()
    try:
        tree = read_tree(images)
    except OSError:
        return {""}  # nobody knows what lies there: every text may hold one of its names
    for inner in tree.walk():
        names.update(Path(name).stem for name in (*inner.pictures, *inner.others))
        if inner is not tree and split_named(inner.name) is None:
            names.update(folder.name for folder in inner.folders)
    return names


_CONTEXT = 4
"""Learned context vectors that will stand beside a symptom, unless `medvip fit` is told otherwise."""


def _tokens_over(backbone: str):
    """By how many tokens a text is too long for the backbone."""
    from medvip.backbones import load_backbone

    encoders = load_backbone(backbone, device="cpu")
    count = o.tokens_of(encoders)
    return lambda text: count(text) + _CONTEXT - encoders.context_length


def _write_exchange(path: Path, record: list[dict]) -> None:
    """The conversations as JSON: no key, no picture, of pictures only their hashes."""
    from medvip.atomic import write_atomically

    document = {"format": "medvip-exchange", "version": 1, "conversations": record}
    write_atomically(path, json.dumps(document, indent=2) + "\n")
