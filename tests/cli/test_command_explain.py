"""`medvip explain`: JSON and drawings of each picture, whatever a picture is called."""

# ruff: noqa: F401, F811 (fixtures are imported by name)
from __future__ import annotations

import json
import shutil
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from command_answers import clip_fit, clip_run, fit, medvip, symptom_file
from PIL import Image
from ready_runs import embedded_cache, embedded_run

from medvip.cli.main import main


def test_json_and_drawings_of_each_picture(clip_run, medvip, tiny_images, tiny_symptoms, tmp_path):
    pictures = [tiny_images / "red" / "0.png", tiny_images / "blue" / "1.png"]
    why = tmp_path / "why"
    out = medvip("explain", clip_run, *pictures, "--out", why, "--quiet").done()
    assert "2 explanations written" in out
    assert "4 drawings" in out
    assert "leads" in out, "what decided is said in words"
    content = json.loads((why / "explanations.json").read_text())
    assert sorted(path.name for path in why.iterdir()) == [
        "0001-0.png", "0001-0.svg", "0002-1.png", "0002-1.svg", "explanations.json",
    ]  # fmt: skip
    for entry, picture in zip(content, pictures, strict=True):
        assert entry["path"] == str(picture)
        png, svg = entry["drawings"]
        with Image.open(why / png) as drawn:
            assert drawn.width == 1080
        said = " ".join(ElementTree.parse(why / svg).getroot().itertext())
        assert entry["decision"]["prediction"] in said
        assert "does not sum to the share" in said, "a CLIP's maps are patch similarities"
        assert entry["maps"]["exact"] is False
        for part in entry["classes"]:
            assert set(part) >= {"class_name", "logit", "class_vector", "symptoms"}
            for share in part["symptoms"]:
                assert 0 <= share["percentile"] <= 100
                assert set(share) >= {"symptom", "share", "attention", "similarity"}
            maps = entry["maps"]["classes"][part["class_name"]]["symptoms"]
            assert [one["symptom"] for one in maps] == tiny_symptoms[part["class_name"]]
            assert np.shape(maps[0]["map"]) == (3, 3)
        decided = entry["decision"]
        logits = sorted(part["logit"] for part in entry["classes"])
        assert decided["margin"] == pytest.approx(logits[-1] - logits[-2])
        assert decided["from_symptoms"] + decided["from_class_vector"] == pytest.approx(decided["margin"])


def test_without_maps_and_without_images(clip_run, medvip, tiny_images, tmp_path):
    picture = tiny_images / "red" / "0.png"
    medvip("explain", clip_run, picture, "--out", tmp_path / "a", "--no-images", "--quiet").done()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["explanations.json"]
    (entry,) = json.loads((tmp_path / "a" / "explanations.json").read_text())
    assert entry["drawings"] == []
    assert entry["maps"] is not None
    medvip("explain", clip_run, picture, "--out", tmp_path / "b", "--no-maps", "--quiet").done()
    (other,) = json.loads((tmp_path / "b" / "explanations.json").read_text())
    assert other["maps"] is None
    assert (tmp_path / "b" / "0001-0.svg").exists()
    for one, two in zip(entry["classes"], other["classes"], strict=True):
        assert one["logit"] == pytest.approx(two["logit"], abs=1e-4)


def test_each_stages_own_grid_on_demand(embedded_run, medvip, tiny_images, tmp_path):
    """On the embedded backbone; they and the joined map have the same sum, the share."""
    picture = tiny_images / "red" / "0.png"
    usual = ("explain", embedded_run, picture, "--no-images", "--quiet", "--out")
    medvip(*usual, tmp_path / "a").done()
    medvip(*usual, tmp_path / "b", "--grids").done()
    (plain,), (entry,) = (json.loads((tmp_path / x / "explanations.json").read_text()) for x in "ab")
    assert "grids" not in plain["maps"]
    assert plain["maps"]["classes"] == entry["maps"]["classes"]
    sides = [len(grid["red"]["class_vector"]) for grid in entry["maps"]["grids"]]
    assert sides == [112, 56, 28, 14, 14, 7, 7]
    for part in entry["classes"]:
        name = part["class_name"]
        total = sum(np.sum(grid[name]["class_vector"]) for grid in entry["maps"]["grids"])
        assert total == pytest.approx(part["class_vector"], abs=1e-5)
        assert np.shape(entry["maps"]["classes"][name]["class_vector"]) == (28, 28)


def test_without_matplotlib(clip_run, medvip, tiny_images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    picture = tiny_images / "red" / "0.png"
    text = medvip("explain", clip_run, picture, "--out", tmp_path / "why", "--quiet").failed()
    assert "pip install 'medvip[plots]'" in text
    assert "--no-images" in text
    assert not (tmp_path / "why").exists()
    medvip("explain", clip_run, picture, "--out", tmp_path / "why", "--no-images", "--quiet").done()


NAMES = [
    "<script>alert(1)</script>.png".replace("/", "_"),
    "$x$ & 'y' \"z\".png",
    "up ..\\..\\x.png",
    "\x1b[31m\n.png",
    "\u202egnp.png",
    "-rf.png",
    "图 مرحبا.png",
    "x" * 200 + ".png",
]


def test_hostile_file_names_stay_text(clip_run, medvip, tiny_images, tmp_path):
    scans, why = tmp_path / "scans", tmp_path / "why"
    scans.mkdir()
    for name in NAMES:
        shutil.copy(tiny_images / "red" / "0.png", scans / name)
    answer = medvip("explain", clip_run, scans, "--out", why, "--quiet")
    assert all(letter.isprintable() or letter == "\n" for letter in answer.done() + answer.err)
    content = json.loads((why / "explanations.json").read_text())
    assert {entry["path"] for entry in content} == {str(scans / name) for name in NAMES}
    assert len(list(why.iterdir())) == 1 + 2 * len(NAMES)
    for entry in content:
        for name in entry["drawings"]:
            assert name.isascii()
            assert (why / name).resolve().parent == why.resolve()
        root = ElementTree.parse(why / entry["drawings"][1]).getroot()
        assert not [element for element in root.iter() if element.tag.endswith("script")]


def test_a_file_in_the_way_is_not_half_a_result(clip_run, medvip, tiny_images, tmp_path):
    picture = tiny_images / "red" / "0.png"
    (tmp_path / "file").write_text("mine")
    medvip("explain", clip_run, picture, "--out", tmp_path / "file", "--quiet").failed()
    assert (tmp_path / "file").read_text() == "mine"
    medvip("explain", clip_run, picture, "--out", tmp_path / "why", "--quiet").done()
    assert "--force" in medvip("explain", clip_run, picture, "--out", tmp_path / "why", "--quiet").failed()
    medvip("explain", clip_run, picture, "--out", tmp_path / "why", "--quiet", "--force").done()


@pytest.mark.parametrize("given", [["nowhere.png"], []])
def test_no_picture(clip_run, medvip, tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    answer = medvip("explain", clip_run, *given, "--out", tmp_path / "why")
    assert answer.code == 2
    assert not (tmp_path / "why").exists()


def test_runs_without_a_class_vector(fit, medvip, tiny_images, tmp_path):
    fit(tiny_images, tmp_path / "run", "--method", "zero-shot-symptoms").done()
    picture = tiny_images / "red" / "0.png"
    out = medvip("explain", tmp_path / "run", picture, "--out", tmp_path / "why", "--quiet").done()
    assert "all of it from symptoms" in out
    (entry,) = json.loads((tmp_path / "why" / "explanations.json").read_text())
    assert {part["class_vector"] for part in entry["classes"]} == {0.0}
