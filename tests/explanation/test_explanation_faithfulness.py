"""Measures of faithfulness against naive loops, scikit-learn and shapes whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from sklearn.metrics import auc, roc_auc_score

from medvip.backbones import load_backbone
from medvip.evaluation.ranking import auroc
from medvip.explanation.faithfulness import (
    along_order,
    area_under,
    auroc_within,
    blurred,
    highest_first,
    places_inside,
    places_touched,
    points_at,
    with_random_prompts,
)
from medvip.features import FeatureTable
from medvip.methods import ViP
from medvip.symptoms import SymptomSet
from medvip.training import Recipe

# ------------------------------------------------------------------ deletion and insertion


@pytest.mark.parametrize("steps", [1, 4, 7, 9])
@pytest.mark.parametrize(("size", "grid"), [(12, (3, 3)), (20, (2, 5)), (14, (7, 7))])
def test_places_go_in_their_order_as_in_a_loop(steps, size, grid) -> None:
    random = np.random.default_rng(steps)
    picture, instead = torch.rand(3, size, size), torch.rand(3, size, size)
    order = random.permutation(grid[0] * grid[1])
    found = along_order(picture, instead, order, grid, steps)
    assert found.shape == (steps + 1, 3, size, size)
    for step in range(steps + 1):
        expected = picture.clone()
        for place in order[: round(step * len(order) / steps)]:
            row, column = divmod(int(place), grid[1])
            for y in range(size):
                for x in range(size):
                    if y * grid[0] // size == row and x * grid[1] // size == column:
                        expected[:, y, x] = instead[:, y, x]
        torch.testing.assert_close(found[step], expected, atol=0, rtol=0)
    assert torch.equal(found[0], picture)
    assert torch.equal(found[-1], instead)


def test_the_highest_come_first() -> None:
    values = np.random.default_rng(0).normal(size=(7, 7))
    order = highest_first(values)
    assert sorted(order) == list(range(49))
    assert (np.diff(values.ravel()[order]) <= 0).all()


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=12))
@settings(deadline=None, max_examples=50)
def test_areas_are_scikit_learns(curve) -> None:
    expected = auc(np.linspace(0, 1, len(curve)), np.array(curve))
    assert float(area_under(np.array(curve))) == pytest.approx(expected, abs=1e-9)


def test_deleting_by_a_true_map_is_faster_than_by_its_opposite() -> None:
    """A model that is a known sum over places: curves follow from cumulative sums."""
    random = np.random.default_rng(1)
    weight = random.normal(size=49)
    picture, instead = torch.ones(3, 14, 14), torch.zeros(3, 14, 14)

    def score(pictures: torch.Tensor) -> np.ndarray:
        seen = pictures[:, 0, ::2, ::2].flatten(1).double().numpy()
        return seen @ weight

    for values in (weight, -weight, random.normal(size=49)):
        order = highest_first(values.reshape(7, 7))
        curve = score(along_order(picture, instead, order, (7, 7), 49))
        naive = [sum(weight[place] for place in order[k:]) for k in range(50)]
        np.testing.assert_allclose(curve, naive, atol=1e-9)
    best = area_under(score(along_order(picture, instead, highest_first(weight.reshape(7, 7)), (7, 7), 49)))
    worst = area_under(score(along_order(picture, instead, highest_first(-weight.reshape(7, 7)), (7, 7), 49)))
    assert best < worst


@pytest.mark.parametrize("deviation", [2.0, 5.0])
def test_blur_is_scipys(deviation) -> None:
    pixels = torch.rand(2, 3, 40, 40, dtype=torch.float64)
    expected = gaussian_filter(
        pixels.numpy(), (0, 0, deviation, deviation), mode="mirror", truncate=int(3 * deviation) / deviation
    )
    np.testing.assert_allclose(blurred(pixels, deviation).numpy(), expected, atol=1e-9)


# ------------------------------------------------------------------ scores against truth


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=30)
def test_within_strata_is_counting_pairs_within_strata(seed) -> None:
    random = np.random.default_rng(seed)
    scores, positive = random.integers(0, 5, 30).astype(float), random.random(30) < 0.4
    strata = random.integers(0, 3, 30)
    won = pairs = 0.0
    for i in range(30):
        for j in range(30):
            if positive[i] and not positive[j] and strata[i] == strata[j]:
                pairs += 1
                won += 1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0
    found = auroc_within(scores, positive, strata, np.ones((1, 30)))[0]
    assert found == pytest.approx(won / pairs) if pairs else np.isnan(found)


def test_of_one_stratum_it_is_scikit_learns() -> None:
    random = np.random.default_rng(0)
    scores, positive = random.normal(size=60), random.random(60) < 0.5
    found = auroc_within(scores, positive, np.zeros(60, int), np.ones((1, 60)))[0]
    assert found == pytest.approx(roc_auc_score(positive, scores))
    assert auroc(scores, positive, np.ones((1, 60)))[0] == pytest.approx(roc_auc_score(positive, scores))


def test_whoever_knows_only_the_class_is_at_chance_within_it() -> None:
    strata = np.repeat([0, 1], 200)
    positive = np.random.default_rng(0).random(400) < np.where(strata, 0.7, 0.2)
    scores = strata.astype(float)
    assert auroc(scores, positive, np.ones((1, 400)))[0] > 0.7
    assert auroc_within(scores, positive, strata, np.ones((1, 400)))[0] == 0.5


# ------------------------------------------------------------------ pointing


@given(
    st.floats(0, 100),
    st.floats(0, 80),
    st.floats(0.5, 40),
    st.floats(-20, 20),
    st.integers(1, 6),
    st.integers(1, 6),
)
@settings(deadline=None, max_examples=60)
def test_touched_is_what_a_dense_raster_says(x, y, radius, left, rows, columns) -> None:
    box = (left, 5.0, left + 90.0, 75.0)
    found = places_touched(box, (rows, columns), [(x, y, radius)])
    fine = 40
    for row in range(rows):
        for column in range(columns):
            xs = left + 90 * (column + np.linspace(0, 1, fine)) / columns
            ys = 5 + 70 * (row + np.linspace(0, 1, fine)) / rows
            nearest = np.hypot(xs[None] - x, ys[:, None] - y).min()
            spacing = np.hypot(90 / columns, 70 / rows) / (fine - 1)
            if nearest <= radius:
                assert found[row, column]
            elif nearest > radius + spacing:
                assert not found[row, column]


def test_inside_is_what_matplotlib_says() -> None:
    from matplotlib.path import Path

    random = np.random.default_rng(5)
    for _ in range(20):
        angles = np.sort(random.uniform(0, 2 * np.pi, 17))
        distance = random.uniform(10, 50, 17)
        outline = np.stack([50 + distance * np.cos(angles), 50 + distance * np.sin(angles)], axis=1)
        found = places_inside((0.0, 0.0, 100.0, 100.0), (9, 11), outline)
        xs, ys = (np.arange(11) + 0.5) / 11 * 100, (np.arange(9) + 0.5) / 9 * 100
        points = np.stack(np.meshgrid(xs, ys), -1).reshape(-1, 2)
        np.testing.assert_array_equal(found.ravel(), Path(outline).contains_points(points))


def test_pointing_looks_at_the_highest_place_only() -> None:
    values = np.array([[0.1, 0.5], [-2.0, 0.4]])
    assert points_at(values, np.array([[False, True], [False, False]]))
    assert not points_at(values, np.array([[True, False], [True, True]]))
    assert not points_at(-values, np.array([[False, True], [False, False]]))


# ------------------------------------------------------------------ sanity


def test_random_prompts_are_drawn_anew_and_nothing_else_changes(tiny_clip, tiny_symptoms) -> None:
    backbone = load_backbone(str(tiny_clip), device="cpu")
    classes, random = ("blue", "green", "red"), torch.Generator().manual_seed(0)
    names = tuple(f"{i}.png" for i in range(24))
    vectors, labels = torch.randn(24, 1, 24, generator=random), torch.arange(24) % 3
    train = FeatureTable(vectors, labels, classes, names, names, names, "none")
    recipe = Recipe(epochs=2, learning_rate=0.05, warmup_epochs=0, batch_size=8)
    model = ViP(backbone, SymptomSet.from_mapping(tiny_symptoms), recipe=recipe)
    model.fit(train, train)
    learned = {name: tensor.clone() for name, tensor in model.state().items()}
    one, other = with_random_prompts(model, 7), with_random_prompts(model, 8)
    for name in ("context_prompt", "merge_query", "merge_query_projection", "merge_key_projection"):
        for drawn in (one, other):
            assert not torch.allclose(drawn.state()[name], learned[name], atol=1e-4)
        assert not torch.allclose(one.state()[name], other.state()[name], atol=1e-4)
    assert one.state()["merge_query"].std() == pytest.approx(0.02, rel=0.3)
    assert (one.classes, one.symptoms) == (model.classes, model.symptoms)
    assert torch.equal(one.state()["merge_query"], with_random_prompts(model, 7).state()["merge_query"])
    for name, tensor in model.state().items():
        assert torch.equal(tensor, learned[name])
