"""The drawn data set: the same for the same seed, true to what it says of itself, not trivial."""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medvip import phantoms
from medvip.errors import DataError, UsageError
from medvip.phantoms import SYMPTOMS, Phantom, draw_phantoms, paint, plan_phantoms


@pytest.fixture(scope="module")
def plans() -> tuple[Phantom, ...]:
    return plan_phantoms(images=320, seed=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_phantoms(tmp_path_factory.mktemp("drawn") / "phantoms", images=40, size=96)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def grey(plan: Phantom) -> np.ndarray:
    return paint(plan).astype(float).mean(axis=2)


def smoothed(around: np.ndarray, width: int) -> np.ndarray:
    """Running mean around a closed curve."""
    half = width // 2
    return np.convolve(np.r_[around[-half:], around, around[:half]], np.ones(width) / width, mode="valid")


# What is written


def test_same_seed_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    assert contents(draw_phantoms(tmp_path / "again", images=40, size=96)) == contents(folder)
    other = contents(draw_phantoms(tmp_path / "other", images=40, size=96, seed=2))
    assert other["truth.json"] != contents(folder)["truth.json"]


def test_tables_and_pictures_belong_together(folder: Path) -> None:
    with (folder / "split.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    truth = json.loads((folder / "truth.json").read_text())
    assert list(rows[0]) == ["path", "label", "patient_or_group", "split"]
    pictures = {p.relative_to(folder).as_posix() for p in folder.glob("*/*.jpg")}
    assert {row["path"] for row in rows} == pictures == {entry["path"] for entry in truth["images"]}
    assert len(rows) == len(pictures) == 40
    for row, entry in zip(rows, truth["images"], strict=True):
        assert (row["path"], row["label"], row["split"]) == (entry["path"], entry["label"], entry["split"])
        assert row["patient_or_group"] == entry["patient"]
        assert row["path"].split("/")[0] == row["label"]
        assert set(entry["marks"]) == {s for s, drawn in entry["symptoms"].items() if drawn}
        with Image.open(folder / row["path"]) as picture:
            assert (picture.size, picture.mode) == ((96, 96), "RGB")
    assert not list(folder.parent.glob(".*"))  # nothing half-written beside it
    assert "drawn by a program" in (folder / "README.md").read_text()
    assert (folder / "truth.json").stat().st_size < 40 * 4000


# What is planned


@settings(max_examples=20, deadline=None)
@given(images=st.integers(40, 140), seed=st.integers(0, 10_000))
def test_patients_and_classes_and_splits(images: int, seed: int) -> None:
    plans = plan_phantoms(images, seed, size=64)
    assert len(plans) == images == len({plan.path for plan in plans})
    of_patient = defaultdict(list)
    for plan in plans:
        of_patient[plan.patient.name].append(plan)
        assert (len(plan.symptoms) >= 2) == (plan.label == "suspicious")
        assert set(plan.marks()) == set(plan.symptoms) <= set(SYMPTOMS)
    for pictures in of_patient.values():
        assert 1 <= len(pictures) <= 3
        assert len({(plan.patient, plan.split) for plan in pictures}) == 1
    counted = Counter((plan.label, plan.split) for plan in plans)
    for label, number in (("harmless", images - images // 2), ("suspicious", images // 2)):
        for split, share in (("train", 0.6), ("val", 0.15), ("test", 0.25)):
            assert counted[label, split] >= 1
            assert abs(counted[label, split] - share * number) <= 3


def test_no_symptom_decides_alone(plans: tuple[Phantom, ...]) -> None:
    suspicious = [plan.label == "suspicious" for plan in plans]
    for symptom in SYMPTOMS:
        drawn = [symptom in plan.symptoms for plan in plans]
        assert 0.25 < np.mean(drawn) < 0.6
        assert 0.6 < roc_auc_score(suspicious, drawn) < 0.85


def test_pictures_lie_within_the_frame(plans: tuple[Phantom, ...]) -> None:
    for plan in plans:
        assert plan.outline.min() > 0
        assert plan.outline.max() < plan.size
        assert all(np.hypot(x - plan.x, y - plan.y) < 2 * plan.radius for x, y, _ in plan.dots)


@pytest.mark.parametrize("arguments", [{"images": 39}, {"size": 10}, {"seed": -1}])
def test_senseless_arguments_are_refused(tmp_path: Path, arguments: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        draw_phantoms(tmp_path / "none", **arguments)
    assert not list(tmp_path.iterdir())


# What is seen


def test_lesion_lies_where_its_outline_says(plans: tuple[Phantom, ...]) -> None:
    """Just inside the stated outline it is darker than just outside, nearly all around."""
    shown = [plan for plan in plans if "several_colours" not in plan.symptoms][:24]
    for plan in shown:
        pixels = grey(plan)
        centre = np.array([plan.x, plan.y])
        inside, outside = (
            np.clip((centre + factor * (plan.outline - centre)).astype(int), 0, plan.size - 1)
            for factor in (0.88, 1.12)
        )
        darker = pixels[inside[:, 1], inside[:, 0]] < pixels[outside[:, 1], outside[:, 0]]
        assert darker.mean() > 0.85, plan.path


def test_dots_are_dark_where_they_are_said_to_be(plans: tuple[Phantom, ...]) -> None:
    shown = [plan for plan in plans if "dark_dots" in plan.symptoms][:24]
    down, across = np.mgrid[:224, :224] + 0.5
    seen = total = 0
    for plan in shown:
        pixels = grey(plan)
        assert len(plan.dots) >= 5
        for x, y, radius in plan.dots:
            away = np.hypot(across - x, down - y)
            middle, ring = pixels[away < 0.8 * radius], pixels[(away > radius + 1.5) & (away < radius + 4)]
            seen += middle.mean() < 0.85 * np.median(ring)
            total += 1
    assert seen / total > 0.95


def test_patches_have_other_colours_where_they_are_said_to_be(plans: tuple[Phantom, ...]) -> None:
    """Within the lesion, colour varies far more with the symptom than without, and at the patches."""
    spread = {True: [], False: []}
    for plan in plans[:60]:
        picture = paint(plan).astype(float)
        down, across = np.mgrid[: plan.size, : plan.size] + 0.5
        core = picture[np.hypot(across - plan.x, down - plan.y) < 0.75 * plan.radius]
        spread["several_colours" in plan.symptoms].append(np.linalg.norm(core.std(axis=0)))
        for patch in plan.patches:
            here = picture[np.hypot(across - patch.x, down - patch.y) < 0.5 * patch.radius]
            off = np.linalg.norm(np.median(here, axis=0) - plan.brown)
            assert off > 15, (plan.path, patch.colour)
        assert len({patch.colour for patch in plan.patches}) == len(plan.patches)
    assert (
        roc_auc_score([1] * len(spread[True]) + [0] * len(spread[False]), spread[True] + spread[False]) > 0.9
    )


def test_jagged_edges_are_rougher_and_asymmetric_shapes_lopsided(plans: tuple[Phantom, ...]) -> None:
    """Measured on the outline, which the test above finds in the pixels."""
    roughness, lopsided = [], []
    for plan in plans:
        around = np.hypot(*(plan.outline - [plan.x, plan.y]).T) / plan.radius
        smooth = smoothed(around, 41)
        roughness.append(np.abs(around - smooth).mean())
        mirrored = [np.abs(smooth - np.roll(smooth[::-1], turn)).mean() for turn in range(0, 480, 4)]
        lopsided.append(min(mirrored))
    jagged = ["jagged_edge" in plan.symptoms for plan in plans]
    asymmetric = ["asymmetric" in plan.symptoms for plan in plans]
    assert roc_auc_score(jagged, roughness) > 0.99
    assert roc_auc_score(asymmetric, lopsided) > 0.97


def test_edges_are_rough_in_the_pixels(plans: tuple[Phantom, ...]) -> None:
    """Along the smoothed outline, spikes and gaps take turns when jagged, so brightness flickers."""
    flicker: dict[bool, list[float]] = {True: [], False: []}
    for plan in plans:
        if set(plan.symptoms) - {"jagged_edge"} or plan.patient.hairs:
            continue
        across, down = (smoothed(coordinate, 41).astype(int) for coordinate in plan.outline.T)
        path = grey(plan)[down, across]
        flicker["jagged_edge" in plan.symptoms].append(float(np.std(path - smoothed(path, 61))))
    assert min(len(found) for found in flicker.values()) >= 5
    assert np.median(flicker[True]) > 1.8 * np.median(flicker[False])


def test_trivial_cues_do_not_give_the_class_away() -> None:
    """Brightness, contrast, colour and size alone tell little."""
    plans = plan_phantoms(images=320, seed=1, size=64)
    cues = []
    for plan in plans:
        picture = paint(plan).astype(float)
        cues.append([*picture.mean(axis=(0, 1)), picture.mean(axis=2).std(), plan.radius])
    labels = np.array([plan.label == "suspicious" for plan in plans])
    patients = [plan.patient.name for plan in plans]
    guess = cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression()),
        np.array(cues), labels, groups=patients, cv=GroupKFold(5), method="predict_proba",
    )  # fmt: skip
    assert roc_auc_score(labels, guess[:, 1]) < 0.7


# Where it is written


def test_same_phantoms_are_used_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phantoms, "paint", lambda plan: pytest.fail("drawn again"))
    assert draw_phantoms(folder, images=40, size=96) == folder


def test_folder_with_other_things_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="is not empty, and what it holds are not phantoms"):
        draw_phantoms(tmp_path, images=40, size=96)
    assert contents(tmp_path) == {"thesis.txt": b"mine"}
    with pytest.raises(DataError, match="other phantoms"):
        draw_phantoms(folder, images=41, size=96)
    with pytest.raises(DataError, match="is a file"):
        draw_phantoms(tmp_path / "thesis.txt", images=40, size=96)


def test_changed_phantoms_are_noticed(tmp_path: Path) -> None:
    folder = draw_phantoms(tmp_path / "phantoms", images=40, size=64)
    next(folder.glob("suspicious/*.jpg")).unlink()
    with pytest.raises(DataError, match="were changed since they were drawn"):
        draw_phantoms(folder, images=40, size=64)


def test_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    draw_phantoms(tmp_path / "new", images=40, size=64)
    assert (tmp_path / "new" / "split.csv").exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_half_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fails(plan: Phantom) -> np.ndarray:
        raise error

    monkeypatch.setattr(phantoms, "paint", fails)
    expected = DataError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        draw_phantoms(tmp_path / "phantoms", images=40, size=64)
    assert not list(tmp_path.iterdir())
