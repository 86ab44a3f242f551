"""Drawn scenes: the same anywhere, of many kinds, and each variable changes what it is named for."""

from __future__ import annotations

import ast
import hashlib
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

import medvip.drawings
from medvip.drawings import VERSION, Scene, draw, random_scene

PLAIN = Scene(
    seed=5,
    ground=(0.3, 0.3, 0.3),
    colour=(0.7, 0.7, 0.7),
    unevenness=0.0,
    grain=0.0,
    grain_size=0.005,
    objects=4,
    radius=0.12,
    raggedness=0.0,
    softness=0.005,
    mottling=0.0,
    streaks=0,
    streak_width=0.01,
    blur=0.0,
    contrast=1.0,
    dark_corners=0.0,
)
"""Bright smooth ellipses on an even dark ground, nothing cut off at black or white."""


def seen(**changes) -> np.ndarray:
    """The first channel of `PLAIN` with other values, as numbers that may be subtracted."""
    return draw(replace(PLAIN, **changes))[..., 0].astype(float)


def slopes(picture: np.ndarray) -> np.ndarray:
    """How much brightness changes from each pixel to the next, both ways."""
    return np.hypot(np.diff(picture, axis=0)[:, 1:], np.diff(picture, axis=1)[1:])


# The same anywhere


@pytest.mark.parametrize("seed", [0, 1, 2, 2**40])
def test_pictures_are_rgb_bytes_of_one_size(seed):
    picture = draw(random_scene(seed))
    assert (picture.shape, picture.dtype) == ((224, 224, 3), np.uint8)


def test_a_seed_gives_the_same_bytes_in_another_process():
    code = (
        "import hashlib; from medvip.drawings import draw, random_scene\n"
        "print([hashlib.sha256(draw(random_scene(s)).tobytes()).hexdigest() for s in (3, 1, 2)])"
    )
    here = {seed: hashlib.sha256(draw(random_scene(seed)).tobytes()).hexdigest() for seed in (1, 2, 3)}
    for hashing in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hashing}
        printed = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
        ).stdout
        assert ast.literal_eval(printed) == [here[3], here[1], here[2]]


def test_drawing_uses_no_global_random_numbers():
    np.random.seed(1)
    before, picture = np.random.random(), draw(random_scene(8))
    np.random.seed(1)
    draw(random_scene(8))
    assert np.random.random() == before
    assert (draw(random_scene(8)) == picture).all()


BRIGHTNESS = {
    0: [[203.5, 202.4, 207.7, 213.7], [181.2, 207.7, 206.6, 217.6],
        [233.9, 202.3, 203.6, 178.9], [222.6, 215.6, 222.4, 218.8]],
    2: [[105.6, 142.2, 93.7, 92.9], [121.3, 163.5, 110.8, 115.9],
        [123.4, 149.3, 131.3, 119.5], [109.2, 141.1, 166.6, 99.4]],
    3: [[101.1, 147.7, 133.6, 159.2], [120.6, 128.3, 118.2, 104.1],
        [129.4, 126.2, 118.2, 134.2], [89.2, 99.0, 113.5, 110.6]],
}  # fmt: skip
"""Of sixteen parts of a picture; the shipped image space was made of version 1."""


@pytest.mark.parametrize("seed", list(BRIGHTNESS))
def test_seeds_give_the_pictures_of_version_1(seed):
    assert VERSION == 1, "other pictures: measure the image space again, and these numbers"
    parts = draw(random_scene(seed)).reshape(4, 56, 4, 56, 3).mean((1, 3, 4))
    np.testing.assert_allclose(parts, BRIGHTNESS[seed], atol=1.0)


STRENGTHS = [
    (208.65, 33.67, 16.00), (127.44, 16.66, 10.73), (124.09, 34.32, 5.72), (120.82, 25.13, 3.85),
    (102.68, 51.47, 21.22), (195.11, 30.49, 2.62), (165.14, 57.05, 5.98), (161.39, 9.94, 1.13),
    (146.54, 24.82, 3.30), (124.93, 14.52, 0.89),
]  # fmt: skip
"""Of seeds 0 to 9: mean, deviation and mean slope, which also grain and contours change."""


def test_seeds_give_the_strengths_of_version_1():
    found = []
    for seed in range(len(STRENGTHS)):
        picture = draw(random_scene(seed)).astype(float).mean(2)
        found.append((picture.mean(), picture.std(), slopes(picture).mean()))
    np.testing.assert_allclose(found, STRENGTHS, rtol=2e-3, atol=0.01)


