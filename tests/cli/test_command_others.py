"""`medvip symptoms`, `doctor` and `demo`."""

# ruff: noqa: F401, F811 (fixtures are imported by name)
from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from command_answers import fit, medvip, nothing_left, symptom_file
from ready_runs import RUN_FILES, put_quick_alignment

from medvip.symptoms import SymptomSet, ready_made

# ------------------------------------------------------------------ symptoms


def test_list_and_show(medvip):
    out = medvip("symptoms", "list").done()
    assert [name for name in ready_made() if name not in out] == []
    out = medvip("symptoms", "show", "melanoma-nevus").done()
    assert "modality: dermoscopic image" in out
    assert "not reviewed by a clinician" in out
    assert "\nnevus\n  - " in out
    assert "did you mean" in medvip("symptoms", "show", "melanoma").failed()
    assert "no symptom file" in medvip("symptoms", "show", "nowhere.json").failed()


def test_check(medvip, symptom_file, tiny_clip, tiny_symptoms, tmp_path):
    out = medvip("symptoms", "check", symptom_file, "--backbone", tiny_clip).done()
    assert "3 classes, 8 symptoms, 0 warnings, no errors" in out
    wrong = tmp_path / "wrong.json"
    wrong.write_text(
        json.dumps({"red": ["a red spot", "warm", "Warm."], "blue": ["warm", "blue " * 100], "green": [" "]})
    )
    answer = medvip("symptoms", "check", wrong, "--backbone", tiny_clip)
    text = answer.failed()
    for problem in ("too long", "stands in this class already", "it is empty"):
        assert problem in text
    for problem in ("names its own class", "also stands in class"):
        assert problem in answer.out
    medvip("symptoms", "check", symptom_file, "--backbone", tiny_clip, "--context", 70).failed()


def test_import(medvip, tmp_path):
    file, out = tmp_path / "descriptors_skin.json", tmp_path / "symptoms.json"
    file.write_text('{"mole": ["one even color"], "melanoma": ["several colors"]}')
    more = ("--modality", "dermoscopic image", "--rename", "mole=nevus")
    medvip("symptoms", "import", file, "--out", out, *more).done()
    made = SymptomSet.load(out)
    assert sorted(made.classes) == ["melanoma", "nevus"]
    assert made.provenance.source == "descriptors_skin.json"
    before = out.read_bytes()
    medvip("symptoms", "import", file, "--out", out, "--modality", "photo").failed()
    assert out.read_bytes() == before
    medvip("symptoms", "import", file, "--out", out, "--modality", "photo", "--force").done()
    assert "OLD=NEW" in medvip(
        "symptoms", "import", file, "--out", tmp_path / "x.json", "--modality", "m", "--rename", "mole"
    ).failed(2)
    assert (
        "no symptoms for 'a'"
        in medvip(
            *("symptoms", "import", file, "--out", tmp_path / "x.json", "--modality", "m", "--rename", "a=b")
        ).failed()
    )
    assert not (tmp_path / "x.json").exists()


# ------------------------------------------------------------------ doctor


@pytest.fixture
def no_network(monkeypatch):
    """Any connection fails the test."""

    def connect(*_args, **_kwargs):
        pytest.fail("a connection was made")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)


def test_doctor_offline_sends_nothing(medvip, no_network, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    out = medvip("doctor", "--offline").done()
    for what in ("python", "packages", "torch", "embedded backbone", "cache", "disk", "threads"):
        assert f"{what}: " in out
    assert "model hub" not in out
    assert "FAIL" not in out


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "no address", "http://exa mple", "file:///etc/x"])
def test_a_hub_that_does_not_answer_is_a_note_only(medvip, monkeypatch, address):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", address)
    out = medvip("doctor").done()
    assert "note  model hub: " in out
    assert "to mend it: none needed for --backbone embedded" in out


def test_a_cache_that_cannot_be(medvip, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("x")
    for broken in (tmp_path / "file", tmp_path / "file" / "cache"):
        monkeypatch.setenv("MEDVIP_CACHE", str(broken))
        answer = medvip("doctor", "--offline")
        assert answer.code == 1
        assert f"FAIL  cache: {broken} cannot be written to" in answer.out
        assert "to mend it: set MEDVIP_CACHE to a folder that you may write to" in answer.out
    assert (tmp_path / "file").read_text() == "x"


def test_a_broken_cache_stops_fit_with_one_line(fit, tiny_images, nothing_left, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("MEDVIP_CACHE", str(tmp_path / "file"))
    assert "MEDVIP_CACHE" in fit(tiny_images, nothing_left).failed()


def test_doctor_finds_a_package_that_is_too_old(medvip, monkeypatch):
    import importlib.metadata

    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda n: "0.1" if n == "pillow" else real(n))
    answer = medvip("doctor", "--offline")
    assert answer.code == 1
    assert "FAIL  packages: pillow is 0.1, not >=" in answer.out
    assert "to mend it: pip install --upgrade medvip" in answer.out


# ------------------------------------------------------------------ demo


@pytest.fixture
def quick_embedded(monkeypatch, tmp_path_factory) -> Path:
    """The embedded backbone with a made-up map, so that it starts at once."""
    cache = put_quick_alignment(tmp_path_factory.mktemp("embedded_cache"))
    monkeypatch.setenv("MEDVIP_CACHE", str(cache))
    return cache


def test_demo_on_pictures_of_ones_own(medvip, quick_embedded, tiny_images, tmp_path):
    file = tmp_path / "one each.json"
    file.write_text('{"red": ["warm"], "green": ["leafy"], "blue": ["cold"]}')
    given = ("--data", tiny_images, "--symptoms", file, "--out", tmp_path / "demo", "--quiet")
    out = medvip("demo", *given).done()
    for method in ("zero-shot-names", "zero-shot-symptoms", "vip"):
        assert f"│ {method}" in out
    assert "DRAWN" not in out
    run = tmp_path / "demo" / "run"
    assert {path.name for path in run.iterdir()} == RUN_FILES
    # What it tells to do next works as it is written.
    (line,) = [line for line in out.splitlines() if line.startswith("  medvip explain")]
    medvip(*line.split()[1:], "--quiet").done()
    medvip("evaluate", run, tiny_images, "--quiet").done()
    # A run is never replaced unasked, here neither.
    before = (run / "config.json").read_bytes()
    assert "--force" in medvip("demo", *given).failed()
    assert (run / "config.json").read_bytes() == before


def test_demo_without_symptoms_that_fit(medvip, tiny_images, tmp_path):
    text = medvip("demo", "--data", tiny_images, "--out", tmp_path / "demo").failed(2)
    assert "no ready-made symptom set has the classes" in text
    assert "--symptoms" in text
    assert not (tmp_path / "demo").exists()


@pytest.mark.slow
def test_the_demo_as_a_newcomer_runs_it(medvip, tmp_path, monkeypatch):
    """Phantoms, the real map, all methods; ViP has to find what was drawn."""
    monkeypatch.setenv("MEDVIP_CACHE", str(tmp_path / "cache"))
    out = medvip("demo", "--out", tmp_path / "demo", "--quiet").done()
    assert "DRAWN, not medical" in out
    metrics = json.loads((tmp_path / "demo" / "run" / "metrics.json").read_text())
    assert metrics["test"]["accuracy"]["value"] > 0.75
    medvip("evaluate", tmp_path / "demo" / "run", tmp_path / "demo" / "phantoms_seed_1", "--quiet").done()
    assert "drawn" in (tmp_path / "demo" / "phantoms_seed_1" / "README.md").read_text()
