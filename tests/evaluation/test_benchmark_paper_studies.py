"""The studies that come along, run for real: on drawn pictures and a tiny CLIP, an epoch a method."""

from __future__ import annotations

import csv
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medvip import SymptomSet
from medvip.evaluation.benchmark import run_study
from medvip.evaluation.benchmark.records import read_record
from medvip.evaluation.benchmark.rows import full_options
from medvip.methods import METHODS, options_of
from medvip.symptoms.variants import knowledge_variants, save_variants

STUDIES = Path(__file__).parents[2] / "benchmarks" / "studies"
FOUR = {name: [f"{name} all over", f"a {name} middle"] for name in ("blue", "green", "red", "white")}
CLASSES = {
    "pneumonia": ["normal", "pneumonia"],
    "derm7pt": ["melanoma", "nevus"],
    "kermany_cxr_pneumonia": ["normal", "pneumonia"],
    "isic_uda1_melanoma_nevus": ["melanoma", "nevus"],
}
READY = {"ham10000_7class_224": "ham10000", "busi_breast_ultrasound_256": "breast-ultrasound",
         "bccd_wbc_type": "white-blood-cells"}  # fmt: skip
EPOCHS = {"epochs": 1, "min_steps": 0}


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medvip.evaluation.benchmark.tables.draw_plots", lambda *_: ([], []))


def draw(folder: Path, classes: list[str]) -> None:
    """Noise around a shade a class, with splits in the paper's form and in ours."""
    random = np.random.default_rng(0)
    listed: dict[str, list] = {"train": [], "val": [], "test": []}
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index, split in enumerate(["train"] * 4 + ["val"] * 4 + ["test"] * 4):
            shade = 40 + 200 * label / len(classes)
            pixels = random.normal(shade, 30, (40, 36, 3)).clip(0, 255).astype(np.uint8)
            path = f"{name}/{index}.png"
            Image.fromarray(pixels).save(folder / path)
            listed[split].append([path, label, name])
    if folder.name in READY or folder.name in ("kermany_cxr_pneumonia", "isic_uda1_melanoma_nevus"):
        with (folder / "split.csv").open("w", newline="") as file:
            rows = [[path, name, split] for split, some in listed.items() for path, _, name in some]
            csv.writer(file).writerows([["path", "label", "split"], *rows])
    else:
        (folder / "split.json").write_text(json.dumps(listed))


def tiny(study: dict[str, Any], backbone: Path) -> dict[str, Any]:
    """The same study with little of everything: seeds, shots, views, epochs, sets and backbones."""
    study |= {"seeds": study["seeds"][:1], "backbones": [str(backbone)], "data": study["data"][:2]}
    if len(study.get("shots", [])) > 1:
        study["shots"] = [2]
    for data in study["data"]:
        data |= {"views": min(1, data.get("views", 0))}
    for method in study["method"]:
        method.pop("shots", None)
        if method["name"] in METHODS and "recipe" in options_of(method["name"]):
            recipe = method.setdefault("options", {}).get("recipe", "paper")
            named = {"from": recipe} if isinstance(recipe, str) else recipe
            method["options"]["recipe"] = named | EPOCHS
        if method["name"] == "maple":
            method["options"]["depth"] = 2  # a tiny CLIP has no nine layers
    return study


NAME_NEW_CLASSES = {"zero-shot-names", "zero-shot-symptoms", "biomedcoop", "vip", "coop", "cocoop", "kgcoop",
                    "prograd", "maple"}  # fmt: skip


def as_toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {as_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return json.dumps(value)


@pytest.mark.parametrize("file", sorted(STUDIES.glob("*.toml")), ids=lambda file: file.stem)
def test_every_study_runs(file: Path, tmp_path: Path, tiny_clip: Path) -> None:
    study = tiny(tomllib.loads(file.read_text()), tiny_clip)
    for data in study["data"]:
        name = data["path"]
        if not (tmp_path / name).exists():
            ready = READY.get(name)
            known = list(SymptomSet.load(ready).classes) if ready else CLASSES.get(name, list(FOUR))
            draw(tmp_path / name, known)
        if data["symptoms"].endswith("/symptoms.json"):
            (tmp_path / data["symptoms"]).write_text(json.dumps(FOUR))
    if file.stem == "paper-figure-5":
        save_variants(knowledge_variants(SymptomSet.load("melanoma-nevus")), tmp_path / "kinds")
    small = tmp_path / "study.toml"
    small.write_text("\n".join(f"{key} = {as_toml(value)}" for key, value in study.items()))

    result = run_study(small, tmp_path / "out", data=tmp_path, workers=0, device="cpu", quiet=True)

    assert result.failures == ()
    records = {run.cell: read_record(tmp_path / "out" / run.cell.path) for run in result.plan.runs}
    states = {cell: record["status"] for cell, record in records.items() if record}
    assert len(states) == len(result.plan.runs)
    undone = {cell.row for cell, state in states.items() if state != "done" and cell.task == "all-classes"}
    assert undone == set()
    rows = {method.get("label", method["name"]) for method in study["method"] if "of" not in method}
    assert rows <= {cell.row for cell in states}
    named = {cell.row for cell, state in states.items() if state == "done" and cell.task == "base-to-novel"}
    assert named == (NAME_NEW_CLASSES if study.get("base_to_novel") else set())
    for run in result.plan.runs:  # what the study asks for is what runs
        wanted = next((m for m in study["method"] if m.get("label", m["name"]) == run.cell.row), {})
        options = {k: v for k, v in wanted.get("options", {}).items() if k != "recipe"}
        assert run.settings["method"]["options"].items() >= options.items()


def test_the_papers_baselines_have_its_codes_settings() -> None:
    """Context of 4 from small noise, learning rate 0.001, 50 epochs, the best by validation accuracy."""
    for name, batch in (("paper-table-1", 32), ("paper-table-1-large", 16)):
        rows = {m["name"]: m for m in tomllib.loads((STUDIES / f"{name}.toml").read_text())["method"]}
        for method in ("coop", "cocoop", "vpt", *(["maple"] if batch == 32 else [])):
            options = full_options(method, rows[method]["options"])
            recipe = options["recipe"]
            assert (options["context"], options["init_words"]) == (4, ""), method
            assert (recipe["learning_rate"], recipe["epochs"], recipe["select_by"]) == (1e-3, 50, "accuracy")
            assert recipe["batch_size"] == (1 if method == "vpt" else batch)
        assert full_options("vpt", rows["vpt"]["options"])["conditional"]
        recipe = full_options("vip", rows["vip"]["options"])["recipe"]
        assert (recipe["learning_rate"], recipe["epochs"], recipe["batch_size"]) == (2e-3, 50, batch)
