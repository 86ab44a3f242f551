"""`medvip fit`: every form of DATA, every option; and `evaluate`, `features` after it."""

# ruff: noqa: F401, F811 (fixtures are imported by name)
from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command_answers import clip_fit, clip_run, fit, medvip, symptom_file
from PIL import Image
from safetensors.torch import load_file

LABELS = ("blue", "green", "red")


def splits(position: int) -> str:
    return "train" if position < 6 else "val" if position < 9 else "test"


@pytest.fixture
def config():
    return lambda run: json.loads((run / "config.json").read_text())


def as_class_folders(images: Path, to: Path) -> tuple[Path, list]:
    return Path(shutil.copytree(images, to)), []


def as_split_folders(images: Path, to: Path) -> tuple[Path, list]:
    for label in LABELS:
        for i in range(12):
            (to / splits(i) / label).mkdir(parents=True, exist_ok=True)
            shutil.copy(images / label / f"{i}.png", to / splits(i) / label / f"{i}.png")
    return to, []


def as_split_csv(images: Path, to: Path, group: str = "patient") -> tuple[Path, list]:
    shutil.copytree(images, to)
    with (to / "split.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split", group])
        for label in reversed(LABELS):
            writer.writerows([f"{label}/{i}.png", label, splits(i), f"{label}-{i // 3}"] for i in range(12))
    return to, []


def as_medmnist(images: Path, to: Path) -> tuple[Path, list]:
    arrays = {}
    for split in ("train", "val", "test"):
        chosen = [(c, i) for c in range(3) for i in range(12) if splits(i) == split]
        arrays[f"{split}_images"] = np.stack(
            [np.asarray(Image.open(images / LABELS[c] / f"{i}.png").resize((28, 28))) for c, i in chosen]
        )
        arrays[f"{split}_labels"] = np.array([[c] for c, _ in chosen])
    to.mkdir()
    np.savez(to / "tinymnist.npz", **arrays)
    return to / "tinymnist.npz", []


def as_paper_split(images: Path, to: Path) -> tuple[Path, list]:
    """The paper's published form; numbers of classes in another order than their names."""
    shutil.copytree(images, to / "images")
    numbers = {"red": 0, "blue": 1, "green": 2}
    content = {
        split: [[f"{c}/{i}.png", numbers[c], c] for c in numbers for i in range(12) if splits(i) == split]
        for split in ("train", "val", "test")
    }
    (to / "split_tiny.json").write_text(json.dumps(content))
    return to, ["--split-file", to / "split_tiny.json"]


@pytest.mark.parametrize(
    "form", [as_class_folders, as_split_folders, as_split_csv, as_medmnist, as_paper_split]
)
def test_every_form_of_data(form, fit, medvip, tiny_images, tmp_path, tiny_symptoms, config):
    data, more = form(tiny_images, tmp_path / "data")
    symptoms = tmp_path / "symptoms.json"
    names = dict(
        zip(LABELS, ("class 0", "class 1", "class 2") if form is as_medmnist else LABELS, strict=True)
    )
    symptoms.write_text(json.dumps({names[label]: tiny_symptoms[label] for label in tiny_symptoms}))
    out = fit(data, tmp_path / "run", *more, symptoms=symptoms).done()
    assert "test: accuracy " in out
    assert f"medvip predict {tmp_path / 'run'}" in out
    recorded = config(tmp_path / "run")
    assert recorded["classes"] == sorted(names.values())
    train = 7 if form is as_class_folders else 6
    assert recorded["data"]["images"]["train"] == dict.fromkeys(recorded["classes"], train)
    # A saved run is evaluated with no option of training repeated, on the figures it was saved with.
    answer = medvip("evaluate", tmp_path / "run", data, *more, "--out", tmp_path / "figures.json", "--quiet")
    answer.done()
    assert "warning" not in answer.err
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["test"] == json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]


