"""The intervals: against literal resampling, against scipy, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from medvip import confusion
from medvip.evaluation import Metrics, evaluate, measure
from medvip.evaluation.bootstrap import group_codes, group_weights


def scored(images: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    probabilities = rng.dirichlet(np.ones(classes), images) + 0.4 * np.eye(classes)[labels]
    return probabilities / probabilities.sum(axis=1, keepdims=True), labels


def headlines(metrics: Metrics) -> np.ndarray:
    names = ("accuracy", "macro_f1", "balanced_accuracy", "auroc", "ece")
    return np.array([[e.value, e.low, e.high] for e in (getattr(metrics, name) for name in names)])


def test_weighted_figures_equal_repeating_the_images() -> None:
    """Each resample, made literally by repeating a group's images, and read by scikit-learn."""
    probabilities, labels = scored(60, 3, 0)
    codes = np.arange(60) // 3
    weights = group_weights(codes, 25, np.random.default_rng(1))
    figures = measure._figures(probabilities, labels, weights)
    for number, counts in enumerate(weights.astype(int)):
        again = np.repeat(np.arange(60), counts)
        assert len(again) == 60  # 20 groups of 3
        p, t = probabilities[again], labels[again]
        guess = p.argmax(axis=1)
        alone = evaluate(p, t, ("a", "b", "c"), resamples=0)
        assert figures["accuracy"][number, 0] == pytest.approx(reference.accuracy_score(t, guess))
        assert figures["macro_f1"][number, 0] == pytest.approx(
            reference.f1_score(t, guess, average="macro", labels=np.unique(t))
        )
        assert figures["balanced_accuracy"][number, 0] == pytest.approx(
            reference.balanced_accuracy_score(t, guess)
        )
        assert figures["auroc"][number, 0] == pytest.approx(reference.roc_auc_score(t, p, multi_class="ovr"))
        assert figures["ece"][number, 0] == pytest.approx(alone.ece.value)


