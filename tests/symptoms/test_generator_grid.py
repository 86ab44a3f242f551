"""What of the pictures leaves the machine: pixels of training pictures, and nothing about a patient."""

from __future__ import annotations

import hashlib
import io
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scripted_model import PATIENT, cell_colours, jpeg_markers, patients_pictures

from medvip import load_dataset
from medvip.errors import DataError
from medvip.symptoms.generator.grid import picture_grid
from medvip.types import ImageDataset, Sample

# What a plain JPEG is made of: start, JFIF header, tables, one frame, one scan, end. No APP1 (EXIF,
# XMP), no APP2 (ICC), no APP13 (IPTC), no comment.
PLAIN = {0xD8, 0xE0, 0xDB, 0xC0, 0xC4, 0xDA, 0xD9}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("patients")


@pytest.fixture(scope="module")
def told(folder) -> dict[tuple[int, int, int], dict[str, str]]:
    """What each colour stands for."""
    return patients_pictures(folder)


@pytest.fixture(scope="module")
def dataset(folder, told) -> ImageDataset:
    return load_dataset(folder)


@pytest.mark.parametrize("seed", range(1, 9))
@pytest.mark.parametrize("label", ["melanoma", "nevus"])
def test_its_cells_are_training_pictures_of_the_class_one_of_each_patient(dataset, told, label, seed):
    grid = picture_grid(dataset, label, seed=seed)
    seen = cell_colours(grid.content, told)
    assert len(set(seen)) == 16
    assert {told[colour]["label"] for colour in seen} == {label}
    assert {told[colour]["split"] for colour in seen} == {"train"}
    assert len({told[colour]["patient"] for colour in seen}) == 16
    # The ids are the pictures' content, cell by cell.
    digests = [hashlib.sha256(Path(told[colour]["path"]).read_bytes()).hexdigest() for colour in seen]
    assert list(grid.ids) == [digest[:16] for digest in digests]


def test_every_patient_and_picture_has_its_turn(dataset, told):
    seen = {
        colour
        for seed in range(24)
        for colour in cell_colours(picture_grid(dataset, "nevus", seed=seed).content, told)
    }
    assert seen == {colour for colour, of in told.items() if (of["label"], of["split"]) == ("nevus", "train")}


