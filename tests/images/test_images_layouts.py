"""Folders as people have them: other names of splits, levels above the classes, masks, links."""

from __future__ import annotations

import unicodedata

import pytest
from picture_sets import Painter, counts, refused

from medvip.errors import DataError
from medvip.images import load_dataset
from medvip.images.companions import find_companions
from medvip.images.trees import tree_of

SETS = (
    "bccd_wbc_type",
    "busi_breast_ultrasound_256",
    "ham10000_7class_224",
    "isic_uda1_melanoma_nevus",
    "kermany_cxr_pneumonia",
    "pbc_wbc_attributes_224",
)


@pytest.fixture
def paint(tmp_path):
    return Painter(tmp_path / "set")


def below(dataset, paint: Painter) -> list[str]:
    return [sample.path.removeprefix(f"{paint.folder.as_posix()}/") for sample in dataset]


def note_of(dataset, words: str) -> str:
    return next(note for note in dataset.notes if words in note)


# ------------------------------------------------------------------ names of splits, levels


@pytest.mark.parametrize(
    "names", [("Training", "valid", "Testing"), ("train", "Validate", "TEST"), ("TRAINING", "val", "testing")]
)
def test_usual_names_of_splits(paint, names):
    for name in names:
        paint.many(f"{name}/glioma/{{}}.png", 3)
        paint.many(f"{name}/no tumour/{{}}.png", 2)
    dataset = load_dataset(paint.folder)
    assert dataset.classes == ("glioma", "no tumour")
    assert counts(dataset) == [[3, 2]] * 3
    assert dataset.notes == ()


def test_two_folders_of_one_split(paint):
    for name in ("train", "val", "validation", "test"):
        paint.many(f"{name}/a/{{}}.png", 3)
        paint.many(f"{name}/b/{{}}.png", 3)
    assert "has several folders for val: val, validation" in refused(DataError, paint.folder)


@pytest.mark.parametrize("tops", [("fold_1", "fold_2"), ("hospital A", "hospital B", "hospital C")])
def test_a_level_above_the_classes(paint, tops):
    for top in tops:
        paint.many(f"{top}/ill/{{}}.png", 3)
        paint.many(f"{top}/well/deeper/{{}}.png", 3)
    text = refused(DataError, paint.folder)
    assert f"all of its folders ({'; '.join(tops)}) have the same sub-folders (ill; well)" in text
    assert f"such as {paint.folder / tops[0]}" in text
    assert "split.csv" in text
    if tops[0] == "fold_1":
        paint("fold_1/rare/0.png")
        assert "the same sub-folders (ill; well)" in refused(DataError, paint.folder)


def test_levels_that_are_none(paint):
    for label in "ab":  # sub-folders below classes: patients, of whom some have one number
        for patient in ("p1", "p2", f"only {label}"):
            paint.many(f"{label}/{patient}/{{}}.png", 3)
    assert load_dataset(paint.folder).classes == ("a", "b")
    other = Painter(paint.folder.parent / "other")
    for label in "ab":
        other.many(f"{label}/p1/{{}}.png", 3)
        other.many(f"{label}/p2/{{}}.png", 3)
        other(f"{label}/by itself.png")
    assert len(load_dataset(other.folder)) == 14


def test_a_folder_around_the_data_set(paint):
    for split in ("Training", "Testing"):
        paint.many(f"Brain MRI/{split}/a/{{}}.png", 6)
        paint.many(f"Brain MRI/{split}/b/{{}}.png", 6)
    text = refused(DataError, paint.folder)
    assert f"give {paint.folder / 'Brain MRI'}, if its split folders hold the classes" in text


# ------------------------------------------------------------------ masks and other companions


def test_masks_beside_pictures(paint):
    for label in ("benign", "malignant"):
        paint.many(f"{label}/{label} ({{}}).png", 8)
        paint.many(f"{label}/{label} ({{}})_mask.png", 8)
    paint("benign/benign (3)_mask_1.png")
    dataset = load_dataset(paint.folder)
    assert len(dataset) == 16
    note = note_of(dataset, "companions")
    assert note.startswith("left out as companions of pictures: 17 masks (benign/benign (0)_mask.png; ")
    assert "--with-companions" in note
    dataset = load_dataset(paint.folder, companions=True)
    assert len(dataset) == 33
    assert "17 masks" in note_of(dataset, "read as pictures")


def test_folders_of_masks_beside_folders_of_images(paint):
    for label in ("COVID", "Normal"):
        paint.many(f"{label}/images/{label}-{{}}.png", 8)
        paint.many(f"{label}/lung masks/{label}-{{}}.png", 8)
        paint.many(f"{label}/heatmaps/{{}}.png", 2)
    dataset = load_dataset(paint.folder)
    assert len(dataset) == 16
    assert all("/images/" in path for path in below(dataset, paint))
    assert "4 heatmaps and 16 masks" in note_of(dataset, "companions")


