"""`medvip predict` and `explain`: what they take, and a CSV that holds whatever a file is called."""

# ruff: noqa: F401, F811 (fixtures are imported by name)
from __future__ import annotations

import csv
import io
import json
import os
import shutil
from pathlib import Path

import pytest
from command_answers import clip_fit, clip_run, fit, medvip, symptom_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medvip.cli.main import main

LABELS = ["blue", "green", "red"]


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_columns_of_the_design(clip_run, medvip, tiny_images, tmp_path):
    picture = tiny_images / "red" / "0.png"
    medvip("predict", clip_run, picture, "--out", tmp_path / "p.csv", "--quiet").done()
    (row,) = rows_of(tmp_path / "p.csv")
    assert list(row) == ["path", "prediction", "confidence", *LABELS]
    probabilities = {label: float(row[label]) for label in LABELS}
    assert row["path"] == str(picture)
    assert sum(probabilities.values()) == pytest.approx(1, abs=2e-6)
    assert row["prediction"] == max(LABELS, key=lambda label: probabilities[label])
    assert float(row["confidence"]) == max(probabilities.values())
    printed = medvip("predict", clip_run, picture, "--quiet").done()
    assert printed == (tmp_path / "p.csv").read_text()


def test_files_folders_and_globs(clip_run, medvip, tiny_images, tmp_path, monkeypatch):
    folder = tmp_path / "scans"
    shutil.copytree(tiny_images / "red", folder / "deep" / "red")
    shutil.copytree(tiny_images / "blue", folder / "blue")
    shutil.copy(folder / "blue" / "0.png", folder / "odd [1].png")
    for passed_over in (".hidden.png", "notes.txt", "report.pdf", "drawing.eps"):
        (folder / passed_over).write_text("x")
    monkeypatch.chdir(folder)

    def paths(*given: str) -> list[str]:
        answer = medvip("predict", clip_run, *given, "--quiet").done()
        return [row["path"] for row in csv.DictReader(io.StringIO(answer))]

    assert paths("blue/3.png", "odd [1].png") == ["blue/3.png", "odd [1].png"]
    assert len(paths(".")) == 25
    assert paths("blue/1*.png") == ["blue/1.png", "blue/10.png", "blue/11.png"]
    assert len(paths("**/*.png")) == 25
    assert len(paths(str(folder / "deep" / "*" / "*.png"))) == 12
    assert paths("blue/3.png", "blue/3.png", "blue/3*") == ["blue/3.png"], "nothing twice"


@pytest.mark.parametrize("given", ["nowhere.png", "no*.png", "empty", "x" * 5000, "a#b.png"])
def test_no_such_picture(clip_run, medvip, tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert "no picture at" in medvip("predict", clip_run, given).failed(2)


def test_unreadable_pictures_are_listed_and_nothing_is_written(clip_run, medvip, tiny_images, tmp_path):
    shutil.copytree(tiny_images / "red", tmp_path / "scans")
    (tmp_path / "scans" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "scans" / "2.png").write_text("nothing")
    text = medvip("predict", clip_run, tmp_path / "scans", "--out", tmp_path / "p.csv").failed()
    assert "2 images cannot be read" in text
    assert "scans/1.png: " in text
    assert "scans/2.png: " in text
    assert not (tmp_path / "p.csv").exists()


def test_pictures_of_an_archive(clip_run, medvip, tmp_path):
    import numpy as np

    np.savez(tmp_path / "a.npz", test_images=np.zeros((2, 28, 28, 3), np.uint8))
    out = medvip("predict", clip_run, f"{tmp_path / 'a.npz'}#test_images/1", "--quiet").done()
    assert len(out.splitlines()) == 2
    medvip("predict", clip_run, f"{tmp_path / 'a.npz'}#test_images/2").failed()


def test_out_is_not_overwritten_unasked(clip_run, medvip, tiny_images, tmp_path):
    table = tmp_path / "p.csv"
    table.write_text("mine")
    assert "--force" in medvip("predict", clip_run, tiny_images, "--out", table).failed()
    assert table.read_text() == "mine"
    medvip("predict", clip_run, tiny_images, "--out", table, "--force", "--quiet").done()
    assert len(rows_of(table)) == 36
    (tmp_path / "folder").mkdir()
    medvip("predict", clip_run, tiny_images, "--out", tmp_path / "folder", "--force", "--quiet").failed()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "p.csv"]


NAMES = [
    "a,b.png",
    'a"b".png',
    "a\nb.png",
    "a\r\nb.png",
    "a\rb.png",
    "'; DROP TABLE.png",
    "Ünïcode 图.png",
    "narrow\u202fspace.png",
    "\x1b[31m.png",
    "=1+1.png",
    "-n.png",
    "@SUM(A1).png",
    "+1.png",
    " leading.png",
    "{0}%s$HOME.png",
]


def test_whatever_a_file_is_called_comes_back_from_the_csv(
    clip_run, medvip, tiny_images, tmp_path, monkeypatch
):
    (tmp_path / "scans").mkdir()
    monkeypatch.chdir(tmp_path / "scans")
    for name in NAMES:
        shutil.copy(tiny_images / "red" / "0.png", name)
    answer = medvip("predict", clip_run, tmp_path / "scans", "--out", tmp_path / "p.csv", "--quiet")
    answer.done()
    assert sorted(row["path"] for row in rows_of(tmp_path / "p.csv")) == sorted(
        str(tmp_path / "scans" / name) for name in NAMES
    )
    printed = medvip("predict", clip_run, ".", "--quiet").done()
    assert all(c.isprintable() or c == "\n" for c in printed)


