"""`medvip what-if`: symptoms dropped and reworded, and what is refused."""

# ruff: noqa: F401, F811 (fixtures are imported by name)
from __future__ import annotations

import json

import pytest
from command_answers import clip_fit, clip_run, fit, medvip, symptom_file

import medvip as package
from medvip.explanation import Change


def test_dropping_and_rewording(clip_run, medvip, tiny_images, tmp_path):
    out = medvip(
        "what-if", clip_run, tiny_images, "--drop", "green: leafy", "--reword", "red: warm => hot as fire",
        "--split", "all", "--out", tmp_path / "made.json", "--save", tmp_path / "changed", "--quiet",
    ).done()  # fmt: skip
    assert "green: without 'leafy'" in out
    assert "red: 'hot as fire' instead of 'warm like fire'" in out
    made = json.loads((tmp_path / "made.json").read_text())
    run = package.load_run(clip_run)
    other = run.what_if(Change("green", "leafy"), Change("red", "warm like fire", "hot as fire"))
    pictures = sorted(str(path) for path in tiny_images.rglob("*.png"))
    before, after = run.predict(pictures, quiet=True), other.predict(pictures, quiet=True)
    changed = {one.path for one, two in zip(before, after, strict=True) if one.prediction != two.prediction}
    assert {one["path"] for one in made["changed_images"]} == changed
    assert f"{len(changed)} of 36 images are predicted otherwise" in out
    wanted = sum(one.prediction == one.path.split("/")[-2] for one in after) / 36
    assert made["after"]["accuracy"]["value"] == pytest.approx(wanted)

    kept = package.load_run(tmp_path / "changed")
    again = kept.predict(pictures, quiet=True)
    assert [one.prediction for one in again] == [one.prediction for one in after]
    assert kept.config["changed_after_training"][0]["symptom"] == "leafy"
    assert "changed after training" in (tmp_path / "changed" / "README.md").read_text()
    assert kept.symptoms.classes["red"] == ("hot as fire", "the color of blood")


def test_each_in_turn(clip_run, medvip, tiny_images, tiny_symptoms, tmp_path):
    out = medvip("what-if", clip_run, tiny_images, "--out", tmp_path / "turn.json", "--quiet").done()
    made = json.loads((tmp_path / "turn.json").read_text())
    assert {(one["class_name"], one["symptom"]) for one in made["left_out"]} == {
        (name, text) for name, texts in tiny_symptoms.items() for text in texts
    }
    assert "which no symptom explains" in out
    assert "green: leafy" in out
    assert made["reliance"]["images"] == made["before"]["images"]


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (["--drop", "purple: round"], 1, "begins with no class"),
        (["--drop", "red: round"], 1, "its symptoms are: warm like fire; the color of blood"),
        (["--drop", "red: warm", "--drop", "red: the color"], 1, "left without symptoms"),
        (["--drop", "red: warm", "--drop", "red: warm"], 1, "changed twice"),
        (["--reword", "red: warm"], 2, "not of the form"),
        (["--reword", "red: warm => the color of blood"], 1, ""),
        (["--reword", "red: warm => a\x1b[31mb"], 1, "control character"),
        (["--split", "holdout"], 2, "no split"),
        (["--save", "kept"], 2, "--save without a change"),
        (["--out", "."], 1, "is a folder"),
    ],
)
def test_bad_input(clip_run, medvip, tiny_images, tmp_path, monkeypatch, given, code, said):
    monkeypatch.chdir(tmp_path)
    answer = medvip("what-if", clip_run, tiny_images, *given, "--quiet")
    text = answer.failed(code)
    assert said in text
    assert "\x1b" not in text
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_overwritten(clip_run, medvip, tiny_images, tmp_path):
    (tmp_path / "made.json").write_text("mine")
    medvip("what-if", clip_run, tiny_images, "--out", tmp_path / "made.json").failed()
    assert (tmp_path / "made.json").read_text() == "mine"
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "mine").write_text("mine")
    medvip("what-if", clip_run, tiny_images, "--drop", "red: warm", "--save", tmp_path / "kept").failed()


def test_other_classes_and_other_methods(clip_run, fit, medvip, tiny_images, tmp_path):
    import shutil

    for name in ("blue", "green"):
        shutil.copytree(tiny_images / name, tmp_path / "two" / name)
    assert "has the classes" in medvip("what-if", clip_run, tmp_path / "two", "--split", "all").failed()
    fit(tiny_images, tmp_path / "run", "--method", "zero-shot-names", symptoms=None).done()
    assert "no symptoms" in medvip("what-if", tmp_path / "run", tiny_images).failed(2)
