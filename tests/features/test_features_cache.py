"""Vectors are computed once: whatever moves, and whatever is killed, doubled or damaged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import paint_backbone
import pytest
import torch
from paint_backbone import PaintBackbone
from PIL import Image
from safetensors import safe_open

from medvip.backbones import load_backbone
from medvip.errors import FeatureError, UnreadableImages
from medvip.features import Augmentation, compute_features, encode_paths, extraction
from medvip.features.store import FeatureStore
from medvip.images import load_dataset
from medvip.types import ImageDataset, Sample


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "kept"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two classes of 20 small pictures each, all different."""
    random = np.random.default_rng(7)
    for label in ("left", "right"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for index in range(20):
            pixels = random.integers(0, 256, (9, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / label / f"{index:02}.png")
    return tmp_path / "pictures"


def kept_files(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.safetensors"))


def all_vectors(features) -> dict[str, torch.Tensor]:
    tables = (features.train, features.val, features.test)
    return {path: table.plain[row] for table in tables for row, path in enumerate(table.paths)}


def test_vectors_equal_direct_encoding_and_are_computed_once(pictures: Path, cache: Path) -> None:
    dataset, backbone = load_dataset(pictures), PaintBackbone()
    first = compute_features(dataset, backbone, cache=cache)
    assert backbone.encoded == 40
    for path, vector in all_vectors(first).items():
        torch.testing.assert_close(vector, backbone.directly(path), atol=1e-5, rtol=0)
    for table, split in ((first.train, "train"), (first.val, "val"), (first.test, "test")):
        samples = dataset.only(split).samples
        assert table.paths == tuple(sample.path for sample in samples)
        assert [table.classes[label] for label in table.labels] == [sample.label for sample in samples]
        assert table.fingerprint == backbone.fingerprint
        assert table.vectors.shape == (len(samples), 1, backbone.embed_dim)

    again = PaintBackbone()
    second = compute_features(dataset, again, cache=cache)
    assert (again.encoded, again.preprocessed) == (0, 0)
    assert all(torch.equal(vector, all_vectors(second)[path]) for path, vector in all_vectors(first).items())
    paths = [sample.path for sample in reversed(dataset.samples)]
    assert torch.equal(
        encode_paths(paths, again, cache=cache), torch.stack([all_vectors(first)[path] for path in paths])
    )
    assert again.encoded == 0


def test_vectors_of_a_transformers_model_equal_its_own(tiny_clip: Path, tiny_images: Path) -> None:
    from transformers import CLIPImageProcessorPil, CLIPModel

    model, processor = CLIPModel.from_pretrained(tiny_clip), CLIPImageProcessorPil.from_pretrained(tiny_clip)
    paths = [str(file) for file in sorted(tiny_images.glob("*/1*.png"))]
    backbone = load_backbone(str(tiny_clip), device="cpu")
    for _ in range(2):  # computed, then read
        vectors = encode_paths(paths, backbone)
        for path, vector in zip(paths, vectors, strict=True):
            with Image.open(path) as picture, torch.no_grad():
                own = model.get_image_features(**processor(picture, return_tensors="pt")).pooler_output[0]
            torch.testing.assert_close(vector / own.norm(), own / own.norm(), atol=1e-5, rtol=0)


def test_renaming_moving_and_splitting_anew_cost_nothing(pictures: Path, cache: Path) -> None:
    compute_features(load_dataset(pictures), PaintBackbone(), cache=cache)
    moved = pictures.rename(pictures.with_name("elsewhere"))
    for file in list(moved.rglob("*.png")):
        file.rename(file.with_name(f"patient {file.stem} of ward 3.png"))
    again = PaintBackbone()
    features = compute_features(load_dataset(moved, seed=99), again, cache=cache)
    assert again.encoded == 0
    for path, vector in all_vectors(features).items():
        torch.testing.assert_close(vector, again.directly(path), atol=1e-5, rtol=0)


def test_what_decides_the_vectors_decides_what_is_read(pictures: Path, cache: Path) -> None:
    dataset = load_dataset(pictures)
    trained = len(dataset.only("train"))
    compute_features(dataset, PaintBackbone(), augmentation=Augmentation(views=2), cache=cache)

    def cost(fingerprint: str = "paint one", **kind) -> int:
        backbone = PaintBackbone(fingerprint)
        compute_features(dataset, backbone, augmentation=Augmentation(**kind), cache=cache)
        return backbone.encoded

    assert cost(views=2) == 0
    assert cost(views=0) == 0
    assert cost(views=1) == 0
    assert cost("another", views=0) == 40
    assert cost(views=3) == trained
    assert cost(views=2, seed=2) == 2 * trained
    assert cost(views=2, flip=False) == 2 * trained
    assert cost(views=2, scale=(0.5, 1.0)) == 2 * trained
    assert cost(views=2, scale=(0.5, 0.9999999)) == 2 * trained
    assert cost(views=2, scale=None) == 2 * trained


def test_vectors_of_another_way_of_reading_are_not_used(pictures: Path, cache: Path, monkeypatch) -> None:
    from medvip.features import store

    dataset = load_dataset(pictures)
    compute_features(dataset, PaintBackbone(), cache=cache)
    monkeypatch.setattr(store, "READER_VERSION", store.READER_VERSION + 1)
    again = PaintBackbone()
    compute_features(dataset, again, cache=cache)
    assert again.encoded == 40
    monkeypatch.undo()
    back = PaintBackbone()
    compute_features(dataset, back, cache=cache)
    assert back.encoded == 0


def test_one_changed_picture_costs_one(pictures: Path, cache: Path) -> None:
    compute_features(load_dataset(pictures), PaintBackbone(), cache=cache)
    changed = pictures / "left" / "03.png"
    Image.new("RGB", (9, 9), (1, 2, 3)).save(changed)
    backbone = PaintBackbone()
    features = compute_features(load_dataset(pictures), backbone, cache=cache)
    assert backbone.encoded == 1
    found = all_vectors(features)[str(changed)]
    torch.testing.assert_close(found, backbone.directly(changed), atol=1e-5, rtol=0)


def test_equal_pictures_are_encoded_once(cache: Path, tmp_path: Path) -> None:
    files = [str(tmp_path / f"{name}.png") for name in "abc"]
    for file in files:
        Image.new("RGB", (8, 8), (9, 200, 9)).save(file)
    backbone = PaintBackbone()
    vectors = encode_paths(files, backbone, cache=cache)
    assert backbone.encoded == 1
    assert torch.equal(vectors[0], vectors[2])


def program(*arguments: object) -> list[str]:
    return [sys.executable, paint_backbone.__file__, *map(str, arguments)]


def test_killed_half_way_it_goes_on_where_it_was(
    pictures: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = subprocess.Popen(program(pictures, cache, tmp_path / "never", 0, 0.2))
    deadline = time.monotonic() + 60
    while len(kept_files(cache)) < 2 and time.monotonic() < deadline:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "never").exists()

    kept = set()
    for file in kept_files(cache):
        with safe_open(file, framework="pt") as opened:
            kept |= set(json.loads(opened.metadata()["contents"]))
    assert 8 <= len(kept) < 40
    backbone = PaintBackbone()
    features = compute_features(load_dataset(pictures), backbone, cache=cache)
    assert backbone.encoded == 40 - len(kept)
    for path, vector in all_vectors(features).items():
        torch.testing.assert_close(vector, backbone.directly(path), atol=1e-5, rtol=0)


def test_two_processes_at_once_do_no_harm(pictures: Path, cache: Path, tmp_path: Path) -> None:
    outs = [tmp_path / "one.pt", tmp_path / "two.pt"]
    processes = [
        subprocess.Popen(program(pictures, cache, out, 2, 0.02, f"{other}.ready"), stderr=subprocess.PIPE)
        for out, other in zip(outs, reversed(outs), strict=True)
    ]
    for process in processes:
        errors = process.communicate(timeout=90)[1]
        assert process.returncode == 0, errors.decode()
    one, two = (torch.load(out, weights_only=True) for out in outs)
    backbone = PaintBackbone()
    features = compute_features(
        load_dataset(pictures), backbone, augmentation=Augmentation(views=2), cache=cache
    )
    assert backbone.encoded == 0
    assert not list(cache.rglob("*.part"))
    for split in ("train", "test"):
        assert torch.equal(one[split], two[split])
        assert torch.equal(getattr(features, split).vectors, one[split])


def damage(file: Path, how: str) -> None:
    content = bytearray(file.read_bytes())
    if how == "one bit":
        content[-3] ^= 0x10
    elif how == "truncated":
        del content[-7:]
    elif how == "garbage":
        content[:] = b"not a tensor in sight" * 20
    elif how == "empty":
        content.clear()
    elif how == "zeros":  # what a crashed file system leaves
        content[:] = bytes(len(content))
    file.write_bytes(content)


@pytest.mark.parametrize("how", ["one bit", "truncated", "garbage", "empty", "zeros"])
def test_a_damaged_file_is_named_and_computed_again(pictures: Path, cache: Path, how: str) -> None:
    dataset = load_dataset(pictures)
    before = compute_features(dataset, PaintBackbone(), cache=cache)
    file = max(kept_files(cache), key=lambda file: file.stat().st_size)  # that of the training pictures
    damage(file, how)
    backbone = PaintBackbone()
    with pytest.warns(UserWarning, match="damaged") as caught:
        after = compute_features(dataset, backbone, cache=cache)
    assert {str(file) in str(warning.message) for warning in caught} == {True}
    assert backbone.encoded == len(dataset.only("train"))
    for path, vector in all_vectors(before).items():
        torch.testing.assert_close(all_vectors(after)[path], vector, atol=1e-6, rtol=0)
    third = PaintBackbone()
    compute_features(dataset, third, cache=cache)  # without any warning
    assert third.encoded == 0


def test_no_flipped_bit_ever_gives_a_wrong_vector(cache: Path) -> None:
    """Every byte of a kept file in turn: its vectors come back right or not at all."""
    names = ["a" * 64, "b" * 64]
    right = dict(zip(names, torch.randn(2, 3, generator=torch.Generator().manual_seed(0)), strict=True))
    store = FeatureStore("some backbone", cache)
    store.add("plain", right)
    (file,) = kept_files(cache)
    whole = file.read_bytes()
    noticed = 0
    for position in range(len(whole)):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << position % 8
        file.write_bytes(flipped)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = store.load("plain", names)
        noticed += bool(caught)
        assert all(torch.equal(vector, right[name]) for name, vector in found.items()), position
        if len(found) < 2 and not caught:  # it bears another picture's name now
            assert whole[position : position + 1] in (b"a", b"b")
    assert noticed > len(whole) / 3
    file.write_bytes(whole)
    assert set(store.load("plain", names)) == set(names)


def test_a_cache_that_cannot_be_written_is_said_clearly(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FeatureError, match=r"cannot be kept in .*MEDVIP_CACHE"):
        compute_features(load_dataset(pictures), PaintBackbone(), cache=tmp_path / "file")


def test_the_users_cache_folder_is_the_default(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDVIP_CACHE", str(tmp_path / "users"))
    compute_features(load_dataset(pictures), PaintBackbone())
    assert len(kept_files(tmp_path / "users" / "features")) == 3


def test_all_unreadable_pictures_of_all_splits_are_listed_at_once(pictures: Path, cache: Path) -> None:
    dataset = load_dataset(pictures)
    bad: dict[str, str] = {}
    for split in ("train", "val", "test"):
        first, second, *_ = dataset.only(split).samples
        Path(first.path).write_bytes(f"no picture in {split}".encode())
        Path(second.path).unlink()
        bad |= {first.path: "not a picture", second.path: "no such file"}
    backbone = PaintBackbone()
    with pytest.raises(UnreadableImages) as caught:
        compute_features(dataset, backbone, cache=cache)
    assert set(caught.value.reasons) == set(bad)
    for path, reason in bad.items():
        assert reason in caught.value.reasons[path]
        assert path in str(caught.value)
    assert "to mend it" in str(caught.value)
    assert backbone.encoded == 34  # the work on the others is kept
    rest = dataset.with_samples(sample for sample in dataset if sample.path not in bad)
    again = PaintBackbone()
    compute_features(rest, again, cache=cache)
    assert again.encoded == 0

    with pytest.raises(UnreadableImages, match="2 images cannot be read"):
        encode_paths([*list(bad)[:2], rest.samples[0].path], again, cache=cache)


class BrokenBackbone(PaintBackbone):
    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        vectors = super().encode_images(pixels)
        vectors[2, 1] = torch.nan
        return vectors


def test_numbers_that_are_not_finite_are_refused_and_not_kept(pictures: Path, cache: Path) -> None:
    paths = [str(file) for file in sorted(pictures.rglob("*.png"))]
    with pytest.raises(FeatureError, match="paint gives numbers that are not finite") as caught:
        encode_paths(paths, BrokenBackbone(), cache=cache)
    assert paths[2] in str(caught.value)
    backbone = PaintBackbone()
    encode_paths(paths, backbone, cache=cache)
    assert backbone.encoded == 38, "the two before the bad one are kept, the bad one is not"


def test_pictures_of_an_array_and_empty_splits(tmp_path: Path, cache: Path) -> None:
    random = np.random.default_rng(3)
    arrays = {}
    for split, count in (("train", 8), ("val", 4), ("test", 4)):
        arrays[f"{split}_images"] = random.integers(0, 256, (count, 7, 7), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(count)[:, None] % 2
    np.savez(tmp_path / "small.npz", **arrays)
    backbone = PaintBackbone()
    features = compute_features(load_dataset(tmp_path / "small.npz"), backbone, cache=cache)
    for row, path in enumerate(features.train.paths):
        values = arrays["train_images"][int(path.rsplit("/", 1)[1])]
        Image.fromarray(values).convert("RGB").save(tmp_path / "one.png")
        expected = backbone.directly(tmp_path / "one.png")
        torch.testing.assert_close(features.train.plain[row], expected, atol=1e-5, rtol=0)

    sample = Sample(features.train.paths[0], "b", group="patient 7", split="train")
    alone = compute_features(ImageDataset("one", ("a", "b"), (sample,)), backbone, cache=cache)
    assert alone.train.groups == ("patient 7",)
    assert alone.train.labels.tolist() == [1]
    assert (len(alone.val), alone.val.vectors.shape) == (0, (0, 1, backbone.embed_dim))
    assert alone.test.labels.shape == (0,)
    no_group = replace(sample, group=None)
    table = compute_features(ImageDataset("one", ("a", "b"), (no_group,)), backbone, cache=cache).train
    assert table.groups == (sample.path,)


def test_decoding_goes_on_while_a_batch_is_encoded(
    pictures: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "BATCH", 4)
    moved_on = threading.Event()

    class Patient(PaintBackbone):
        """Encodes its first batch only when pictures of a later one have been decoded."""

        def preprocess(self, picture: Image.Image, *, framed: bool = False) -> torch.Tensor:
            if self.preprocessed >= 4:
                moved_on.set()
            return super().preprocess(picture, framed=framed)

        def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
            assert moved_on.wait(20), "nothing is decoded during encoding"
            return super().encode_images(pixels)

    backbone = Patient()
    encode_paths([str(file) for file in pictures.rglob("*.png")], backbone, cache=cache, workers=1)
    assert backbone.encoded == 40


def test_what_is_decoded_ahead_is_bounded(
    pictures: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory must not grow with the number of views: 8 views of 64 pictures would be a gigabyte."""
    monkeypatch.setattr(extraction, "BATCH", 4)
    most = 0

    class Watching(PaintBackbone):
        def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
            nonlocal most
            time.sleep(0.02)
            most = max(most, self.preprocessed - self.encoded)
            return super().encode_images(pixels)

    backbone = Watching()
    compute_features(
        load_dataset(pictures), backbone, augmentation=Augmentation(views=7), cache=cache, workers=2
    )
    assert most <= 4 * 4 + 8


def test_what_was_encoded_before_does_not_change_the_bits(tiny_clip: Path, tiny_images: Path, tmp_path: Path):
    """A picture alone in its batch has other last bits than among others: such are not kept."""
    backbone, dataset = load_backbone(str(tiny_clip), device="cpu"), load_dataset(tiny_images)
    fresh = compute_features(dataset, backbone, cache=tmp_path / "fresh", quiet=True)
    for sample in list(dataset)[:5]:
        encode_paths([sample.path], backbone, cache=tmp_path / "used", quiet=True)
    used = compute_features(dataset, backbone, cache=tmp_path / "used", quiet=True)
    assert torch.equal(fresh.train.vectors, used.train.vectors)
    assert torch.equal(fresh.test.vectors, used.test.vectors)


def test_the_number_of_workers_changes_no_bit(tiny_clip: Path, tiny_images: Path, tmp_path: Path) -> None:
    backbone = load_backbone(str(tiny_clip), device="cpu")
    paths = [str(file) for file in sorted(tiny_images.rglob("*.png"))]
    one, *others = (
        encode_paths(paths, backbone, cache=tmp_path / str(workers), workers=workers, quiet=True)
        for workers in (1, 2, 7)
    )
    assert len(one) == len(paths) > extraction.BATCH
    assert all(torch.equal(other, one) for other in others)
