"""Options of the commands that ask a language model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medvip.cli.console import complain

if TYPE_CHECKING:
    from medvip.symptoms.language_model import LanguageModel

BaseUrl = Annotated[
    str,
    typer.Option(help="Address of a server that speaks the OpenAI protocol; mostly it ends in /v1."),
]
Model = Annotated[
    str | None, typer.Option(help="Name of the language model on that server.", show_default=False)
]
KeyName = Annotated[
    str | None,
    typer.Option(
        help="Name of the environment variable (or of the entry in the .env file) that holds the key; "
        "MEDVIP_LLM_KEY when not given, and for api.openai.com also OPENAI_API_KEY. Never the key itself.",
        show_default=False,
    ),
]
EnvFile = Annotated[Path, typer.Option(help="File of NAME=VALUE lines that may hold the key.")]
MaxCalls = Annotated[
    int, typer.Option(help="Limit on the requests made, repeated ones included: a limit on the cost.", min=0)
]
MaxTokens = Annotated[int, typer.Option(help="Limit on the length of one answer.", min=1)]
Timeout = Annotated[float, typer.Option(help="Seconds that one answer may take.", min=0.001, max=86_400)]
AskAgain = Annotated[
    bool, typer.Option("--ask-again", help="Ask anew what was answered before, instead of reusing it.")
]
QuestionsFolder = Annotated[
    Path | None,
    typer.Option(
        help="Folder with questions of your own (medvip symptoms questions writes the built-in ones).",
        show_default=False,
    ),
]


def language_model(
    base_url: str,
    model: str | None,
    key_name: str | None,
    env_file: Path,
    max_calls: int,
    max_tokens: int,
    timeout: float,
    seed: int,
    ask_again: bool,
):
    """The model that the options name.

    Raises
    ------
    UsageError
        No model is named, the address is none, or there is no such key.
    """
    from medvip.errors import UsageError
    from medvip.symptoms.language_model import LanguageModel, Server, find_key

    if model is None:
        raise UsageError("no language model is named", fix="say which with --model")
    server = Server(base_url, model)
    key = find_key(server, name=key_name, env_file=env_file)
    if key is not None and base_url.startswith("http://") and not server.is_loopback:
        complain(f"note: {server.host} is asked without encryption (http): others may read the key")
    return LanguageModel(
        server,
        key=key,
        max_calls=max_calls,
        max_tokens=max_tokens,
        timeout=timeout,
        seed=seed,
        ask_again=ask_again,
    )


@contextmanager
def what_was_paid_for(model: LanguageModel) -> Iterator[None]:
    """Say what a failure has cost and where the answers are, and whether all answers could be kept."""
    failed = True
    try:
        yield
        failed = False
    finally:
        if not model.kept_all:
            complain(
                f"note: some answers could not be written to {model.transcripts_folder}; they are asked "
                "for again the next time"
            )
        elif failed and model.calls:
            complain(
                f"note: {model.calls} requests were made; what was answered is kept in "
                f"{model.transcripts_folder}"
            )
