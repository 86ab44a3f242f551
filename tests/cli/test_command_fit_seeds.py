"""`medvip fit --seeds`: every run is the one that its seed gives alone."""

# ruff: noqa: F401, F811 (fixtures are imported by name)
from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
import torch
from command_answers import fit, medvip, nothing_left, symptom_file
from safetensors.torch import load_file

FIGURES = ("accuracy", "macro_f1", "auroc")


def learned(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "prompts.safetensors")


@pytest.mark.parametrize(
    ("more", "symptoms"),
    [
        ([], True),
        (["--shots", 2], True),
        (["--method", "coop"], False),
        (["--method", "clip-adapter", "--shots", 2], False),  # learns without a text encoder
    ],
)
def test_each_run_is_that_of_its_seed_alone(more, symptoms, fit, tiny_images, tmp_path, symptom_file):
    given = {"symptoms": symptom_file if symptoms else None}
    fit(tiny_images, tmp_path / "all", "--seeds", "3, 1", *more, **given).done()
    for seed in (3, 1):
        fit(tiny_images, tmp_path / "alone", "--seed", seed, "--force", *more, **given).done()
        together, alone = learned(tmp_path / "all" / f"seed-{seed}"), learned(tmp_path / "alone")
        for name, tensor in alone.items():
            torch.testing.assert_close(together[name], tensor, rtol=1e-3, atol=1e-3, msg=name)
        configs = [
            json.loads((folder / "config.json").read_text())
            for folder in (tmp_path / "all" / f"seed-{seed}", tmp_path / "alone")
        ]
        for config in configs:
            del config["made"]["date"], config["prompts_sha256"]
        assert configs[0] == configs[1]
    first, second = (learned(tmp_path / "all" / f"seed-{seed}") for seed in (3, 1))
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_the_mean_over_the_seeds_is_said(fit, tiny_images, tmp_path):
    said = fit(tiny_images, tmp_path / "run", "--seeds", "1,2,3").done()
    metrics = [
        json.loads((tmp_path / "run" / f"seed-{seed}" / "metrics.json").read_text())["test"]
        for seed in (1, 2, 3)
    ]
    (line,) = [line for line in said.splitlines() if line.startswith("mean of 3 seeds, test:")]
    for figure in FIGURES:
        values = [of_seed[figure]["value"] for of_seed in metrics]
        assert f"{statistics.mean(values):.3f} +- {statistics.stdev(values):.3f}" in line
    assert "seed-1" in said.splitlines()[-1]


def test_a_run_can_be_used(fit, medvip, tiny_images, tmp_path):
    fit(tiny_images, tmp_path / "run", "--seeds", "1,2").done()
    picture = tiny_images / "red" / "0.png"
    said = medvip("predict", tmp_path / "run" / "seed-2", picture, "--quiet").done()
    assert "red" in said


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--seeds", "1,x"], "--seeds is '1,x'"),
        (["--seeds", ""], "--seeds is ''"),
        (["--seeds", "1,1"], "seeds are [1, 1]"),
        (["--seeds", "1", "--seed", 2], "both --seed and --seeds"),
        (["--seeds", "-1"], "--seeds is '-1'"),
        (["--seeds", "1,2", "--method", "zero-shot-symptoms"], "has no seed"),
    ],
)
def test_what_makes_no_sense_is_refused(more, words, fit, tiny_images, nothing_left):
    assert words in fit(tiny_images, nothing_left, *more).failed(code=2)


def test_earlier_runs_are_not_overwritten(fit, tiny_images, tmp_path):
    fit(tiny_images, tmp_path / "run", "--seeds", "1,2").done()
    assert "seed-2 is there already" in fit(tiny_images, tmp_path / "run", "--seeds", "2,3").failed()
    assert not (tmp_path / "run" / "seed-3").exists()
    fit(tiny_images, tmp_path / "run", "--seeds", "2,3", "--force").done()
    assert (tmp_path / "run" / "seed-3" / "config.json").exists()


def test_one_that_stops_early_does_not_cost_the_others(fit, tiny_images, tmp_path, monkeypatch):
    from medvip.errors import TrainingError
    from medvip.training import loop

    honest = loop._require_finite

    def of_seed_2(entry, model):
        honest(entry, model)
        if entry["epoch"] == 2 and of_seed_2.seen.setdefault(id(model), len(of_seed_2.seen)) == 1:
            raise TrainingError("the loss is not finite", fix="lower the learning rate")
        of_seed_2.seen.setdefault(id(model), len(of_seed_2.seen))

    of_seed_2.seen = {}
    monkeypatch.setattr(loop, "_require_finite", of_seed_2)
    said = fit(tiny_images, tmp_path / "run", "--seeds", "1,2,3").failed()
    assert "seed-2" in said
    for seed in (1, 2, 3):
        config = json.loads((tmp_path / "run" / f"seed-{seed}" / "config.json").read_text())
        assert bool(config["stopped"]) == (seed == 2)
