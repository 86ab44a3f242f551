"""What makes one vector of all stages' maps, the file with its centre and spread, and how that was made."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file
from torch import Tensor

from medvip.backbones import image_space
from medvip.backbones.embedded import EmbeddedBackbone
from medvip.backbones.image_space import SPACE_FILE, ImageSpace, load_image_space, moments, rooted_mean
from medvip.drawings import VERSION, draw, random_scene

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MADE_OF = 3000
"""Drawings that the file was made of, seeds 0 and on."""
FRESH = 60


# From maps to a vector


def random_space(stages: int, head: int, directions: int, seed: int) -> ImageSpace:
    """In double precision, so that only rounding of 1e-16 is in the way."""
    random = torch.Generator().manual_seed(seed)
    tensors = {
        "centre": torch.randn(stages, generator=random),
        "spread": 0.1 + torch.rand(stages, generator=random),
        "head_centre": torch.rand(head, generator=random),
        "head_directions": torch.randn(head, directions, generator=random),
    }
    return ImageSpace(tensors).double()


@st.composite
def spaces_and_maps(drawn) -> tuple[ImageSpace, list[Tensor]]:
    """Two to four maps of any width and size, the last of them without numbers below zero.

    Some channels are the same at all places, some of the last map zero.
    """
    seed, pictures = drawn(st.integers(0, 2**32)), drawn(st.integers(1, 3))
    random = torch.Generator().manual_seed(seed)
    maps = []
    for _ in range(drawn(st.integers(2, 4))):
        width, rows, columns = drawn(st.integers(1, 5)), drawn(st.integers(1, 9)), drawn(st.integers(1, 9))
        scale = drawn(st.sampled_from([1e-6, 1.0, 100.0]))
        states = scale * torch.randn(pictures, width, rows, columns, generator=random).double()
        flat = torch.rand(pictures, width, generator=random) < drawn(st.sampled_from([0.0, 0.3, 1.0]))
        states[flat] = states[flat][:, :1, :1]
        maps.append(states)
    maps[-1] = maps[-1].clamp(min=0)
    widths = [states.shape[1] for states in maps]
    return random_space(2 * sum(widths[:-1]), widths[-1], drawn(st.integers(1, 4)), seed), maps


@settings(deadline=None, max_examples=100)
@given(spaces_and_maps())
def test_places_average_to_the_vector_whatever_the_maps(given_):
    space, maps = given_
    vectors, grids = space(maps), space.places(maps)
    assert vectors.isfinite().all()
    assert len(grids) == len(maps)
    for grid, states in zip(grids, maps, strict=True):
        assert grid.shape[:3] == (len(states), *states.shape[2:])
        assert grid.isfinite().all()
    averaged = torch.cat([grid.mean((1, 2)) for grid in grids], 1)
    torch.testing.assert_close(averaged, vectors, rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(spaces_and_maps())
def test_vectors_are_numpys_means_deviations_and_roots(given_):
    space, maps = given_
    *stages, head = (states.numpy() for states in maps)
    parts = [part for stage in stages for part in (np.mean(stage, (2, 3)), np.std(stage, (2, 3)))]
    standardised = (np.concatenate(parts, 1) - space.centre.numpy()) / space.spread.numpy()
    rooted = np.sqrt(np.mean(head, (2, 3))) - space.head_centre.numpy()
    expected = np.concatenate([standardised, rooted @ space.head_directions.numpy()], 1)
    np.testing.assert_allclose(space(maps), expected, rtol=1e-9, atol=1e-9)


def test_a_place_adds_its_value_its_share_of_the_variance_and_its_share_of_the_root():
    """Place by place in plain Python: what is right on average could still be anywhere."""
    random = torch.Generator().manual_seed(1)
    stage = torch.randn(1, 2, 3, 4, generator=random).double()
    head = torch.rand(1, 5, 2, 2, generator=random).double()
    space = random_space(4, 5, 3, seed=2)
    of_stage, of_head = space.places([stage, head])
    for row in range(3):
        for column in range(4):
            for channel in range(2):
                values, value = stage[0, channel].numpy(), float(stage[0, channel, row, column])
                share = (value - values.mean()) ** 2 / values.std()
                for number, part in ((channel, value), (2 + channel, share)):
                    expected = (part - float(space.centre[number])) / float(space.spread[number])
                    assert float(of_stage[0, row, column, number]) == pytest.approx(expected, abs=1e-12)
    means = head[0].mean((1, 2)).numpy()
    for row in range(2):
        for column in range(2):
            share = head[0, :, row, column].numpy() / np.sqrt(means) - space.head_centre.numpy()
            expected = share @ space.head_directions.numpy()
            np.testing.assert_allclose(of_head[0, row, column], expected, atol=1e-12)


def test_nothing_seen_has_no_deviation_no_root_and_equal_places():
    space = random_space(4, 5, 3, seed=2)
    maps = [torch.full((1, 2, 3, 4), 2.5).double(), torch.zeros(1, 5, 2, 2).double()]
    assert moments(maps[0]).tolist() == [[2.5, 2.5, 0, 0]]
    assert (rooted_mean(maps[1]) == 0).all()
    for grid in space.places(maps):
        assert (grid == grid[:, :1, :1]).all()


# The file


@pytest.fixture(scope="module")
def shipped() -> dict[str, np.ndarray]:
    return load_file(SPACE_FILE)


def test_the_file_is_small_whole_and_says_how_it_was_made(shipped):
    shapes = {name: tensor.shape for name, tensor in shipped.items()}
    assert shapes == {
        "centre": (928,),
        "spread": (928,),
        "head_centre": (1280,),
        "head_directions": (1280, 320),
    }
    assert shapes == image_space.SHAPES
    for name, tensor in shipped.items():
        assert np.isfinite(tensor).all(), name
    assert (shipped["spread"] > 0).all()
    assert (shipped["head_centre"] > 0).all()
    assert SPACE_FILE.stat().st_size < 1_000_000
    with safe_open(SPACE_FILE, framework="np") as opened:
        header = opened.metadata()
    assert header["made_by"] == f"python benchmarks/measure_image_space.py --drawings {MADE_OF}"
    assert header["drawings"] == str(VERSION), "drawings have changed since: make it again"
    assert (BENCHMARKS / "measure_image_space.py").is_file()


def test_the_file_belongs_to_the_package_and_is_what_is_loaded(shipped):
    assert SPACE_FILE.parent == Path(image_space.__file__).parent
    space = load_image_space()
    for name, tensor in shipped.items():
        np.testing.assert_array_equal(getattr(space, name), tensor.astype(np.float32))


def test_directions_are_orthogonal_and_hold_most_of_how_imagenets_classes_differ(shipped):
    backbone = EmbeddedBackbone(torch.device("cpu"))
    rows = torch.load(backbone._image_weights, weights_only=True)["_fc.weight"].double().numpy()
    rows -= rows.mean(0)
    directions = shipped["head_directions"].astype(np.float64)
    directions /= np.linalg.norm(directions, axis=0).mean()
    np.testing.assert_allclose(directions.T @ directions, np.eye(320), atol=2e-3)
    energies = np.linalg.eigvalsh(rows.T @ rows)[::-1]  # the largest that 320 directions can hold
    assert np.square(rows @ directions).sum() == pytest.approx(energies[:320].sum(), rel=1e-3)
    assert energies[:320].sum() > 0.6 * energies.sum()


@pytest.fixture(scope="module")
def fresh_vectors() -> np.ndarray:
    """Of drawings that the file was not made of."""
    backbone = EmbeddedBackbone(torch.device("cpu"))
    pictures = [draw(random_scene(seed)) for seed in range(MADE_OF, MADE_OF + FRESH)]
    pixels = torch.from_numpy((np.stack(pictures).transpose(0, 3, 1, 2).astype(np.float32) - 127) / 128)
    return backbone.encode_images(pixels).double().numpy()


def test_fresh_drawings_lie_around_the_centre(fresh_vectors):
    """Of numbers with deviation 1, means over 60 have deviation 0.13."""
    means = fresh_vectors.mean(0) * np.sqrt(FRESH)
    assert (np.abs(means) < 5).mean() > 0.99
    assert np.sqrt(np.mean(means**2)) < 2.5
    assert abs(fresh_vectors.mean()) < 0.2


def test_fresh_drawings_spread_by_about_one_in_every_stage_and_in_the_last(fresh_vectors):
    spread, start = fresh_vectors.std(0, ddof=1), 0
    for width in (16, 24, 40, 80, 112, 192):
        for part in ("means", "deviations"):
            own = spread[start : start + width]
            assert 0.7 < np.sqrt(np.mean(own**2)) < 1.4, f"{part} of the stage with {width} channels"
            start += width
    assert start == 928
    assert 0.7 < np.sqrt(np.mean(spread[928:] ** 2)) < 1.4
    assert 0.4 < spread[:928].min() < spread[:928].max() < 3


# How it is made


@pytest.fixture
def measuring(monkeypatch) -> ModuleType:
    """The script as a module; found by name also by the processes that it starts."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    paths = os.pathsep.join([str(BENCHMARKS), *filter(None, sys.path)])
    monkeypatch.setenv("PYTHONPATH", paths)
    yield __import__("measure_image_space")
    sys.modules.pop("measure_image_space", None)


