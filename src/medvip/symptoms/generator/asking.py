"""Ask one question about a class until the answer can be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from medvip.symptoms.generator.questions import Questions
from medvip.symptoms.generator.reading import ANSWERS
from medvip.symptoms.language_model import LanguageModel, Message, Picture
from medvip.symptoms.plain_text import shown

Read = TypeVar("Read")


def ask_about(
    class_name: str,
    name: str,
    text: str,
    read: Callable[[str], Read],
    model: LanguageModel,
    questions: Questions,
    picture: Picture | None = None,
) -> Read:
    """Ask the question `name` as `text`; a bad answer is sent back with the reason.

    Raises
    ------
    LanguageModelError
        No answer was usable.
    PicturesRefused
        `picture` is given and the model takes none.
    """
    return model.ask_until(
        Message("user", text, picture),
        ANSWERS[name].schema,
        read,
        about=about(class_name, name),
        again=lambda reason: f"{questions.ask('again', reason=reason)}\n{ANSWERS[name].line}",
    )


def about(class_name: str, name: str) -> str:
    """What a conversation is about, for messages and the record.

    >>> about("nevus", "coarse")
    "class 'nevus', question coarse"
    """
    return f"class {shown(class_name)}, question {name}"
