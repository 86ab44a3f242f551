"""Every figure against scikit-learn, or against a plain loop where scikit-learn has none."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest
from sklearn import metrics as reference

from medvip.evaluation import evaluate

CLASSES = ("bowen", "melanoma", "nevus", "wart")


def some_predictions(images: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Better than chance, far from perfect, with uneven classes and some tied scores."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, size=images, p=rng.dirichlet(np.full(classes, 8.0)))
    labels[:classes] = range(classes)
    logits = rng.normal(size=(images, classes)) + 1.2 * np.eye(classes)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    probabilities[::7] = np.round(probabilities[::7], 1)
    return probabilities / probabilities.sum(axis=1, keepdims=True), labels


def ece_by_loop(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    total = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = [i for i, row in enumerate(probabilities) if low < row.max() <= high]
        if inside:
            right = np.mean([probabilities[i].argmax() == labels[i] for i in inside])
            sure = np.mean([probabilities[i].max() for i in inside])
            total += len(inside) / len(labels) * abs(right - sure)
    return total


@pytest.mark.parametrize(("classes", "seed"), [(2, 0), (2, 1), (3, 2), (4, 3)])
def test_headline_figures_equal_scikit_learn(classes: int, seed: int) -> None:
    probabilities, labels = some_predictions(150, classes, seed)
    predictions = probabilities.argmax(axis=1)
    measured = evaluate(probabilities, labels, CLASSES[:classes], resamples=0)

    auroc = (
        reference.roc_auc_score(labels, probabilities[:, 1])
        if classes == 2
        else reference.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    )
    assert measured.accuracy.value == pytest.approx(reference.accuracy_score(labels, predictions))
    assert measured.macro_f1.value == pytest.approx(reference.f1_score(labels, predictions, average="macro"))
    assert measured.balanced_accuracy.value == pytest.approx(
        reference.balanced_accuracy_score(labels, predictions)
    )
    assert measured.auroc.value == pytest.approx(auroc)
    assert measured.ece.value == pytest.approx(ece_by_loop(probabilities, labels))
    assert measured.confusion.tolist() == reference.confusion_matrix(labels, predictions).tolist()


def test_figures_of_each_class_equal_scikit_learn_and_counting() -> None:
    probabilities, labels = some_predictions(200, 4, 5)
    predictions = probabilities.argmax(axis=1)
    measured = evaluate(probabilities, labels, CLASSES, resamples=0)
    recall = reference.recall_score(labels, predictions, average=None)
    precision = reference.precision_score(labels, predictions, average=None)
    f1 = reference.f1_score(labels, predictions, average=None)
    for number, name in enumerate(CLASSES):
        one = measured.per_class[name]
        true_negatives = sum(t != number and p != number for t, p in zip(labels, predictions, strict=True))
        assert one.sensitivity.value == pytest.approx(recall[number])
        assert one.precision.value == pytest.approx(precision[number])
        assert one.f1.value == pytest.approx(f1[number])
        assert one.specificity.value == pytest.approx(true_negatives / np.sum(labels != number))
        assert one.auroc.value == pytest.approx(
            reference.roc_auc_score(labels == number, probabilities[:, number])
        )
        assert one.support == np.sum(labels == number)


def test_calibration_error_in_closed_form() -> None:
    """Always 80 % sure and right in 6 of 10: off by 0.2. Sure and right: off by nothing."""
    eighty = np.tile([0.8, 0.2], (10, 1))
    labels = np.array([0] * 6 + [1] * 4)
    assert evaluate(eighty, labels, ("a", "b"), resamples=0).ece.value == pytest.approx(0.2)
    sure = np.eye(2)[labels]
    assert evaluate(sure, labels, ("a", "b"), resamples=0).ece.value == 0


def test_half_precision_probabilities_are_good_enough() -> None:
    probabilities, labels = some_predictions(80, 3, 1)
    full = evaluate(probabilities, labels, CLASSES[:3], resamples=0)
    half = evaluate(probabilities.astype(np.float16), labels, CLASSES[:3], resamples=0)
    assert half.auroc.value == pytest.approx(full.auroc.value, abs=0.01)


def test_a_class_without_images_is_undefined_not_zero() -> None:
    probabilities, labels = some_predictions(100, 3, 4)
    labels = np.where(labels == 2, 1, labels)
    predictions = probabilities.argmax(axis=1)
    measured = evaluate(probabilities, labels, CLASSES[:3], resamples=50)

    pairs = [reference.roc_auc_score(labels == c, probabilities[:, c]) for c in (0, 1)]
    assert measured.auroc.value == pytest.approx(np.mean(pairs))
    with pytest.warns(UserWarning, match="not in y_true"):
        balanced = reference.balanced_accuracy_score(labels, predictions)
    assert measured.balanced_accuracy.value == pytest.approx(balanced)
    assert measured.macro_f1.value == pytest.approx(
        reference.f1_score(labels, predictions, labels=[0, 1], average="macro")
    )
    assert 2 in predictions
    absent = measured.to_json()["per_class"][CLASSES[2]]
    undefined = {"value": None, "low": None, "high": None}
    assert absent["sensitivity"] == undefined
    assert absent["f1"] == undefined
    assert absent["precision"]["value"] == 0, "images were called so, and none is"
    assert absent["auroc"] == undefined
    assert absent["support"] == 0


def test_images_of_one_class_only_have_no_auroc() -> None:
    probabilities, _ = some_predictions(20, 2, 0)
    measured = evaluate(probabilities, np.zeros(20, dtype=int), ("a", "b"), resamples=20)
    assert math.isnan(measured.auroc.value)
    assert measured.to_json()["auroc"] == {"value": None, "low": None, "high": None}
    assert "AUROC undefined" in measured.summary()


def test_json_has_the_fixed_form_and_is_strict_json() -> None:
    probabilities, labels = some_predictions(40, 3, 2)
    told = evaluate(probabilities, labels, CLASSES[:3], groups=[f"p{i // 2}" for i in range(40)]).to_json()
    assert list(told) == [
        "accuracy", "macro_f1", "balanced_accuracy", "auroc", "ece", "per_class", "confusion_matrix",
        "images", "groups", "resamples", "interval",
    ]  # fmt: skip
    assert list(told["per_class"]) == list(CLASSES[:3])
    assert set(told["accuracy"]) == {"value", "low", "high"}
    assert told["confusion_matrix"]["classes"] == list(CLASSES[:3])
    assert np.sum(told["confusion_matrix"]["counts"]) == 40
    assert (told["images"], told["groups"], told["resamples"]) == (40, 20, 1000)
    assert told["interval"] == "95 % percentile bootstrap over groups"
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_summary_is_one_line_with_intervals() -> None:
    probabilities, labels = some_predictions(40, 2, 2)
    line = evaluate(probabilities, labels, ("a", "b"), resamples=100).summary()
    assert line.startswith("accuracy 0.")
    assert line.count("[") == 5
    assert "\n" not in line


def test_a_thousand_resamples_of_600_images_in_7_classes_are_quick() -> None:
    probabilities, labels = some_predictions(600, 7, 1)
    start = time.perf_counter()
    evaluate(probabilities, labels, tuple("abcdefg"), resamples=1000)
    assert time.perf_counter() - start < 3  # 0.3 s alone on one core