def test_a_few_drawings_are_measured_as_numpy_would_measure_their_vectors(measuring, shipped):
    """What backbone and file make of the same drawings, turned back, has the mean and deviation measured."""
    measured = measuring.measured(7)
    backbone = EmbeddedBackbone(torch.device("cpu"))
    pixels = np.stack([draw(random_scene(seed)) for seed in range(7)]).transpose(0, 3, 1, 2)
    vectors = backbone.encode_images(torch.from_numpy((pixels.astype(np.float32) - 127) / 128)).numpy()
    stages = vectors[:, :928] * shipped["spread"] + shipped["centre"]
    np.testing.assert_allclose(measured["centre"], stages.mean(0), atol=1e-4)
    np.testing.assert_allclose(measured["spread"], stages.std(0, ddof=1), atol=1e-4)
    assert {name: tuple(tensor.shape) for name, tensor in measured.items()} == image_space.SHAPES
    assert measured["head_directions"].dtype == torch.float16


@pytest.mark.slow
def test_made_again_the_file_is_the_same(measuring, shipped):
    """But for rounding. Directions may be turned within the space that they span; scalar products are not."""
    again = {name: tensor.double().numpy() for name, tensor in measuring.measured(MADE_OF).items()}
    for name in ("centre", "spread", "head_centre"):
        np.testing.assert_allclose(again[name], shipped[name], rtol=1e-3, atol=1e-4, err_msg=name)
    old, new = shipped["head_directions"].astype(np.float64), again["head_directions"]
    vectors = np.random.default_rng(0).random((50, 1280))
    products, expected = ((vectors @ directions) @ (vectors @ directions).T for directions in (new, old))
    np.testing.assert_allclose(products, expected, atol=2e-3 * np.abs(expected).max())
