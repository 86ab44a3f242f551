"""`medvip symptoms audit`: the table, the suggestions, the file, and what it refuses."""

# ruff: noqa: F401, F811 (fixtures are imported by name)
from __future__ import annotations

import json
import shutil
import sys

import pytest
from command_answers import medvip, symptom_file

import medvip as library
from medvip.symptoms import SymptomSet


@pytest.fixture
def audit(medvip, symptom_file, tiny_clip):
    """``audit(data, more...)`` on the tiny CLIP."""

    def run(data, *more, symptoms=None):
        given = (symptoms or symptom_file, data, "--backbone", tiny_clip, "--quiet")
        return medvip("symptoms", "audit", *given, *more)

    return run


def test_the_command_says_and_writes_what_the_function_gives(
    audit, symptom_file, tiny_clip, tiny_images, tmp_path
):
    out = tmp_path / "audits" / "audit.json"
    answer = audit(tiny_images, "--out", out, "--seed", 3, "--split-seed", 2)
    text = answer.done()
    made = library.audit_symptoms(
        SymptomSet.load(symptom_file),
        library.load_dataset(tiny_images, seed=2),
        library.load_backbone(str(tiny_clip), device="cpu"),
        seed=3,
        quiet=True,
    )
    assert json.loads(out.read_text()) == made.to_json()
    assert "note: splits made 60/15/25" in answer.err
    assert made.caution in text

    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    joined, suggestions = (
        ["".join(f"{part} " for part in column) for column in zip(*cells, strict=True)],
        text,
    )
    for number, row in enumerate(made.rows, start=1):
        # The table folds long cells; together, column by column, all is there.
        assert f"{number}. {row.class_name}: {row.symptom}" in joined[0]
        assert str(row.separation) in joined[1]
        assert f"{row.rarest_word} {row.zipf:.1f}" in joined[5]
        if row.suggestion.reasons:
            assert f"  {row.suggestion.action} {number}. {row.class_name}: {row.symptom}\n" in suggestions
            assert "; ".join(row.suggestion.reasons) in suggestions
    kept = sum(row.suggestion.action == "keep" for row in made.rows)
    assert f"suggestions: keep {kept} of 8 symptoms" in text


def test_validation_and_test_folders_do_not_change_the_figures(audit, tiny_images, tmp_path):
    """Given splits: the same training pictures beside other ones of validation and test."""
    figures = []
    for number, (val, test) in enumerate([(8, 10), (10, 8)]):
        data = tmp_path / f"data{number}"
        for split, indices in {
            "train": range(8),
            "val": range(val, val + 2),
            "test": range(test, test + 2),
        }.items():
            for label in ("red", "green", "blue"):
                (data / split / label).mkdir(parents=True)
                for index in indices:
                    shutil.copy(tiny_images / label / f"{index}.png", data / split / label)
        audit(data, "--out", tmp_path / f"{number}.json").done()
        figures.append(json.loads((tmp_path / f"{number}.json").read_text()))
    assert figures[0]["symptoms"] == figures[1]["symptoms"]
    assert figures[0]["images"] == {"blue": 8, "green": 8, "red": 8}


def test_a_file_is_not_replaced_unasked(audit, tiny_images, tmp_path):
    out = tmp_path / "audit.json"
    out.write_text("mine")
    assert "is there already" in audit(tiny_images, "--out", out).failed()
    assert out.read_text() == "mine"
    audit(tiny_images, "--out", out, "--force").done()
    assert json.loads(out.read_text())["format"] == "medvip-symptom-audit"
    assert [path.name for path in tmp_path.glob("*audit.json*")] == ["audit.json"]


def test_what_cannot_be_audited(audit, tiny_images, tmp_path, monkeypatch):
    other = tmp_path / "other.json"
    other.write_text('{"red": ["warm"], "green": ["leafy"], "purple": ["odd"]}')
    out = tmp_path / "audit.json"
    assert "'blue'" in audit(tiny_images, "--out", out, symptoms=other).failed()
    assert "no symptom file" in audit(tiny_images, "--out", out, symptoms="nowhere.json").failed()
    assert "does not exist" in audit(tmp_path / "nowhere", "--out", out).failed()
    audit(tiny_images, "--out", out, "--seed", -1).failed(2)
    broken = shutil.copytree(tiny_images, tmp_path / "broken")
    (broken / "red" / "0.png").write_bytes(b"no picture")
    assert "cannot be read" in audit(broken, "--out", out).failed()
    assert not out.exists()
    audit(broken, "--out", out, "--skip-unreadable").done()
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    assert "pip install 'medvip[words]'" in audit(tiny_images).failed()


def test_names_that_would_command_a_terminal_are_shown_harmless(audit, tiny_images, tmp_path):
    """A symptom file with such characters is refused; a folder's name reaches no terminal raw."""
    evil = tmp_path / "evil.json"
    evil.write_text(json.dumps({"red": ["warm\x1b[2J"], "green": ["leafy"], "blue": ["cold"]}))
    answer = audit(tiny_images, symptoms=evil)
    answer.failed()
    assert "\x1b" not in answer.out + answer.err
    data = shutil.copytree(tiny_images, tmp_path / "pictures")
    (data / "red").rename(data / "re\x1b[2Jd")
    answer = audit(data)
    answer.failed()
    assert "\x1b" not in answer.out + answer.err
