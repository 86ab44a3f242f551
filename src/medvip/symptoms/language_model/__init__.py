"""A language model behind one call, on any server that speaks the OpenAI protocol."""

from __future__ import annotations

from medvip.symptoms.language_model.answers import BadAnswer, read_object, without_thinking
from medvip.symptoms.language_model.dialect import PicturesRefused
from medvip.symptoms.language_model.keys import find_key
from medvip.symptoms.language_model.model import Answer, LanguageModel
from medvip.symptoms.language_model.server import OPENAI, Server
from medvip.symptoms.language_model.transcripts import Message, Picture, Transcripts
from medvip.symptoms.language_model.usage import Usage

__all__ = [
    "OPENAI",
    "Answer",
    "BadAnswer",
    "LanguageModel",
    "Message",
    "Picture",
    "PicturesRefused",
    "Server",
    "Transcripts",
    "Usage",
    "find_key",
    "read_object",
    "without_thinking",
]
