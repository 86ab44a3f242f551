"""ROC curves, calibration bins and shortcuts: against scikit-learn and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from medvip.evaluation import evaluate
from medvip.evaluation.benchmark.cues import CUES
from medvip.evaluation.calibration import expected_calibration_error, reliability
from medvip.evaluation.ranking import roc_curve, sensitivity_at
from medvip.evaluation.shortcuts import STRONG, find_shortcuts


def scores_with_ties(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    positive = rng.uniform(size=120) < 0.4
    return np.round(rng.normal(positive * 0.8, 1.0), 1), positive


@pytest.mark.parametrize("seed", range(4))
def test_the_roc_curve_is_scikit_learns(seed):
    scores, positive = scores_with_ties(seed)
    false, true = roc_curve(scores, positive)
    expected_false, expected_true, _ = reference.roc_curve(positive, scores, drop_intermediate=False)
    np.testing.assert_allclose(false, expected_false)
    np.testing.assert_allclose(true, expected_true)
    assert np.trapezoid(true, false) == pytest.approx(reference.roc_auc_score(positive, scores))


@pytest.mark.parametrize("specificity", [0.5, 0.8, 0.9, 0.95, 1.0])
def test_sensitivity_at_a_specificity_is_the_best_threshold_of_a_loop(specificity):
    scores, positive = scores_with_ties(7)
    best = 0.0
    for threshold in [*set(scores), np.inf]:
        named = scores >= threshold
        if 1 - named[~positive].mean() >= specificity - 1e-12:
            best = max(best, named[positive].mean())
    assert sensitivity_at(specificity, scores, positive) == pytest.approx(best)


def test_a_curve_without_positives_is_undefined():
    scores = np.array([0.1, 0.2])
    assert np.isnan(sensitivity_at(0.9, scores, np.array([False, False])))
    assert np.isnan(roc_curve(scores, np.array([True, True]))[0]).all()


def test_the_bins_add_up_to_the_calibration_error():
    rng = np.random.default_rng(5)
    confidence = rng.uniform(0.3, 1, 200)
    correct = rng.uniform(size=200) < confidence**2
    weights = np.concatenate([rng.multinomial(200, np.full(200, 1 / 200), size=300)]).astype(float)
    bins = reliability(confidence, correct, weights)
    assert sum(one.images for one in bins) == 200
    gap = sum(one.images / 200 * abs(one.accuracy.value - one.confidence) for one in bins)
    assert gap == pytest.approx(expected_calibration_error(confidence, correct, np.ones((1, 200)))[0])
    for one in bins:
        inside = (confidence > one.low) & (confidence <= one.high)
        assert one.images == inside.sum()
        assert one.accuracy.value == pytest.approx(correct[inside].mean())
        assert one.accuracy.low <= one.accuracy.value <= one.accuracy.high


def test_a_planted_shortcut_is_found_with_its_class_and_direction():
    rng = np.random.default_rng(1)
    labels = np.arange(150) % 3
    cues = rng.normal(size=(150, len(CUES)))
    cues[:, CUES.index("contrast")] -= 3.0 * (labels == 1)
    found = {one.cue: one for one in find_shortcuts(cues, labels, ("a", "b", "c"))}
    planted = found["contrast"]
    assert (planted.class_name, planted.higher, planted.strong) == ("b", False, True)
    expected = reference.roc_auc_score(labels == 1, -cues[:, CUES.index("contrast")])
    assert planted.separation.value == pytest.approx(expected)
    assert planted.separation.low < planted.separation.value < planted.separation.high
    assert [one.cue for one in found.values() if one.strong] == ["contrast"]
    for one in found.values():
        assert 0.5 <= one.separation.value < STRONG or one is planted


def test_the_interval_of_a_shortcut_is_wider_over_patients_than_over_images():
    rng = np.random.default_rng(2)
    patients = np.repeat(np.arange(30), 5)
    labels = (patients % 2).astype(int)
    cues = np.repeat(rng.normal(size=(30, len(CUES))), 5, axis=0) + 0.01 * rng.normal(size=(150, len(CUES)))
    by_image = find_shortcuts(cues, labels, ("a", "b"))
    by_patient = find_shortcuts(cues, labels, ("a", "b"), groups=[str(p) for p in patients])
    for narrow, wide in zip(by_image, by_patient, strict=True):
        assert narrow.separation.value == wide.separation.value
        width = wide.separation.high - wide.separation.low
        assert width > 1.3 * (narrow.separation.high - narrow.separation.low)


def test_where_there_is_one_class_only_nothing_is_said():
    assert find_shortcuts(np.ones((4, len(CUES))), np.zeros(4, dtype=int), ("a", "b")) == ()


def test_the_curves_areas_are_the_figures_of_an_evaluation():
    rng = np.random.default_rng(9)
    labels = rng.integers(0, 3, 90)
    logits = rng.normal(size=(90, 3)) + np.eye(3)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    figures = evaluate(probabilities, labels, ("a", "b", "c"), resamples=0)
    for c, name in enumerate(("a", "b", "c")):
        false, true = roc_curve(probabilities[:, c], labels == c)
        assert np.trapezoid(true, false) == pytest.approx(figures.per_class[name].auroc.value)
