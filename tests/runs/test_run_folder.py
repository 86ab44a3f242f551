"""A run on disk: what is in it, that it travels, and that nothing damaged or foreign is believed."""

# ruff: noqa: F401, F811 (fixtures are imported by name)
from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from ready_runs import (
    RUN_FILES,
    change_config,
    change_tensors,
    clip_fit,
    clip_run,
    copy_of,
    embedded_cache,
    embedded_run,
    fit_quickly,
    in_a_process_of_its_own,
)
from safetensors.torch import load_file, save_file

import medvip
from medvip import SymptomSet, fit, load_backbone, load_dataset
from medvip.errors import BackboneError, MedvipError, RunError, TrainingError
from medvip.explanation import Change
from medvip.runs import folder as run_folder
from medvip.runs import load_run
from medvip.training import get_recipe
from medvip.types import ImageDataset


def refused(kind: type[MedvipError], folder: Path, **options) -> str:
    """The error of loading, in one line with its mend."""
    with pytest.raises(kind) as caught:
        load_run(folder, **options)
    assert "\n" not in str(caught.value)
    assert caught.value.fix
    return str(caught.value)


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ------------------------------------------------------------------ what is in it


def test_exactly_the_files_of_the_design(clip_run):
    assert set(leftovers(clip_run)) == RUN_FILES
    umask = os.umask(0)
    os.umask(umask)
    assert {stat.S_IMODE((clip_run / name).stat().st_mode) for name in RUN_FILES} == {0o666 & ~umask}


def test_tensors_have_the_names_and_shapes_of_the_design(clip_run, tiny_symptoms):
    classes, dim, token_dim, most = 3, 24, 32, max(map(len, tiny_symptoms.values()))
    shapes = {name: tuple(t.shape) for name, t in load_file(clip_run / "prompts.safetensors").items()}
    assert shapes == {
        "context_prompt": (4, token_dim),
        "merge_query": (classes, dim),
        "merge_query_projection": (dim, dim),
        "merge_key_projection": (dim, dim),
        "symptom_vectors": (classes, most, dim),
        "symptom_attention": (classes, most),
        "class_vectors": (classes, dim),
        "training_similarity_quantiles": (classes, most, 3),  # of 21 training images
    }