def test_it_is_a_plain_jpeg_without_metadata(dataset, told):
    for path in (of["path"] for of in told.values()):
        assert PATIENT.encode() in Path(path).read_bytes()  # there is something to hide
    content = picture_grid(dataset, "melanoma", seed=1).content
    markers = jpeg_markers(content)
    assert set(markers) <= PLAIN
    assert [marker for marker in markers if marker == 0xE0] == [0xE0]
    assert content[6:11] == b"JFIF\0"
    for word in PATIENT.split():
        assert word.encode() not in content
    with Image.open(io.BytesIO(content)) as picture:
        assert set(picture.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
        assert len(picture.getexif()) == 0


def test_a_marker_of_metadata_would_be_seen(told):
    (path, *_) = [Path(of["path"]) for of in told.values() if of["path"].endswith(".jpg")]
    assert {0xE1, 0xFE} <= set(jpeg_markers(path.read_bytes()))  # EXIF and comment


def test_the_seed_decides(dataset):
    grids = [picture_grid(dataset, "nevus", seed=seed) for seed in (1, 1, 2, 3)]
    assert grids[0] == grids[1]
    assert len({grid.digest for grid in grids}) == 3
    assert len({frozenset(grid.ids) for grid in grids}) > 1  # others, not only in another order


def test_neither_names_nor_order_of_the_files_decide(tmp_path, dataset, told):
    other = patients_pictures(tmp_path, names=lambda number: f"{(number * 37) % 101:03d}")
    assert {of["path"] for of in told.values()}.isdisjoint(of["path"] for of in other.values())
    again = load_dataset(tmp_path)
    for seed in (1, 2, 3):
        one, two = (picture_grid(each, "melanoma", seed=seed) for each in (dataset, again))
        assert one.content == two.content
        assert one.ids == two.ids


@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_the_order_of_the_samples_does_not_decide(dataset, data):
    order = data.draw(st.permutations(dataset.samples))
    mixed = ImageDataset("other", ("nevus", "melanoma"), tuple(order))
    assert picture_grid(mixed, "nevus", seed=5) == picture_grid(dataset, "nevus", seed=5)


def test_of_equal_pictures_the_name_does_not_matter(tmp_path):
    # Patients "a" and "b" share a picture; which of them is drawn must not hang on its file's name.
    for name, colour in {"m": (200, 0, 0), "x": (0, 0, 200), "y": (0, 200, 0)}.items():
        Image.new("RGB", (9, 9), colour).save(tmp_path / f"{name}.png")

    def grid(first: str, second: str) -> bytes:
        shutil.copy(tmp_path / "m.png", tmp_path / first)
        shutil.copy(tmp_path / "m.png", tmp_path / second)
        groups = {"a": [first, "x.png"], "b": [second, "y.png"]}
        samples = [
            Sample(str(tmp_path / name), "spot", group, "train")
            for group, names in groups.items()
            for name in names
        ]
        return b"".join(
            picture_grid(ImageDataset("d", ("spot",), tuple(samples)), "spot", seed=seed).content
            for seed in range(8)
        )

    assert grid("1.png", "2.png") == grid("4.png", "3.png")


@pytest.mark.parametrize("groups", [1, 5, 15])
def test_cells_without_a_patient_are_gray(tmp_path, groups):
    told = patients_pictures(tmp_path, groups=groups)
    grid = picture_grid(load_dataset(tmp_path), "nevus", seed=1)
    seen = cell_colours(grid.content, told)
    assert len(grid.ids) == groups
    assert None not in seen[:groups]
    assert seen[groups:] == [None] * (16 - groups)


def test_without_groups_each_picture_is_its_own_and_copies_count_once(tmp_path):
    path, copy = tmp_path / "a.png", tmp_path / "b.png"
    Image.new("RGB", (8, 8), (250, 0, 0)).save(path)
    shutil.copy(path, copy)
    samples = tuple(Sample(str(each), "spot", None, "train") for each in (path, copy))
    assert len(picture_grid(ImageDataset("d", ("spot",), samples), "spot", seed=1).ids) == 1


def test_a_picture_is_shown_whole_and_undistorted(tmp_path):
    path = tmp_path / "a.png"
    wide = Image.new("RGB", (400, 100), (0, 0, 250))
    wide.paste((250, 0, 0), (0, 0, 20, 100))
    wide.paste((0, 250, 0), (380, 0, 400, 100))
    wide.save(path)
    dataset = ImageDataset("d", ("spot",), (Sample(str(path), "spot", None, "train"),))
    cell = Image.open(io.BytesIO(picture_grid(dataset, "spot", seed=1).content)).crop((2, 2, 254, 254))
    row = [cell.getpixel((x, 126)) for x in (5, 126, 247)]
    assert all(value > 200 for value in (row[0][0], row[1][2], row[2][1])), row  # both ends are there
    column = [y for y in range(252) if cell.getpixel((126, y))[2] > 200]
    assert len(column) == pytest.approx(252 / 4, abs=4)  # a quarter as high as wide
    assert cell.getpixel((126, 20)) == pytest.approx((127, 127, 127), abs=4)


def test_a_picture_lost_meanwhile_is_not_named(tmp_path):
    told = patients_pictures(tmp_path, groups=3)
    dataset = load_dataset(tmp_path)
    for of in told.values():
        if of["label"] == "nevus" and of["split"] == "train":
            Path(of["path"]).unlink()
    with pytest.raises(DataError, match="a training picture of 'nevus' cannot be read") as caught:
        picture_grid(dataset, "nevus", seed=1)
    assert_names_nobody(str(caught.value), tmp_path)
    picture_grid(dataset, "melanoma", seed=1)  # the other class is whole


def test_a_damaged_picture_is_not_named(tmp_path):
    told = patients_pictures(tmp_path, groups=3)
    dataset = load_dataset(tmp_path)
    for of in told.values():
        Path(of["path"]).write_bytes(Path(of["path"]).read_bytes()[:60])
    with pytest.raises(DataError) as caught:
        picture_grid(dataset, "nevus", seed=1)
    assert caught.value.problem == "a training picture of 'nevus' cannot be read"
    assert_names_nobody(str(caught.value), tmp_path)


def assert_names_nobody(text: str, folder: Path) -> None:
    assert not any(word in text for word in PATIENT.split())
    assert str(folder) not in text
    assert ".png" not in text
    assert ".jpg" not in text


def test_a_class_without_training_pictures_is_refused(dataset):
    held_out = dataset.with_samples(s for s in dataset if not (s.label == "nevus" and s.split == "train"))
    with pytest.raises(DataError, match="no training picture of 'nevus'"):
        picture_grid(held_out, "nevus", seed=1)
