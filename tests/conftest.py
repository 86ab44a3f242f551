"""What all tests share: shapes checked, a cache of their own, tiny models, a tiny data set."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import install_import_hook
from PIL import Image

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Tiny models are ten times slower when several workers' threads wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Where tensors cross functions, every annotation is checked in every call that the tests make.
# (images and symptoms take a user's input, and have to answer a wrong type with their own error.)
TENSOR_ROOMS = (
    "drawings",
    "backbones",
    "features",
    "training",
    "methods",
    "evaluation",
    "explanation",
    "runs",
)
install_import_hook([f"medvip.{name}" for name in (*TENSOR_ROOMS, "confusion")], "beartype.beartype")

from tiny_models import build_tiny_clip, build_tiny_siglip  # noqa: E402

REAL_DATA = Path(os.environ.get("MEDVIP_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache; all tests of a session share one of their own."""
    monkeypatch.setenv("MEDVIP_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a CLIP with random weights, text width 32, joint width 24."""
    return build_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="session")
def tiny_siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a SigLIP with random weights."""
    return build_tiny_siglip(tmp_path_factory.mktemp("siglip"))


@pytest.fixture(scope="session")
def tiny_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of noisy coloured squares, 12 pictures each, no splits given."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for label, colour in {"blue": (20, 40, 200), "green": (20, 200, 40), "red": (200, 40, 20)}.items():
        (folder / label).mkdir()
        for index in range(12):
            pixels = np.array(colour) + random.normal(0, 40, (40, 48, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / label / f"{index}.png")
    return folder


@pytest.fixture(scope="session")
def tiny_symptoms() -> dict[str, list[str]]:
    """Symptoms of the three classes; one class has fewer."""
    return {
        "red": ["warm like fire", "the color of blood"],
        "green": ["like fresh grass", "leafy", "the color of a forest"],
        "blue": ["like the open sky", "cold water", "the color of ink"],
    }


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real image sets; tests that need it are skipped where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real image sets at {REAL_DATA} (set MEDVIP_TEST_DATA to their folder)")
    return REAL_DATA