def test_config_metrics_and_history(clip_run, tiny_images):
    config = json.loads((clip_run / "config.json").read_text())
    assert config["classes"] == ["blue", "green", "red"]
    assert config["options"]["recipe"]["epochs"] == 2
    assert config["data"]["images"]["train"] == {"blue": 7, "green": 7, "red": 7}
    assert any(note.startswith("splits made 60/15/25") for note in config["data"]["notes"])
    metrics = json.loads((clip_run / "metrics.json").read_text())
    assert set(metrics) == {"val", "test"}
    for name in ("accuracy", "macro_f1", "balanced_accuracy", "auroc", "ece"):
        figure = metrics["test"][name]
        assert figure["low"] <= figure["value"] <= figure["high"]
    assert set(metrics["test"]["per_class"]) == {"blue", "green", "red"}
    entries = [json.loads(line) for line in (clip_run / "history.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in entries] == [1, 2]


def test_a_method_without_symptoms_leaves_no_symptom_file(tiny_clip, tiny_images, tmp_path):
    run = medvip.fit(
        medvip.load_dataset(tiny_images),
        medvip.load_backbone(str(tiny_clip)),
        method="zero-shot-names",
        out=tmp_path / "run",
        quiet=True,
    )
    assert set(leftovers(tmp_path / "run")) == RUN_FILES - {"symptoms.json"}
    paths = [str(tiny_images / "red" / "0.png")]
    assert np.array_equal(load_run(tmp_path / "run").predict_proba(paths), run.predict_proba(paths))


def test_the_same_seed_gives_the_same_bits(tiny_clip, tiny_images, tiny_symptoms, tmp_path):
    """From nothing each time: another cache, so the pictures are encoded anew too."""
    first, second, third = (
        fit_quickly(tiny_images, str(tiny_clip), tiny_symptoms, tmp_path / name, seed=seed).method.state()
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["merge_query"], third["merge_query"])


# ------------------------------------------------------------------ it travels


def test_loaded_equals_saved_and_can_be_saved_again(clip_fit, clip_run, tiny_images, tmp_path):
    paths = sorted(map(str, (tiny_images / "green").glob("*.png")))
    loaded = load_run(clip_run)
    assert loaded.classes == clip_fit.classes
    assert np.array_equal(loaded.predict_proba(paths), clip_fit.predict_proba(paths))
    loaded.save(tmp_path / "again")
    for name in RUN_FILES:
        assert (tmp_path / "again" / name).read_bytes() == (clip_run / name).read_bytes()


def test_on_another_machine_with_only_run_and_backbone(clip_run, tiny_clip, tiny_images, tmp_path):
    """Other cache, other working directory, other process, run and backbone moved."""
    copy_of(clip_run, tmp_path / "elsewhere" / "run")
    shutil.copytree(tiny_clip, tmp_path / "elsewhere" / "model")
    picture = tiny_images / "blue" / "3.png"
    done = in_a_process_of_its_own(
        *("predict", "run", picture, "--backbone", "model"),
        cwd=tmp_path / "elsewhere",
        MEDVIP_CACHE=str(tmp_path / "fresh cache"),
    )
    assert done.returncode == 0, done.stderr
    expected = load_run(clip_run).predict_proba([str(picture)])[0]
    printed = done.stdout.splitlines()[1].split(",")[3:]
    assert [float(value) for value in printed] == pytest.approx(expected, abs=2e-6)


def test_predicting_with_the_embedded_backbone_loads_no_text_tower(embedded_run, tiny_images, tmp_path):
    moved = copy_of(embedded_run, tmp_path / "moved")
    done = in_a_process_of_its_own(
        *("predict", moved, tiny_images / "red"),
        cwd=tmp_path,
        after="assert 'transformers' not in sys.modules",
        MEDVIP_CACHE=str(tmp_path / "fresh"),
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 13
    assert not (tmp_path / "fresh" / "alignments").exists(), "no text is encoded, so no map is needed"


def test_a_run_on_whole_pictures_is_opened_on_whole_pictures(
    embedded_cache, tiny_images, tmp_path, monkeypatch
):
    """Also where a folder of that name is at hand."""
    monkeypatch.chdir(tmp_path)
    folders = {}
    for name in ("embedded", "embedded-whole"):
        (tmp_path / name).mkdir()
        folders[name] = tmp_path / f"run on {name}"
        medvip.fit(
            medvip.load_dataset(tiny_images),
            medvip.load_backbone(name),
            method="linear-probe",
            cache=embedded_cache,
            out=folders[name],
            quiet=True,
        )
        backbone = json.loads((folders[name] / "config.json").read_text())["backbone"]
        assert backbone["name"] == name
        assert backbone["embed_dim"] == 1248
    paths = sorted(map(str, (tiny_images / "green").glob("*.png")))
    (whole, middle) = (load_run(folders[name]) for name in ("embedded-whole", "embedded"))
    assert whole.method.backbone.name == "embedded-whole"
    in_grey = []
    for path in paths:
        square = Image.new("RGB", (224, 224), (127, 127, 127))
        square.paste(Image.open(path).resize((224, 187), Image.Resampling.BICUBIC), (0, 18))  # of 48 x 40
        in_grey.append(whole.method.backbone.preprocess(square, framed=True))
    expected = whole.method.predict_proba(whole.method.backbone.encode_images(torch.stack(in_grey)))
    np.testing.assert_allclose(whole.predict_proba(paths), expected, rtol=1e-3)
    assert not np.allclose(middle.predict_proba(paths), expected, rtol=0.1)
    message = refused(BackboneError, folders["embedded-whole"], backbone=middle.method.backbone)
    assert "was trained on the backbone embedded-whole" in message


def test_a_backbone_given_by_a_relative_path_is_found_from_anywhere(
    tiny_clip, tiny_images, tiny_symptoms, tmp_path, monkeypatch
):
    monkeypatch.chdir(tiny_clip.parent)
    fit_quickly(tiny_images, tiny_clip.name, tiny_symptoms, tmp_path / "c").save(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert load_run("run").config["backbone"]["name"] == str(tiny_clip.resolve())


def test_a_backbone_that_is_not_there_is_asked_for(clip_run, tmp_path):
    moved = copy_of(clip_run, tmp_path / "run")
    config = json.loads((moved / "config.json").read_text())
    change_config(moved, backbone=config["backbone"] | {"name": "/nowhere/clip"})
    message = refused(BackboneError, moved)
    assert "/nowhere/clip" in message
    assert "say where with --backbone" in message


# ------------------------------------------------------------------ the right backbone only


def test_changed_weights_are_refused_by_fingerprint(clip_run, tiny_clip, tmp_path):
    changed = Path(shutil.copytree(tiny_clip, tmp_path / "clip"))
    weights = load_file(changed / "model.safetensors")
    weights["visual_projection.weight"][0, 0] += 1e-3
    save_file(weights, changed / "model.safetensors", {"format": "pt"})
    message = refused(BackboneError, clip_run, backbone=medvip.load_backbone(str(changed)))
    assert re.search(
        r"was trained on the backbone .* with fingerprint [0-9a-f]{12}, but .* has [0-9a-f]{12}", message
    )
    assert "use the backbone of the training" in message


def test_another_family_is_refused(clip_run, tiny_siglip):
    assert "fingerprint" in refused(BackboneError, clip_run, backbone=medvip.load_backbone(str(tiny_siglip)))


# ------------------------------------------------------------------ damage is noticed


@pytest.mark.parametrize("name", sorted(RUN_FILES - {"README.md"}))
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "garbage", "folder", "nested"])
def test_damaged_files(clip_run, tmp_path, name, damage):
    run = copy_of(clip_run, tmp_path / "run")
    file = run / name
    content = file.read_bytes()
    file.unlink()
    if damage == "folder":
        file.mkdir()
    elif damage != "missing":
        broken = {
            "empty": b"",
            "truncated": content[: len(content) // 3],  # half of two lines may be the first
            "garbage": bytes(range(256)) * 4,
            "nested": b"[" * 100_000,
        }
        file.write_bytes(broken[damage])
    if name == "history.jsonl" and damage == "empty":
        assert load_run(run).method.history == []  # as it is for methods without epochs
    else:
        assert name in refused(MedvipError, run)


@pytest.mark.parametrize("method", ["vip", "vip-whitened", "zero-shot-symptoms"])
def test_a_run_from_before_the_full_stop_goes_on_without_it(
    method, tiny_clip, tiny_images, tiny_symptoms, tmp_path
):
    """Its config has no such option, and its symptoms were read as they are written."""
    options: dict[str, Any] = {"recipe": get_recipe("paper", epochs=1)} if method == "vip" else {}
    made = fit(
        load_dataset(tiny_images),
        load_backbone(str(tiny_clip), device="cpu"),
        SymptomSet.from_mapping(tiny_symptoms),
        method=method,
        full_stop=False,
        quiet=True,
        **options,
    )
    folder = made.save(tmp_path / "run")
    options = json.loads((folder / "config.json").read_text())["options"]
    assert options.pop("full_stop") is False
    change_config(folder, options=options)
    pictures = [tiny_images / "red" / "0.png", tiny_images / "blue" / "1.png"]
    for run in (load_run(folder), load_run(load_run(folder).save(tmp_path / "again"))):
        assert run.method.options()["full_stop"] is False
        assert np.array_equal(run.predict_proba(pictures), made.predict_proba(pictures))
        if method != "vip-whitened":  # which cannot be told other symptoms
            change = Change("green", "leafy", "green leaves")
            vectors = run.what_if(change).method.state()["symptom_vectors"]
            assert torch.equal(vectors, made.what_if(change).method.state()["symptom_vectors"])


def test_symptoms_are_shown_as_they_were_written(clip_fit, clip_run, tiny_symptoms, tiny_images):
    assert json.loads((clip_run / "config.json").read_text())["options"]["full_stop"] is True
    assert json.loads((clip_run / "symptoms.json").read_text())["classes"] == tiny_symptoms
    (explanation,) = load_run(clip_run).explain([tiny_images / "red" / "0.png"])
    shown = json.dumps(explanation.to_json())
    assert all(json.dumps(text) in shown for texts in tiny_symptoms.values() for text in texts)


def test_the_card_is_not_needed(clip_run, tmp_path):
    run = copy_of(clip_run, tmp_path / "run")
    (run / "README.md").unlink()
    assert load_run(run).classes == ("blue", "green", "red")


def test_a_flipped_bit_is_noticed(clip_run, tmp_path):
    run = copy_of(clip_run, tmp_path / "run")
    content = bytearray((run / "prompts.safetensors").read_bytes())
    content[-5] ^= 1
    (run / "prompts.safetensors").write_bytes(content)
    assert "prompts.safetensors is not the file that was saved with it" in refused(RunError, run)


def test_a_pickle_is_never_opened(clip_run, tmp_path):
    class Hostile:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "owned"),))

    run = copy_of(clip_run, tmp_path / "run")
    for content in (pickle.dumps(Hostile()), pickle.dumps({"class_vectors": Hostile()}, protocol=0)):
        (run / "prompts.safetensors").write_bytes(content)
        change_config(run, prompts_sha256=__import__("hashlib").sha256(content).hexdigest())
        assert "is damaged" in refused(RunError, run)
    torch.save({"class_vectors": torch.zeros(3, 24)}, run / "prompts.safetensors")
    refused(RunError, run)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(2, 24),
        torch.zeros(4, 24),
        torch.zeros(3, 23),
        torch.zeros(3),
        torch.zeros(3, 24, 2),
        torch.zeros(0, 24),
        torch.full((3, 24), torch.nan),
        torch.full((3, 24), torch.inf),
        torch.zeros(3, 24, dtype=torch.int64),
        torch.zeros(3, 24, dtype=torch.bool),
    ],
    ids=lambda t: f"{tuple(t.shape)} {t.dtype} {t.flatten()[:1].tolist()}",
)
def test_tensors_that_do_not_fit_are_refused_even_when_the_config_vouches_for_them(
    clip_run, tmp_path, tensor
):
    run = copy_of(clip_run, tmp_path / "run")
    change_tensors(run, class_vectors=tensor)
    assert "is damaged" in refused(RunError, run)


