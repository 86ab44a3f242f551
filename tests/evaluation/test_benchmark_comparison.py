"""Statistics between methods, against scipy, published values and loops that do it word by word."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from medvip.evaluation import evaluate
from medvip.evaluation.bootstrap import group_codes, group_weights
from medvip.evaluation.comparison import (
    FIGURES,
    combined_over_seeds,
    critical_difference,
    figures_on,
    friedman_p,
    holm,
    mcnemar_exact,
    paired_difference,
    ranks,
)


def scored(images: int, classes: int, seed: int, skill: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that lean to the right class, and labels."""
    labels = np.random.default_rng(0).integers(0, classes, images)
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(classes), images) + skill * np.eye(classes)[labels]
    return probabilities / probabilities.sum(axis=1, keepdims=True), labels


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 5))
def test_mcnemar_is_the_binomial_test_on_discordant_images(first: int, second: int, both: int) -> None:
    first_right = np.array([True] * first + [False] * second + [True] * both, dtype=bool)
    second_right = np.array([False] * first + [True] * second + [True] * both, dtype=bool)
    found = mcnemar_exact(first_right, second_right)
    assert (found.first_only, found.second_only) == (first, second)
    expected = scipy.stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert found.p == pytest.approx(expected)


def test_mcnemar_on_a_published_example() -> None:
    """9 against 1 discordant: 2 * (C(10,0) + C(10,1)) / 2^10, by hand."""
    found = mcnemar_exact(np.array([True] * 9 + [False]), np.array([False] * 9 + [True]))
    assert found.p == pytest.approx(2 * 11 / 1024)


def test_paired_bootstrap_equals_drawing_patients_one_by_one() -> None:
    """The same groups drawn, images repeated, both figures read by scikit-learn, subtracted."""
    images, classes, resamples = 60, 3, 200
    first, labels = scored(images, classes, 1, skill=0.9)
    second, _ = scored(images, classes, 2, skill=0.6)
    groups = [f"patient {i // 3}" for i in range(images)]
    codes = group_codes(groups, images)
    weights = group_weights(codes, resamples, np.random.default_rng(4))
    figures = [figures_on(p, labels, weights) for p in (first, second)]
    for name in ("macro_f1", "auroc"):
        apart = []
        for counts in weights.astype(int):
            again = np.repeat(np.arange(images), counts)
            values = []
            for p in (first, second):
                t, q = labels[again], p[again]
                values.append(
                    reference.f1_score(t, q.argmax(1), average="macro", labels=np.unique(t))
                    if name == "macro_f1"
                    else reference.roc_auc_score(t, q, multi_class="ovr", average="macro")
                )
            apart.append(values[0] - values[1])
        plain = [float(figures_on(p, labels, np.ones((1, images)))[name][0]) for p in (first, second)]
        found = paired_difference(*plain, figures[0][name], figures[1][name])
        assert found.value == pytest.approx(plain[0] - plain[1])
        assert (found.low, found.high) == pytest.approx(tuple(np.percentile(apart, [2.5, 97.5])))
        z = (plain[0] - plain[1]) / statistics.stdev(apart)
        assert found.p == pytest.approx(2 * scipy.stats.norm.sf(abs(z)))


def test_a_class_that_a_resample_lacks_is_in_neither_of_two_methods_figures() -> None:
    """Both are always right on the rare class: where it is lacking, the figure is that of the other two."""
    labels = np.array([0] * 30 + [1] * 30 + [2] * 2)
    first = np.eye(3)[labels]
    second = np.eye(3)[np.r_[1 - labels[:3], labels[3:]]]
    weights = group_weights(np.arange(62), 1000, np.random.default_rng(0))
    lacking = weights[:, labels == 2].sum(1) == 0
    assert 50 < lacking.sum() < 250
    a, b = (figures_on(p, labels, weights)["macro_f1"] for p in (first, second))
    assert (a == 1).all()
    two_classes = figures_on(second[:60, :2], labels[:60], weights[:, :60])["macro_f1"]
    assert b[lacking] == pytest.approx(two_classes[lacking])
    assert b[~lacking] == pytest.approx((2 * two_classes[~lacking] + 1) / 3)


