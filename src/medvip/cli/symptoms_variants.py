"""``medvip symptoms variants``: the texts that the paper compares symptoms with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medvip.cli import language_model as lm
from medvip.cli import options as o
from medvip.cli.console import complain, say
from medvip.symptoms.language_model import OPENAI


def variants(
    symptoms: Annotated[
        str, typer.Argument(help="A symptom file, or the name of a ready-made set.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder to write the four files to.", show_default=False)],
    base_url: lm.BaseUrl = OPENAI,
    model: lm.Model = None,
    key_name: lm.KeyName = None,
    env_file: lm.EnvFile = Path(".env"),
    questions: lm.QuestionsFolder = None,
    max_calls: lm.MaxCalls = 100,
    max_tokens: lm.MaxTokens = 4000,
    timeout: lm.Timeout = 120.0,
    ask_again: lm.AskAgain = False,
    force: o.Force = False,
) -> None:
    """Write a set in the paper's four kinds of knowledge: food, useless, opposite, as it is.

    For an ablation alone: does a classifier need what the symptoms say? Texts for melanoma-nevus and
    paediatric-pneumonia come with medvip; for other sets --model names a language model.

    Example: medvip symptoms variants melanoma-nevus --out kinds
    """
    from medvip.symptoms import SymptomSet
    from medvip.symptoms.variants import knowledge_variants, require_free, save_variants

    require_free(out, force=force)
    symptom_set = SymptomSet.load(symptoms)
    if model is None:
        made = knowledge_variants(symptom_set)
    else:
        from medvip.symptoms.generator import Questions, variant_writer

        seed = 1
        asked = lm.language_model(
            base_url, model, key_name, env_file, max_calls, max_tokens, timeout, seed, ask_again
        )
        with lm.what_was_paid_for(asked):
            made = knowledge_variants(symptom_set, write=variant_writer(asked, Questions.load(questions)))
    save_variants(made, out, force=force)
    complain("note: texts for a comparison; use none but symptoms.json for anything else")
    for kind in made:
        say(str(out / f"{kind}.json"))
