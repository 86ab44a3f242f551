"""Runs that are trained together: the numbers of each alone, from fewer calls of the text encoder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import count_texts, embedded_with_any_map, made_up

from medvip import SymptomSet, load_backbone
from medvip.backbones import Backbone
from medvip.methods import create_method
from medvip.methods.prompt_method import PromptMethod, fit_together
from medvip.training import Recipe

CLASSES = ("blue", "green", "red")
SYMPTOMS = SymptomSet.from_mapping(
    {"blue": ["like the sky", "cold"], "green": ["fresh grass"], "red": ["like fire", "warm", "of blood"]}
)
RUNS: list[tuple[dict[str, Any], int]] = [
    ({"epochs": 3}, 9),
    ({"epochs": 6, "learning_rate": 0.02}, 3),  # one step an epoch
    ({"epochs": 2, "learning_rate": 0.05, "batch_size": 4, "select_by": "last"}, 24),
    ({"epochs": 3, "warmup_epochs": 0, "momentum": 0.5}, 12),
]
"""Recipes, and numbers of training images."""


@pytest.fixture
def clip(tiny_clip: Path) -> Iterator[Any]:
    """In double precision: a few steps at a high rate make much of the last bits of single precision."""
    backbone: Any = load_backbone(str(tiny_clip), device="cpu")
    backbone._model.double()
    torch.set_default_dtype(torch.float64)
    yield backbone
    torch.set_default_dtype(torch.float32)


@pytest.fixture(params=["siglip", "embedded"])
def other_backbone(request: pytest.FixtureRequest) -> Backbone:
    if request.param == "embedded":
        return embedded_with_any_map()
    return load_backbone(str(request.getfixturevalue("tiny_siglip")), device="cpu")


def runs(name: str, backbone: Backbone, **options: Any) -> tuple[list[Any], list[Any]]:
    """Methods and images of all runs; every one has its own seed, recipe and pictures."""
    methods, data = [], []
    for seed, (recipe, images) in enumerate(RUNS):
        text_every = {"text_every": 2} if name in ("vip", "vip-merge") else {}
        settings = Recipe(**{"batch_size": 5, "learning_rate": 0.01, **text_every, **recipe})
        methods.append(create_method(name, backbone, SYMPTOMS, recipe=settings, seed=seed, **options))
        tables = (made_up(CLASSES, count, backbone.embed_dim, seed=seed) for count in (images, 6))
        data.append(tuple(tables))
    return methods, data


@pytest.mark.parametrize(
    ("name", "options", "shares"),
    [
        ("vip", {}, True),
        ("vip", {"context": 0}, False),
        ("vip-merge", {}, False),
        ("vip-context-mean", {}, True),
        ("coop", {}, True),
        ("coop", {"class_specific": True, "position": "middle"}, True),
        ("kgcoop", {}, True),
        ("biomedcoop", {}, True),
        ("prograd", {}, False),
        ("cocoop", {}, False),
        ("vpt", {}, False),
    ],
)
def test_each_run_learns_what_it_learns_alone(
    name: str, options: dict[str, Any], shares: bool, clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare(name, options, shares, clip, monkeypatch, tolerance=1e-6)


def test_on_other_backbones(other_backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    compare("vip", {}, True, other_backbone, monkeypatch, tolerance=1e-4)


def compare(
    name: str,
    options: dict[str, Any],
    shares: bool,
    backbone: Backbone,
    monkeypatch: pytest.MonkeyPatch,
    tolerance: float,
) -> None:
    calls = count_texts(monkeypatch, backbone)
    alone, data = runs(name, backbone, **options)
    for method, tables in zip(alone, data, strict=True):
        method.fit(*tables)
    of_alone = len(calls)
    calls.clear()
    together, _ = runs(name, backbone, **options)
    assert fit_together(together, data) == [None] * len(RUNS)
    for one, other in zip(together, alone, strict=True):
        for key, wanted in other.state().items():
            torch.testing.assert_close(
                one.state()[key],
                wanted,
                rtol=tolerance,
                atol=tolerance,
                msg=lambda text, key=key: f"{key}: {text}",
            )
        assert [entry["epoch"] for entry in one.history if entry.get("best")] == [
            entry["epoch"] for entry in other.history if entry.get("best")
        ]
    if shares:
        assert len(calls) < 0.6 * of_alone


def test_one_that_fails_leaves_the_others_alone(tiny_clip: Path) -> None:
    backbone = load_backbone(str(tiny_clip), device="cpu")
    (good, bad), data = (both[:2] for both in runs("vip", backbone))
    bad.recipe = Recipe(learning_rate=1e30, warmup_epochs=0, epochs=4, batch_size=5)
    errors = fit_together([good, bad], data)
    assert errors[0] is None
    assert "not finite" in str(errors[1])
    (alone, *_), _ = runs("vip", backbone)
    alone.fit(*data[0])
    torch.testing.assert_close(good.state()["class_vectors"], alone.state()["class_vectors"])


def test_runs_that_are_not_alike_are_refused(tiny_clip: Path) -> None:
    backbone = load_backbone(str(tiny_clip), device="cpu")
    (one, *_), data = runs("vip", backbone)
    for other in (
        create_method("vip", backbone, SYMPTOMS, context=2),
        create_method("vip-context-mean", backbone, SYMPTOMS),
        create_method("vip", load_backbone(str(tiny_clip), device="cpu"), SYMPTOMS),
        create_method("vip", backbone, SymptomSet.from_mapping({name: ["round"] for name in CLASSES})),
    ):
        assert isinstance(other, PromptMethod)
        with pytest.raises(ValueError, match="differ in more than recipe"):
            fit_together([one, other], data[:2])
        assert not one.classes