def test_missing_tensors(clip_run, tmp_path):
    run = copy_of(clip_run, tmp_path / "run")
    save_file({"something": torch.zeros(2)}, run / "prompts.safetensors")
    change_tensors(run)
    refused(MedvipError, run)


HOSTILE = {
    "classes": [
        None,
        "abc",
        [],
        ["blue"],
        ["blue", "green"],
        ["blue", "green", "green"],
        ["blue", "green", 3],
        {"a": 1},
    ],
    "method": [None, 5, "", "no-such-method", ["vip"], "__init__"],
    "options": [
        None,
        5,
        "vip",
        [1, 2],
        {"nothing": 1},
        {"backbone": "other"},
        {"recipe": "no-such"},
        {"recipe": 5},
        {"recipe": {"epochs": "many"}},
        {"recipe": {"epochs": 0}},
        {"recipe": {"import os": 1}},
        {"recipe": {"optimizer": ["sgd"]}},
        {"context": "x"},
    ],
    "backbone": [None, "embedded", [], {}, {"name": 5, "fingerprint": "x"}, {"name": "embedded"}],
    "prompts_sha256": [None, 5, "0" * 64],
    "symptoms": [5, "x", [], {"digest": 5}, {"digest": "0" * 64}],
    "format": ["other", None, 5],
    "version": [2, "1", None],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in HOSTILE.items() for value in values], ids=str
)
def test_hostile_config(clip_run, tmp_path, key, value):
    run = copy_of(clip_run, tmp_path / "run")
    change_config(run, **{key: value})
    message = refused(RunError, run)
    assert "config.json" in message or "is damaged" in message or "symptoms.json" in message