def test_masks_in_split_folders_and_in_the_place_of_classes(paint):
    for split in ("train", "val", "test"):
        for label in "ab":
            paint.many(f"{split}/{label}/{{}}.png", 3)
            paint.many(f"{split}/{label}_masks/{{}}_segmentation.png", 3)
    dataset = load_dataset(paint.folder)
    assert dataset.classes == ("a", "b")
    assert [note.split(" (")[0] for note in dataset.notes] == [
        "left out as companions of pictures: 6 masks"
    ] * 3
    other = Painter(paint.folder.parent / "other")
    other.many("images/{}.png", 8)
    other.many("masks/{}.png", 8)
    text = refused(DataError, other.folder)
    assert "holds pictures and their companions, not classes: images, masks" in text
    assert load_dataset(other.folder, companions=True).classes == ("images", "masks")
    nested = Painter(paint.folder.parent / "nested")
    for kind in ("images", "masks"):
        nested.many(f"{kind}/a/{{}}.png", 3)
        nested.many(f"{kind}/b/{{}}.png", 3)
    assert f"give {nested.folder / 'images'}" in refused(DataError, nested.folder)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("x_seg.png", "segmentation"),
        ("x_Segmentation.PNG", "segmentation"),
        ("x-heatmap.jpg", "heatmap"),
        ("x_gradcam.png", "heatmap"),
        ("x_label.png", "label map"),
        ("x overlay.png", "overlay"),
        ("x_superpixels.png", "superpixel map"),
        ("x_lung_mask.png", "mask"),
        ("x.mask.png", "mask"),
        ("mask_x.png", "mask"),
        ("x_mask (2).png", "mask"),
        ("masks/x.png", "mask"),
        ("masks/x_mask.png", "mask"),
        ("y.png", None),
        ("y_mask.png", None),
        ("masks/y.png", None),
        ("xmask.png", None),
        ("x_2.png", None),
        ("x_masked man.png", None),
        ("other/x_mask.png", None),
        ("mask.png", None),
        ("cam_x.png", None),
    ],
)
def test_what_is_a_companion(name, kind):
    found = find_companions(tree_of(["ill/x.jpg", f"ill/{name}"]))
    assert found == ({f"ill/{name}": kind} if kind else {})


def test_classes_that_are_called_like_companions(paint):
    for label in ("with_mask", "without_mask", "mask"):
        paint.many(f"{label}/{{}}.png", 5)
    dataset = load_dataset(paint.folder)
    assert dataset.classes == ("mask", "with_mask", "without_mask")
    assert len(dataset.notes) == 1


def test_listed_masks_are_read_and_named(paint):
    names = paint.many("a/{}.png", 5) + paint.many("b/{}.png", 5) + paint.many("a/{}_mask.png", 5)
    paint.table("path,label", *(f"{name},{name[0]}" for name in names))
    dataset = load_dataset(paint.folder)
    assert len(dataset) == 15
    assert "listed, and so read, though they look like companions of others: 5 masks" in dataset.notes[0]
    assert len(load_dataset(paint.folder, companions=True).notes) == 1


@pytest.mark.parametrize("name", SETS)
def test_no_false_alarm_on_real_sets(real_data, tmp_path, name):
    """As they are, and as class folders without their table, every picture is read."""
    listed = load_dataset(real_data / name, verify=False)
    assert listed.notes == ()
    for label in listed.classes:
        (tmp_path / label).symlink_to(real_data / name / label)
    folders = load_dataset(tmp_path, verify=False, allow_leakage=True)
    assert folders.counts() == listed.counts()
    assert len(folders) == len([p for c in listed.classes for p in (real_data / name / c).rglob("*.*")])
    assert not [note for note in folders.notes if "left out" in note or "ignored" in note]


# ------------------------------------------------------------------ links, and all that is not read


def test_links_to_folders_are_followed(paint):
    store = paint.folder.parent / "store"
    for label in ("ill", "well"):
        (paint.folder / label).mkdir(parents=True)
        for i in range(10):
            paint(f"../store/{label}/p{i}/1.png")
            (paint.folder / label / f"p{i}").symlink_to(store / label / f"p{i}")
        paint.many(f"{label}/own{{}}.png", 3)
    dataset = load_dataset(paint.folder)
    assert dataset.counts() == {"ill": 13, "well": 13}
    assert len(dataset.notes) == 1


