"""Pictures as pixels: the same pictures, views and labels as the vectors have, and few of them at once."""

from __future__ import annotations

import gc
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from paint_backbone import DIM, SIDE, PaintBackbone
from PIL import Image
from torch import nn

from medvip.errors import UnreadableImages
from medvip.features import (
    Augmentation,
    FeatureTable,
    compute_features,
    open_pictures,
    read_pixels,
)
from medvip.images import load_dataset
from medvip.training import Recipe, train_model
from medvip.types import ImageDataset

VIEWS = 3


@pytest.fixture
def dataset(tiny_images: Path) -> ImageDataset:
    return load_dataset(tiny_images)


def directly(path: str) -> torch.Tensor:
    """The pixels that `PaintBackbone` makes of a plain picture, written out."""
    with Image.open(path) as opened:
        pixels = np.asarray(opened.convert("RGB").resize((SIDE, SIDE)), dtype=np.float32)
    return torch.from_numpy(pixels / 255 - 0.5).permute(2, 0, 1)


def test_it_says_of_its_pictures_what_the_vectors_say_of_theirs(dataset: ImageDataset) -> None:
    pictures = open_pictures(dataset, PaintBackbone(), augmentation=Augmentation(views=VIEWS))
    features = compute_features(dataset, PaintBackbone(), augmentation=Augmentation(views=VIEWS))
    for split in ("train", "val", "test"):
        ours, theirs = getattr(pictures, split), getattr(features, split)
        assert len(ours) == len(theirs) > 0
        assert torch.equal(ours.labels, theirs.labels)
        for name in ("classes", "paths", "groups", "contents", "fingerprint", "views"):
            assert getattr(ours, name) == getattr(theirs, name), name
    assert (pictures.train.views, pictures.val.views, pictures.test.views) == (VIEWS + 1, 1, 1)