def test_pairing_makes_the_interval_narrower_than_two_separate_ones() -> None:
    """What all of it is for: two methods that err on the same images are told apart."""
    first, labels = scored(120, 2, 1)
    second = first.copy()
    wrong = np.flatnonzero(first.argmax(1) == labels)[:6]
    second[wrong] = second[wrong][:, ::-1]
    weights = group_weights(np.arange(120), 500, np.random.default_rng(0))
    a, b = (figures_on(p, labels, weights)["accuracy"] for p in (first, second))
    found = paired_difference(float((first.argmax(1) == labels).mean()),
                              float((second.argmax(1) == labels).mean()), a, b)  # fmt: skip
    shuffled = np.random.default_rng(1).permutation(b)
    low, high = np.percentile(a - shuffled, [2.5, 97.5])
    assert found.low > 0
    assert high - low > 2 * (found.high - found.low)


def test_a_method_does_not_differ_from_itself() -> None:
    p, labels = scored(40, 3, 1)
    resampled = figures_on(p, labels, group_weights(np.arange(40), 100, np.random.default_rng(0)))["auroc"]
    found = paired_difference(0.7, 0.7, resampled, resampled)
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)
    right = p.argmax(1) == labels
    assert mcnemar_exact(right, right).p == 1


def test_a_clear_difference_stays_significant_among_many_tests() -> None:
    """A mean of normal values: p is that of the z-test, far below what counts of resamples can say."""
    random = np.random.default_rng(0)
    images = random.normal(0.5, 1, 400)
    resampled = group_weights(np.arange(400), 4000, random) @ images / 400
    p = paired_difference(images.mean(), 0.0, resampled, np.zeros(4000)).p
    z = images.mean() / (images.std() / 20)
    assert math.log(p) == pytest.approx(math.log(2 * scipy.stats.norm.sf(z)), rel=0.1)
    assert p < 1e-12
    assert holm([p] * 100)[0] < 0.001


def test_resamples_that_all_differ_alike() -> None:
    resampled = np.linspace(0.5, 0.7, 50)
    assert paired_difference(0.7, 0.6, resampled + 0.1, resampled).p == 0
    assert paired_difference(0.6, 0.6, resampled + 1e-16, resampled).p == 1
    assert math.isnan(paired_difference(0.7, 0.6, np.array([0.7]), np.array([0.6])).p)


def test_p_values_of_equal_methods_are_rarely_small() -> None:
    """Two methods of the same skill: of 150 data sets about one in twenty falls below 0.05."""
    small = {"bootstrap": 0, "mcnemar": 0}
    for seed in range(150):
        random = np.random.default_rng(seed)
        labels = random.integers(0, 2, 80)
        predicted = [np.where(random.random(80) < 0.75, labels, 1 - labels) for _ in range(2)]
        p = [np.eye(2)[guess] for guess in predicted]
        weights = group_weights(np.arange(80), 200, random)
        a, b = (figures_on(one, labels, weights)["macro_f1"] for one in p)
        plain = [float(figures_on(one, labels, np.ones((1, 80)))["macro_f1"][0]) for one in p]
        small["bootstrap"] += paired_difference(*plain, a, b).p < 0.05
        small["mcnemar"] += mcnemar_exact(*(guess == labels for guess in predicted)).p < 0.05
    assert small["bootstrap"] <= 16
    assert small["mcnemar"] <= 12


def test_figures_are_those_of_evaluate() -> None:
    p, labels = scored(90, 4, 3)
    found = figures_on(p, labels, np.ones((1, 90)))
    told = evaluate(p, labels, ("a", "b", "c", "d"), resamples=0)
    for name in FIGURES:
        assert found[name][0] == pytest.approx(getattr(told, name).value), name


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_as_the_step_down_procedure_does(p_values: list[float]) -> None:
    """For any level: walk from the smallest p, stop at the first above level / tests left."""
    adjusted = holm(p_values)
    for level in (0.01, 0.05, 0.2):
        rejected: set[int] = set()
        left = sorted(range(len(p_values)), key=lambda i: p_values[i])
        for place, index in enumerate(left):
            if p_values[index] * (len(p_values) - place) > level:
                break
            rejected.add(index)
        assert {i for i, p in enumerate(adjusted) if p <= level} == rejected


def test_holm_leaves_undefined_tests_out_of_the_family() -> None:
    assert holm([0.02, math.nan, 0.03])[::2] == pytest.approx([0.04, 0.04])
    assert math.isnan(holm([0.02, math.nan])[1])
    assert holm([]) == []


