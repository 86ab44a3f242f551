"""A study as a TOML file: read strictly, every mistake named with where it stands and how to mend it."""

from __future__ import annotations

import difflib
import math
import os
import tomllib
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from medvip.errors import UsageError

MAJORITY = "majority"
TRIVIAL_CUES = "trivial-cues"
LABEL_PERMUTATION = "label-permutation"
WITHOUT_BACKBONE = (MAJORITY, TRIVIAL_CUES)
"""Rows that look at no vector of a backbone, so that all backbones share them."""

Shots = Annotated[int, Field(ge=1)] | Literal["all"]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class DataEntry(_Strict):
    """One image set.

    Attributes
    ----------
    path
        What `medvip.load_dataset` takes, from the folder given as ROOT or from the study's own.
    name
        For tables and file names; by default the last part of `path`.
    symptoms
        A ready-made set by name, or a symptom file (found like `path`).
    split_file, split_seed, allow_leakage, companions
        As in `medvip.load_dataset`; the file is found like `path`.
    views, crop, flip
        Augmented views of each training picture, and of what kind (`medvip.Augmentation`).
    """

    path: str
    name: str = ""
    symptoms: str | None = None
    split_file: str | None = None
    split_seed: Seed = 1
    allow_leakage: bool = False
    companions: bool = False
    views: Annotated[int, Field(ge=0)] = 0
    crop: bool = True
    flip: bool = True

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.name or Path(self.path).name


class MethodEntry(_Strict):
    """One row of the tables.

    Attributes
    ----------
    name
        A method of `medvip.methods`, ``trivial-cues`` or ``label-permutation``.
    label
        For tables and file names; by default `name`.
    options
        Of the method, but for ``seed``, which the study sets. ``recipe`` is a name, a table of
        all its values, or a table with ``from = "fast"`` and what differs.
    tune
        Option -> values to choose from on validation images; ``recipe.learning_rate`` reaches into
        the recipe. All combinations are tried, at most the study's `budget`.
    of
        For ``label-permutation``: the label of the row that is trained on permuted labels.
    symptoms
        Instead of those of the data set, so that sets of symptoms can be compared; found like its.
    shots
        Only these of the study's shots, for a method that takes long.
    """

    name: str
    label: str = ""
    symptoms: str | None = None
    options: dict[str, Any] = {}
    tune: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}
    of: str | None = None
    shots: list[Shots] | None = None

    @property
    def title(self) -> str:
        """What tables call it."""
        if self.label:
            return self.label
        return f"{self.name} of {self.of}" if self.of else self.name


class Study(_Strict):
    """What is run: every data set x backbone x method x shots x seed.

    Attributes
    ----------
    name
        For the tables' titles.
    seeds, shots, backbones
        ``shots`` are training pictures a class, or ``"all"``.
    data, method
        The image sets and the rows.
    base_to_novel
        Whether, besides, half of the classes are learned and the other half only named.
    reference
        Label of the row that all others are tested against; without it every pair is tested.
    budget
        How many combinations of `tune` a method may try: the same number for all.
    curves
        Labels drawn in colour in the curves, at most eight; by default all, or the first that learn.
    """

    name: str
    seeds: Annotated[list[Seed], Field(min_length=1)]
    shots: Annotated[list[Shots], Field(min_length=1)] = ["all"]
    backbones: Annotated[list[str], Field(min_length=1)] = ["embedded"]
    data: Annotated[list[DataEntry], Field(min_length=1)]
    method: Annotated[list[MethodEntry], Field(min_length=1)]
    base_to_novel: bool = False
    reference: str | None = None
    budget: Annotated[int, Field(ge=1)] = 8
    curves: list[str] | None = None

    def row(self, title: str) -> MethodEntry:
        """The row of that title."""
        return next(entry for entry in self.method if entry.title == title)


def load_study(file: str | os.PathLike[str]) -> Study:
    r"""Read a study.

    Raises
    ------
    UsageError
        The file cannot be read, is no TOML, or holds an unknown key, a wrong type or a name that
        stands for nothing or twice: the first of them, with where it stands.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     study = Path(folder, "study.toml")
    ...     _ = study.write_text('name = "a"\nseeds = [1]\nshot = [1]\n')
    ...     try:
    ...         load_study(study)
    ...     except UsageError as error:
    ...         print(error.problem, "|", error.fix)
    study.toml: there is no key 'shot' | did you mean shots? and 2 more mistakes
    """
    path = Path(file).expanduser()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the study {path} cannot be read: {getattr(error, 'strerror', None) or error}",
            fix="check its path; a study is a TOML file in UTF-8",
        ) from error
    return read_study(text, path.name)


