"""The trivial cues of a picture, by hand; and that they find a shortcut and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medvip.errors import FeatureError, NotFittedError, TrainingError, UnreadableImages
from medvip.evaluation.benchmark import cues
from medvip.evaluation.benchmark.cues import CUES, FINGERPRINT, TrivialCues, compute_cues, cues_of
from medvip.features import FeatureTable
from medvip.features.store import FeatureStore
from medvip.images import content_hash


def test_cues_by_hand() -> None:
    """30 x 20, grey 100, but for one bright corner square of 2 x 2."""
    pixels = np.full((20, 30), 100, np.uint8)
    pixels[:2, :2] = 200
    found = dict(zip(CUES, cues_of(Image.fromarray(pixels).convert("RGB")), strict=True))
    mean = (596 * 100 + 4 * 200) / 600 / 255
    assert found["width"] == 30
    assert found["height"] == 20
    assert found["aspect ratio"] == 1.5
    assert found["mean"] == pytest.approx(mean)
    spread = np.sqrt((596 * (100 / 255 - mean) ** 2 + 4 * (200 / 255 - mean) ** 2) / 600)
    assert found["contrast"] == pytest.approx(spread)
    assert found["corner brightness"] == pytest.approx((200 + 3 * 100) / 4 / 255)


def test_a_picture_of_one_pixel() -> None:
    assert cues_of(Image.new("RGB", (1, 1), (255, 255, 255))).tolist() == [1, 1, 1, 1, 0, 1]


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    paths = []
    for index in range(5):
        path = tmp_path / f"{index}.png"
        Image.new("RGB", (10 + index, 10), (40 * index,) * 3).save(path)
        paths.append(str(path))
    return paths


def test_cues_are_computed_once(pictures: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [content_hash(path) for path in pictures]
    compute_cues(pictures[:3], contents[:3], tmp_path, quiet=True)
    read: list[str] = []
    reading = cues.read_picture
    monkeypatch.setattr(cues, "read_picture", lambda path: read.append(path) or reading(path))
    compute_cues(pictures, contents, tmp_path, quiet=True)
    assert sorted(read) == pictures[3:]
    kept = FeatureStore(FINGERPRINT, tmp_path).load("plain", contents)
    for path, content in zip(pictures, contents, strict=True):
        assert kept[content].tolist() == pytest.approx(cues_of(Image.open(path)).tolist())


def test_every_unreadable_picture_is_named(pictures: list[str], tmp_path: Path) -> None:
    broken = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in broken:
        path.write_bytes(b"no picture " + path.name.encode())
    paths = [*pictures, *map(str, broken)]
    with pytest.raises(UnreadableImages) as caught:
        compute_cues(paths, [content_hash(path) for path in paths], tmp_path, quiet=True)
    assert set(caught.value.reasons) == set(map(str, broken))


def table(values: np.ndarray, labels: np.ndarray, fingerprint: str = FINGERPRINT) -> FeatureTable:
    names = tuple(map(str, range(len(labels))))
    vectors = torch.from_numpy(values).float()[:, None]
    return FeatureTable(vectors, torch.from_numpy(labels), ("ill", "well"), names, names, names, fingerprint)


def noise(images: int, seed: int, wider: float) -> FeatureTable:
    """Cues of no meaning, but for the width of the ill."""
    random = np.random.default_rng(seed)
    labels = np.arange(images) % 2
    values = random.normal(0, 1, (images, 6)) * [20, 20, 0.2, 0.1, 0.1, 0.1] + [200, 200, 1, 0.5, 0.2, 0.3]
    values[:, 0] += wider * (labels == 0)
    return table(values, labels)


@pytest.mark.parametrize(("wider", "low", "high"), [(120, 0.95, 1), (0, 0.35, 0.65)])
def test_a_shortcut_is_found_and_noise_is_not(wider: float, low: float, high: float) -> None:
    fitted = TrivialCues().fit(noise(200, 1, wider), noise(60, 2, wider))
    test = noise(200, 3, wider)
    said = fitted.predict_proba(test.plain)
    assert np.allclose(said.sum(axis=1), 1)
    assert low <= (said.argmax(axis=1) == test.labels.numpy()).mean() <= high
    assert fitted.history[-1]["C"] > 0


def test_it_refuses_vectors_of_a_backbone_and_missing_classes() -> None:
    some = noise(10, 1, 0)
    with pytest.raises(FeatureError):
        TrivialCues().fit(table(some.plain.double().numpy(), some.labels.numpy(), "a backbone"), some)
    with pytest.raises(TrainingError):
        TrivialCues().fit(table(some.plain.double().numpy(), np.zeros(10, dtype=np.int64)), some)
    with pytest.raises(NotFittedError):
        TrivialCues().predict_proba(some.plain)
