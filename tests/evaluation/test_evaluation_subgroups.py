"""Figures of subgroups: each against the same figures of the images picked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from medvip.evaluation import evaluate
from medvip.evaluation.subgroups import FEW_IMAGES, MOST_VALUES, NOT_GIVEN, measure_subgroups

CLASSES = ("benign", "malignant")


@pytest.fixture
def predictions():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 90)
    first = np.clip(0.5 + 0.25 * (1 - 2 * labels) + rng.normal(0, 0.3, 90), 0.01, 0.99)
    return np.column_stack([first, 1 - first]), labels, [f"patient {i // 2}" for i in range(90)]


def test_each_subgroup_is_measured_on_its_own_images(predictions):
    probabilities, labels, groups = predictions
    sex = ["f", "m", "m", " f ", ""] * 18
    (found,) = measure_subgroups(probabilities, labels, CLASSES, {"sex": sex}, groups=groups)
    assert [part.name for part in found.subgroups] == ["f", "m", NOT_GIVEN]
    for part in found.subgroups:
        wanted = "" if part.name == NOT_GIVEN else part.name
        inside = [i for i, cell in enumerate(sex) if cell.strip() == wanted]
        alone = evaluate(probabilities[inside], labels[inside], CLASSES, groups=[groups[i] for i in inside])
        assert part.metrics.to_json() == alone.to_json()
        assert part.few == (len(inside) < FEW_IMAGES)
    assert sum(part.metrics.images for part in found.subgroups) == 90
    assert [part.few for part in found.subgroups] == [False, False, True]


def test_numbers_are_cut_into_parts_of_like_size_that_hold_every_image(predictions):
    probabilities, labels, _ = predictions
    ages = [str(18 + (i * 7) % 60) for i in range(88)] + ["", "n/a"]
    given = {"age": [*ages[:89], ""]}
    (found,) = measure_subgroups(probabilities, labels, CLASSES, given)
    *parts, last = found.subgroups
    assert last.name == NOT_GIVEN
    assert last.metrics.images == 2
    assert len(parts) == 4
    stretches = [tuple(map(int, part.name.split(" to "))) for part in parts]
    assert stretches == sorted(stretches)
    for (low, high), part in zip(stretches, parts, strict=True):
        assert part.metrics.images == sum(low <= int(age) <= high for age in ages[:88])
        assert 16 <= part.metrics.images <= 28
    # one cell that is no number makes them words, and 61 different words divide nothing
    (words,) = measure_subgroups(probabilities, labels, CLASSES, {"age": ages})
    assert words.subgroups == ()
    assert words.why_not == f"{len(set(ages))} different values"


def test_few_numbers_and_numbers_as_words_stay_as_they_are(predictions):
    probabilities, labels, _ = predictions
    (grade,) = measure_subgroups(probabilities, labels, CLASSES, {"grade": ["10", "9", "2"] * 30})
    assert [part.name for part in grade.subgroups] == ["2", "9", "10"]
    (odd,) = measure_subgroups(probabilities, labels, CLASSES, {"odd": ["nan", "inf", "1e999"] * 30})
    assert sorted(part.name for part in odd.subgroups) == ["1e999", "inf", "nan"]


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        (["one"] * 90, "all images have the same value (one)"),
        ([f"id{i}" for i in range(90)], "90 different values"),
        ([f"v{i % (MOST_VALUES + 1)}" for i in range(90)], f"{MOST_VALUES + 1} different values"),
        ([""] * 90, f"all images have the same value ({NOT_GIVEN})"),
    ],
)
def test_columns_that_divide_nothing_say_so(predictions, cells, why):
    probabilities, labels, _ = predictions
    (found,) = measure_subgroups(probabilities, labels, CLASSES, {"column": cells})
    assert (found.subgroups, found.why_not) == ((), why)


def test_a_subgroup_with_one_class_has_no_auroc_and_still_its_accuracy(predictions):
    probabilities, labels, _ = predictions
    cells = ["healthy" if label == 0 else "ill" for label in labels]
    (found,) = measure_subgroups(probabilities, labels, CLASSES, {"ward": cells})
    for part in found.subgroups:
        assert np.isnan(part.metrics.auroc.value)
        assert 0 < part.metrics.accuracy.value <= 1
