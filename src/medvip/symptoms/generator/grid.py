"""Sixteen training pictures of a class as one picture: pixels, and nothing else about a patient."""

from __future__ import annotations

import io
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from medvip.errors import DataError, UnreadableImages
from medvip.images import content_hash, read_picture
from medvip.symptoms.language_model import Picture
from medvip.symptoms.plain_text import shown
from medvip.types import ImageDataset, Sample

SIDE = 4
CELL = 252
GAP = 4
_GRAY, _WHITE = (127, 127, 127), (255, 255, 255)
_QUALITY = 92


def picture_grid(dataset: ImageDataset, class_name: str, *, seed: int) -> Picture:
    """Show up to 16 training pictures of a class, one of each group, as a 4x4 grid.

    Drawn anew from decoded pixels: no metadata, no file name, no order of the files. Text that is
    burnt into a picture stays in it.

    Parameters
    ----------
    dataset
        Its training split alone is looked at.
    class_name
        One of its classes.
    seed
        Of the choice of groups and of the picture of each.

    Returns
    -------
    Picture
        A JPEG of 1024 x 1024 pixels; cells without a picture are gray. Its ids are the content
        hashes of the pictures, cell by cell.

    Raises
    ------
    DataError
        The class has no training picture, or a chosen one cannot be read.
    """
    chosen = _chosen(dataset, class_name, seed)
    canvas = Image.new("RGB", (SIDE * (CELL + GAP), SIDE * (CELL + GAP)), _WHITE)
    for index in range(SIDE * SIDE):
        shown_here = index < len(chosen)
        cell = _cell(chosen[index][1], class_name) if shown_here else Image.new("RGB", (CELL, CELL), _GRAY)
        row, column = divmod(index, SIDE)
        canvas.paste(cell, (GAP // 2 + column * (CELL + GAP), GAP // 2 + row * (CELL + GAP)))
    content = io.BytesIO()
    canvas.save(content, format="JPEG", quality=_QUALITY, subsampling=0)
    return Picture(content.getvalue(), "image/jpeg", tuple(identity for identity, _ in chosen))


def pictures_shown(dataset: ImageDataset, class_name: str) -> int:
    """How many pictures a grid of the class holds, whatever the seed.

    Raises
    ------
    DataError
        The class has no training picture, or one cannot be read.
    """
    return len(_chosen(dataset, class_name, seed=0))


def _chosen(dataset: ImageDataset, class_name: str, seed: int) -> list[tuple[str, str]]:
    """Identity and path of one picture each of up to 16 groups, however the files are called or ordered."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for sample in dataset.only("train"):
        if sample.label == class_name:
            identity = _identity(sample)
            groups.setdefault(sample.group or identity, []).append((identity, sample.path))
    if not groups:
        raise DataError(
            f"{dataset.name} has no training picture of {shown(class_name)}",
            fix="add some, or ask without --images",
        )
    generator = random.Random(f"{seed} {class_name}")
    # By content alone: of equal pictures it does not matter which one is taken.
    by_content = sorted(
        (sorted(members) for members in groups.values()),
        key=lambda group: [identity for identity, _ in group],
    )
    drawn = generator.sample(by_content, min(len(by_content), SIDE * SIDE))
    return [generator.choice(members) for members in drawn]


def _identity(sample: Sample) -> str:
    try:
        return content_hash(sample.path)[:16]
    except UnreadableImages:
        raise _unreadable(sample.label) from None


def _cell(path: str, class_name: str) -> Image.Image:
    """A picture fitted into one cell, all of it, on gray."""
    try:
        with _no_tags_logged():
            picture = read_picture(path)
    except UnreadableImages:
        raise _unreadable(class_name) from None
    scale = CELL / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    cell = Image.new("RGB", (CELL, CELL), _GRAY)
    cell.paste(
        picture.resize((width, height), Image.Resampling.LANCZOS),
        ((CELL - width) // 2, (CELL - height) // 2),
    )
    return cell


@contextmanager
def _no_tags_logged() -> Iterator[None]:
    """Pillow logs the tags that it reads, for debugging: a patient's name may be one. Not here."""
    logger = logging.getLogger("PIL.TiffImagePlugin")

    def no_details(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING

    logger.addFilter(no_details)
    try:
        yield
    finally:
        logger.removeFilter(no_details)


def _unreadable(class_name: str) -> DataError:
    # A file name may be a patient's name: what asks a language model never repeats one.
    return DataError(
        f"a training picture of {shown(class_name)} cannot be read",
        fix="medvip features DATA says which; mend it, or use --skip-unreadable",
    )
