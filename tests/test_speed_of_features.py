"""The measurement of features runs, on the files it says, and times the four stages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from medvip import load_backbone

SPEED = Path(__file__).parents[1] / "benchmarks" / "speed"


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """The script as a module; it is run as a script and belongs to no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SPEED))
        yield __import__("features")
        for name in ("features", "machine", "made_up"):
            sys.modules.pop(name, None)


def test_pictures_come_from_all_over_the_folder_and_are_the_same_each_time(script, tmp_path: Path) -> None:
    for label in ("a", "b", "c"):
        (tmp_path / label).mkdir()
        for index in range(10):
            (tmp_path / label / f"{index}.jpg").touch()
    chosen = script.first_jpegs(tmp_path, 6)
    assert len(set(chosen)) == 6
    assert {Path(path).parent.name for path in chosen} == {"a", "b", "c"}
    assert script.first_jpegs(tmp_path, 6) == chosen
    with pytest.raises(SystemExit, match="30 JPEGs, fewer than 31"):
        script.first_jpegs(tmp_path, 31)


def test_every_stage_takes_time_and_the_whole_is_not_read_from_a_cache(
    script, tiny_clip: Path, tiny_images: Path, monkeypatch
) -> None:
    backbone = load_backbone(str(tiny_clip), device="cpu")
    paths = [str(file) for file in sorted(tiny_images.rglob("*.png"))][:5]
    encoded = []
    encode = type(backbone).encode_images
    monkeypatch.setattr(
        type(backbone),
        "encode_images",
        lambda self, pixels: encoded.append(len(pixels)) or encode(self, pixels),
    )
    found = script.stages(backbone, paths, rounds=2)
    assert list(found) == ["read_and_hash", "decode_and_preprocess", "encode", "whole"]
    for stage in found.values():
        assert stage["pictures_per_second"] == pytest.approx(len(paths) / stage["seconds"]["median"])
    assert encoded == [5] * 6  # alone and in the whole, in two rounds and once to warm up
