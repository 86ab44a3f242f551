"""Choosing a value: scikit-learn's figures, the smallest of equals, folds that no group crosses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import accuracy_score, f1_score, log_loss
from small_models import made_up

from medvip.features import FeatureTable
from medvip.methods.selection import Selection, grouped_folds, macro_f1_and_accuracy

CLASSES = ("a", "b", "c")


def nothing(like: FeatureTable) -> FeatureTable:
    return like.taken(np.zeros(0, dtype=int))


def labelled(labels: list[int], groups: list[str], dim: int = 2) -> FeatureTable:
    """One-hot vectors, so that what a method saw can be told from them."""
    names = tuple(map(str, range(len(labels))))
    vectors = torch.eye(len(labels), dim)[:, None]
    return FeatureTable(vectors, torch.tensor(labels), CLASSES, names, tuple(groups), names, "none")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=12))
def test_both_figures_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = np.array(pairs).T
    f1 = f1_score(labels, predicted, labels=np.unique(labels), average="macro")
    expected = f1, accuracy_score(labels, predicted)
    np.testing.assert_allclose(macro_f1_and_accuracy(labels, predicted, 3), expected, atol=1e-12)


def voting(table: dict[float, list[int]]):
    """Scores that predict what the table says for each value."""

    def scores(part, images, values):
        for value in values:
            yield torch.nn.functional.one_hot(torch.tensor(table[value]), 3).double()

    return scores


def test_macro_f1_first_then_accuracy_then_the_smallest() -> None:
    validation = labelled([0, 0, 0, 0, 1, 2], list("uvwxyz"), 6)
    everything_first = [0, 0, 0, 0, 0, 0]  # accuracy 4/6, macro-F1 0.267
    rare_right = [0, 0, 1, 2, 1, 2]  # accuracy 4/6, macro-F1 0.667
    table = {1.0: everything_first, 3.0: rare_right, 2.0: rare_right, 4.0: rare_right}
    history: list = []
    selection = Selection(("C",), validation, validation, history)
    assert selection.among([1.0, 3.0, 2.0, 4.0], voting(table)) == 2.0
    assert [entry["C"] for entry in history] == [1.0, 3.0, 2.0], "only what was the best when tried"
    f1 = f1_score([0, 0, 0, 0, 1, 2], rare_right, average="macro")
    loss = history[-1].pop("val_loss")
    assert history[-1] == {"C": 2.0, "val_macro_f1": pytest.approx(f1), "val_accuracy": pytest.approx(4 / 6)}
    assert selection.figures == (pytest.approx(f1), pytest.approx(4 / 6), -loss)
    # a later call competes with the earlier ones
    assert selection.among([1.0], voting(table)) == 2.0


def test_equal_macro_f1_is_decided_by_accuracy() -> None:
    """Counts found by search: the same macro-F1 of two classes, different accuracy."""
    labels = [0] * 6 + [1] * 6 + [2] * 4
    first = [0] * 5 + [1] + [1] * 3 + [0] * 3 + [2] * 4
    found = {}
    for predicted in (first, *(np.random.default_rng(i).integers(0, 3, 16).tolist() for i in range(20000))):
        figures = macro_f1_and_accuracy(np.array(labels), np.array(predicted), 3)
        earlier = found.setdefault(round(figures[0], 12), (figures, predicted))
        if abs(earlier[0][1] - figures[1]) > 1e-9 and earlier[0][0] == figures[0]:
            break
    else:
        pytest.fail("no such pair")
    table = {1.0: earlier[1], 2.0: predicted}
    validation = labelled(labels, [str(i) for i in range(16)], 16)
    best = Selection(("C",), validation, validation, []).among([1.0, 2.0], voting(table))
    assert best == (1.0 if earlier[0][1] > figures[1] else 2.0)


def test_equal_predictions_are_decided_by_cross_entropy() -> None:
    """With few images many values predict the same: the surest of them, unless it is wrong for sure."""
    labels, right = [0, 1, 2, 0], [0, 1, 2, 1]  # the last one is wrong

    def scores(part, images, sharpness):
        for factor in sharpness:
            yield factor * torch.nn.functional.one_hot(torch.tensor(right), 3).float()

    validation, history = labelled(labels, list("wxyz"), 4), []
    sharpness = [0.1, 1.0, 2.0, 30.0]
    best = Selection(("factor",), validation, validation, history).among(sharpness, scores)
    loss = {
        factor: log_loss(labels, softmax(factor * np.eye(3)[right], 1), labels=range(3))
        for factor in sharpness
    }
    assert best == min(sharpness, key=loss.__getitem__) == 2.0
    assert history[-1]["val_loss"] == pytest.approx(loss[2.0])


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), min_size=3, max_size=40))
def test_no_group_is_on_both_sides_of_a_fold(pairs: list[tuple[int, int]]) -> None:
    labels, groups = [label for label, _ in pairs], [f"g{group}" for _, group in pairs]
    table = labelled(labels, groups, len(labels))
    folds = grouped_folds(table)
    if min(len({g for label, g in pairs if label == c}) for c in range(3)) < 2:
        assert folds == []
    seen: list[str] = []
    for inside, outside in folds:
        assert not set(inside.groups) & set(outside.groups)
        assert set(inside.labels.tolist()) == {0, 1, 2}
        assert len(inside) + len(outside) == len(table)
        assert len(outside) > 0
        seen += outside.paths
        for part in (inside, outside):
            positions = [int(path) for path in part.paths]
            assert torch.equal(part.plain, table.plain[positions])
            assert part.labels.tolist() == [labels[position] for position in positions]
            assert part.groups == tuple(groups[position] for position in positions)
    assert len(seen) == len(set(seen)), "no image is scored twice"


def test_five_folds_score_every_image_once() -> None:
    table = made_up(CLASSES, 60, 4)
    folds = grouped_folds(table)
    assert len(folds) == 5
    assert sorted(path for _, outside in folds for path in outside.paths) == sorted(table.paths)


def test_without_validation_images_the_held_out_folds_decide() -> None:
    train = made_up(CLASSES, 30, 16)
    asked: list[tuple[int, int]] = []

    def scores(part: FeatureTable, images: torch.Tensor, values):
        asked.append((len(part), len(images)))
        held_out = {tuple(row.tolist()) for row in images} & {tuple(row.tolist()) for row in part.plain}
        assert not held_out, "scored on what was learned from"
        nearest = torch.cdist(images, part.plain).argmin(1)
        right = torch.nn.functional.one_hot(part.labels[nearest], 3)
        for value in values:
            yield right if value == 2 else -right

    history: list = []
    selection = Selection(("k",), train, nothing(train), history)
    assert selection.possible
    assert selection.among([1, 2, 3], scores) == 2
    assert asked == [(24, 6)] * 5
    assert history[-1]["cv_macro_f1"] == history[-1]["cv_accuracy"] == 1.0


def test_one_group_a_class_leaves_nothing_to_choose_by() -> None:
    table = made_up(CLASSES, 9, 4)
    table = replace(table, groups=tuple(f"patient {label}" for label in table.labels.tolist()))
    assert not Selection(("C",), table, nothing(table), []).possible
    assert Selection(("C",), table, table, []).possible
