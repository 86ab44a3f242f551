"""Any DATA form -> a data set that can be trusted: readable, split, without leakage."""

from __future__ import annotations

import os
from pathlib import Path

from medvip.errors import DataError, UnreadableImages, UsageError
from medvip.images import checks
from medvip.images.arrays import is_file
from medvip.images.companions import described, find_companions
from medvip.images.folders import read_folder
from medvip.images.inspection import inspect
from medvip.images.medmnist import read_medmnist
from medvip.images.names import in_other_form
from medvip.images.order import require_seed
from medvip.images.reading import Reading, counted
from medvip.images.split_csv import read_split_csv
from medvip.images.split_json import read_split_json
from medvip.images.splitting import make_validation, split_dataset
from medvip.images.trees import tree_of
from medvip.types import SPLITS, ImageDataset, Sample, Split


def load_dataset(
    data: str | os.PathLike[str],
    *,
    split_file: str | os.PathLike[str] | None = None,
    seed: int = 1,
    allow_leakage: bool = False,
    skip_unreadable: bool = False,
    companions: bool = False,
    verify: bool = True,
    needs: tuple[Split, ...] = SPLITS,
    workers: int | None = None,
) -> ImageDataset:
    """Find the pictures of DATA with their labels, groups and splits, and check them.

    The forms of DATA: ``DIR/<class>/*``; ``DIR/{train,val,test}/<class>/*``; a folder with
    ``split.csv`` (``path,label,split`` and perhaps one of ``patient``, ``group``,
    ``patient_or_group``); a MedMNIST ``.npz``; a folder plus `split_file`.

    Links to folders are followed. Masks, overlays and the like that lie beside the pictures that
    they belong to are left out of folders (`medvip.images.companions`); what a table lists is read.
    Class names are compared as people see them: blanks around them and the way that accents are
    stored make no difference.

    Where no splits are given they are made: 60/15/25 by group, stratified. Where only val is
    missing, it is made from 20 % of train's groups. Copies of one picture count as one group
    then. What was decided stands in the data set's notes.

    Parameters
    ----------
    data
        A folder or a ``.npz`` file.
    split_file
        A split in JSON, ``{"train": [[path, label, class name], ...], ...}``, with paths
        relative to `data` or to a folder in it, or a CSV like ``split.csv``.
    seed
        For splits that have to be made.
    allow_leakage
        Go on, with a note, when a picture or a group stands in two splits.
    skip_unreadable
        Go on, with a note that lists them, without the files that cannot be read.
    companions
        Read masks and other companions of pictures like pictures; a note counts them.
    verify
        Decode every file once, so that a damaged one is found now and not in the middle of the
        work: about 1 ms for a 256-pixel JPEG, 20 ms and more for large pictures, shared among
        the threads. Without it files are only read through for their hash.
    needs
        Splits that have to be there; ``("test",)`` for data that are only evaluated.
    workers
        Threads that look at the files; by default one a processor, 8 at most.

    Returns
    -------
    ImageDataset
        Classes sorted by name; every sample has a split.

    Raises
    ------
    DataError
        DATA is missing, empty or malformed; a class is missing from train; there is one class
        only; a picture stands under two labels.
    LeakageError
        The same picture by content, or the same group, stands in two splits.
    UnreadableImages
        Files cannot be read; lists all of them.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for label in ("mole", "nevus"):
    ...         Path(folder, label).mkdir()
    ...         for i in range(10):
    ...             colour = (i, 0, 255 if label == "mole" else 0)
    ...             Image.new("RGB", (8, 8), colour).save(Path(folder, label, f"{i}.png"))
    ...     dataset = load_dataset(folder)
    >>> dataset.only("train").counts()
    {'mole': 6, 'nevus': 6}
    >>> dataset.notes
    ('splits made 60/15/25 by image (no groups known), stratified, seed 1',)
    """
    require_seed(seed)
    if unknown := [split for split in needs if split not in SPLITS]:
        raise UsageError(f"needs names a split '{unknown[0]}'", fix="use train, val and test")
    if workers is not None and workers < 1:
        raise UsageError(f"workers is {workers}", fix="give a number of threads, 1 or greater")
    place = in_other_form(Path(data).expanduser())
    samples, notes = _read(place, split_file, skip_unreadable, companions)
    samples, said = checks.unify_classes(samples)
    notes += said
    name = place.resolve().name

    def show(path: str) -> str:
        return path.removeprefix(place.as_posix()).lstrip("/#")

    hashes, reasons = inspect(dict.fromkeys(s.path for s in samples), verify=verify, workers=workers)
    if reasons:
        if not skip_unreadable:
            raise UnreadableImages(
                reasons,
                fix="replace or remove the files, or go on without them with skip_unreadable=True "
                "(--skip-unreadable)",
            )
        samples = [sample for sample in samples if sample.path in hashes]
        listed = "; ".join(f"{show(path)}: {reason}" for path, reason in reasons.items())
        notes.append(f"{counted(len(reasons), 'unreadable image')} left out: {listed}")

    checks.require_classes(samples, name)
    checks.refuse_contradictions(samples, hashes, show)
    dataset = ImageDataset(name, tuple(sorted({s.label for s in samples})), tuple(samples), tuple(notes))
    dataset = _complete_splits(dataset, hashes, needs, seed)
    checks.require_splits(dataset.samples, name, needs)
    notes = checks.absent_classes(dataset.samples, [split for split in needs if split != "train"])
    if leaks := checks.find_leaks(dataset.samples, hashes, show):
        if not allow_leakage:
            raise leaks
        notes.append(f"leakage allowed: {leaks.problem}")
    return dataset.with_samples(dataset.samples, *notes)


