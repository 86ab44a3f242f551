"""A row of a study as something that can be created: its class, all of its options, what it tunes."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from medvip.backbones import Backbone
from medvip.errors import MedvipError, UnsuitableBackbone, UsageError
from medvip.evaluation.benchmark.cues import FINGERPRINT, TrivialCues
from medvip.evaluation.benchmark.study import (
    LABEL_PERMUTATION,
    TRIVIAL_CUES,
    WITHOUT_BACKBONE,
    MethodEntry,
    Study,
    suggestion,
)
from medvip.methods import METHODS, create_method, describe_options, find_method
from medvip.symptoms import SymptomSet
from medvip.training import get_recipe


class UnloadedBackbone:
    """Stands where a backbone is asked for and none is needed: it can encode nothing."""

    name = "none"
    fingerprint = FINGERPRINT
    image_size = embed_dim = tower_dim = token_dim = context_length = 1
    start_tokens = 0
    logit_scale = 0.0
    device = torch.device("cpu")

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise NotLoadedError

    preprocess = encode_images = tokenize = embed_tokens = encode_tokens = image_tower = _refuse


class NotLoadedError(Exception):
    """An `UnloadedBackbone` was asked to encode."""


def learned_row(study: Study, entry: MethodEntry) -> MethodEntry:
    """The row itself, or, for ``label-permutation``, the one that it is of."""
    return entry if entry.of is None else study.row(entry.of)


def row_class(name: str) -> type:
    """The class of a row's method.

    Raises
    ------
    UsageError
        No such method.
    """
    if name == TRIVIAL_CUES:
        return TrivialCues
    if name not in METHODS:
        known = [*METHODS, TRIVIAL_CUES, LABEL_PERMUTATION]
        raise UsageError(f"there is no method {name!r}", fix=suggestion(name, known))
    return find_method(name)


def full_options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a method with their values, as JSON; a recipe in full, without the seed.

    Parameters
    ----------
    name
        Of the method.
    given
        The options as a study writes them; ``recipe.NAME`` changes one value of the recipe.

    Raises
    ------
    UsageError
        An unknown option, or a value of the wrong kind.

    Examples
    --------
    >>> full_options("clip-adapter", {"ratio": 0.5, "recipe": "fast"})["ratio"]
    0.5
    >>> full_options("vip", {"recipe": {"from": "fast", "epochs": 3}})["recipe"]["epochs"]
    3
    """
    known = {} if name == TRIVIAL_CUES else describe_options(name)
    known = {option: parameter for option, parameter in known.items() if option != "seed"}
    options = {option: parameter.default for option, parameter in known.items()}
    changes: dict[str, Any] = {}
    for option, value in given.items():
        if option.startswith("recipe.") and "recipe" in known:
            changes[option.removeprefix("recipe.")] = value
        elif option not in known:
            raise UsageError(f"{name} has no option {option!r}", fix=suggestion(option, known))
        elif option != "recipe":
            options[option] = _of_kind(f"{option} of {name}", value, known[option].annotation)
        else:
            options[option] = value
    if "recipe" in options:
        options["recipe"] = _recipe(name, options["recipe"], changes)
    return options


def combinations(entry: MethodEntry) -> list[dict[str, Any]]:
    """Every combination of what the row tunes; one empty one where it tunes nothing.

    Examples
    --------
    >>> combinations(MethodEntry(name="vip", tune={"context": [2, 4], "recipe.epochs": [5]}))
    [{'context': 2, 'recipe.epochs': 5}, {'context': 4, 'recipe.epochs': 5}]
    """
    return [dict(zip(entry.tune, values, strict=True)) for values in itertools.product(*entry.tune.values())]


def create(
    name: str, backbone: Backbone, symptoms: SymptomSet | None, options: dict[str, Any], seed: int | None
) -> Any:
    """A method with the options that `full_options` gave, and with the seed if it takes one.

    Raises
    ------
    UsageError
        A value out of its range, or symptoms are needed and not there.
    """
    if name == TRIVIAL_CUES:
        return TrivialCues()
    seeded = {"seed": 1 if seed is None else seed} if takes_seed(name) else {}
    return create_method(name, backbone, symptoms, **options, **seeded)


def takes_seed(name: str) -> bool:
    """Whether the method itself is random."""
    return name != TRIVIAL_CUES and "seed" in describe_options(name)


def takes_backbone(name: str) -> bool:
    """Whether the method looks at a backbone's vectors."""
    return name not in WITHOUT_BACKBONE


def needs_pixels(name: str) -> bool:
    """Whether the method learns from pictures instead of their vectors."""
    return row_class(name).needs == "pixels"


def options_tried(method: dict[str, Any]) -> list[dict[str, Any]]:
    """All sets of options that a run tries, of settings as `cells.method_settings` gives them."""
    return method["tried"] or [method["options"]]


def check_creation(name: str, symptoms: SymptomSet | None, options: dict[str, Any]) -> None:
    """Create the method without a backbone, so that a value out of its range is found.

    Raises
    ------
    UsageError
        As `create`.
    """
    # One that encodes when it is created, or wants a certain kind of backbone, is checked when it is run.
    with contextlib.suppress(NotLoadedError, UnsuitableBackbone):
        create(name, UnloadedBackbone(), symptoms, options, seed=None)


def unsuitable(method: dict[str, Any], symptoms: SymptomSet | None, backbone: Backbone) -> str | None:
    """Why a method cannot work on that backbone, in its own words; None where it can.

    Parameters
    ----------
    method
        Settings as `cells.method_settings` gives them.
    symptoms
        As `create` takes them.
    backbone
        Loaded.
    """
    try:
        for options in options_tried(method):
            create(method["name"], backbone, symptoms, options, seed=None)
    except UnsuitableBackbone as error:
        return error.problem
    except MedvipError:
        pass  # the run meets it again and is recorded as failed
    return None


def _recipe(name: str, value: Any, changes: dict[str, Any]) -> dict[str, Any]:
    recipes = find_method(name).recipes
    if isinstance(value, str):
        return asdict(get_recipe(value, recipes, **changes))
    if not isinstance(value, dict):
        raise UsageError(
            f"recipe of {name} is {value!r}", fix=f"use one of: {', '.join(recipes)}, or a table"
        )
    given = dict(value)
    base = given.pop("from", None)
    if base is None:
        return asdict(get_recipe(given | changes, recipes))
    return asdict(get_recipe(base, recipes, **(given | changes)))


def _of_kind(where: str, value: Any, kind: Any) -> Any:
    try:
        return TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        needed = " or ".join(dict.fromkeys(re.sub("^Input should be ", "", e["msg"]) for e in error.errors()))
        raise UsageError(f"{where} is {value!r}", fix=f"use {needed}") from None
