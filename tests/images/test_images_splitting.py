from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvip.errors import DataError, UsageError
from medvip.images import few_shot, split_dataset
from medvip.images.splitting import make_validation
from medvip.types import SPLITS, ImageDataset, Sample


def dataset_of(samples) -> ImageDataset:
    samples = tuple(samples)
    return ImageDataset("set", tuple(sorted({s.label for s in samples})), samples)


@st.composite
def datasets(draw, *, mixed: bool = False, grouped: bool = True) -> ImageDataset:
    """Data sets with groups of 1 to 5 pictures; `mixed` groups may hold several classes."""
    samples = []
    labels = [f"class {i}" for i in range(draw(st.integers(2, 4)))]
    for label in labels:
        for g, size in enumerate(draw(st.lists(st.integers(1, 5), min_size=1, max_size=12))):
            group = f"patient {g}" if mixed else f"{label} patient {g}"
            for i in range(size):
                samples.append(Sample(f"{label}/{g}_{i}.png", label, group if grouped else None))
    return dataset_of(draw(st.permutations(samples)))


def splits_of_groups(dataset: ImageDataset) -> dict[str, set]:
    found = defaultdict(set)
    for sample in dataset:
        found[sample.group or sample.path].add(sample.split)
    return found


SEEDS = st.integers(0, 1000)


@settings(max_examples=80, deadline=None)
@given(st.one_of(datasets(), datasets(mixed=True), datasets(grouped=False)), SEEDS)
def test_no_group_in_two_splits_and_every_class_in_train(dataset, seed):
    split = split_dataset(dataset, seed=seed)
    assert all(len(splits) == 1 for splits in splits_of_groups(split).values())
    assert all(split.only("train").counts().values())
    assert [(s.path, s.label, s.group) for s in split] == [(s.path, s.label, s.group) for s in dataset]
    assert {s.split for s in split} <= set(SPLITS)


@settings(max_examples=80, deadline=None)
@given(datasets(), SEEDS)
def test_counts_are_near_the_fractions_and_small_classes_reach_every_split(dataset, seed):
    split = split_dataset(dataset, seed=seed)
    sizes = defaultdict(Counter)
    for sample in dataset:
        sizes[sample.label][sample.group] += 1
    for label, groups in sizes.items():
        for name, fraction in zip(SPLITS, (0.60, 0.15, 0.25), strict=True):
            count = split.only(name).counts()[label]
            assert abs(count - fraction * groups.total()) <= 3 * max(groups.values())
            if len(groups) >= 3:
                assert count > 0


@settings(max_examples=40, deadline=None)
@given(datasets(grouped=False), SEEDS, st.randoms())
def test_same_seed_same_result_in_any_order_and_any_folder(dataset, seed, random):
    split = {s.path: s.split for s in split_dataset(dataset, seed=seed)}
    samples = list(dataset)
    random.shuffle(samples)
    elsewhere = dataset_of(replace(s, path=f"/some/where/{s.path}", split="test") for s in samples)
    again = {s.path.removeprefix("/some/where/"): s.split for s in split_dataset(elsewhere, seed=seed)}
    assert split == again


def test_a_known_split_stays_what_it_is():
    """Pins the draw: a change here changes everybody's made splits."""
    dataset = split_dataset(dataset_of(Sample(f"{c}{i}", c) for c in "ab" for i in range(8)), seed=1)
    assert "".join(s.split[1] for s in dataset) == PINNED


PINNED = "erraerrrrearrrer"  # t[r]ain, v[a]l, t[e]st


def test_another_seed_gives_another_split():
    dataset = dataset_of(Sample(f"{c}/{i}", c) for c in "ab" for i in range(30))
    assert split_dataset(dataset, seed=1).samples != split_dataset(dataset, seed=2).samples


def test_fractions_and_notes():
    dataset = dataset_of(Sample(f"{c}/{i}", c, group=f"{c}{i // 2}") for c in "ab" for i in range(40))
    halves = split_dataset(dataset, fractions=(0.5, 0.0, 0.5), seed=3)
    assert halves.only("val").samples == ()
    assert halves.only("test").counts() == {"a": 20, "b": 20}
    assert halves.notes == ("splits made 50/0/50 by group, stratified, seed 3",)
    part = dataset_of(replace(s, group=None if i % 2 else s.group) for i, s in enumerate(dataset))
    assert "by group where one is known, else by image" in split_dataset(part, seed=1).notes[0]


def test_a_group_with_the_name_of_a_file_is_not_that_file():
    samples = [Sample("x", "a", group=None), *(Sample(f"{i}", "a", group="x") for i in range(3))]
    samples += [Sample(f"b{i}", "b") for i in range(5)]
    split = split_dataset(dataset_of(samples), seed=0)
    assert len({s.split for s in split if s.group == "x"}) == 1