def read_study(text: str, origin: str) -> Study:
    """Read the text of a study; raises as `load_study`."""
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{origin} is not TOML: {error}", fix="mend that line (https://toml.io)") from error
    try:
        study = Study.model_validate(content)
    except ValidationError as error:
        raise _first_mistake(error, content, origin) from None
    _check_names(study, origin)
    return study


def _check_names(study: Study, origin: str) -> None:
    titles = [entry.title for entry in study.method]
    for what, names in (
        ("name", [study.name]),
        ("[[data]]", [entry.label for entry in study.data]),
        ("[[method]]", titles),
        ("backbones", [backbone_label(name) for name in study.backbones]),
    ):
        _require_lines(names, f"{origin}, {what}")
        _refuse_twice(
            [name.casefold() for name in names], f"{origin}, {what}", "give each a label of its own"
        )
    _refuse_twice(study.seeds, f"{origin}, seeds", "give each once")
    _refuse_twice(study.shots, f"{origin}, shots", "give each once")
    for number, entry in enumerate(study.method, start=1):
        where = f"{origin}, [[method]] {number} ({entry.title!r})"
        if (entry.of is not None) != (entry.name == LABEL_PERMUTATION):
            raise UsageError(
                f"{where}: 'of' belongs to {LABEL_PERMUTATION}, which needs it",
                fix=f'write name = "{LABEL_PERMUTATION}" and of = "the label of another row"',
            )
        if entry.of is not None:
            if entry.options or entry.tune or entry.symptoms:
                raise UsageError(
                    f"{where}: {LABEL_PERMUTATION} has the options and symptoms of the row it is of",
                    fix="remove them",
                )
            others = [other.title for other in study.method if other.of is None]
            _require_among(entry.of, others, f"{where}, of")
        for shots in entry.shots or []:
            _require_among(shots, study.shots, f"{where}, shots")
        combinations = math.prod(len(values) for values in entry.tune.values())
        if combinations > study.budget:
            raise UsageError(
                f"{where}: tune has {combinations} combinations, the study's budget is {study.budget}",
                fix="give fewer values, or raise the budget, which holds for all methods",
            )
        if "seed" in {*entry.options, *entry.tune}:
            raise UsageError(f"{where}: the study sets the seed", fix="write it in seeds")
    if study.reference is not None:
        _require_among(study.reference, titles, f"{origin}, reference")
    for title in study.curves or []:
        _require_among(title, titles, f"{origin}, curves")


def backbone_label(name: str) -> str:
    """What tables call a backbone: a hub id and ``embedded`` as they are, a folder by its last part.

    Examples
    --------
    >>> backbone_label("openai/clip-vit-base-patch16"), backbone_label("/models/my-clip/")
    ('openai/clip-vit-base-patch16', 'my-clip')
    """
    return name if not name.startswith((".", "/", "~")) else Path(name).name


def _require_lines(names: Iterable[str], where: str) -> None:
    for name in names:
        odd = [c for c in name if not c.isprintable() or unicodedata.category(c) in ("Cf", "Zl", "Zp")]
        if odd or not name.strip() or name != name.strip() or len(name) > 80:
            raise UsageError(
                f"{where}: {ascii(name)[:100]} cannot stand in a table",
                fix="give it a name of one printable line, at most 80 characters, without space around it",
            )


def _refuse_twice(values: Iterable[object], where: str, fix: str) -> None:
    seen = set()
    for value in values:
        if value in seen:
            raise UsageError(f"{where}: {value!r} stands there twice", fix=fix)
        seen.add(value)


def _require_among(value: object, known: Iterable[object], where: str) -> None:
    if value not in (known := list(known)):
        raise UsageError(
            f"{where}: there is no {value!r}", fix=suggestion(str(value), [str(name) for name in known])
        )


def suggestion(name: str, known: Iterable[str]) -> str:
    """What was probably meant, else all there is.

    Examples
    --------
    >>> suggestion("shot", ["shots", "seeds"]), suggestion("x", ["shots", "seeds"])
    ('did you mean shots?', 'use one of: shots, seeds')
    """
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"use one of: {', '.join(known)}" if known else "leave it out"


def _first_mistake(error: ValidationError, content: dict[str, Any], origin: str) -> UsageError:
    """The most telling of a study's mistakes: a misspelt key before what then is missing."""
    order = {"extra_forbidden": 0, "missing": 2}
    mistakes = sorted(error.errors(), key=lambda mistake: order.get(mistake["type"], 1))
    mistake = mistakes[0]
    problem, fix = _explained(mistake, content, origin)
    others = len({_place(other) for other in mistakes}) - 1
    more = f" and {others} more mistake{'s' if others > 1 else ''}" if others else ""
    return UsageError(problem, fix=fix + more)


def _explained(mistake: ErrorDetails, content: dict[str, Any], origin: str) -> tuple[str, str]:
    *parents, key = _place(mistake)
    where, model = origin, Study
    if parents and parents[0] in ("data", "method"):
        model = DataEntry if parents[0] == "data" else MethodEntry
        if len(parents) > 1 and isinstance(parents[1], int):
            entry = content[str(parents[0])][parents[1]]
            named = entry.get("label") or entry.get("name") or entry.get("path")
            where += f", [[{parents[0]}]] {parents[1] + 1}" + (f" ({named!r})" if named else "")
            parents = parents[2:]
    where += "".join(f", {f'item {part + 1}' if isinstance(part, int) else part}" for part in parents)
    shown = repr(mistake["input"])[:60]
    match mistake["type"]:
        case "extra_forbidden":
            return f"{where}: there is no key {key!r}", suggestion(str(key), model.model_fields)
        case "missing":
            return f"{where}: {key} is missing", f"write {key} = ..."
        case "model_type" | "list_type" if key in ("data", "method") or isinstance(key, int):
            return f"{where}: {key} is {shown}", "write a section for each: [[data]], [[method]]"
    if (key == "shots" or "shots" in parents) and mistake["type"] != "list_type":
        needed = 'a whole number, 1 or greater, or "all"'
    else:
        needed = _NEEDED.get(mistake["type"], mistake["msg"].removeprefix("Input should be "))
    name = f"item {key + 1}" if isinstance(key, int) else key
    return f"{where}: {name} is {shown}", f"write {needed}"


_NEEDED = {
    "int_type": "a whole number",
    "string_type": 'text: "..."',
    "bool_type": "true or false",
    "list_type": "a list: [..., ...]",
    "dict_type": "a table: { ... = ... }",
    "too_short": "at least one",
    "greater_than_equal": "a greater number",
    "less_than_equal": "a smaller number",
}


def _place(mistake: ErrorDetails) -> tuple[int | str, ...]:
    """Where a mistake stands, without pydantic's names for the branches of a union."""
    branches = ("constrained-int", "literal['all']")
    return tuple(part for part in mistake["loc"] if part not in branches)
