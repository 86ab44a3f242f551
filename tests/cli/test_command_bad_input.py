"""What `medvip fit` refuses: why, how to mend it, and nothing half-written."""

# ruff: noqa: F401, F811 (fixtures are imported by name)
from __future__ import annotations

import json
import shutil
import struct
import zlib
from pathlib import Path

import pytest
from command_answers import fit, medvip, nothing_left, symptom_file
from PIL import Image, ImageOps


@pytest.fixture
def data(tiny_images, tmp_path) -> Path:
    """The tiny pictures, to be spoiled."""
    return Path(shutil.copytree(tiny_images, tmp_path / "data"))


def bomb() -> bytes:
    """A PNG of 60000 x 60000 pixels in a hundred bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


def spoil(data: Path) -> None:
    (data / "red" / "1.png").write_bytes((data / "red" / "1.png").read_bytes()[:500])
    (data / "red" / "2.png").write_bytes(b"")
    (data / "blue" / "3.png").write_bytes(bomb())
    (data / "green" / "4.png").write_text("<html>not found</html>")


def test_unreadable_pictures_are_all_listed(fit, data, nothing_left):
    spoil(data)
    text = fit(data, nothing_left).failed()
    for name, reason in {
        "red/1.png": "truncated",
        "red/2.png": "empty",
        "blue/3.png": "too large",
        "green/4.png": "not a picture",
    }.items():
        assert f"{name}: " in text
        assert reason in text.split(name)[1].split(";")[0]
    assert "4 images cannot be read" in text
    assert "--skip-unreadable" in text


def test_skipped_pictures_are_recorded(fit, data, tmp_path):
    spoil(data)
    answer = fit(data, tmp_path / "run", "--skip-unreadable")
    answer.done()
    notes = json.loads((tmp_path / "run" / "config.json").read_text())["data"]["notes"]
    (note,) = [note for note in notes if "unreadable" in note]
    assert all(name in note for name in ("red/1.png", "red/2.png", "blue/3.png", "green/4.png"))
    assert f"note: {note}" in answer.err
    assert "red/1" in (tmp_path / "run" / "README.md").read_text()


def test_companions_are_left_out_and_recorded_unless_asked_for(fit, data, tmp_path):
    for index in range(12):
        picture = Image.open(data / "red" / f"{index}.png")
        ImageOps.invert(picture).save(data / "red" / f"{index}_mask.png")
    answer = fit(data, tmp_path / "run")
    answer.done()
    (note,) = [note for note in _notes(tmp_path / "run") if "companions" in note]
    assert "left out as companions of pictures: 12 masks" in note
    assert f"note: {note}" in answer.err
    answer = fit(data, tmp_path / "other", "--with-companions")
    assert "read as pictures, though they look like companions of others: 12 masks" in answer.err


@pytest.mark.parametrize(
    "command",
    ["fit", "features", "evaluate", "report", "what-if", "symptoms audit", "symptoms generate"],
)
def test_every_command_that_reads_data_can_be_told_of_companions(medvip, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert "--with-companions" in medvip(*command.split(), "--help").done()


def _notes(run: Path) -> list[str]:
    return json.loads((run / "config.json").read_text())["data"]["notes"]


def test_one_class_only(fit, data, nothing_left):
    shutil.rmtree(data / "red")
    shutil.rmtree(data / "green")
    assert "one class only, 'blue'" in fit(data, nothing_left).failed()


def test_a_class_missing_from_train(fit, data, nothing_left):
    for label in ("blue", "green", "red"):
        for split in ("train", "val", "test"):
            (data / split / label).mkdir(parents=True)
        for i in range(12):
            split = ("train", "val", "test")[i % 3]
            (data / label / f"{i}.png").rename(data / split / label / f"{i}.png")
        (data / label).rmdir()
    shutil.rmtree(data / "train" / "red")
    assert "no train images of 'red'" in fit(data, nothing_left).failed()


def with_leaks(data: Path) -> None:
    """One picture and one patient in two splits."""
    shutil.copy(data / "red" / "0.png", data / "red" / "copy.png")
    lines = ["path,label,split,patient"]
    for label in ("blue", "green", "red"):
        for i in range(12):
            split = ("train", "val", "test")[i % 3]
            lines.append(f"{label}/{i}.png,{label},{split},{label}{3 if i in (3, 4) else i}")
    lines.append("red/copy.png,red,test,somebody")
    (data / "split.csv").write_text("\n".join(lines))


def test_leakage(fit, medvip, data, nothing_left, tmp_path):
    with_leaks(data)
    text = fit(data, nothing_left).failed()
    assert "1 picture stands in two splits" in text
    assert "red/0.png (train) = red/copy.png (test)" in text
    assert "3 groups stand in two splits" in text
    assert "--allow-leakage" in text
    fit(data, tmp_path / "run", "--allow-leakage").done()
    notes = json.loads((tmp_path / "run" / "config.json").read_text())["data"]["notes"]
    assert any(note.startswith("leakage allowed: 1 picture") for note in notes)
    assert "leakage allowed" in (tmp_path / "run" / "README.md").read_text()
    assert "3 groups" in medvip("evaluate", tmp_path / "run", data).failed()
    medvip("evaluate", tmp_path / "run", data, "--allow-leakage", "--quiet").done()


def test_symptoms_of_other_classes_name_what_is_close(fit, data, tiny_symptoms, nothing_left, tmp_path):
    (tmp_path / "s.json").write_text(
        json.dumps({"reddish": ["a"], "blue": ["b"], "green": ["c"], "pink": ["d"]})
    )
    text = fit(data, nothing_left, symptoms=tmp_path / "s.json").failed()
    assert "no symptoms for 'red'" in text
    assert "'pink'" in text
    assert "'reddish' ~ 'red'" in text


def test_symptoms_too_long(fit, data, tiny_symptoms, nothing_left, tmp_path):
    (tmp_path / "s.json").write_text(json.dumps(tiny_symptoms | {"red": ["as red as " * 40 + "red"]}))
    text = fit(data, nothing_left, symptoms=tmp_path / "s.json").failed()
    assert "it is too long" in text
    assert "the text encoder takes 77" in text
    assert "shorten it by" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "list"),
        ('{"red": "warm"}', "list of symptoms is expected"),
        ('{"red": ["a"], "red": ["b"]}', "twice"),
        ('{"red": ["a\\u001b[31m"]}', "control character"),
    ],
)
def test_symptom_files_that_are_none(fit, data, nothing_left, tmp_path, content, message):
    (tmp_path / "s.json").write_text(content)
    assert message in fit(data, nothing_left, symptoms=tmp_path / "s.json").failed()


@pytest.mark.parametrize(
    ("arguments", "code", "messages"),
    [
        (["--method", "vpi"], 2, ["no method 'vpi'", "did you mean 'vip'"]),
        (["--recipe", "papper"], 2, ["no recipe 'papper'", "paper, fast"]),
        (["--device", "tpu"], 2, ["no device 'tpu'", "auto, cpu or cuda"]),
        (["--epochs", "0"], 2, ["epochs is 0"]),
        (["--batch-size", "0"], 2, ["batch_size is 0"]),
        (["--learning-rate", "nan"], 2, ["learning_rate is nan"]),
        (["--shots", "0"], 2, ["shots is 0"]),
        (["--split-seed", "-3"], 2, ["seed"]),
        (["--backbone", "nosuch"], 1, ["no backbone 'nosuch'", "embedded"]),
        (["--backbone", "."], 1, ["has no config.json"]),
        (["--backbone", "no-such/model"], 1, ["no-such/model", "hf download"]),
        (["--symptoms", "melanoma-nevi"], 1, ["no symptom file or ready-made set", "'melanoma-nevus'"]),
        (["--symptoms", "nowhere/s.json"], 1, ["no symptom file"]),
        (["--split-file", "nowhere.json"], 1, ["the split file nowhere.json does not exist"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value[0][:2] == "--" else "",
)
def test_unknown_names_and_values(
    medvip, symptom_file, tiny_clip, data, nothing_left, tmp_path, monkeypatch, arguments, code, messages
):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    given = {"--symptoms": symptom_file, "--backbone": tiny_clip, "--epochs": 1} | dict([arguments])
    flat = [str(item) for pair in given.items() for item in pair]
    text = medvip("fit", data, "--out", nothing_left, *flat).failed(code)
    assert [message for message in messages if message not in text] == []


def test_a_method_that_needs_symptoms(fit, data, nothing_left):
    assert "needs symptoms" in fit(data, nothing_left, symptoms=None).failed(2)


def test_missing_data(fit, nothing_left, tmp_path):
    assert "does not exist" in fit(tmp_path / "nowhere", nothing_left).failed()
    (tmp_path / "empty").mkdir()
    assert "no pictures" in fit(tmp_path / "empty", nothing_left).failed()
    (tmp_path / "file.txt").write_text("x")
    assert "not a folder and not a .npz" in fit(tmp_path / "file.txt", nothing_left).failed()


def test_existing_out(fit, data, tmp_path):
    keep = tmp_path / "keep"
    keep.mkdir()
    (keep / "thesis.doc").write_text("years of work")
    assert "is there already" in fit(data, keep).failed()
    assert "is not a run, so it is not replaced" in fit(data, keep, "--force").failed()
    assert [path.name for path in keep.iterdir()] == ["thesis.doc"]
    fit(data, tmp_path / "run").done()
    before = (tmp_path / "run" / "config.json").read_bytes()
    assert "--force" in fit(data, tmp_path / "run").failed()
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    fit(data, tmp_path / "run", "--force", "--seed", 2).done()
    assert json.loads((tmp_path / "run" / "config.json").read_text())["options"]["seed"] == 2


def test_force_keeps_the_old_run_when_the_new_one_fails(fit, data, tmp_path):
    fit(data, tmp_path / "run").done()
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    shutil.rmtree(data / "red")
    fit(data, tmp_path / "run", "--force").failed()
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_out_where_no_folder_can_be(fit, data, tmp_path):
    (tmp_path / "file").write_text("x")
    assert "cannot be written" in fit(data, tmp_path / "file" / "run").failed()
    assert (tmp_path / "file").read_text() == "x"


def test_hostile_class_names_do_no_harm(medvip, tiny_images, tiny_clip, tmp_path):
    """Folder names are anybody's: on the terminal and on the card they are text."""
    data = tmp_path / "data"
    names = ["<script>alert(1)<!-- ", "a|b\n# c", "\x1b[31mred"]
    for name, source in zip(names, ("red", "green", "blue"), strict=True):
        shutil.copytree(tiny_images / source, data / name.replace("/", ""))
    answer = medvip(
        *("fit", data, "--out", tmp_path / "run", "--backbone", tiny_clip, "--method", "zero-shot-names")
    )
    answer.done()
    shown = answer.out + answer.err + (tmp_path / "run" / "README.md").read_text()
    shown += medvip("evaluate", tmp_path / "run", data, "--quiet").done()
    shown += medvip("predict", tmp_path / "run", tiny_images, "--quiet").done()
    assert all(c.isprintable() or c == "\n" for c in shown)
    assert "<script>" not in (tmp_path / "run" / "README.md").read_text()
    assert json.loads((tmp_path / "run" / "config.json").read_text())["classes"] == sorted(
        map(str.strip, names)
    )
