"""The questions: text files that anyone can read, and replace by files of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from types import MappingProxyType

from medvip.errors import SymptomError
from medvip.symptoms.generator.reading import ANSWERS
from medvip.symptoms.plain_text import shown
from medvip.symptoms.strict_json import read_text

SLOTS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "coarse": frozenset({"category", "modality", "count"}),
        "contrastive": frozenset({"category", "modality", "count", "others"}),
        "fine": frozenset({"category", "modality", "pictures"}),
        "reconcile": frozenset({"category", "modality", "symptoms", "features"}),
        "refine": frozenset({"category", "modality", "count", "kept", "reasons", "contrast", "seen"}),
        "again": frozenset({"reason"}),
        "out-of-domain": frozenset({"category", "modality", "count", "symptoms"}),
        "useless": frozenset({"category", "modality", "count", "symptoms", "others"}),
        "opposite": frozenset({"category", "modality", "count", "symptoms"}),
    }
)
"""Question -> the ``$words`` that are filled in."""

_NEEDED = {"fine": {"category"}, "again": {"reason"}, "out-of-domain": {"symptoms"}}
_NAMES = ", ".join(f"{name}.md" for name in SLOTS)
_FIX = "write the question's words as in the built-in one: medvip symptoms questions --out FOLDER"


@dataclass(frozen=True)
class Questions:
    """All questions by name.

    Examples
    --------
    >>> questions = Questions.load()
    >>> "melanoma" in questions.ask("coarse", category="melanoma", modality="dermoscopic image", count=8)
    True
    """

    texts: Mapping[str, str]

    @classmethod
    def load(cls, folder: str | Path | None = None) -> Questions:
        """The built-in questions, those in `folder` (``coarse.md``, ...) in their place.

        Raises
        ------
        SymptomError
            `folder` holds no question, one of an unknown name, or one whose ``$words`` are wrong.
        """
        texts = {name: _built_in(name) for name in SLOTS}
        if folder is not None:
            texts |= _read_folder(Path(folder))
        return cls(MappingProxyType(texts))

    def ask(self, name: str, **slots: object) -> str:
        """The question `name` with its ``$words`` filled in, and the form of its answer below."""
        filled = Template(self.texts[name]).substitute({key: str(value) for key, value in slots.items()})
        return _with_form(name, filled)

    def digests(self, names: tuple[str, ...]) -> dict[str, str]:
        """Question -> sha256 of all that is sent, before its ``$words`` are filled in."""
        return {
            name: hashlib.sha256(_with_form(name, self.texts[name]).encode()).hexdigest() for name in names
        }


def _with_form(name: str, text: str) -> str:
    text = text.strip()
    return f"{text}\n\n{ANSWERS[name].line}" if name in ANSWERS else text


def _built_in(name: str) -> str:
    file = resources.files("medvip.symptoms.generator") / "questions" / f"{name}.md"
    return file.read_text(encoding="utf-8")


def _read_folder(folder: Path) -> dict[str, str]:
    where = shown(folder, limit=300)
    if not folder.is_dir():
        raise SymptomError(f"there is no folder {where} with questions", fix="check the path")
    files = sorted(folder.glob("*.md"))
    if not files:
        raise SymptomError(f"{where} holds no question", fix=f"name them {_NAMES}")
    texts = {}
    for file in files:
        if file.stem not in SLOTS:
            raise SymptomError(
                f"{where} holds {shown(file.name)}, which is no question that is asked",
                fix=f"name it one of {_NAMES}",
            )
        try:
            texts[file.stem] = read_text(file)
        except SymptomError as error:  # its fix speaks of symptom files
            raise SymptomError(error.problem, fix="save it as plain text in UTF-8") from None
        _require_slots(file.stem, texts[file.stem], shown(file, limit=300))
    return texts


def _require_slots(name: str, text: str, where: str) -> None:
    template = Template(text)
    if not template.is_valid():
        raise SymptomError(f"{where} has a $ that stands before no word", fix="write $$ for a dollar sign")
    used = set(template.get_identifiers())
    if unknown := sorted(used - SLOTS[name]):
        known = ", ".join(f"${slot}" for slot in sorted(SLOTS[name]))
        raise SymptomError(f"{where} asks for ${unknown[0]}, which is not known", fix=f"it can use {known}")
    if missing := sorted(_NEEDED.get(name, SLOTS[name] - {"count", "contrast", "seen", "modality"}) - used):
        raise SymptomError(f"{where} does not use ${missing[0]}", fix=_FIX)