def test_each_view_is_the_one_whose_vector_is_kept(dataset: ImageDataset) -> None:
    class Framing(PaintBackbone):
        """Tells views, which come in the encoder's size, from plain pictures."""

        def preprocess(self, picture, *, framed=False):
            return super().preprocess(picture, framed=framed) + float(framed)

    backbone, augmentation = Framing("framing"), Augmentation(views=VIEWS, seed=5)
    table = open_pictures(dataset, backbone, augmentation=augmentation).train
    vectors = compute_features(dataset, Framing("framing"), augmentation=augmentation).train.vectors
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(0))
    for shift in range(VIEWS + 1):
        view = (torch.arange(len(table)) + shift) % (VIEWS + 1)
        batches = list(table.batches(order, view, 5))
        assert [len(labels) for _, labels in batches] == [5] * (len(table) // 5) + [len(table) % 5]
        pixels = torch.cat([images for images, _ in batches])
        assert torch.equal(torch.cat([labels for _, labels in batches]), table.labels[order])
        torch.testing.assert_close(pixels.flatten(1) @ backbone.matrix, vectors[order, view[order]])
    assert not torch.allclose(vectors[:, 0], vectors[:, 1])


def test_parts_are_the_plain_pictures_in_their_order(
    dataset: ImageDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medvip.features.picture_table.BATCH", 4)
    table = open_pictures(dataset, PaintBackbone(), augmentation=Augmentation(views=2)).train
    parts = list(table.parts())
    assert [len(part) for part in parts[:-1]] == [4] * (len(parts) - 1)
    assert torch.equal(torch.cat(parts), torch.stack([directly(path) for path in table.paths]))
    assert torch.equal(
        torch.cat(list(read_pixels(table.paths, PaintBackbone(), quiet=True))), torch.cat(parts)
    )


def test_some_of_the_pictures_are_the_same_as_some_of_the_vectors(dataset: ImageDataset) -> None:
    backbone, augmentation = PaintBackbone(), Augmentation(views=VIEWS)
    pictures = open_pictures(dataset, backbone, augmentation=augmentation, workers=1).train
    features = compute_features(dataset, PaintBackbone(), augmentation=augmentation).train
    kept = np.array([5, 0, 7])
    some, same = pictures.taken(kept), features.taken(kept)
    for table, whole in ((some, pictures), (same, features)):
        assert table.labels.tolist() == [whole.labels[row].item() for row in kept]
        for name in ("paths", "groups", "contents"):
            assert getattr(table, name) == tuple(getattr(whole, name)[row] for row in kept)
        assert (table.classes, table.fingerprint, table.views) == (whole.classes, whole.fingerprint, 4)
    order, view = torch.tensor([2, 0, 1]), torch.tensor([3, 0, 1])
    (pixels, labels), (vectors, labels_too) = (next(t.batches(order, view, 3)) for t in (some, same))
    assert torch.equal(labels, labels_too)
    torch.testing.assert_close(pixels.flatten(1) @ backbone.matrix, vectors)
    torch.testing.assert_close(torch.cat(list(some.parts())).flatten(1) @ backbone.matrix, same.plain)
    assert len(pictures.taken(np.zeros(0, dtype=int))) == len(features.taken(np.zeros(0, dtype=int))) == 0


def test_known_contents_are_not_read_again(dataset: ImageDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    read = open_pictures(dataset, PaintBackbone())
    known = {path: f"{number:064}" for number, path in enumerate(sample.path for sample in dataset)}
    monkeypatch.delattr("medvip.features.picture_table.content_hash")
    told = open_pictures(dataset, PaintBackbone(), contents=known)
    for split in ("train", "val", "test"):
        assert getattr(told, split).paths == getattr(read, split).paths
        assert getattr(told, split).contents == tuple(known[path] for path in getattr(told, split).paths)


@pytest.mark.parametrize("workers", [1, 7])
def test_threads_change_nothing(dataset: ImageDataset, workers: int) -> None:
    class Hesitant(PaintBackbone):
        def preprocess(self, picture, *, framed=False):
            time.sleep(np.random.default_rng().uniform(0, 0.003))
            return super().preprocess(picture, framed=framed)

    def all_of(backbone: PaintBackbone, workers: int | None) -> torch.Tensor:
        table = open_pictures(dataset, backbone, augmentation=Augmentation(views=1), workers=workers).train
        order = torch.arange(len(table)).flip(0)
        return torch.cat([images for images, _ in table.batches(order, torch.arange(len(table)) % 2, 3)])

    assert torch.equal(all_of(Hesitant(), workers), all_of(PaintBackbone(), None))


def test_few_pictures_are_decoded_and_none_is_kept(dataset: ImageDataset) -> None:
    backbone = PaintBackbone()
    table = open_pictures(dataset, backbone).train
    assert backbone.preprocessed == 0, "nothing is decoded before it is asked for"
    batches = table.batches(torch.arange(len(table)), torch.zeros(len(table), dtype=torch.long), 4)
    first, _ = next(batches)
    time.sleep(0.2)
    assert 4 <= backbone.preprocessed <= 8, "no more than a batch ahead"
    gone = weakref.ref(first)
    del first
    for images, _ in batches:
        assert len(images) <= 4
    del images
    gc.collect()
    assert gone() is None
    assert backbone.preprocessed == len(table)


def test_a_split_without_pictures(dataset: ImageDataset) -> None:
    only_train = dataset.with_samples(tuple(sample for sample in dataset if sample.split == "train"))
    pictures = open_pictures(only_train, PaintBackbone())
    assert (len(pictures.val), len(pictures.test)) == (0, 0)
    assert list(pictures.val.parts()) == []


def test_all_pictures_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for label in ("a", "b"):
        for index in range(8):
            file = tmp_path / label / f"{index}.png"
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(file)
    dataset = load_dataset(tmp_path)
    table = open_pictures(dataset, PaintBackbone()).train
    bad = {table.paths[0], table.paths[1], table.paths[-1]}
    for path in bad:
        Path(path).write_bytes(Path(path).read_bytes()[:60])
    batches = table.batches(torch.arange(len(table)), torch.zeros(len(table), dtype=torch.long), 2)
    with pytest.raises(UnreadableImages) as caught:
        next(batches)  # nothing is learned behind a picture that cannot be read
    assert set(caught.value.reasons) == bad
    with pytest.raises(UnreadableImages) as caught:
        list(table.parts())
    assert set(caught.value.reasons) == bad
    gone = {dataset.samples[0].path, dataset.samples[-1].path}
    for path in gone:
        Path(path).unlink()
    with pytest.raises(UnreadableImages) as caught:
        open_pictures(dataset, PaintBackbone())
    assert set(caught.value.reasons) == gone


@pytest.mark.parametrize("views", [0, 2])
def test_the_loop_learns_the_same_from_pixels_as_from_the_same_numbers_as_vectors(
    dataset: ImageDataset, views: int
) -> None:
    augmentation = Augmentation(views=views)
    pictures = open_pictures(dataset, PaintBackbone(), augmentation=augmentation)

    class Flat(PaintBackbone):
        """Its vectors are the pixels themselves."""

        embed_dim = 3 * SIDE * SIDE

        def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.flatten(1)

    features = compute_features(dataset, Flat("flat"), augmentation=augmentation)
    assert isinstance(features.train, FeatureTable)
    recipe = Recipe(epochs=3, learning_rate=0.05, batch_size=4)

    def trained(tables, model: nn.Module) -> tuple[list[torch.Tensor], list[dict]]:
        history: list[dict] = []
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
        train_model(model, tables.train, tables.val, recipe, 3, history, quiet=True)
        return list(model.parameters()), [{**entry, "seconds": 0} for entry in history]

    width = 3 * SIDE * SIDE
    of_pixels = trained(pictures, nn.Sequential(nn.Flatten(), nn.Linear(width, 3)))
    of_vectors = trained(features, nn.Linear(width, 3))
    assert of_pixels[1] == of_vectors[1]
    for one, other in zip(of_pixels[0], of_vectors[0], strict=True):
        assert torch.equal(one, other)
    assert of_vectors[1][-1]["loss"] < of_vectors[1][0]["loss"]


def test_the_paint_backbone_is_what_it_says(dataset: ImageDataset) -> None:
    """The other tests lean on it."""
    path = dataset.samples[0].path
    backbone = PaintBackbone()
    assert backbone.directly(path).shape == (DIM,)
    torch.testing.assert_close(directly(path).flatten() @ backbone.matrix, backbone.directly(path))
