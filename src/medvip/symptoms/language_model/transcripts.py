"""What was asked and answered, kept: nothing is asked, or paid for, twice."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from medvip.atomic import write_atomically
from medvip.cache import cache_folder

FORMAT = "medvip-transcript"


@dataclass(frozen=True)
class Picture:
    """A picture to be sent, and the pictures it is made of.

    Attributes
    ----------
    content
        The bytes of a PNG or JPEG file. Never kept, printed or logged.
    media_type
        ``"image/png"`` or ``"image/jpeg"``.
    ids
        Content hashes of the pictures in it: what may be written down.
    """

    content: bytes = field(repr=False)
    media_type: str
    ids: tuple[str, ...]

    @property
    def digest(self) -> str:
        """sha256 of the content."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Literal["user", "assistant"]
    text: str
    picture: Picture | None = None

    def record(self) -> dict[str, Any]:
        """What is kept of it: the text, and of a picture only its hashes."""
        kept: dict[str, Any] = {"role": self.role, "text": self.text}
        if self.picture is not None:
            kept["picture"] = {"sha256": self.picture.digest, "made_of": list(self.picture.ids)}
        return kept


class Transcripts:
    """A folder with one JSON file for each question that was answered.

    A file's name is the hash of all that decides the answer: server, model, conversation,
    form of the answer, seed.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder() / "transcripts"

    @staticmethod
    def key(asked: dict[str, Any]) -> str:
        """Name of what was asked, given as JSON."""
        canonical = json.dumps(asked, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode("utf-8", errors="surrogatepass")).hexdigest()

    def load(self, key: str) -> dict[str, Any] | None:
        """The transcript, or None where there is none or it is damaged."""
        try:
            kept = json.loads((self.folder / f"{key}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        good = isinstance(kept, dict) and kept.pop("format", None) == FORMAT and _is_whole(kept)
        return kept if good else None

    def probe(self) -> None:
        """Make the folder, and see that a file can be written there.

        Raises
        ------
        OSError
            It cannot.
        """
        self._make_folder()
        with tempfile.NamedTemporaryFile(dir=self.folder, prefix=".probe-") as file:
            file.write(bytes(10_000))

    def keep(self, key: str, transcript: dict[str, Any]) -> None:
        """Write it whole, for its owner's eyes.

        Raises
        ------
        OSError
            It cannot be written.
        """
        path = self.folder / f"{key}.json"
        self._make_folder()
        write_atomically(path, json.dumps({"format": FORMAT, **transcript}, indent=2) + "\n")
        path.chmod(0o600)

    def set_aside(self, key: str) -> None:
        """Keep it for reading, but ask again next time: its conversation came to nothing.

        Where the folder cannot be written to any more, it stays as it is.
        """
        path = self.folder / f"{key}.json"
        number = 1
        while (aside := self.folder / f"{key}.failed-{number}.json").exists():
            number += 1
        if path.exists():
            with suppress(OSError):
                os.replace(path, aside)  # noqa: PTH105 (both names lie in one folder)

    def _make_folder(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _is_whole(kept: dict[str, Any]) -> bool:
    """Whether a transcript holds all that is read from it: anybody may have edited the file."""
    messages = kept.get("messages")
    return (
        all(isinstance(kept.get(name), str) for name in ("server", "model", "date", "about", "answer"))
        and all(isinstance(kept.get(name), str | None) for name in ("finish", "refusal"))
        and all(_is_count(kept.get(name)) for name in ("prompt_tokens", "completion_tokens"))
        and isinstance(messages, list)
        and bool(messages)
        and all(_is_turn(each) for each in messages)
    )


def _is_count(value: object) -> bool:
    return value is None or (type(value) is int and 0 <= value < 2**53)


def _is_turn(message: object) -> bool:
    if not isinstance(message, dict) or message.get("role") not in ("user", "assistant"):
        return False
    picture = message.get("picture", {"sha256": "", "made_of": []})  # a turn without one is whole
    return (
        isinstance(message.get("text"), str)
        and isinstance(picture, dict)
        and isinstance(picture.get("sha256"), str)
        and isinstance(picture.get("made_of"), list)
        and all(isinstance(each, str) for each in picture["made_of"])
    )
