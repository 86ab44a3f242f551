"""`medvip symptoms variants`."""

# ruff: noqa: F401, F811 (fixtures are imported by name)
from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_answers import medvip

from medvip.symptoms import KINDS, SymptomSet, knowledge_variants


def test_help_has_an_example(medvip):
    text = " ".join(medvip("symptoms", "variants", "--help").done().split())
    assert "Example: medvip symptoms variants melanoma-nevus --out kinds" in text


@pytest.mark.parametrize("name", ["melanoma-nevus", "paediatric-pneumonia"])
def test_it_writes_what_the_function_gives(medvip, tmp_path, name):
    out = tmp_path / "kinds"
    answer = medvip("symptoms", "variants", name, "--out", out)
    assert answer.done().splitlines() == [str(out / f"{kind}.json") for kind in KINDS]
    assert answer.err.startswith("note: texts for a comparison")
    wanted = knowledge_variants(SymptomSet.load(name))
    assert {file.stem: SymptomSet.load(file) for file in out.iterdir()} == wanted
    assert list(tmp_path.iterdir()) == [out]
    # What it wrote is what the other commands take.
    shown = medvip("symptoms", "show", out / "opposite.json").done()
    assert "note: opposite: each symptom's opposite, one for one: wrong on purpose." in shown


def test_an_earlier_call_is_replaced_with_force_only(medvip, tmp_path):
    out = tmp_path / "kinds"
    medvip("symptoms", "variants", "melanoma-nevus", "--out", out).done()
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    assert "is there already" in medvip("symptoms", "variants", "paediatric-pneumonia", "--out", out).failed()
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    medvip("symptoms", "variants", "paediatric-pneumonia", "--out", out, "--force").done()
    assert SymptomSet.load(out / "symptoms.json") == SymptomSet.load("paediatric-pneumonia")


def test_a_folder_with_anything_else_is_never_replaced(medvip, tmp_path):
    out = tmp_path / "kinds"
    medvip("symptoms", "variants", "melanoma-nevus", "--out", out).done()
    (out / "notes.txt").write_text("mine")
    text = medvip("symptoms", "variants", "melanoma-nevus", "--out", out, "--force").failed()
    assert "and nothing else, so it is not replaced" in text
    assert (out / "notes.txt").read_text() == "mine"


def test_a_set_of_ones_own_has_no_variants_yet(medvip, tmp_path):
    file, out = tmp_path / "mine.json", tmp_path / "kinds"
    file.write_text(json.dumps({"red": ["warm"], "blue": ["cold"]}))
    text = medvip("symptoms", "variants", file, "--out", out).failed()
    assert "brings no variants of" in text
    assert "melanoma-nevus" in text
    assert not out.exists()
    assert "no symptom file" in medvip("symptoms", "variants", tmp_path / "no.json", "--out", out).failed()
    assert "--out" in medvip("symptoms", "variants", "melanoma-nevus").failed(2)


def test_names_of_folders_do_not_reach_the_terminal_as_they_are(medvip, tmp_path):
    out = tmp_path / "a\x1b[31m"
    answer = medvip("symptoms", "variants", "melanoma-nevus", "--out", out)
    assert "\x1b" not in answer.done()
    assert (out / "useless.json").is_file()
    again = medvip("symptoms", "variants", "melanoma-nevus", "--out", out)
    assert "\x1b" not in again.failed()