def _read(
    place: Path, split_file: str | os.PathLike[str] | None, allow_missing: bool, companions: bool
) -> Reading:
    """Tell the forms of DATA apart and read the one it is."""
    forms = "give a folder of class folders, a folder with split.csv, or a MedMNIST .npz file"
    try:
        if place.is_dir():
            if split_file is not None:
                file = Path(split_file).expanduser()
                return _with_listed_companions(
                    _read_with_split_file(place, file, allow_missing), place, companions
                )
            table = place / "split.csv"
            if table.is_file():
                reading = read_split_csv(table, place, allow_missing=allow_missing)
                return _with_listed_companions(reading, place, companions)
            return read_folder(place, companions=companions)
        if not place.exists():
            raise DataError(f"{place} does not exist", fix=f"check the path; {forms}")
    except (OSError, ValueError) as error:
        raise DataError(f"{place} cannot be read: {error}", fix=forms) from error
    if place.suffix.lower() != ".npz":
        raise DataError(f"{place} is not a folder and not a .npz file", fix=forms)
    if split_file is not None:
        raise UsageError(
            f"a split file was given, but {place} has its own splits", fix="leave out the split file"
        )
    return read_medmnist(place)


def _with_listed_companions(reading: Reading, folder: Path, asked_for: bool) -> Reading:
    """Say which listed pictures look like masks of others; a list is an order, so they are read."""
    found = {} if asked_for else find_companions(tree_of([sample.path for sample in reading.samples]))
    if not found:
        return reading
    note = f"listed, and so read, though they look like companions of others: {described(found, folder)}"
    return Reading(reading.samples, [*reading.notes, note])


def _read_with_split_file(folder: Path, split_file: Path, allow_missing: bool) -> Reading:
    places = (in_other_form(path, exists=is_file) for path in (split_file, folder / split_file))
    found = next((path for path in places if is_file(path)), None)
    if found is None:
        raise DataError(f"the split file {split_file} does not exist", fix="check its path")
    read = read_split_csv if found.suffix.lower() == ".csv" else read_split_json
    samples, notes = read(found, folder, allow_missing=allow_missing)
    return Reading(samples, [*notes, f"splits as listed in {found.name}"])


def _complete_splits(
    dataset: ImageDataset, hashes: checks.Hashes, needs: tuple[Split, ...], seed: int
) -> ImageDataset:
    """Make the splits that are not given: all of them, or val alone."""
    given = {sample.split for sample in dataset.samples}
    val_alone = given == {"train", "test"} and "val" in needs
    if given != {None} and not val_alone:
        copies = sum(checks.count_copies(dataset.only(s).samples, hashes) for s in SPLITS if s in given)
        note = [f"copies of other pictures in the same split: {copies}"] if copies else []
        return dataset.with_samples(dataset.samples, *note)
    movable: list[Sample] = [s for s in dataset.samples if s.split in (None, "train")]
    fixed = [s for s in dataset.samples if s.split == "test"]
    copies = checks.count_copies(movable, hashes)
    note = [f"copies of other pictures: {copies}, kept in one split with them"] if copies else []
    joined = dataset.with_samples((*checks.join_copies(movable, hashes), *fixed), *note)
    return make_validation(joined, seed=seed) if val_alone else split_dataset(joined, seed=seed)