@pytest.mark.parametrize(
    "fractions", [(0.5, 0.5, 0.5), (0, 0.5, 0.5), (1.2, -0.1, -0.1), (1.0,), (float("nan"),) * 3]
)
def test_senseless_fractions(fractions):
    dataset = dataset_of([Sample("a", "a"), Sample("b", "b")])
    with pytest.raises(UsageError, match="the fractions of train, val and test are"):
        split_dataset(dataset, fractions=fractions, seed=1)


@pytest.mark.parametrize("seed", [-1, 1.5, "1", True])
def test_senseless_seeds(seed):
    dataset = dataset_of([Sample("a", "a", split="train"), Sample("b", "b", split="train")])
    with pytest.raises(UsageError, match="the seed is"):
        split_dataset(dataset, seed=seed)
    with pytest.raises(UsageError, match="the seed is"):
        few_shot(dataset, 1, seed=seed)


@settings(max_examples=40, deadline=None)
@given(datasets(mixed=True), SEEDS)
def test_validation_made_from_train_leaves_test_alone(dataset, seed):
    first = split_dataset(dataset, fractions=(0.7, 0.0, 0.3), seed=seed)
    train = first.only("train")
    groups_of, labels_of = defaultdict(set), defaultdict(set)
    for sample in train:
        groups_of[sample.label].add(sample.group)
        labels_of[sample.group].add(sample.label)
    if not any(all(len(groups_of[label]) > 1 for label in labels) for labels in labels_of.values()):
        with pytest.raises(DataError, match="too few groups to make val"):
            make_validation(first, seed=seed)
        return
    made = make_validation(first, seed=seed)
    assert made.only("test") == replace(first.only("test"), notes=made.notes)
    assert all(len(splits) == 1 for splits in splits_of_groups(made).values())
    assert all(made.only("train").counts().values())
    assert len(made.only("val")) > 0


# ------------------------------------------------------------------ few-shot


@settings(max_examples=60, deadline=None)
@given(datasets(grouped=False), SEEDS, st.integers(1, 8))
def test_few_shot_counts_nesting_and_untouched_test(dataset, seed, shots):
    dataset = split_dataset(dataset, seed=seed)
    few, fewer = few_shot(dataset, shots, seed=seed), few_shot(dataset, max(1, shots - 1), seed=seed)
    for split, limit in (("train", shots), ("val", min(shots, 4))):
        whole, kept = dataset.only(split).counts(), few.only(split).counts()
        assert kept == {label: min(limit, number) for label, number in whole.items()}
    assert few.only("test").samples == dataset.only("test").samples
    assert set(fewer) <= set(few) <= set(dataset)
    backwards = dataset.with_samples(tuple(reversed(dataset.samples)))
    assert set(few_shot(backwards, shots, seed=seed)) == set(few)
    assert few_shot(dataset, shots, seed=seed) == few


def test_few_shot_says_which_classes_are_short():
    samples = [Sample(f"{split}{c}{i}", c, split=split) for split in SPLITS for c in "ab" for i in range(3)]
    samples += [Sample(f"more{i}", "a", split="train") for i in range(5)]
    few = few_shot(dataset_of(samples), 5, seed=1, val_shots=2)
    assert few.notes == (
        "few-shot: 5 train and 2 val images a class, seed 1",
        "class 'b' has only 3 of 5 train images: all kept",
    )
    assert few.only("val").counts() == {"a": 2, "b": 2}


def test_few_shot_follows_a_changed_split():
    """The reference kept drawn samples on disk and went on using them after the split changed."""
    dataset = dataset_of(Sample(f"{c}/{i}", c) for c in "ab" for i in range(30))
    one, two = split_dataset(dataset, seed=1), split_dataset(dataset, seed=2)
    drawn = {s.path for s in few_shot(two, 8, seed=1).only("train")}
    assert drawn != {s.path for s in few_shot(one, 8, seed=1).only("train")}
    assert drawn <= {s.path for s in two.only("train")}


def test_few_shot_refuses_nonsense():
    dataset = dataset_of([Sample("a", "a", split="train"), Sample("b", "b", split="train")])
    for shots in (0, -1, 1.5, True):
        with pytest.raises(UsageError, match="shots is"):
            few_shot(dataset, shots, seed=1)
    with pytest.raises(UsageError, match="val_shots is 0"):
        few_shot(dataset, 1, seed=1, val_shots=0)
    with pytest.raises(DataError, match="images without a split"):
        few_shot(dataset_of([Sample("a", "a"), Sample("b", "b")]), 1, seed=1)
