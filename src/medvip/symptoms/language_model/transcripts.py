"""What was asked and answered, kept: nothing is asked, or paid for, twice."""

from __future__ import annotations

import hashlib
import json
import os
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
        good = isinstance(kept, dict) and kept.pop("format", None) == FORMAT
        good = good and isinstance(kept.get("answer"), str)
        counts = ("prompt_tokens", "completion_tokens")
        return kept if good and all(type(kept.get(each)) in (int, type(None)) for each in counts) else None

    def keep(self, key: str, transcript: dict[str, Any]) -> None:
        """Write it whole, for its owner's eyes."""
        path = self.folder / f"{key}.json"
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"format": FORMAT, **transcript}, indent=2) + "\n")
        path.chmod(0o600)

    def set_aside(self, key: str) -> None:
        """Keep it for reading, but ask again next time: its conversation came to nothing."""
        path = self.folder / f"{key}.json"
        number = 1
        while (aside := self.folder / f"{key}.failed-{number}.json").exists():
            number += 1
        if path.exists():
            os.replace(path, aside)  # noqa: PTH105 (both names lie in one folder)
