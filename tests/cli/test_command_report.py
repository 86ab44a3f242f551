"""`medvip report`: what it takes, writes and refuses."""

# ruff: noqa: F401, F811 (fixtures are imported by name)
from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from command_answers import clip_fit, clip_run, fit, medvip, symptom_file
from report_runs import sites

PICTURE = "data:image/jpeg;base64,"


def test_one_file_is_written_and_said(clip_run, medvip, tiny_images, tmp_path):
    answer = medvip("report", clip_run, tiny_images, "--out", tmp_path / "why", "--quiet")
    file = tmp_path / "why" / "report.html"
    assert f"report written to {file} (" in answer.done()
    assert "it holds pictures of your data: mind whom you give it to" in answer.out
    assert list((tmp_path / "why").iterdir()) == [file]
    assert "note: splits made 60/15/25" in answer.err
    assert file.read_text().startswith('<!doctype html>\n<html lang="en">')


def test_help_has_an_example_and_says_what_is_inside(medvip):
    text = " ".join(medvip("report", "--help").done().split())
    assert "Example: medvip report run images/ --out report" in text
    assert "holds pictures of DATA" in text


def test_no_images(clip_run, medvip, sites, tmp_path):
    answer = medvip("report", clip_run, sites, "--out", tmp_path, "--no-images", "--quiet")
    assert "it holds no pictures" in answer.done()
    html = (tmp_path / "report.html").read_text()
    assert PICTURE not in html
    assert "Pictures are left out of this report" in html


def test_failures_and_split(clip_run, medvip, sites, tmp_path):
    def cases(*options: object) -> int:
        medvip("report", clip_run, sites, "--out", tmp_path, "--force", "--quiet", *options).done()
        return (tmp_path / "report.html").read_text().count('<article class="case"')

    everything = cases("--failures", 1000)
    assert everything > 2
    assert cases("--failures", 2) == 2
    assert cases("--failures", 0) == 0
    assert cases("--split", "all", "--failures", 1000) > everything
    assert "measured on training images" not in (tmp_path / "report.html").read_text()
    cases("--split", "train")
    assert "measured on training images" in (tmp_path / "report.html").read_text()


def test_an_earlier_report_is_replaced_with_force_only(clip_run, medvip, sites, tmp_path):
    medvip("report", clip_run, sites, "--out", tmp_path, "--quiet").done()
    before = (tmp_path / "report.html").read_bytes()
    refused = medvip("report", clip_run, sites, "--out", tmp_path, "--no-images", "--quiet").failed()
    assert "is there already" in refused
    assert (tmp_path / "report.html").read_bytes() == before
    medvip("report", clip_run, sites, "--out", tmp_path, "--no-images", "--force", "--quiet").done()
    assert (tmp_path / "report.html").read_bytes() != before


def test_what_cannot_be_done_is_said_and_leaves_nothing(clip_run, medvip, sites, tmp_path):
    out = tmp_path / "out"
    unknown = medvip("report", clip_run, sites, "--out", out, "--split", "tset").failed(2)
    assert "there is no split 'tset'" in unknown
    assert "does not exist" in medvip("report", clip_run, tmp_path / "none", "--out", out).failed()
    assert "--failures" in medvip("report", clip_run, sites, "--out", out, "--failures", "-1").failed(2)
    assert "--out" in medvip("report", clip_run, sites).failed(2)
    (tmp_path / "file").write_text("x")
    assert "is no folder" in medvip("report", clip_run, sites, "--out", tmp_path / "file" / "why").failed()
    assert not out.exists()


def test_without_matplotlib_it_says_what_to_install(clip_run, medvip, sites, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    text = medvip("report", clip_run, sites, "--out", tmp_path / "out", "--quiet").failed()
    assert "pip install 'medvip[plots]'" in text
    assert not (tmp_path / "out").exists()


def test_run_and_data_of_other_classes_are_refused(clip_run, medvip, tmp_path, tiny_images):
    import shutil

    other = tmp_path / "other"
    shutil.copytree(tiny_images, other)
    (other / "red").rename(other / "crimson")
    assert "but the run was trained on" in medvip("report", clip_run, other, "--out", tmp_path / "x").failed()
