"""Runs that the tests of this room share."""

from __future__ import annotations

from pathlib import Path

import pytest
from ready_runs import fit_quickly, put_quick_alignment


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
