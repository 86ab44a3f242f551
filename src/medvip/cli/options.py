"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer

if TYPE_CHECKING:
    from medvip.types import ImageDataset, Split

Made = TypeVar("Made")

Data = Annotated[
    Path,
    typer.Argument(
        help="Folder of class folders, folder of train/val/test folders of class folders, folder with "
        "split.csv (path,label,split and patient or group), or a MedMNIST .npz file.",
        show_default=False,
    ),
]
RunFolder = Annotated[Path, typer.Argument(help="A run folder that medvip fit wrote.", show_default=False)]
Pictures = Annotated[
    list[str], typer.Argument(help="Picture files, folders of them, or globs in quotes.", show_default=False)
]
PartName = Annotated[str, typer.Option("--split", help="train, val, test, or all pictures of DATA.")]
SplitFile = Annotated[
    Path | None,
    typer.Option(help="Split in JSON ({train: [[path, label, class name], ...], ...}) or CSV, for DATA."),
]
SplitSeed = Annotated[int, typer.Option(help="Seed of splits that have to be made (60/15/25).")]
AllowLeakage = Annotated[
    bool,
    typer.Option(
        "--allow-leakage", help="Go on when a picture or a patient stands in two splits; the run records it."
    ),
]
SkipUnreadable = Annotated[
    bool, typer.Option("--skip-unreadable", help="Go on without files that cannot be read; each is named.")
]
WithCompanions = Annotated[
    bool,
    typer.Option(
        "--with-companions",
        help="Read masks, overlays and the like, which are left out beside their pictures, as pictures too.",
    ),
]
BackboneName = Annotated[
    str,
    typer.Option(
        help="embedded (no download), a folder of a CLIP or SigLIP, or its id on the Hugging Face hub."
    ),
]
OtherBackbone = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        help="Where the run's backbone lies on this machine, when not where it lay in training. "
        "Another one than that of the training is refused.",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Views = Annotated[int, typer.Option(help="Augmented views of each training picture beside the plain one.")]
