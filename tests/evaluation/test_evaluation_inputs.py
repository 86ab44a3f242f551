"""What would make a figure false is refused, with one clear line."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from medvip.errors import DataError, UsageError
from medvip.evaluation import evaluate
from medvip.evaluation.inputs import check_inputs

GOOD = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
LABELS = np.array([0, 1, 1])


def broken(change: Callable[[np.ndarray], None]) -> np.ndarray:
    probabilities = GOOD.copy()
    change(probabilities)
    return probabilities


def put(row: int, column: int, value: float) -> Callable[[np.ndarray], None]:
    return lambda probabilities: probabilities.__setitem__((row, column), value)


@pytest.mark.parametrize(
    ("probabilities", "labels", "groups", "message"),
    [
        (broken(put(1, 0, np.nan)), LABELS, None, "1 of 3 images are not finite, first image 1"),
        (broken(put(2, 1, np.inf)), LABELS, None, "not finite, first image 2"),
        (broken(put(0, 0, 0.95)), LABELS, None, "image 0 sum to 1.05"),
        (np.array([[3.0, -2.0]] * 3), LABELS, None, "image 0 are below 0"),
        (np.full((3, 3), 1 / 3), LABELS, None, r"shape \(3, 3\), not \(images, 2 classes\)"),
        (np.array([0.1, 0.9, 0.3]), LABELS, None, r"shape \(3,\)"),
        (GOOD[:0], LABELS[:0], None, "no images"),
        (GOOD, LABELS[:2], None, r"labels have shape \(2,\), but there are 3 rows"),
        (GOOD, np.array([0, 2, 1]), None, "label 2 of image 1 is not among the 2 classes"),
        (GOOD, np.array([0, 1, -1]), None, "label -1 of image 2"),
        (GOOD, np.array([0.0, 1.0, 1.0]), None, "labels are float64, not integers"),
        (GOOD, LABELS, ["p1", "p2"], "2 groups for 3 images"),
    ],
)
def test_bad_input_is_named(
    probabilities: np.ndarray, labels: np.ndarray, groups: list[str] | None, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        check_inputs(probabilities, labels, ("ill", "well"), groups)
    assert "\n" not in str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize("classes", [("ill",), ("ill", "ill")])
def test_classes_are_two_and_different(classes: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="at least two different classes"):
        check_inputs(GOOD[:, : len(classes)], LABELS, classes)


def test_evaluate_checks() -> None:
    with pytest.raises(DataError, match="sum to 2"):
        evaluate(GOOD * 2, LABELS, ("ill", "well"))
    with pytest.raises(UsageError, match="-1 resamples"):
        evaluate(GOOD, LABELS, ("ill", "well"), resamples=-1)


def test_input_is_left_as_it_was() -> None:
    probabilities, labels = GOOD.copy(), LABELS.copy()
    evaluate(probabilities, labels, ("ill", "well"), resamples=10)
    assert np.array_equal(probabilities, GOOD)
    assert np.array_equal(labels, LABELS)
