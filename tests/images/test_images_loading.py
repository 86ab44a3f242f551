"""Every form of DATA, and everything that is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_sets import Painter, counts, refused
from PIL import Image

from medvip.errors import DataError, LeakageError, MedvipError, UnreadableImages, UsageError
from medvip.images import load_dataset
from medvip.types import SPLITS


def test_this_room_does_without_torch():
    code = "import sys, medvip.images; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def paint(tmp_path):
    return Painter(tmp_path / "set")


# ------------------------------------------------------------------ class folders


def test_class_folders_get_splits_and_say_so(paint):
    paint.many("nevus/{}.png", 20)
    paint.many("melanoma/deeper/{}.JPG", 20)
    dataset = load_dataset(paint.folder)
    assert dataset.name == "set"
    assert dataset.classes == ("melanoma", "nevus")
    assert counts(dataset) == [[12, 12], [3, 3], [5, 5]]
    assert dataset.notes == ("splits made 60/15/25 by image (no groups known), stratified, seed 1",)
    assert dataset == load_dataset(str(paint.folder))
    assert load_dataset(paint.folder, seed=2).samples != dataset.samples
    assert all(Path(sample.path).is_file() for sample in dataset)


def test_what_is_no_picture_is_passed_over_and_counted(paint):
    paint.many("a/{}.png", 4)
    paint.many("b/{}.png", 4)
    for name in ("a/.hidden.png", "a/.git/x.png", "__MACOSX/x.png", ".cache/y.png", "a/Thumbs.db"):
        (paint.folder / name).parent.mkdir(exist_ok=True)
        (paint.folder / name).write_bytes(b"x")
    (paint.folder / "b/notes.txt").write_text("x")
    (paint.folder / "b/scan.dcm").write_text("x")
    (paint.folder / "README.md").write_text("x")
    (paint.folder / "empty").mkdir()
    paint("loose.png")
    dataset = load_dataset(paint.folder)
    assert len(dataset) == 8
    notes = "\n".join(dataset.notes)
    assert f"2 files in {paint.folder} ignored (not pictures): 1 .dcm, 1 .txt" in notes
    assert f"folder {paint.folder / 'empty'} holds no pictures: not taken as a class" in notes
    assert f"1 picture in {paint.folder} itself left out (no class): loose.png" in notes


def test_the_same_split_wherever_the_folder_lies(paint, tmp_path):
    paint.many("a/{}.png", 9)
    paint.many("b/{}.png", 9)
    first = load_dataset(paint.folder)
    paint.folder.rename(tmp_path / "other")
    second = load_dataset(tmp_path / "other")
    assert [s.split for s in first] == [s.split for s in second]


def test_a_relative_path_works(paint, monkeypatch):
    paint.many("a/{}.png", 4)
    paint.many("b/{}.png", 4)
    monkeypatch.chdir(paint.folder)
    dataset = load_dataset(".")
    assert dataset.name == "set"
    assert dataset.samples[0].path == "a/0.png"


def test_copies_of_a_picture_come_into_one_split(paint):
    for i in range(12):
        paint(f"a/{i}.png", content=i)
        paint(f"a/copy{i}.png", content=i)
        paint(f"b/{i}.png")
    dataset = load_dataset(paint.folder)
    split_of = {Path(s.path).name: s.split for s in dataset if s.label == "a"}
    assert all(split_of[f"{i}.png"] == split_of[f"copy{i}.png"] for i in range(12))
    assert "copies of other pictures: 12, kept in one split with them" in dataset.notes


# ------------------------------------------------------------------ split folders


def test_split_folders_by_any_of_their_names(paint):
    for split in ("Train", "validation", "TEST"):
        paint.many(f"{split}/a/{{}}.png", 3)
        paint.many(f"{split}/b/{{}}.png", 2)
    dataset = load_dataset(paint.folder)
    assert counts(dataset) == [[3, 2]] * 3
    assert dataset.notes == ()


def test_val_is_made_from_train_when_it_is_missing(paint):
    for split, number in (("train", 10), ("test", 4)):
        paint.many(f"{split}/a/{{}}.png", number)
        paint.many(f"{split}/b/{{}}.png", number)
    dataset = load_dataset(paint.folder, seed=7)
    assert counts(dataset) == [[8, 8], [2, 2], [4, 4]]
    assert dataset.notes == ("val made from 20 % of train by image (no groups known), stratified, seed 7",)


def test_val_is_made_by_group(paint):
    lines = ["path,label,patient,split"]
    for label in "ab":
        lines += [f"{paint(f'{label}/{i}.png')},{label},{label}{i // 3},train" for i in range(30)]
        lines += [f"{paint(f'{label}/t{i}.png')},{label},t{label}{i},test" for i in range(4)]
    paint.table(*lines)
    dataset = load_dataset(paint.folder)
    assert counts(dataset) == [[24, 24], [6, 6], [4, 4]]
    train, val = ({s.group for s in dataset.only(split)} for split in ("train", "val"))
    assert not train & val
    assert dataset.notes == ("val made from 20 % of train by group, stratified, seed 1",)


def test_unknown_and_inverted_split_folders(paint):
    for split in ("train", "test", "holdout"):
        paint(f"{split}/a/0.png")
        paint(f"{split}/b/0.png")
    assert "unknown split 'holdout'" in refused(DataError, paint.folder)
    other = Painter(paint.folder / "holdout")
    other("a/train/0.png")
    assert "a class folder with split folders inside: train" in refused(DataError, other.folder)


def test_missing_splits_are_explained(paint):
    for split in ("train", "val"):
        paint.many(f"{split}/a/{{}}.png", 3)
        paint.many(f"{split}/b/{{}}.png", 3)
    text = refused(DataError, paint.folder)
    assert "set has no test images, only train, val" in text
    assert "renamed test" in text
    assert counts(load_dataset(paint.folder, needs=("train", "val"))) == [[3, 3], [3, 3], [0, 0]]
    (paint.folder / "val").rename(paint.folder / "spare")
    for path in list((paint.folder / "spare").rglob("*.png")):
        path.unlink()
    for path in ("spare/a", "spare/b", "spare"):
        (paint.folder / path).rmdir()
    text = refused(DataError, paint.folder)
    assert "set has no val and no test images, only train" in text
    assert "take the split names away" in text


def test_data_that_are_only_evaluated(paint):
    paint.many("test/a/{}.png", 3)
    paint.many("test/b/{}.png", 3)
    assert "has no train and no val images, only test" in refused(DataError, paint.folder)
    assert counts(load_dataset(paint.folder, needs=("test",))) == [[0, 0], [0, 0], [3, 3]]


def test_a_class_missing_from_train(paint):
    for split in SPLITS:
        paint.many(f"{split}/a/{{}}.png", 2)
        if split != "train":
            paint.many(f"{split}/b/{{}}.png", 2)
    paint.many("train/c/{}.png", 2)
    assert "no train images of 'b', which other splits hold" in refused(DataError, paint.folder)


def test_a_class_missing_from_test_is_noted(paint):
    for split in SPLITS:
        paint.many(f"{split}/a/{{}}.png", 2)
        paint.many(f"{split}/b/{{}}.png", 2)
    paint.many("train/c/{}.png", 2)
    notes = load_dataset(paint.folder).notes
    assert notes == ("class 'c' has no val images", "class 'c' has no test images")


# ------------------------------------------------------------------ what no data set can be


def test_missing_empty_and_foreign(paint, tmp_path):
    assert "does not exist" in refused(DataError, tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "empty holds no pictures" in refused(DataError, tmp_path / "empty")
    (tmp_path / "a.zip").write_bytes(b"x")
    assert "is not a folder and not a .npz file" in refused(DataError, tmp_path / "a.zip")
    paint.many("{}.png", 3)
    text = refused(DataError, paint.folder)
    assert "holds 3 pictures, but none in a class folder" in text
    assert "DIR/<class>/image.png" in text
    (tmp_path / "dicom/ct").mkdir(parents=True)
    (tmp_path / "dicom/ct/1.dcm").write_bytes(b"x")
    text = refused(DataError, tmp_path / "dicom")
    assert "holds no pictures (other files: 1 .dcm)" in text
    assert "export the DICOM files as PNG" in text


def test_one_class_only(paint):
    paint.many("a/{}.png", 5)
    text = refused(DataError, paint.folder)
    assert "has one class only, 'a'" in text
    assert "the folder whose sub-folders are the classes" in text


def test_classes_that_differ_in_writing_only(paint):
    paint.table("path,label", f"{paint('1.png')},Normal", f"{paint('2.png')},normal", f"{paint('3.png')},b")
    assert "'Normal' and 'normal' differ only in how they are written" in refused(DataError, paint.folder)


def test_senseless_arguments(paint):
    paint.many("a/{}.png", 3)
    for options in ({"seed": -1}, {"workers": 0}, {"needs": ("dev",)}):
        refused(UsageError, paint.folder, **options)


# ------------------------------------------------------------------ leakage and contradictions


def leaky(paint: Painter, number: int = 1) -> None:
    for split in SPLITS:
        paint.many(f"{split}/a/{{}}.png", 3)
        paint.many(f"{split}/b/{{}}.png", 3)
    for i in range(number):
        paint(f"train/a/same{i}.png", content=i)
        paint(f"test/a/other{i}.png", content=i)


def test_the_same_picture_in_two_splits(paint):
    leaky(paint)
    text = refused(LeakageError, paint.folder)
    assert "1 picture stands in two splits: train/a/same0.png (train) = test/a/other0.png (test)" in text
    assert "--allow-leakage" in text
    dataset = load_dataset(paint.folder, allow_leakage=True)
    assert len(dataset) == 20
    assert dataset.notes == (
        "leakage allowed: 1 picture stands in two splits: "
        "train/a/same0.png (train) = test/a/other0.png (test)",
    )


def test_many_leaks_are_counted_and_five_are_named(paint):
    leaky(paint, 9)
    text = refused(LeakageError, paint.folder)
    assert "9 pictures stand in two splits" in text
    assert text.count(" (train) = ") == 5
    assert "and 4 more" in text


def test_the_same_group_in_two_splits(paint):
    lines = ["path,label,patient,split"]
    for split in SPLITS:
        lines += [f"{paint(f'{split}{c}{i}.png')},{c},{split}{c}{i},{split}" for c in "ab" for i in range(2)]
    lines += [f"{paint('x.png')},a,P7,train", f"{paint('y.png')},a,P7,val", f"{paint('z.png')},a,P7,val"]
    paint.table(*lines)
    assert "1 group stands in two splits: P7 (train, val)" in refused(LeakageError, paint.folder)
    dataset = load_dataset(paint.folder, allow_leakage=True)
    assert dataset.notes == ("leakage allowed: 1 group stands in two splits: P7 (train, val)",)


def test_the_same_picture_under_two_labels_even_within_a_split(paint):
    for split in SPLITS:
        paint.many(f"{split}/a/{{}}.png", 2)
        paint.many(f"{split}/b/{{}}.png", 2)
    paint("train/a/x.png", content=1)
    paint("train/b/y.png", content=1)
    text = refused(DataError, paint.folder, allow_leakage=True)
    assert "1 picture stands under two labels: train/a/x.png (a) = train/b/y.png (b)" in text


def test_copies_within_a_split_are_noted(paint):
    leaky(paint, 0)
    paint("val/a/x.png", content=1)
    paint("val/a/y.png", content=1)
    assert load_dataset(paint.folder).notes == ("copies of other pictures in the same split: 1",)


# ------------------------------------------------------------------ unreadable files


def damage(paint: Painter, number: int) -> None:
    paint.many("a/{}.png", 6)
    paint.many("b/{}.png", 6)
    for i in range(number):
        (paint.folder / f"a/bad{i:02}.png").write_bytes(b"" if i % 2 else b"no picture")


def test_all_unreadable_files_are_listed_at_once(paint):
    damage(paint, 3)
    with pytest.raises(UnreadableImages) as caught:
        load_dataset(paint.folder)
    assert list(caught.value.reasons.values()) == [
        "not a picture, or damaged at its very start",
        "the file is empty",
        "not a picture, or damaged at its very start",
    ]
    text = str(caught.value)
    assert "3 images cannot be read" in text
    assert "a/bad02.png: not a picture" in text
    assert "--skip-unreadable" in text


def test_all_are_written_out(paint):
    damage(paint, 25)
    text = refused(UnreadableImages, paint.folder)
    assert "25 images cannot be read" in text
    assert text.count("bad") == 25


def test_unreadable_files_can_be_left_out_and_are_recorded(paint):
    damage(paint, 2)
    dataset = load_dataset(paint.folder, skip_unreadable=True)
    assert len(dataset) == 12
    assert dataset.notes[0] == (
        "2 unreadable images left out: a/bad00.png: not a picture, or damaged at its very start; "
        "a/bad01.png: the file is empty"
    )


def test_nothing_left(paint):
    for i in range(3):
        file = paint.folder / f"a/{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    assert "has no images left" in refused(DataError, paint.folder, skip_unreadable=True)


def test_a_truncated_picture_is_found_unless_not_looked_for(paint):
    paint.many("a/{}.png", 4)
    paint.many("b/{}.png", 4)
    file = paint.folder / "a/cut.jpg"
    Image.effect_noise((300, 300), 90).save(file)
    file.write_bytes(file.read_bytes()[:-500])
    assert "cut.jpg: truncated" in refused(UnreadableImages, paint.folder)
    assert len(load_dataset(paint.folder, verify=False)) == 9


# ------------------------------------------------------------------ split.csv


def table_lines(paint: Painter, header: str = "path,label,split", extra: str = "") -> list[str]:
    lines = [header]
    for split in SPLITS:
        lines += [f"{paint(f'img/{split}{c}{i}.png')},{c},{split}{extra}" for c in "ab" for i in range(2)]
    return lines


@pytest.mark.parametrize("column", ["patient", "group", "patient_or_group"])
def test_table_with_groups_and_other_columns(paint, column):
    lines = [f"age,{column},split,label,path"]
    for split in SPLITS:
        for label in "ab":
            lines += [
                f'"4,5",{split}{label},{split},{label},{paint(f"{split}{label}{i}.png")}' for i in range(2)
            ]
    paint.table(*lines)
    dataset = load_dataset(paint.folder)
    assert counts(dataset) == [[2, 2]] * 3
    assert {s.group for s in dataset} == {f"{split}{label}" for split in SPLITS for label in "ab"}
    assert dataset.notes == ()


def test_table_from_a_spreadsheet(paint):
    lines = table_lines(paint)
    text = "\r\n".join(lines).replace("img/", ".\\img\\").replace(",val", ",Validation ")
    (paint.folder / "split.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert counts(load_dataset(paint.folder)) == [[2, 2]] * 3


@pytest.mark.parametrize("sign", [";", "\t"])
def test_table_with_other_separators_and_headers(paint, sign):
    """As spreadsheets write them: decimal commas, a header in capitals, empty lines at the end."""
    lines = table_lines(paint, " Path,LABEL,Split,Age", ",4#5")
    text = "\r\n".join([*lines, ",,,", ", ,,", ""]).replace(",", sign).replace("#", ",")
    (paint.folder / "split.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    dataset = load_dataset(paint.folder)
    assert counts(dataset) == [[2, 2]] * 3
    assert {sample.further for sample in dataset} == {(("Age", "4,5"),)}


def test_absolute_paths_that_lie_in_the_folder(paint, tmp_path):
    lines = table_lines(paint)
    paint.table(*(line.replace("img/", f"{paint.folder}/img/") for line in lines))
    dataset = load_dataset(paint.folder)
    assert counts(dataset) == [[2, 2]] * 3
    (tmp_path / "linked").symlink_to(paint.folder)
    assert counts(load_dataset(tmp_path / "linked")) == [[2, 2]] * 3
    paint.table(*(line.replace("img/", f"{paint.folder}/../img/") for line in lines))
    assert "leads out of the data folder" in refused(DataError, paint.folder)


@pytest.mark.parametrize("header", ["path,label", "path,label,split"])
def test_table_without_splits(paint, header):
    empty = "," * (header.count(",") - 1)
    lines = [f"{paint(f'{c}{i}.png')},{c}{empty},{c}{i // 2}" for c in "ab" for i in range(40)]
    paint.table(f"{header},patient", *lines)
    dataset = load_dataset(paint.folder)
    assert counts(dataset) == [[24, 24], [6, 6], [10, 10]]
    assert dataset.notes == ("splits made 60/15/25 by group, stratified, seed 1",)


def test_empty_group_cells_are_groups_of_their_own(paint):
    paint.table(*table_lines(paint, "path,label,split,patient", ","))
    assert {s.group for s in load_dataset(paint.folder)} == {None}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.replace("a,train", "a,holdout", 1), "unknown split 'holdout'"),
        (lambda t: t.replace("a,train", ",train", 1), "no label: line 2 (img/traina0.png)"),
        (lambda t: t.replace("a,train", "a,", 1), "no split, while other lines have one: line 2"),
        (lambda t: t.replace("img/traina0", "../x"), "the path '../x.png' leads out of the data folder"),
        (lambda t: t.replace("img/traina0", "/etc/x"), "leads out of the data folder"),
        (lambda t: t.replace("img/traina0", "C:\\x"), "leads out of the data folder"),
        (lambda t: t.replace("img/traina0", "img/../../x"), "leads out of the data folder"),
        (lambda t: t.replace("img/traina0.png", ""), "line 2: the path is empty"),
        (
            lambda t: t.replace("img/traina0", "./img//traina1"),
            "the same path twice: img/traina1.png (lines 2, 3)",
        ),
        (lambda t: t.replace("img/traina", "img/gone"), "2 of the 12 files listed in"),
        (lambda t: t.replace("label", "class"), "has no column label (its columns: path, class, split)"),
        (lambda t: t.replace(",", "|"), "has no column path and no column label"),
        (lambda t: t.replace(",", ";").replace("a;", "a;;", 1), "fewer cells than the first line: line 2"),
        (lambda t: t.replace("label", "path"), "no column label"),
        (
            lambda t: t.replace("split", "split,patient,group"),
            "more than one column that says what belongs together",
        ),
        (lambda t: t.replace("split", "split,split"), "has two columns 'split'"),
        (
            lambda t: t.replace("a,train", "a,train,more", 1),
            "more or fewer cells than the first line: line 2",
        ),
        (lambda t: t.replace(",a,train", "", 1), "more or fewer cells than the first line: line 2"),
        (lambda t: t.split("\n")[0], "lists no images"),
        (lambda t: "", "has no column path"),
        (lambda t: t.replace("img/traina0", '"img'), "cannot be read as CSV"),
        (lambda t: t.replace("img/traina0", "img\0"), "of the 12 files listed in"),
    ],
)
def test_malformed_tables(paint, change, words):
    text = "\n".join(table_lines(paint))
    paint.table(change(text))
    assert words in refused(DataError, paint.folder)


def test_a_table_in_another_encoding(paint):
    table_lines(paint)
    (paint.folder / "split.csv").write_bytes("path,label,split\nnævus.png,a,train".encode("utf-16"))
    assert "save it as CSV in UTF-8" in refused(DataError, paint.folder)


def test_listed_but_missing_files(paint):
    paint.table(*table_lines(paint))
    for name in ("traina0", "vala0"):
        (paint.folder / f"img/{name}.png").unlink()
    text = refused(DataError, paint.folder)
    assert "2 of the 12 files listed in" in text
    assert "img/traina0.png; img/vala0.png" in text
    dataset = load_dataset(paint.folder, skip_unreadable=True)
    assert counts(dataset) == [[1, 2], [1, 2], [2, 2]]
    assert dataset.notes == (
        "2 unreadable images left out: img/traina0.png: no such file; img/vala0.png: no such file",
    )


# ------------------------------------------------------------------ the paper's split files


def published(paint: Painter, layout: str, listed: str) -> None:
    """A split file as published, the pictures under `layout` and called `listed` in it."""
    splits = {}
    for split in SPLITS:
        splits[split] = []
        for number, label in ((1, "PNEUMONIA"), (0, "NORMAL")):
            for i in range(3):
                place = {"split": "test" if split == "test" else "train", "label": label, "i": f"{split}{i}"}
                paint(layout.format(**place))
                splits[split].append([listed.format(**place), number, label.lower()])
    (paint.folder / "split.json").write_text(json.dumps(splits))


@pytest.mark.parametrize(
    ("layout", "listed"),
    [
        ("{split}/{label}/{i}.jpeg", "{split}/{label}/{i}.jpeg"),
        ("chest_xray/{split}/{label}/{i}.jpeg", "{split}/{label}/{i}.jpeg"),
        ("chest_xray/{split}/{label}/{i}.jpeg", "chest_xray/{split}/{label}/{i}.jpeg"),
        ("{split}/{label}/{i}.jpeg", "set/{split}/{label}/{i}.jpeg"),
        ("images/{label}/{i}.jpg", "{label}/{i}.jpg"),
        ("images/{label}/{i}.jpg", "{label}\\{i}.jpg"),
    ],
)
def test_published_layouts(paint, tmp_path, layout, listed):
    published(paint, layout, listed)
    for split_file in ("split.json", paint.folder / "split.json"):
        dataset = load_dataset(paint.folder, split_file=split_file)
        assert dataset.classes == ("normal", "pneumonia")
        assert counts(dataset) == [[3, 3]] * 3
        assert dataset.notes == ("splits as listed in split.json",)
        labels = {(s.label, "NORMAL" in s.path) for s in dataset}
        assert labels == {("normal", True), ("pneumonia", False)}


def test_a_table_as_split_file(paint):
    paint.table(*table_lines(paint), name="other.csv")
    dataset = load_dataset(paint.folder, split_file=paint.folder / "other.csv")
    assert counts(dataset) == [[2, 2]] * 3


def change_split(paint: Painter, change) -> None:
    content = json.loads((paint.folder / "split.json").read_text())
    change(content)
    (paint.folder / "split.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(holdout=[]), "unknown split 'holdout'"),
        (lambda c: c["train"][0].pop(), "train[0] is not [path, label, class name]"),
        (lambda c: c["val"].append("x"), "val[6] is not [path, label, class name]"),
        (lambda c: c.update(train={}), "is not a split file"),
        (lambda c: c["train"][0].__setitem__(2, "  "), "train[0] is not [path, label, class name]"),
        (lambda c: c["test"][0].__setitem__(1, 0), "is called 'pneumonia' here and 'normal' before"),
        (lambda c: c["test"][0].__setitem__(1, 5), "one class name has two numbers"),
        (lambda c: c["test"].append(c["test"][0]), "the same path twice: test/PNEUMONIA/test0.jpeg (test)"),
        (lambda c: c["test"][0].__setitem__(0, "../x.jpeg"), "test[0]: the path '../x.jpeg' leads out"),
        (lambda c: c["test"][0].__setitem__(0, "x.jpeg"), "1 of the 18 files listed in"),
        (lambda c: [part.clear() for part in c.values()], "lists no images"),
        (lambda c: c.clear(), "lists no images"),
    ],
)
def test_malformed_split_files(paint, change, words):
    published(paint, "{split}/{label}/{i}.jpeg", "{split}/{label}/{i}.jpeg")
    change_split(paint, change)
    assert words in refused(DataError, paint.folder, split_file="split.json")


def test_a_split_file_that_lists_a_picture_in_two_splits(paint):
    published(paint, "{split}/{label}/{i}.jpeg", "{split}/{label}/{i}.jpeg")
    change_split(paint, lambda c: c["train"].append(c["test"][0]))
    text = refused(LeakageError, paint.folder, split_file="split.json")
    assert "test/PNEUMONIA/test0.jpeg (train) = test/PNEUMONIA/test0.jpeg (test)" in text


def test_split_files_that_are_none(paint):
    paint.many("a/{}.png", 2)
    assert "does not exist" in refused(DataError, paint.folder, split_file="none.json")
    for text in ("", "{", "[1]", "3", "[" * 100_000):
        (paint.folder / "s.json").write_text(text)
        refused(DataError, paint.folder, split_file="s.json")


# ------------------------------------------------------------------ MedMNIST archives


def medmnist(folder: Path, name: str = "pneumoniamnist.npz", **changes: np.ndarray | None) -> Path:
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray | None] = {}
    for split, number in (("train", 8), ("val", 4), ("test", 6)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (number, 6, 6), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(number, dtype=np.uint8) % 2)[:, None]
    arrays |= changes
    np.savez(folder / name, **{key: value for key, value in arrays.items() if value is not None})
    return folder / name


def test_archive_with_published_names(tmp_path):
    dataset = load_dataset(medmnist(tmp_path))
    assert dataset.name == "pneumoniamnist.npz"
    assert dataset.classes == ("normal", "pneumonia")
    assert counts(dataset) == [[4, 4], [2, 2], [3, 3]]
    assert dataset.samples[1].path.endswith("pneumoniamnist.npz#train_images/1")
    assert dataset.samples[1].label == "pneumonia"
    assert dataset.notes == ("class names as published for pneumoniamnist (the archive holds numbers only)",)
    assert load_dataset(medmnist(tmp_path, "BloodMNIST_224.npz")).classes == ("basophil", "eosinophil")


def test_archive_without_names_and_with_a_list_of_them(tmp_path):
    path = medmnist(tmp_path, "mine.npz")
    dataset = load_dataset(path)
    assert dataset.classes == ("class 0", "class 1")
    assert "name them in mine.classes.json" in dataset.notes[0]
    names = tmp_path / "mine.classes.json"
    names.write_text('["healthy", "ill"]')
    dataset = load_dataset(path)
    assert dataset.classes == ("healthy", "ill")
    assert dataset.notes == ("class names read from mine.classes.json",)
    for text in ('["one"]', '{"0": "a"}', '["a", "a"]', '["a", 3]', "[", '["a", " "]'):
        names.write_text(text)
        refused(DataError, path)


def test_archive_without_val(tmp_path):
    path = medmnist(tmp_path, val_images=None, val_labels=None)
    assert counts(load_dataset(path)) == [[3, 3], [1, 1], [3, 3]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_images": np.zeros((8, 6, 6))}, "is float64 [8, 6, 6], not pictures"),
        ({"train_images": np.zeros((8, 6, 6, 6, 1), np.uint8)}, "not pictures"),
        ({"train_labels": None}, "has no array 'train_labels'"),
        ({"train_labels": np.zeros((8, 14), np.uint8)}, "has several labels an image"),
        ({"train_labels": np.zeros((7, 1), np.uint8)}, "has 8 train images and 7 train labels"),
        ({"train_labels": np.zeros((8, 1))}, "are not class numbers"),
        ({"train_labels": np.full((8, 1), -1)}, "are not class numbers"),
        ({"train_labels": np.full((8, 1), 2)}, "has a class number 2, but only 2 class names are known"),
        ({f"{s}_images": None for s in SPLITS}, "is not a MedMNIST archive: its arrays are train_labels"),
    ],
)
def test_malformed_archives(tmp_path, changes, words):
    assert words in refused(DataError, medmnist(tmp_path, **changes))


def test_archive_with_a_picture_in_two_splits(tmp_path):
    pictures = np.random.default_rng(1).integers(0, 256, (8, 6, 6), dtype=np.uint8)
    path = medmnist(tmp_path, train_images=pictures, val_images=pictures[:4].copy())
    assert "4 pictures stand in two splits: train_images/0 (train) = val_images/0 (val)" in refused(
        LeakageError, path
    )
    assert len(load_dataset(path, allow_leakage=True)) == 18


def test_archive_and_split_file_do_not_go_together(tmp_path):
    refused(UsageError, medmnist(tmp_path), split_file="x.json")


# ------------------------------------------------------------------ fuzz


@settings(max_examples=120, deadline=None)
@given(
    name=st.sampled_from(["split.csv", "s.json", "x.npz"]),
    start=st.sampled_from([b"", b"path,label,split\n", b'{"train": [', b"PK\3\4", b"\x93NUMPY"]),
    rest=st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode)),
)
def test_random_files_raise_nothing_else(tmp_path_factory, name, start, rest):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / name).write_bytes(start + rest)
    data = folder / name if name.endswith("npz") else folder
    with pytest.raises(MedvipError):
        load_dataset(data, split_file=name if name.endswith("json") else None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*SPLITS, "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=120, deadline=None)
@given(JSON)
def test_random_json_raises_nothing_else(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "s.json").write_text(json.dumps(content))
    with pytest.raises(MedvipError):
        load_dataset(folder, split_file="s.json")


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(st.text(max_size=6), min_size=1, max_size=4), max_size=4))
def test_random_tables_raise_nothing_else(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("fuzz")
    text = "path,label,split\n" + "\n".join(",".join(row) for row in rows)
    (folder / "split.csv").write_text(text, encoding="utf-8", errors="replace")
    with pytest.raises(MedvipError):
        load_dataset(folder)


# ------------------------------------------------------------------ further columns


def test_further_columns_go_with_their_samples_through_every_split(paint):
    names = paint.many("a/{}.png", 8) + paint.many("b/{}.png", 8)
    paint.table(
        "path,sex,label,age,patient",
        *(f'{name},{"fm"[i % 2]},{name[0]}, {20 + i},"p, {i}"' for i, name in enumerate(names)),
    )
    dataset = load_dataset(paint.folder, seed=3)
    assert len(dataset) == 16
    for sample in dataset:
        number = names.index(sample.path.removeprefix(f"{paint.folder.as_posix()}/"))
        assert sample.further == (("sex", "fm"[number % 2]), ("age", str(20 + number)))
        assert sample.group == f"p, {number}"
        assert sample.split in SPLITS


def test_without_further_columns_there_are_none(paint):
    names = paint.many("a/{}.png", 5) + paint.many("b/{}.png", 5)
    paint.table("path,label,split", *(f"{name},{name[0]}," for name in names))
    assert {sample.further for sample in load_dataset(paint.folder)} == {()}