def test_other_symptoms_than_those_of_the_training_are_refused(clip_run, tmp_path):
    run = copy_of(clip_run, tmp_path / "run")
    text = (run / "symptoms.json").read_text()
    (run / "symptoms.json").write_text(text.replace("cold water", "hot water"))
    assert "has other symptoms than the run was trained with" in refused(RunError, run)


@pytest.mark.parametrize("content", ["[]", "5", "null", '"x"'])
def test_figures_of_the_wrong_kind(clip_run, tmp_path, content):
    run = copy_of(clip_run, tmp_path / "run")
    (run / "metrics.json").write_text(content)
    assert "metrics.json" in refused(RunError, run)


def test_what_is_no_run(tmp_path, tiny_clip):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for place in ("nowhere", "file", "empty"):
        assert "is not a run: it has no config.json" in refused(RunError, tmp_path / place)
    assert "is not that of a run" in refused(RunError, tiny_clip)


# ------------------------------------------------------------------ written whole, over nothing


def test_never_over_another_run_without_force(clip_fit, tmp_path):
    place = clip_fit.save(tmp_path / "run")
    before = (place / "config.json").read_bytes()
    with pytest.raises(RunError, match="is there already"):
        clip_fit.save(place)
    assert (place / "config.json").read_bytes() == before
    clip_fit.save(place, force=True)
    assert leftovers(tmp_path) == ["run"]
    assert set(leftovers(place)) == RUN_FILES


