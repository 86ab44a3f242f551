"""The real image sets, where they are: counts as their SOURCE.md gives them."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from medvip.errors import LeakageError
from medvip.images import few_shot, load_dataset, read_picture
from medvip.types import SPLITS

DATA = Path(os.environ.get("MEDVIP_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
SETS = {
    "bccd_wbc_type": 339,
    "busi_breast_ultrasound_256": 762,
    "ham10000_7class_224": 2261,
    "isic_uda1_melanoma_nevus": 553,
    "kermany_cxr_pneumonia": 1003,
}


@pytest.fixture
def real_data() -> Path:
    if not DATA.is_dir():
        pytest.skip(f"the real image sets are not at {DATA} (set MEDVIP_TEST_DATA to where they are)")
    return DATA


def table_of(source: Path) -> dict[str, list[int]]:
    """The rows ``| label | train | val | test | groups |`` of a SOURCE.md."""
    rows = re.findall(r"^\| (\w+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", source.read_text(), re.MULTILINE)
    return {label: [int(number) for number in numbers] for label, *numbers in rows}


@pytest.mark.parametrize("name", SETS)
def test_counts_are_those_of_the_source(real_data, name):
    start = time.perf_counter()
    dataset = load_dataset(real_data / name)
    seconds = time.perf_counter() - start
    assert len(dataset) == SETS[name]
    found = {
        label: [
            *(dataset.only(split).counts()[label] for split in SPLITS),
            len({s.group for s in dataset if s.label == label}),
        ]
        for label in dataset.classes
    }
    assert found == table_of(real_data / name / "SOURCE.md")
    assert dataset.notes == ()
    assert seconds < 4 * len(dataset) / 1000 + 4, "looking at the files has become slow"


def test_pictures_and_shots(real_data):
    dataset = load_dataset(real_data / "kermany_cxr_pneumonia")
    for sample in dataset.samples[::200]:
        picture = read_picture(sample.path)
        assert picture.mode == "RGB"
        assert 140 <= min(picture.size) <= 256
    few = few_shot(dataset, 16, seed=1)
    assert [few.only(split).counts() for split in SPLITS] == [
        {"normal": 16, "pneumonia": 16},
        {"normal": 4, "pneumonia": 4},
        {"normal": 101, "pneumonia": 150},
    ]


def test_made_splits_on_real_groups(real_data, tmp_path):
    """Without its split column, the set is split by patient near 60/15/25."""
    source = real_data / "kermany_cxr_pneumonia"
    lines = [line.rsplit(",", 1)[0] for line in (source / "split.csv").read_text().splitlines()]
    table = tmp_path / "no_splits.csv"
    table.write_text("\n".join(lines))
    dataset = load_dataset(source, split_file=table, verify=False)
    for split, fraction in zip(SPLITS, (0.60, 0.15, 0.25), strict=True):
        for label, total in dataset.counts().items():
            assert dataset.only(split).counts()[label] / total == pytest.approx(fraction, abs=0.02)
    groups = [group for split in SPLITS for group in {s.group for s in dataset.only(split)}]
    assert len(groups) == len(set(groups))


def test_medmnist_archive(real_data):
    path = real_data / "medmnist" / "pneumoniamnist_28_reassembled.npz"
    with pytest.raises(LeakageError, match="8 pictures stand in two splits"):
        load_dataset(path)
    dataset = load_dataset(path, allow_leakage=True)
    assert [dataset.only(split).counts() for split in SPLITS] == [
        {"normal": 1214, "pneumonia": 3494},
        {"normal": 135, "pneumonia": 389},
        {"normal": 234, "pneumonia": 390},
    ]
    assert any(note.startswith("leakage allowed: 8 pictures") for note in dataset.notes)
    start = time.perf_counter()
    assert {read_picture(sample.path).size for sample in dataset} == {(28, 28)}
    assert time.perf_counter() - start < 5