def perfect(labels: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities whose most probable class is always the true one."""
    return 0.9 * np.eye(classes)[labels] + 0.1 / classes


def test_a_class_that_a_resample_lacks_is_left_out_of_it() -> None:
    """All 83 images right: no resample gives less than 1, though one in twenty lacks the three of class c."""
    labels = np.array([0] * 40 + [1] * 40 + [2] * 3)
    measured = evaluate(perfect(labels, 3), labels, ("a", "b", "c"))
    assert str(measured.macro_f1) == str(measured.balanced_accuracy) == "1.000 [1.000, 1.000]"
    assert str(measured.per_class["c"].f1) == "1.000 [1.000, 1.000]"


def test_intervals_of_f1_agree_with_drawing_patients_one_by_one() -> None:
    """Patients drawn by name, F1 read by scikit-learn for the classes that are true in the resample.

    Two patients have all images of the rare class, so one resample in eight lacks it.
    """
    rng = np.random.default_rng(11)
    patients = [f"patient {i // 3}" for i in range(96)]
    labels = np.array([2] * 6 + [0, 1, 1] * 30)
    right = rng.random(96) < 0.85
    predicted = np.where(right, labels, (labels + 1) % 3)
    measured = evaluate(perfect(predicted, 3), labels, ("a", "b", "c"), groups=patients, resamples=4000)

    images_of = {name: [i for i, own in enumerate(patients) if own == name] for name in patients}
    names = sorted(images_of)
    macro, rare, macro_with_zeros = [], [], []
    for _ in range(4000):
        drawn = [i for name in rng.choice(names, len(names)) for i in images_of[name]]
        t, p = labels[drawn], predicted[drawn]
        of_class = reference.f1_score(t, p, average=None, labels=[0, 1, 2], zero_division=0)
        macro.append(np.mean([of_class[c] for c in np.unique(t)]))
        macro_with_zeros.append(np.mean(of_class))
        if 2 in t:
            rare.append(of_class[2])
    assert 300 < 4000 - len(rare) < 700
    for found, expected in ((measured.macro_f1, macro), (measured.per_class["c"].f1, rare)):
        assert (found.low, found.high) == pytest.approx(tuple(np.percentile(expected, [2.5, 97.5])), abs=0.02)
    assert measured.macro_f1.low > np.percentile(macro_with_zeros, 2.5) + 0.05


def weighted_images(classes: int) -> st.SearchStrategy[list[tuple[int, int, int]]]:
    """True class, predicted class and weight of each image; one image counts at least."""
    of_class = st.integers(0, classes - 1)
    images = st.lists(st.tuples(of_class, of_class, st.integers(0, 3)), min_size=1, max_size=12)
    return images.filter(lambda found: any(weight for *_, weight in found))


@settings(max_examples=100, deadline=None)
@given(weighted_images(4))
def test_f1_of_any_resample_is_scikit_learns_over_the_classes_with_images(images: list) -> None:
    labels, predicted, weights = np.array(images).T
    counted = confusion.confusion_matrices(labels, predicted, weights[None].astype(float), 4)
    present = np.unique(labels[weights > 0])
    of_class = reference.f1_score(
        labels, predicted, average=None, labels=range(4), sample_weight=weights, zero_division=0
    )
    expected = np.where(np.isin(range(4), present), of_class, np.nan)
    np.testing.assert_allclose(confusion.f1(counted)[0], expected, atol=1e-12)
    assert confusion.macro_f1(counted)[0] == pytest.approx(
        reference.f1_score(labels, predicted, average="macro", labels=present, sample_weight=weights)
    )


@settings(max_examples=30, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=20),
    patients=st.integers(2, 8),
    seed=st.integers(1, 1000),
)
def test_who_is_always_right_has_a_macro_f1_of_one_whoever_is_drawn(
    labels: list[int], patients: int, seed: int
) -> None:
    groups = [str(i % patients) for i in range(len(labels))]
    target = np.array(labels)
    measured = evaluate(perfect(target, 5), target, tuple("abcde"), groups=groups, resamples=50, seed=seed)
    assert (measured.macro_f1.value, measured.macro_f1.low, measured.macro_f1.high) == (1, 1, 1)
    for number, name in enumerate("abcde"):
        one = measured.per_class[name].f1
        ends = (one.value, one.low, one.high)
        assert ends == (1, 1, 1) if number in labels else np.isnan(ends).all()


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities, labels = scored(50, 3, 1)
    whole = evaluate(probabilities, labels, ("a", "b", "c"), resamples=90)
    monkeypatch.setattr(measure, "BLOCK", 50 * 7)
    assert np.allclose(
        headlines(evaluate(probabilities, labels, ("a", "b", "c"), resamples=90)), headlines(whole)
    )


def test_interval_of_accuracy_agrees_with_scipy() -> None:
    probabilities, labels = scored(200, 2, 3)
    right = (probabilities.argmax(axis=1) == labels).astype(float)
    theirs = scipy.stats.bootstrap(
        (right,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(0)
    ).confidence_interval
    ours = evaluate(probabilities, labels, ("a", "b"), resamples=4000).accuracy
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.011)


def test_interval_covers_the_truth_when_patients_differ() -> None:
    """40 patients with 5 images each, accuracy differing between patients around 0.7.

    Resampling groups covers the truth about as often as it says; resampling images does not.
    """
    rng = np.random.default_rng(5)
    by_group = by_image = 0
    simulations = 150
    for _ in range(simulations):
        skill = np.repeat(rng.beta(1.4, 0.6, 40), 5)  # mean 0.7
        right = rng.random(200) < skill
        labels = rng.integers(0, 2, 200)
        probabilities = np.eye(2)[np.where(right, labels, 1 - labels)]
        groups = [str(i // 5) for i in range(200)]
        grouped = evaluate(probabilities, labels, ("a", "b"), groups=groups, resamples=300).accuracy
        single = evaluate(probabilities, labels, ("a", "b"), resamples=300).accuracy
        by_group += grouped.low <= 0.7 <= grouped.high
        by_image += single.low <= 0.7 <= single.high
    assert 0.88 <= by_group / simulations <= 0.99
    assert by_image / simulations < by_group / simulations - 0.08


def test_one_group_has_no_interval() -> None:
    probabilities, labels = scored(10, 2, 0)
    told = evaluate(probabilities, labels, ("a", "b"), groups=["only"] * 10).to_json()
    assert told["accuracy"]["value"] is not None
    assert told["accuracy"]["low"] is None
    assert (told["groups"], told["resamples"]) == (1, 0)


def test_image_without_group_is_its_own() -> None:
    assert group_codes([None, "x", None, "x", "None"], 5).tolist() == [0, 1, 2, 1, 3]
    probabilities, labels = scored(30, 2, 0)
    unknown = evaluate(probabilities, labels, ("a", "b"), groups=[None] * 30)
    assert unknown.groups == 30
    assert np.array_equal(headlines(unknown), headlines(evaluate(probabilities, labels, ("a", "b"))))


def test_seed_decides() -> None:
    probabilities, labels = scored(60, 2, 0)
    first, same, other = (evaluate(probabilities, labels, ("a", "b"), seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(headlines(first), headlines(same))
    assert not np.array_equal(headlines(first), headlines(other))


@settings(max_examples=25, deadline=None)
@given(
    images=st.integers(8, 40),
    classes=st.integers(2, 4),
    seed=st.integers(0, 10_000),
    patients=st.integers(2, 12),
)
def test_order_of_images_and_names_of_groups_mean_nothing(
    images: int, classes: int, seed: int, patients: int
) -> None:
    probabilities, labels = scored(images, classes, seed)
    names = tuple(f"class {c}" for c in range(classes))
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, patients, images)
    renamed = rng.permutation(patients)[groups]
    shuffled = rng.permutation(images)
    plain = evaluate(probabilities, labels, names, groups=[f"p{g}" for g in groups], resamples=60)
    other = evaluate(
        probabilities[shuffled],
        labels[shuffled],
        names,
        groups=[f"patient {g}" for g in renamed[shuffled]],
        resamples=60,
    )
    assert np.allclose(headlines(plain), headlines(other), equal_nan=True)
    assert plain.groups == other.groups == len(set(groups))


@settings(max_examples=25, deadline=None)
@given(
    images=st.integers(1, 30),
    classes=st.integers(2, 4),
    seed=st.integers(0, 10_000),
    per_group=st.integers(1, 4),
)
def test_figures_stay_in_their_range(images: int, classes: int, seed: int, per_group: int) -> None:
    probabilities, labels = scored(images, classes, seed)
    names = tuple(f"class {c}" for c in range(classes))
    metrics = evaluate(
        probabilities, labels, names, groups=[str(i // per_group) for i in range(images)], resamples=60
    )
    everything = headlines(metrics)
    defined = everything[~np.isnan(everything)]
    assert ((defined >= 0) & (defined <= 1)).all()
    assert not (everything[:, 1] > everything[:, 2]).any()
    assert metrics.confusion.sum() == images
    assert sum(one.support for one in metrics.per_class.values()) == images
    if metrics.groups >= 8:  # accuracy is a mean: its interval holds it, give or take chance
        assert metrics.accuracy.low <= metrics.accuracy.value <= metrics.accuracy.high
