"""Runs for the tests of runs/ and cli/: trained once, on tiny pictures and tiny backbones."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

RUN_FILES = {
    "config.json",
    "symptoms.json",
    "prompts.safetensors",
    "metrics.json",
    "history.jsonl",
    "README.md",
}


def fit_quickly(images: Path, backbone: str, symptoms: dict, cache: Path, **options):
    """A run in memory: two epochs, vectors kept in `cache`."""
    import medvip
    from medvip.training import get_recipe

    return medvip.fit(
        medvip.load_dataset(images),
        medvip.load_backbone(backbone),
        medvip.SymptomSet.from_json(json.dumps(symptoms)),
        recipe=get_recipe("paper", epochs=2, learning_rate=0.02),
        cache=cache,
        quiet=True,
        **options,
    )


def put_quick_alignment(cache: Path) -> Path:
    """A made-up map for the embedded backbone; the real one takes most of a minute to compute.

    Right in form, so that all goes its usual way; what it maps to does not matter where nobody
    asks for accuracy.
    """
    from medvip import load_backbone

    name = load_backbone("embedded")._joined[:32]
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "text_mean": torch.randn(384, generator=generator) / 20,
        "matrix": torch.randn(384, 320, generator=generator),
    }
    (cache / "alignments").mkdir(parents=True, exist_ok=True)
    save_file(tensors, cache / "alignments" / f"{name}.safetensors")
    return cache


def copy_of(run: Path, to: Path) -> Path:
    """The same run elsewhere, to be spoiled."""
    return Path(shutil.copytree(run, to))


def change_config(run: Path, **changes) -> None:
    """Other values in `config.json`."""
    file = run / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def change_tensors(run: Path, **changes) -> None:
    """Other tensors, and a config that vouches for them: as a hostile sender would do it."""
    file = run / "prompts.safetensors"
    save_file(load_file(file) | changes, file)
    change_config(run, prompts_sha256=hashlib.sha256(file.read_bytes()).hexdigest())


def in_a_process_of_its_own(*arguments: object, cwd: Path, after: str = "", **environment: str):
    """`medvip ARGUMENTS` in another process and working directory, with only that cache."""
    import os

    code = (
        "import sys; from medvip.cli.main import main; code = main(sys.argv[1:])\n"
        + after
        + "\nsys.exit(code)"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="session")
def clip_fit(tiny_clip, tiny_images, tiny_symptoms, tmp_path_factory):
    """A fitted `Run` on the tiny CLIP."""
    return fit_quickly(tiny_images, str(tiny_clip), tiny_symptoms, tmp_path_factory.getbasetemp() / "cache")


@pytest.fixture(scope="session")
def clip_run(clip_fit, tmp_path_factory) -> Path:
    """Its folder. Not to be changed: copy it."""
    return clip_fit.save(tmp_path_factory.mktemp("runs") / "clip")


@pytest.fixture(scope="session")
def embedded_cache(tmp_path_factory) -> Path:
    """A cache with a made-up map for the embedded backbone."""
    return put_quick_alignment(tmp_path_factory.mktemp("embedded_cache"))


@pytest.fixture(scope="session")
def embedded_run(embedded_cache, tiny_images, tiny_symptoms, tmp_path_factory) -> Path:
    """Folder of a run on the embedded backbone. Not to be changed: copy it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDVIP_CACHE", str(embedded_cache))
        run = fit_quickly(tiny_images, "embedded", tiny_symptoms, embedded_cache)
    return run.save(tmp_path_factory.mktemp("runs") / "embedded")