def test_no_path_is_a_formula_for_a_spreadsheet(clip_run, medvip, tiny_images, tmp_path, monkeypatch):
    """Given bare, a name that begins like a formula is written ./NAME: the same file, but text."""
    monkeypatch.chdir(tmp_path)
    names = [name for name in NAMES if name[0] in "=+-@"]
    for name in names:
        shutil.copy(tiny_images / "red" / "0.png", name)
    medvip("predict", "--out", "p.csv", "--quiet", clip_run, "--", *names).done()
    paths = [row["path"] for row in rows_of(tmp_path / "p.csv")]
    assert paths == [f"./{name}" for name in names]
    assert all(Path(path).is_file() for path in paths)


def test_a_name_that_is_no_text(clip_run, medvip, tiny_images, tmp_path):
    """Bytes that are no UTF-8 do not spoil the table for the others."""
    name = os.fsdecode(b"caf\xe9.png")
    try:
        shutil.copy(tiny_images / "red" / "0.png", tmp_path / name)
    except OSError:
        pytest.skip("this file system takes text only")
    medvip("predict", clip_run, tmp_path / name, "--out", tmp_path / "p.csv", "--quiet").done()
    assert rows_of(tmp_path / "p.csv")[0]["path"].endswith("caf\\udce9.png")
    medvip("explain", clip_run, tmp_path / name, "--out", tmp_path / "why", "--quiet").done()
    content = json.loads((tmp_path / "why" / "explanations.json").read_text(encoding="utf-8"))
    assert content[0]["path"] == str(tmp_path / name), "JSON has a way to write it"


@pytest.fixture(scope="session")
def loaded_once(clip_run):
    """The run, loaded once for many calls."""
    from medvip.runs import load_run

    return load_run(clip_run)


file_names = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=20
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=file_names)
def test_any_name_at_all(name, loaded_once, tiny_images, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("medvip.cli.options.load_given_run", lambda *_: loaded_once)
    folder = tmp_path / "any"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    picture = folder / f"x{name}.png"
    shutil.copy(tiny_images / "red" / "0.png", picture)
    assert main(["predict", "run", str(picture), "--out", str(folder / "p.csv"), "--quiet"]) == 0
    assert rows_of(folder / "p.csv")[0]["path"] == str(picture)
    assert main(["predict", "run", str(picture), "--quiet"]) == 0
    picture.write_text("spoiled")
    assert main(["predict", "run", str(picture), "--quiet"]) == 1
    assert main(["predict", "run", f"{picture}.gone", "--quiet"]) == 2
    out, err = capsys.readouterr()
    assert all(c.isprintable() or c == "\n" for c in out + err)
    assert err.count("\n") == 4


# ------------------------------------------------------------------ explain


def test_explanations_add_up(clip_run, medvip, tiny_images, tiny_symptoms, tmp_path):
    import math

    pictures = [tiny_images / "red" / "0.png", tiny_images / "blue" / "1.png"]
    out = medvip("explain", clip_run, *pictures, "--out", tmp_path / "why", "--quiet").done()
    assert "2 explanations written" in out
    content = json.loads((tmp_path / "why" / "explanations.json").read_text())
    for entry in content:
        logits = []
        for part in entry["classes"]:
            shares = [share["share"] for share in part["symptoms"]]
            assert sum(shares) + part["class_vector"] == pytest.approx(part["logit"], abs=1e-5)
            assert [s["symptom"] for s in part["symptoms"]] == tiny_symptoms[part["class_name"]]
            logits.append(part["logit"])
        total = sum(map(math.exp, logits))
        assert [math.exp(logit) / total for logit in logits] == pytest.approx(
            [entry["probabilities"][part["class_name"]] for part in entry["classes"]], abs=1e-5
        )
    medvip("explain", clip_run, *pictures, "--out", tmp_path / "why").failed()
    (tmp_path / "file").write_text("x")
    medvip("explain", clip_run, pictures[0], "--out", tmp_path / "file", "--quiet").failed()


def test_unreadable_pictures_can_be_left_out(clip_run, medvip, tiny_images, tmp_path):
    good, bad = tiny_images / "red" / "0.png", tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    out = tmp_path / "out.csv"
    answer = medvip("predict", clip_run, bad, good, "--skip-unreadable", "--out", out, "--quiet")
    answer.done()
    assert "left out" in answer.err
    assert "bad.png" in answer.err
    assert [line.split(",")[0] for line in out.read_text().splitlines()[1:]] == [str(good)]
    medvip("explain", clip_run, bad, good, "--skip-unreadable", "--out", tmp_path / "why").done()
    assert "bad.png" in medvip("predict", clip_run, bad, "--skip-unreadable").failed(1)


def test_what_cannot_be_explained(fit, medvip, tiny_images, tmp_path):
    fit(tiny_images, tmp_path / "run", "--method", "zero-shot-symptoms-max").done()
    picture = tiny_images / "red" / "0.png"
    assert "only runs of the methods vip" in medvip(
        "explain", tmp_path / "run", picture, "--out", tmp_path / "why"
    ).failed(2)
    assert not (tmp_path / "why").exists()


# ------------------------------------------------------------------ the backbone of a run


def test_another_backbone_is_refused(clip_run, medvip, tiny_siglip, tiny_clip, tiny_images, tmp_path):
    text = medvip("predict", clip_run, tiny_images, "--backbone", tiny_siglip).failed()
    assert "fingerprint" in text
    assert "use the backbone of the training" in text
    moved = shutil.copytree(tiny_clip, tmp_path / "moved")
    medvip("predict", clip_run, tiny_images, "--backbone", moved, "--quiet").done()