def test_drawings_need_nothing_else_of_medvip():
    for file in Path(medvip.drawings.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("medvip"):
                assert (node.module or "").startswith("medvip.drawings"), file


# Of many kinds


def test_scenes_by_lot_have_each_trait_as_often_as_is_said():
    scenes = [random_scene(seed) for seed in range(2000)]

    def share(holds) -> float:
        return float(np.mean([holds(scene) for scene in scenes]))

    deviation = 0.5 / np.sqrt(len(scenes))  # the largest that a share can have
    assert share(lambda s: len(set(s.ground)) == 1) == pytest.approx(0.4, abs=4 * deviation)
    absent = {
        "unevenness": 0.2, "grain": 0.2, "raggedness": 0.2, "mottling": 0.3, "objects": 0.1,
        "streaks": 0.6, "blur": 0.6, "dark_corners": 0.7,
    }  # fmt: skip
    for trait, expected in absent.items():
        found = share(lambda s, trait=trait: getattr(s, trait) == 0)
        assert found == pytest.approx(expected, abs=4 * deviation), trait
    strong = {
        "unevenness": 0.2, "grain": 0.15, "raggedness": 0.3, "mottling": 0.2, "objects": 25,
        "streaks": 12, "blur": 0.015, "dark_corners": 0.6,
    }  # fmt: skip
    for trait, value in strong.items():
        assert share(lambda s, trait=trait, value=value: getattr(s, trait) > value) > 0.005, trait
    assert share(lambda s: s.contrast == 1) == pytest.approx(0.6, abs=4 * deviation)


def test_grey_scenes_are_drawn_grey_and_coloured_ones_in_colour():
    kinds = set()
    for seed in range(12):
        scene = random_scene(seed)
        picture, grey = draw(scene).astype(int), len({*scene.ground}) == len({*scene.colour}) == 1
        if np.ptp(picture) > 0:
            assert (np.ptp(picture, axis=2) == 0).all() == grey
        kinds.add(grey)
    assert kinds == {True, False}


def test_pictures_are_light_and_dark_empty_and_crowded_smooth_and_grainy():
    pictures = [draw(random_scene(seed)).astype(float).mean(2) for seed in range(80)]
    of_each = {
        "brightness": [float(picture.mean()) for picture in pictures],
        "contrast": [float(picture.std()) for picture in pictures],
        "slopes": [float(slopes(picture).mean()) for picture in pictures],
    }
    lowest, highest = {}, {}
    for name, numbers in of_each.items():
        lowest[name], highest[name] = np.percentile(numbers, [10, 90])
    assert lowest["brightness"] < 80 < 180 < highest["brightness"]
    assert lowest["contrast"] < 20 < 50 < highest["contrast"]
    assert highest["slopes"] > 8 * lowest["slopes"]
    assert len({picture.tobytes() for picture in pictures}) > 75


# Each variable alone

CHANGES = {
    "seed": 6,
    "ground": (0.2, 0.3, 0.4),
    "colour": (0.6, 0.7, 0.8),
    "unevenness": 0.1,
    "grain": 0.1,
    "grain_size": 0.02,
    "objects": 9,
    "radius": 0.2,
    "raggedness": 0.3,
    "softness": 0.06,
    "mottling": 0.2,
    "streaks": 5,
    "streak_width": 0.03,
    "blur": 0.015,
    "contrast": 0.5,
    "dark_corners": 0.6,
}
NEEDS = {"grain_size": {"grain": 0.1}, "streak_width": {"streaks": 5}}
"""What else must be there for a change to be seen."""


def test_every_variable_has_its_test():
    assert list(CHANGES) == [field.name for field in fields(Scene)]
    text = Path(__file__).read_text(encoding="utf-8")
    for name in CHANGES:
        assert f"def test_{name}_" in text, name


@pytest.mark.parametrize("name", list(CHANGES))
def test_a_variable_alone_changes_the_picture(name):
    before = replace(PLAIN, **NEEDS.get(name, {}))
    after = replace(before, **{name: CHANGES[name]})
    assert (draw(before) != draw(after)).any(-1).mean() > 0.005


@pytest.mark.parametrize("name", list(NEEDS))
def test_a_variable_of_what_is_not_there_changes_nothing(name):
    assert (draw(PLAIN) == draw(replace(PLAIN, **{name: CHANGES[name]}))).all()


def test_an_empty_scene_is_its_ground():
    assert (seen(objects=0) == round(0.3 * 255)).all()
    assert (draw(replace(PLAIN, objects=0, ground=(0.2, 0.4, 0.6))) == (51, 102, 153)).all()


def test_seed_moves_objects_and_leaves_the_ground_as_it_is():
    one, other = seen(), seen(seed=6)
    assert (one != other).mean() > 0.01
    assert np.median(one) == np.median(other) == round(0.3 * 255)


def test_ground_shows_where_no_object_is_and_nowhere_else():
    rise = seen(ground=(0.4, 0.4, 0.4)) - seen()
    whole, none = (np.abs(rise - 25.5) < 1).mean(), (rise == 0).mean()
    assert whole > 0.5
    assert none > 0.05
    assert whole + none > 0.94, "what is left are edges"
    assert seen()[np.abs(rise - 25.5) < 1].max() < 100 < seen()[rise == 0].min()


def test_colour_shows_in_objects_and_nowhere_else():
    picture = draw(replace(PLAIN, colour=(0.9, 0.6, 0.5))).astype(float)
    change = picture - draw(PLAIN)
    objects, ground = seen() > 120, seen() == round(0.3 * 255)
    assert min(objects.mean(), ground.mean()) > 0.05
    assert np.abs(change[ground]).max() <= 1
    inner = change[objects].reshape(-1, 3)
    np.testing.assert_allclose(np.median(inner, 0), (0.2 * 255, -0.1 * 255, -0.2 * 255), atol=1)


def test_unevenness_makes_slow_changes_of_its_amplitude():
    before, after = seen(objects=0), seen(objects=0, unevenness=0.1)
    assert after.std() == pytest.approx(25.5, rel=0.05)
    assert after.mean() == pytest.approx(before.mean(), abs=0.5)
    assert gaussian_filter(after, 4, mode="nearest").std() > 0.95 * after.std()


def test_grain_makes_fast_changes_of_its_amplitude():
    before, after = seen(objects=0), seen(objects=0, grain=0.05)
    assert after.std() == pytest.approx(0.05 * 255, rel=0.05)
    assert after.mean() == pytest.approx(before.mean(), abs=0.5)
    assert gaussian_filter(after, 4, mode="nearest").std() < 0.3 * after.std()
    together = seen(grain=0.05) - seen()
    assert together.std() == pytest.approx(0.05 * 255, rel=0.05), "grain lies over objects too"


def test_grain_size_makes_neighbours_alike():
    def likeness(size: float) -> float:
        noise = seen(objects=0, grain=0.05, grain_size=size)
        return float(np.corrcoef(noise[:, 2:].ravel(), noise[:, :-2].ravel())[0, 1])

    fine, middle, coarse = map(likeness, (0.003, 0.01, 0.03))
    assert fine < 0.2 < middle < coarse


def test_objects_cover_more_the_more_there_are():
    covered = [(seen(objects=count, radius=0.06) > 100).mean() for count in (0, 1, 4, 16)]
    assert covered[0] == 0
    assert covered[0] < covered[1] < covered[2] < covered[3]
    assert covered[1] == pytest.approx(np.pi * 0.06**2, rel=0.8)


def test_radius_of_one_object_is_that_of_its_area():
    """An ellipse has the area of a circle of its radius, which is by lot 0.7 to 1.3 of the typical."""
    radii = []
    for seed in range(12):
        area = (seen(seed=seed, objects=1, radius=0.05) > 100).mean()
        larger = (seen(seed=seed, objects=1, radius=0.1) > 100).mean()
        radii.append(np.sqrt(area / np.pi))
        assert larger == pytest.approx(4 * area, rel=0.1)
    assert 0.7 * 0.95 < min(radii) / 0.05 < max(radii) / 0.05 < 1.3 * 1.05
    assert np.mean(radii) / 0.05 == pytest.approx(1, abs=0.2)


def test_raggedness_lengthens_the_contour():
    def roughness(**changes) -> float:
        """Length of the contour in relation to the area; least for a circle."""
        found = []
        for seed in range(6):
            inside = seen(seed=seed, objects=1, radius=0.2, **changes) > 120
            contour = (inside[1:] != inside[:-1]).sum() + (inside[:, 1:] != inside[:, :-1]).sum()
            found.append(contour / np.sqrt(inside.sum()))
        return float(np.mean(found))

    smooth, ragged = roughness(), roughness(raggedness=0.3)
    assert 3.9 < smooth < 5, "about 8 / sqrt(pi), as many pixels' sides as a circle has"
    assert ragged > 1.1 * smooth


def test_softness_widens_edges_and_leaves_the_ground_far_away_as_it_is():
    sharp, soft = seen(), seen(softness=0.06)
    assert slopes(soft).max() < 0.4 * slopes(sharp).max()
    assert soft.mean() == pytest.approx(sharp.mean(), rel=0.1)
    assert np.median(soft) == pytest.approx(np.median(sharp), abs=4)


def test_mottling_is_seen_inside_objects_and_nowhere_else():
    before, after = seen(), seen(mottling=0.1)
    ground = before == round(0.3 * 255)
    assert ground.mean() > 0.5
    np.testing.assert_allclose(after[ground], before[ground], atol=1)
    inner = (after - before)[before > 140]
    assert inner.std() == pytest.approx(25.5, rel=0.4)


def test_streaks_are_drawn_in_the_objects_colour():
    none, some = seen(objects=0), seen(objects=0, streaks=8, streak_width=0.02)
    touched = none != some
    assert 0.005 < touched.mean() < 0.6
    red = draw(replace(PLAIN, objects=0, streaks=8, ground=(0.0, 0.0, 0.0), colour=(0.7, 0.0, 0.0)))
    assert red[..., 0].max() > 40
    assert (red[..., 1:] == 0).all()


def test_streak_width_widens_streaks_where_they_are():
    thin, thick = (
        seen(objects=0, streaks=4, streak_width=width) != seen(objects=0) for width in (0.005, 0.03)
    )
    assert thick.sum() > 2 * thin.sum()
    assert (thick & thin).sum() > 0.9 * thin.sum(), "the same lines"


def test_blur_lowers_slopes_and_keeps_the_brightness():
    sharp, blurred = seen(), seen(blur=0.02)
    assert slopes(blurred).max() < 0.4 * slopes(sharp).max()
    assert blurred.mean() == pytest.approx(sharp.mean(), abs=0.5)
    colours = replace(PLAIN, ground=(0.2, 0.4, 0.3), colour=(0.9, 0.5, 0.1))
    blurred, sharp = (draw(scene).astype(float) for scene in (replace(colours, blur=0.02), colours))
    for channel in range(3):
        expected = gaussian_filter(sharp[..., channel], 0.02 * 224)
        np.testing.assert_allclose(blurred[..., channel], expected, atol=1.5)


def test_contrast_brings_every_pixel_nearer_to_the_middle_by_that_factor():
    before, after = seen(), seen(contrast=0.4)
    np.testing.assert_allclose(after - 127.5, 0.4 * (before - 127.5), atol=1)
    assert (seen(contrast=0.0) == 128).all()


def test_dark_corners_darken_by_the_distance_from_the_middle():
    before, after = seen(objects=0), seen(objects=0, dark_corners=0.6)
    expected = np.empty((224, 224))
    for row in range(224):
        for column in range(224):
            distance = ((row - 111.5) ** 2 + (column - 111.5) ** 2) / 224**2
            expected[row, column] = 1 - 0.6 * min(1.0, 2 * distance)
    np.testing.assert_allclose(after, 0.3 * 255 * expected, atol=1)
    assert after[111, 111] == before[111, 111]
    assert after[0, 0] < 0.45 * before[0, 0]


# At the edges


def shares(low: float = 0.0, high: float = 1.0) -> st.SearchStrategy[float]:
    return st.floats(low, high) | st.sampled_from([low, high])


SCENES = st.builds(
    Scene,
    seed=st.integers(0, 2**63),
    ground=st.tuples(*[shares(-0.5, 1.5)] * 3),
    colour=st.tuples(*[shares(-0.5, 1.5)] * 3),
    unevenness=shares(),
    grain=shares(),
    grain_size=shares(1e-4, 1.0),
    objects=st.integers(0, 40),
    radius=shares(),
    raggedness=shares(),
    softness=shares(1e-6, 1.0),
    mottling=shares(),
    streaks=st.integers(0, 20),
    streak_width=shares(),
    blur=shares(0.0, 0.2),
    contrast=shares(),
    dark_corners=shares(),
)


@settings(deadline=None, max_examples=60)
@given(SCENES)
def test_extreme_values_are_drawn_too_without_a_warning_and_the_same_again(scene):
    picture = draw(scene)
    assert (picture.shape, picture.dtype) == ((224, 224, 3), np.uint8)
    assert (draw(scene) == picture).all()


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 2**63))
def test_a_scene_by_lot_is_within_what_is_said(seed):
    scene = random_scene(seed)
    assert scene.seed == seed
    assert 0 <= scene.objects <= 40
    assert scene.objects * scene.radius**2 <= 0.25 or scene.objects <= 1, "objects do not cover all"
    assert 0.03 <= scene.radius <= 0.4
    assert all(-0.5 <= number <= 1.5 for number in (*scene.ground, *scene.colour))
    assert 0.3 <= scene.contrast <= 1