def test_twice_the_median_is_rarely_small_whatever_the_dependence() -> None:
    """Uniform p-values of three seeds, independent or all the same: below 0.05 in 1 of 20 at most."""
    random = np.random.default_rng(0)
    for together in (True, False):
        draws = random.random((4000, 3))
        if together:
            draws[:] = draws[:, :1]
        small = np.mean([combined_over_seeds(row.tolist()) < 0.05 for row in draws])
        assert small <= 0.05 + 0.008
    assert combined_over_seeds([0.2]) == 0.2
    assert combined_over_seeds([0.9, 0.8]) == 1


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(2, 6), st.integers(0, 1000))
def test_ranks_equal_scipy_and_friedman_is_the_analysis_of_their_variance(
    sets: int, methods: int, seed: int
) -> None:
    values = np.random.default_rng(seed).integers(0, 6, (sets, methods)) / 5
    found = ranks(values)
    by_scipy = np.stack([scipy.stats.rankdata([-v for v in line]) for line in values])
    assert np.array_equal(found, by_scipy)
    assert np.allclose(found.sum(axis=1), methods * (methods + 1) / 2)
    if methods < 3 or (values == values[:, :1]).all():
        assert math.isnan(friedman_p(values))
        return
    # F of a two-way analysis of variance of the ranks (Conover 1999, section 5.8).
    total = found.sum(axis=0)
    between = (total**2).sum() / sets - sets * methods * (methods + 1) ** 2 / 4
    within = (found**2).sum() - (total**2).sum() / sets
    least = math.factorial(methods) ** -(sets - 1)
    if within < 1e-9:
        assert friedman_p(values) == pytest.approx(least)
        return
    statistic = (sets - 1) * between / within
    expected = scipy.stats.f.sf(statistic, methods - 1, (methods - 1) * (sets - 1))
    assert friedman_p(values) == pytest.approx(max(expected, least), rel=1e-6)


def test_friedman_of_data_sets_that_all_agree_is_the_chance_of_that() -> None:
    """Three methods in the same order on three sets: by counting all orders, 6 of 6^3."""
    agree = [p for p in itertools.product(itertools.permutations(range(3)), repeat=3) if len(set(p)) == 1]
    values = np.tile([0.3, 0.2, 0.1], (3, 1))
    assert friedman_p(values) == pytest.approx(len(agree) / 6**3)


@pytest.mark.parametrize(("methods", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)])
def test_critical_difference_has_the_published_q(methods: int, q: float) -> None:
    """Demšar 2006, Table 5a, q at 0.05."""
    for sets in (5, 30):
        expected = q * math.sqrt(methods * (methods + 1) / (6 * sets))
        assert critical_difference(methods, sets) == pytest.approx(expected, rel=6e-4)


def test_nemenyi_agrees_with_simulated_ranks() -> None:
    """Four equal methods on 30 data sets: the extreme mean ranks differ by more in 1 of 20 cases."""
    random = np.random.default_rng(3)
    limit = critical_difference(4, 30)
    apart = [np.ptp(ranks(random.random((30, 4))).mean(axis=0)) > limit for _ in range(1500)]
    assert 0.03 < np.mean(apart) < 0.07


def test_undefined_resamples_are_left_out_in_pairs() -> None:
    first, second = np.array([0.9, math.nan, 0.8]), np.array([0.5, 0.1, math.nan])
    found = paired_difference(0.8, 0.5, first, second)
    assert (found.low, found.high) == pytest.approx((0.4, 0.4))
    nothing = paired_difference(0.8, 0.5, np.array([]), np.array([]))
    assert nothing.value == pytest.approx(0.3)
    assert all(math.isnan(x) for x in (nothing.low, nothing.high, nothing.p))
    undefined = paired_difference(math.nan, 0.5, first, second)
    assert math.isnan(undefined.p)


def test_swapping_two_methods_turns_the_sign() -> None:
    for (a, b), seed in itertools.product([(0.7, 0.6), (0.5, 0.5)], (1, 2)):
        random = np.random.default_rng(seed)
        x, y = random.random(99), random.random(99)
        there, back = paired_difference(a, b, x, y), paired_difference(b, a, y, x)
        assert there.p == back.p
        assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))