Crop = Annotated[bool, typer.Option("--crop/--no-crop", help="Whether views are random resized crops.")]
Flip = Annotated[
    bool,
    typer.Option("--flip/--no-flip", help="Whether half of the views are mirrored. Not for chest X-rays."),
]
Seed = Annotated[int, typer.Option(help="Of training and few-shot sampling.", min=0, max=2**32 - 1)]
ViewsSeed = Annotated[
    int, typer.Option(help="Of the views: apart, so that all seeds share them.", min=0, max=2**32 - 1)
]
Force = Annotated[bool, typer.Option("--force", help="Replace what an earlier call wrote there.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]


def augmentation(views: int, crop: bool, flip: bool, seed: int):
    """The views that the options ask for."""
    from medvip.features import Augmentation

    return Augmentation(views=views, scale=(0.08, 1.0) if crop else None, flip=flip, seed=seed)


def require_free_file(path: Path, *, force: bool) -> None:
    """Refuse, before any work is done, a file that could not or may not be written after it.

    Raises
    ------
    MedvipError
        `path` is a folder, or lies beneath a file, or is there already and `force` is not set.
    """
    import os

    from medvip.errors import MedvipError

    if not path.name or path.is_dir():
        raise MedvipError(f"{path} is a folder", fix="name a file in it")
    above = next((folder for folder in path.absolute().parents if os.path.lexists(folder)), None)
    if above is None or not above.is_dir() or not os.access(above, os.W_OK):
        raise MedvipError(f"{path} cannot be written: {above} is no folder that you may write to", fix=_CHECK)
    if os.path.lexists(path) and not force:
        raise MedvipError(f"{path} is there already", fix="choose another --out, or replace it with --force")


_CHECK = "check the path and the folder's rights"


def named_values(given: list[str] | None, option: str, form: str, example: str) -> dict[str, str]:
    """``["a=b", ...]`` to ``{"a": "b", ...}``.

    Raises
    ------
    UsageError
        One is not of that form.
    """
    from medvip.errors import UsageError

    pairs = [pair.partition("=") for pair in given or []]
    if any(not (name and sign and value) for name, sign, value in pairs):
        raise UsageError(f"{option} is not of the form {form}", fix=f"write {option} '{example}'")
    return {name: value for name, _, value in pairs}


def tokens_of(encoders):
    """How many tokens a symptom has for these encoders: start, end and `vip`'s full stop among them."""
    from medvip.methods.prompts import closed

    return lambda text: int(encoders.tokenize([closed(text)]).end[0]) + 1


def picture_paths(given: list[str]) -> list[str]:
    """Files, folders (searched through) and globs as one list of files, in a stable order.

    Raises
    ------
    UsageError
        Something given matches no file.
    """
    import glob
    import os

    from medvip.errors import UsageError
    from medvip.images.arrays import address_of, is_file

    found: dict[str, None] = {}
    for item in given:
        path = Path(item).expanduser()
        if os.path.isdir(path):  # noqa: PTH112 (unlike Path's, False for names that no folder can have)
            matches = [p for p in sorted(path.rglob("*")) if _seen(p, path)]
        elif is_file(path) or address_of(item):
            matches = [path]
        else:
            globbed = glob.glob(item, recursive=True)  # noqa: PTH207 (Path.glob refuses absolute patterns)
            matches = [Path(match) for match in sorted(globbed) if is_file(match)]
        if not matches:
            raise UsageError(
                f"no picture at {item}", fix="give picture files, folders of them, or globs in quotes"
            )
        found |= dict.fromkeys(map(str, matches))
    return list(found)


def _seen(path: Path, root: Path) -> bool:
    from medvip.images.formats import has_picture_name

    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return not hidden and has_picture_name(path) and path.is_file()


def without_unreadable(use: Callable[[list[str]], list[Made]], paths: list[str], skip: bool) -> list[Made]:
    """What `use` makes of the pictures; with `skip` without those that cannot be read, each named.

    Raises
    ------
    UnreadableImages
        Without `skip`, or when no picture is left.
    """
    from medvip.cli.console import complain
    from medvip.errors import UnreadableImages

    try:
        return use(paths)
    except UnreadableImages as error:
        left = [path for path in paths if path not in error.reasons]
        if not skip or not left:
            raise
        for path, reason in error.reasons.items():
            complain(f"note: left out {path}: {reason}")
        return use(left)


def require_part(split: str) -> Split | Literal["all"]:
    """The split of that name, or ``"all"``.

    Raises
    ------
    UsageError
        There is none.
    """
    from medvip.errors import UsageError
    from medvip.types import SPLITS

    if split not in (*SPLITS, "all"):
        raise UsageError(f"there is no split {split!r}", fix="use train, val, test or all")
    return split


def load_data_with(
    data: Path,
    split: Split | Literal["all"],
    *,
    split_file: Path | None,
    split_seed: int,
    allow_leakage: bool,
    skip_unreadable: bool,
    with_companions: bool,
) -> ImageDataset:
    """The data set, which has to have `split` (``"all"``: any); its notes are said aloud."""
    import medvip
    from medvip.cli.console import complain

    dataset = medvip.load_dataset(
        data,
        split_file=split_file,
        seed=split_seed,
        allow_leakage=allow_leakage or split == "all",
        skip_unreadable=skip_unreadable,
        companions=with_companions,
        needs=() if split == "all" else (split,),
    )
    for note in dataset.notes:
        complain(f"note: {note}")
    return dataset


def load_given_run(run: Path, backbone: str | None, device: str):
    """The run, on the backbone that it recorded or on the same one lying elsewhere."""
    import medvip

    given = medvip.load_backbone(backbone, device=device) if backbone else None
    return medvip.load_run(run, backbone=given, device=device)


def estimate(figure: dict[str, float | None]) -> str:
    """One figure of `metrics.json` with its interval, as `medvip.evaluation.Estimate` prints it."""
    from medvip.evaluation import Estimate

    nan = float("nan")
    return str(Estimate(*(nan if (n := figure[key]) is None else n for key in ("value", "low", "high"))))


def parse_options(method: str, settings: list[str] | None) -> dict[str, Any]:
    """``["ratio=0.5"]`` to ``{"ratio": 0.5}``: of the kind that the method's own parameter has.

    Raises
    ------
    UsageError
        Not of the form NAME=VALUE, no such option of the method, one that has a flag of its own,
        or a value of another kind.
    """
    from medvip.errors import UsageError
    from medvip.methods import describe_options

    flags = {"recipe": "--recipe", "seed": "--seed", "context": "--context"}
    known = {name: option for name, option in describe_options(method).items() if name not in flags}
    given: dict[str, Any] = {}
    for setting in settings or []:
        name, sign, value = setting.partition("=")
        if not (name and sign):
            raise UsageError(
                f"--option {setting} is not of the form NAME=VALUE", fix="write --option text=symptoms"
            )
        if name in flags:
            raise UsageError(f"{name} is no --option", fix=f"write {flags[name]} {value}")
        if name not in known:
            raise UsageError(
                f"{method} has no option {name}",
                fix=f"its options are: {', '.join(known)}" if known else "leave it out: it has none",
            )
        given[name] = parse_value(name, value, known[name].annotation)
    return given


def parse_value(name: str, text: str, kind: Any) -> Any:
    """Text as what a type hint asks for; of a union, the first kind that fits.

    Raises
    ------
    UsageError
        It fits none.

    Examples
    --------
    >>> parse_value("ratio", "0.5", float), parse_value("words", "none", str | None)
    (0.5, None)
    """
    from medvip.errors import UsageError

    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    if NoneType in kinds and text.lower() == "none":
        return None
    needed: list[str] = []
    for one in kinds:
        if get_origin(one) is Literal:
            if text in get_args(one):
                return text
            needed += map(str, get_args(one))
        elif one is bool:
            if text.lower() in _TRUTHS:
                return _TRUTHS[text.lower()]
            needed += ["yes", "no"]
        elif one in (int, float, str):
            try:
                return one(text)
            except ValueError:
                needed.append("a whole number" if one is int else "a number")
    raise UsageError(
        f"{name} is {text}", fix=f"use {' or '.join(needed)}" if needed else "set it from Python"
    )


_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def changes_of(settings: list[str] | None) -> dict[str, Any]:
    """``["momentum=0.8"]`` to ``{"momentum": 0.8}``; `get_recipe` checks names and ranges.

    Raises
    ------
    UsageError
        Not of the form NAME=VALUE, or not a number where one is needed.
    """
    from medvip.errors import UsageError
    from medvip.training import Recipe

    changes: dict[str, Any] = {}
    for setting in settings or []:
        name, sign, value = setting.partition("=")
        if not (name and sign and value):
            raise UsageError(f"--set {setting} is not of the form NAME=VALUE", fix="write --set momentum=0.8")
        kind = type(getattr(Recipe(), name, ""))
        try:
            changes[name] = kind(value)
        except ValueError as error:
            needed = "whole number" if kind is int else "number"
            raise UsageError(f"{name} is {value}", fix=f"use a {needed}") from error
    return changes
