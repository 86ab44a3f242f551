"""What the tests of the commands share: how to run one, and what it answered."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))
from ready_runs import clip_fit, clip_run

from medvip.cli.main import main

__all__ = ["Answer", "clip_fit", "clip_run", "fit", "medvip", "nothing_left", "symptom_file"]


@dataclass(frozen=True)
class Answer:
    """What a command left on the terminal."""

    code: int
    out: str
    err: str

    def failed(self, code: int = 1) -> str:
        """The text of a failure: why in one line, how to mend it in one more; no traceback."""
        lines = [line for line in self.err.splitlines() if not line.startswith(("note: ", "warning: "))]
        assert self.code == code, self
        assert len(lines) == 2, self
        assert lines[0].startswith("error: "), self
        assert lines[1].startswith("to mend it: "), self
        assert len(lines[1]) > len("to mend it: "), self
        assert "Traceback" not in self.err, self
        assert "defect of medvip" not in self.err, self
        return "\n".join(lines)

    def done(self) -> str:
        """What a command that did its work said."""
        assert self.code == 0, self
        return self.out


@pytest.fixture
def medvip(capsys):
    """Run a command in this process: ``medvip("fit", data, "--out", run)``."""

    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Answer(code, *capsys.readouterr())

    return run


@pytest.fixture
def symptom_file(tiny_symptoms, tmp_path) -> Path:
    """The symptoms of the tiny pictures as a plain file."""
    file = tmp_path / "tiny symptoms.json"
    file.write_text(json.dumps(tiny_symptoms))
    return file


@pytest.fixture
def fit(medvip, symptom_file, tiny_clip):
    """``fit(data, out, more...)``: two epochs on the tiny CLIP, where the method is trained."""

    def run(data: Path, out: Path, *more: object, symptoms: object = symptom_file) -> Answer:
        given = ("--symptoms", symptoms) if symptoms else ()
        epochs = () if any(str(word).startswith("zero-shot") for word in more) else ("--epochs", 2)
        return medvip(
            *("fit", data, "--out", out, *given, "--backbone", tiny_clip, *epochs, "--quiet", *more)
        )

    return run


@pytest.fixture
def nothing_left(tmp_path):
    """Afterwards no run and nothing half-written lies where a run would have been."""
    place = tmp_path / "out"
    place.mkdir()
    yield place / "run"
    assert list(place.iterdir()) == []