def test_class_columns_go_by_name_not_by_a_files_order(fit, tiny_images, tiny_symptoms, tmp_path):
    """Symptoms and splits listed in any order give the same run."""
    data, more = as_paper_split(tiny_images, tmp_path / "data")
    runs = []
    for turn in (1, -1):
        symptoms = tmp_path / f"symptoms {turn}.json"
        symptoms.write_text(json.dumps(dict(list(tiny_symptoms.items())[::turn])))
        split = json.loads((data / "split_tiny.json").read_text())
        (data / "split_tiny.json").write_text(
            json.dumps({name: part[::turn] for name, part in list(split.items())[::turn]})
        )
        runs.append(tmp_path / f"run {turn}")
        fit(data, runs[-1], *more, symptoms=symptoms).done()
    first, second = (load_file(run / "prompts.safetensors") for run in runs)
    assert all(torch.equal(first[name], second[name]) for name in first)
    metrics = [json.loads((run / "metrics.json").read_text()) for run in runs]
    assert metrics[0] == metrics[1]


def test_the_same_seed_twice_gives_the_same_bits(fit, tiny_images, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        fit(tiny_images, tmp_path / name, "--seed", seed, "--views", 1).done()
    content = [(tmp_path / name / "prompts.safetensors").read_bytes() for name in "abc"]
    assert content[0] == content[1] != content[2]


def test_shots(fit, tiny_images, tmp_path, config):
    fit(tiny_images, tmp_path / "run", "--shots", 2).done()
    images = config(tmp_path / "run")["data"]["images"]
    assert images["train"] == dict.fromkeys(LABELS, 2)
    assert images["val"] == dict.fromkeys(LABELS, 2)
    assert images["test"] == dict.fromkeys(LABELS, 3)
    assert any("few-shot: 2 train" in note for note in config(tmp_path / "run")["data"]["notes"])
    # The shots are drawn afresh: no older draw is reused.
    fit(tiny_images, tmp_path / "other", "--shots", 3).done()
    assert config(tmp_path / "other")["data"]["images"]["train"] == dict.fromkeys(LABELS, 3)


def test_views_without_flip(fit, medvip, tiny_images, tiny_clip, tmp_path, config):
    fit(tiny_images, tmp_path / "run", "--views", 2, "--no-flip").done()
    recorded = config(tmp_path / "run")["augmentation"]
    assert (recorded["views"], recorded["flip"], recorded["scale"]) == (2, False, [0.08, 1.0])
    fit(tiny_images, tmp_path / "no", "--views", 1, "--no-crop", "--no-flip").failed(2)
    fit(tiny_images, tmp_path / "no", "--views", -1).failed(2)
    assert not (tmp_path / "no").exists()


def test_methods_and_recipes(fit, tiny_images, tmp_path, config):
    for method in ("zero-shot-names", "zero-shot-symptoms", "zero-shot-symptoms-max"):
        fit(tiny_images, tmp_path / method, "--method", method).done()
        assert config(tmp_path / method)["method"] == method
    fit(
        tiny_images, tmp_path / "names", "--method", "zero-shot-names", symptoms=None
    ).done()  # needs no symptoms
    more = ("--recipe", "fast", "--batch-size", 8, "--select-by", "loss", "--context", 0)
    fit(tiny_images, tmp_path / "fast", *more).done()
    options = config(tmp_path / "fast")["options"]
    assert (options["recipe"]["batch_size"], options["recipe"]["select_by"]) == (8, "loss")
    assert load_file(tmp_path / "fast" / "prompts.safetensors")["context_prompt"].shape[0] == 0


def test_options_that_would_do_nothing_are_refused(medvip, symptom_file, tiny_images, tiny_clip, tmp_path):
    given = (
        "fit",
        tiny_images,
        "--out",
        tmp_path / "run",
        "--symptoms",
        symptom_file,
        "--backbone",
        tiny_clip,
    )
    text = medvip(*given, "--method", "zero-shot-symptoms", "--epochs", 3, "--recipe", "fast").failed(2)
    assert "zero-shot-symptoms is not trained, so epochs, recipe would do nothing" in text
    assert not (tmp_path / "run").exists()


def test_every_value_of_a_recipe_can_be_set(fit, tiny_images, tmp_path, config):
    fit(tiny_images, tmp_path / "run", "--set", "momentum=0.5", "--set", "optimizer=adamw").done()
    recipe = config(tmp_path / "run")["options"]["recipe"]
    assert (recipe["momentum"], recipe["optimizer"], recipe["epochs"]) == (0.5, "adamw", 2)
    for wrong, said in {
        "momentum": "not of the form NAME=VALUE",
        "momentum=fast": "momentum is fast",
        "epochs=2.5": "whole number",
        "colour=1": "a recipe has no ['colour']",
    }.items():
        assert said in fit(tiny_images, tmp_path / "wrong", "--set", wrong).failed(2)
    assert not (tmp_path / "wrong").exists()


def test_a_loss_that_is_not_finite(fit, medvip, tiny_images, tmp_path):
    text = fit(tiny_images, tmp_path / "run", "--learning-rate", 1e30).failed()
    assert "not finite" in text or "loss is" in text
    assert "--learning-rate" in text
    assert str(tmp_path / "run") in text, "it says where the best so far is kept"
    medvip("predict", tmp_path / "run", tiny_images / "red", "--quiet").done()


def test_features_first_then_fit_encodes_nothing(medvip, fit, tiny_images, tiny_clip, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDVIP_CACHE", str(tmp_path / "cache"))
    out = medvip("features", tiny_images, "--backbone", tiny_clip, "--views", 1, "--quiet").done()
    assert "train: 21 images x 2 views x 24 numbers" in out
    assert f"kept in {tmp_path / 'cache'}" in out
    from medvip.backbones.huggingface import HuggingFaceBackbone

    monkeypatch.setattr(HuggingFaceBackbone, "encode_images", lambda *_: pytest.fail("encoded anew"))
    fit(tiny_images, tmp_path / "run", "--views", 1).done()
    medvip("evaluate", tmp_path / "run", tiny_images, "--quiet").done()
    medvip("predict", tmp_path / "run", tiny_images, "--quiet").done()


# ------------------------------------------------------------------ evaluate


def test_splits_made_otherwise_than_in_training_are_warned_of(fit, medvip, tiny_images, tmp_path):
    """Else pictures that the run learned from would be measured, and nobody would know."""
    fit(tiny_images, tmp_path / "run", "--split-seed", 5).done()
    answer = medvip("evaluate", tmp_path / "run", tiny_images, "--quiet")
    answer.done()
    assert "warning: these splits are not those of the run's training" in answer.err
    assert "--split-seed" in answer.err
    for right in (("--split-seed", 5), ("--split", "all")):
        answer = medvip("evaluate", tmp_path / "run", tiny_images, *right, "--quiet")
        answer.done()
        assert "warning" not in answer.err


def test_evaluate_says_what_it_measured(clip_run, medvip, tiny_images, tmp_path):
    out = medvip("evaluate", clip_run, tiny_images, "--split", "train", "--quiet").done()
    assert "train, class by class" in out
    assert all(label in out for label in LABELS)
    medvip("evaluate", clip_run, tiny_images, "--split", "dev").failed(2)
    (tmp_path / "figures.json").write_text("mine")
    assert "--force" in medvip("evaluate", clip_run, tiny_images, "--out", tmp_path / "figures.json").failed()
    assert (tmp_path / "figures.json").read_text() == "mine"


def test_evaluate_refuses_other_classes(clip_run, medvip, tiny_images, tmp_path):
    shutil.copytree(tiny_images, tmp_path / "data")
    (tmp_path / "data" / "red").rename(tmp_path / "data" / "crimson")
    text = medvip("evaluate", clip_run, tmp_path / "data").failed()
    assert "blue, crimson, green" in text
    assert "blue, green, red" in text