def test_an_empty_folder_is_taken(clip_fit, tmp_path):
    (tmp_path / "run").mkdir()
    clip_fit.save(tmp_path / "run")
    assert set(leftovers(tmp_path / "run")) == RUN_FILES


def test_force_replaces_nothing_but_runs(clip_fit, clip_run, tiny_clip, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "irreplaceable.png").write_text("x")
    model = Path(shutil.copytree(tiny_clip, tmp_path / "model"))  # it has a config.json too
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for place in (pictures, model, tmp_path / "file", tmp_path / "link"):
        with pytest.raises(RunError, match="is not a run, so it is not replaced"):
            clip_fit.save(place, force=True)
    assert leftovers(pictures) == ["irreplaceable.png"]
    assert (model / "model.safetensors").exists()
    noted = copy_of(clip_run, tmp_path / "noted")
    (noted / "my notes.txt").write_text("x")
    with pytest.raises(RunError, match="also holds my notes"):
        clip_fit.save(noted, force=True)
    assert (noted / "my notes.txt").exists()


def test_places_where_no_run_can_be_are_refused_before_the_work(clip_fit, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file" / "run", tmp_path / "file" / "deeper" / "run", tmp_path / ("x" * 300)):
        with pytest.raises(RunError, match="cannot be written"):
            run_folder.require_free(place, force=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(RunError, match=r"choose a folder inside it, such as --out run"):
        run_folder.require_free(Path(), force=False)
    assert leftovers(tmp_path) == ["file", "here"]


@pytest.mark.parametrize(
    "failure", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["disk full", "Ctrl-C"]
)
@pytest.mark.parametrize("there", [False, True])
def test_a_save_that_fails_leaves_what_was_there(clip_fit, tmp_path, monkeypatch, failure, there):
    place = tmp_path / "run"
    if there:
        clip_fit.save(place)
    before = {path.name: path.read_bytes() for path in place.iterdir()} if there else None

    def fail(*_):
        raise failure

    monkeypatch.setattr(run_folder, "model_card", fail)
    expected = RunError if isinstance(failure, Exception) else KeyboardInterrupt
    with pytest.raises(expected):
        clip_fit.save(place, force=True)
    assert leftovers(tmp_path) == (["run"] if there else [])
    if before is not None:
        assert {path.name: path.read_bytes() for path in place.iterdir()} == before


def test_a_killed_save_leaves_no_run(clip_run, tmp_path):
    code = (
        "import sys, time, pathlib, medvip; from medvip.runs import folder\n"
        "run = medvip.load_run(sys.argv[1])\n"
        "def stop(_): pathlib.Path(sys.argv[3]).touch(); time.sleep(60)\n"
        "folder.model_card = stop\n"
        "run.save(sys.argv[2])\n"
    )
    place, reached = tmp_path / "out" / "run", tmp_path / "reached"
    process = subprocess.Popen([sys.executable, "-c", code, clip_run, place, reached])
    try:
        for _ in range(600):
            if reached.exists():
                break
            time.sleep(0.1)
        assert reached.exists()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not place.exists()
    load_run(clip_run).save(place)  # and what it left behind is in nobody's way
    assert set(leftovers(place)) == RUN_FILES


def test_names_that_are_no_text_do_not_lose_the_run(clip_fit, tmp_path):
    """On Linux a file name may hold bytes that are no UTF-8; notes carry them."""
    data = clip_fit.config["data"] | {"notes": ["1 unreadable image left out: caf\udce9.png"]}
    from dataclasses import replace

    run = replace(clip_fit, config=clip_fit.config | {"data": data})
    run.save(tmp_path / "run")
    assert load_run(tmp_path / "run").config["data"]["notes"] == data["notes"]


# ------------------------------------------------------------------ training that fails


@pytest.mark.parametrize("recipe", ["paper", "fast"])
def test_a_loss_that_is_not_finite_keeps_the_best_or_nothing(
    tiny_clip, tiny_images, tiny_symptoms, tmp_path, recipe
):
    from medvip.training import get_recipe

    with pytest.raises(TrainingError, match=r"not finite|loss is") as caught:
        medvip.fit(
            medvip.load_dataset(tiny_images),
            medvip.load_backbone(str(tiny_clip)),
            medvip.SymptomSet.from_json(json.dumps(tiny_symptoms)),
            recipe=get_recipe(recipe, learning_rate=1e30, epochs=4),
            out=tmp_path / "run",
            quiet=True,
        )
    assert "--learning-rate" in caught.value.fix
    if (tmp_path / "run").exists():
        assert str(tmp_path / "run") in caught.value.problem
        run = load_run(tmp_path / "run")
        assert run.config["stopped"]
        assert "Training stopped early" in (tmp_path / "run" / "README.md").read_text()
        assert np.isfinite(run.predict_proba([str(tiny_images / "red" / "0.png")])).all()
    assert (tmp_path / "run").exists() == (recipe == "paper"), "paper warms up for an epoch first"
    assert leftovers(tmp_path) in ([], ["run"])


def test_what_does_not_fit_is_refused_before_any_picture_is_encoded(
    tiny_clip, tiny_images, tiny_symptoms, tmp_path
):
    dataset, backbone = medvip.load_dataset(tiny_images), medvip.load_backbone(str(tiny_clip))
    backbone.encode_images = lambda pixels: pytest.fail("a picture was encoded")
    for wrong, message in (
        (tiny_symptoms | {"rde": tiny_symptoms["red"]}, "not asked for"),
        (tiny_symptoms | {"red": ["very " * 100 + "red"]}, "too long"),
    ):
        with pytest.raises(MedvipError, match=message):
            medvip.fit(
                dataset,
                backbone,
                medvip.SymptomSet.from_json(json.dumps(wrong)),
                cache=tmp_path / "cache",
                out=tmp_path / "run",
                quiet=True,
            )
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------ order carries no meaning


def test_figures_do_not_depend_on_the_order_of_the_classes(clip_fit, tiny_images):
    dataset = medvip.load_dataset(tiny_images)
    turned = ImageDataset(dataset.name, dataset.classes[::-1], dataset.samples[::-1])
    first, second = clip_fit.evaluate(dataset, quiet=True), clip_fit.evaluate(turned, quiet=True)
    assert first.to_json() == second.to_json()
    assert first.to_json() == clip_fit.metrics["test"]


def test_other_classes_are_refused(clip_fit, tiny_images):
    dataset = medvip.load_dataset(tiny_images)
    for classes in (("blue", "green"), ("blue", "green", "pink"), ("blue", "green", "pink", "red")):
        with pytest.raises(MedvipError, match="but the run was trained on blue, green, red"):
            clip_fit.evaluate(ImageDataset("other", classes, dataset.samples), quiet=True)


# ------------------------------------------------------------------ the card


def test_hostile_names_stay_text_on_the_card(clip_fit):
    """Rendered by markdown-it, raw HTML allowed: nothing but text may come of a class name."""
    from dataclasses import replace

    from markdown_it import MarkdownIt

    from medvip.runs.card import model_card

    hostile = [
        "<script>alert(1)</script>",
        "a | b | c",
        "line\n\n# heading\n\n<img src=x>",
        "[link](javascript:alert(1)) ![image](http://x/y.png) `code` **bold** <http://x>",
        "\x1b[31mred\x07 \u202egnorw",
    ]
    counts = {split: dict.fromkeys(hostile, 1) for split in ("train", "val", "test")}
    data = {"name": hostile[0], "images": counts, "groups": {}, "notes": hostile}
    config = clip_fit.config | {
        "classes": hostile,
        "data": data,
        "stopped": hostile[2],
        "method": hostile[2],
        "backbone": clip_fit.config["backbone"] | {"name": hostile[3]},
    }
    card = model_card(replace(clip_fit, config=config, symptoms=None))
    assert all(c.isprintable() or c == "\n" for c in card)
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(card)
    inner = [child for token in tokens for child in token.children or []]
    assert not [t for t in tokens + inner if t.type in ("html_block", "html_inline", "image", "link_open")]
    headings = [tokens[i + 1].content for i, t in enumerate(tokens) if t.type == "heading_open"]
    assert [h for h in headings if "heading" in h] == [headings[0]], "only the title, which names the method"
    rows = card.split("## Trained on")[1].count("\n| ")
    first_table = tokens[next(i for i, t in enumerate(tokens) if t.type == "table_open") :]
    first_table = first_table[: next(i for i, t in enumerate(first_table) if t.type == "table_close")]
    cells = sum(t.type in ("td_open", "th_open") for t in first_table)
    assert cells == 4 * (1 + len(hostile))
    assert rows >= len(hostile)


def test_the_card_says_what_it_must(clip_run):
    card = (clip_run / "README.md").read_text()
    for needed in ("not for diagnosis", "**Not reviewed.**", "## Measured on test", "splits made 60/15/25"):
        assert needed in card