def test_links_that_never_end_or_lead_nowhere(paint):
    paint.many("a/{}.png", 5)
    paint.many("a/deep/{}.png", 1)
    paint.many("b/{}.png", 5)
    (paint.folder / "a/deep/back").symlink_to(paint.folder / "a")
    (paint.folder / "b/round").symlink_to(paint.folder)
    (paint.folder / "b/itself").symlink_to("itself")
    (paint.folder / "b/gone").symlink_to("nothing")
    dataset = load_dataset(paint.folder)
    assert dataset.counts() == {"a": 6, "b": 5}
    note = note_of(dataset, "lead back")
    assert note == f"2 links that lead back to a folder above them in {paint.folder} left out: " + (
        "a/deep/back; b/round"
    )
    assert note_of(dataset, "nowhere").endswith("left out: b/gone; b/itself")


def test_everything_that_is_not_read_is_counted(paint):
    for split in ("train", "val", "test"):
        paint.many(f"{split}/a/{{}}.png", 3)
        paint.many(f"{split}/b/{{}}.png", 3)
    paint("train/a/.secret.png")
    paint("train/a/.old/1.png")
    paint("loose.png")
    for name in ("scan.dcm", "README.md", ".DS_Store", "train/more.zip", "train/a/x.txt", "train/a/._0.png"):
        (paint.folder / name).write_bytes(b"x")
    assert load_dataset(paint.folder).notes == (
        f"1 file in {paint.folder} ignored (not pictures): 1 .dcm",
        f"1 picture in {paint.folder} itself left out (no class): loose.png",
        f"2 files in {paint.folder / 'train'} ignored (not pictures): 1 .txt, 1 .zip",
        f"2 hidden pictures or folders in {paint.folder / 'train'} left out: a/.old; a/.secret.png",
    )


def test_a_table_that_is_not_read(paint):
    paint.many("a/{}.png", 5)
    paint.many("b/{}.png", 5)
    paint.table("path,label", name="metadata.csv")
    assert f"metadata.csv in {paint.folder} not read" in note_of(load_dataset(paint.folder), "metadata.csv")


# ------------------------------------------------------------------ names that look the same

COMPOSED, APART = (unicodedata.normalize(form, "m\u00e9lanome") for form in ("NFC", "NFD"))


def test_class_names_that_look_the_same_are_one_class(paint):
    for split, name in (("train", COMPOSED), ("val", APART), ("test", f"{COMPOSED} ")):
        paint.many(f"{split}/{name}/{{}}.png", 3)
        paint.many(f"{split}/nevus/{{}}.png", 3)
    dataset = load_dataset(paint.folder)
    assert dataset.classes == (COMPOSED, "nevus")
    assert counts(dataset) == [[3, 3]] * 3
    assert f"class '{COMPOSED}' is stored in 3 ways" in dataset.notes[0]
    assert "taken as one class" in dataset.notes[0]


def test_a_blank_at_the_end_of_a_class_name_is_not_shown(paint):
    paint.many("Normal /{}.png", 5)
    paint.many("Ill/{}.png", 5)
    dataset = load_dataset(paint.folder)
    assert dataset.classes == ("Ill", "Normal")
    assert len(dataset.notes) == 1


@pytest.mark.parametrize("other", [APART, f"{COMPOSED} "])
def test_class_folders_that_look_the_same_side_by_side_are_refused(paint, other):
    for name in (COMPOSED, other, "nevus"):
        paint.many(f"{name}/{{}}.png", 5)
    text = refused(DataError, paint.folder)
    assert f"two folders are called '{COMPOSED}'" in text
    assert "put their images in one folder" in text


@pytest.mark.parametrize(("listed", "stored"), [(COMPOSED, APART), (APART, COMPOSED), ("a", "a ")])
def test_listed_paths_in_another_form_are_found(paint, listed, stored):
    names = paint.many(f"{stored}/{{}}.png", 5) + paint.many("nevus/{}.png", 5)
    lines = [f"{name.replace(stored, listed, 1)},{name[0]}" for name in names]
    paint.table("path,label", *lines)
    dataset = load_dataset(paint.folder)
    assert sorted(below(dataset, paint)) == sorted(names)
    paint.folder.rename(paint.folder.parent / stored)
    assert len(load_dataset(paint.folder.parent / listed)) == 10
    (paint.folder.parent / stored / "split.csv").write_text(
        "\n".join(["path,label", *lines, f"{names[0]},m"])
    )
    if stored != "a ":  # blanks around cells are cut off, so the last line is the first one's twin anyway
        assert "the same path twice" in refused(DataError, paint.folder.parent / listed)


def test_labels_of_a_table_in_two_forms_are_one_class(paint):
    names = paint.many("x/{}.png", 20)
    labels = [COMPOSED, APART, "nevus", " nevus "] * 5
    paint.table("path,label", *(f"{name},{label}" for name, label in zip(names, labels, strict=True)))
    dataset = load_dataset(paint.folder)
    assert dataset.counts() == {COMPOSED: 10, "nevus": 10}
    assert [note for note in dataset.notes if "stored in 2 ways" in note]
