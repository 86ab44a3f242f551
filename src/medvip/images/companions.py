"""Masks, overlays and the like that lie beside pictures: drawn from them, and not to be learned from.

A mask tells the class (a healthy picture has none), and it is no picture of a patient. What looks
like one by its name is one only when the picture that it belongs to lies beside it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from medvip.images.names import plain_name
from medvip.images.reading import counted, first_few
from medvip.images.trees import Tree

_KINDS = {
    "mask": r"masks?|ground[\s_.\-]?truths?|gt",
    "segmentation": r"seg(?:s|m|mented|mentations?)?",
    "label map": r"label(?:s|[\s_.\-]?maps?)?",
    "annotation": r"annot(?:s|ated|ations?)?",
    "overlay": r"overlays?|overlaid",
    "heatmap": r"heat[\s_.\-]?maps?|grad[\s_.\-]?cam|cam|saliency(?:[\s_.\-]?maps?)?",
    "outline": r"contours?|outlines?",
    "superpixel map": r"super[\s_.\-]?pixels?",
    "region": r"rois?",
    "thumbnail": r"thumbs?|thumbnails?",
}
_WORD = "|".join(f"(?P<k{number}>{words})" for number, words in enumerate(_KINDS.values()))
_AFTER = re.compile(rf"(?P<plain>.+?)[\s_.\-]+(?:{_WORD})(?:[\s_.\-]*\(?\d+\)?)?")
# "cam_1" beside "1" is a second camera, and "label 1" the picture of a label
_BEFORE = re.compile(rf"(?!cam|label|roi)(?:{_WORD})[\s_.\-]+(?P<plain>.+)")
_FOLDER = re.compile(rf"(?:(?P<plain>.+?)[\s_.\-]+)?(?:{_WORD})")
_PICTURES = re.compile(r"(?:.+[\s_.\-])?(?:images?|imgs?|pictures?|photos?|originals?|raw|scans?|x-?rays?)")

Companions = Mapping[str, str]
"""Path -> kind."""


def find_companions(tree: Tree) -> dict[str, str]:
    """The companions below one class's folder: path -> kind.

    ``x_mask.png`` beside ``x.png``; all in ``masks/`` beside ``images/``; and in ``masks/`` alone
    those that are called like a picture beside that folder.

    Examples
    --------
    >>> pictures = Tree(Path("ill"), ["1.png", "1_mask.png", "2_mask.png"])
    >>> find_companions(pictures)
    {'ill/1_mask.png': 'mask'}
    """
    found = {Path(tree.path, name).as_posix(): kind for name, kind in _beside(tree.pictures).items()}
    kinds = [(folder, _kind(_FOLDER, folder.name)) for folder in tree.folders]
    pair = any(is_picture_folder(folder) for folder, kind in kinds if kind is None)
    around = _stems(tree.pictures)
    for folder, kind in kinds:
        if kind is None:
            around |= _stems(Path(path).name for path in folder.picture_paths())
    for folder, kind in kinds:
        if kind is not None:
            found |= {p: kind for p in folder.picture_paths() if pair or _plain_stems(p) & around}
        found |= find_companions(folder) | found
    return found


def find_companion_classes(tree: Tree) -> dict[str, str]:
    """Folders beside class folders that hold these classes' companions: path of a picture -> kind.

    ``benign_masks/`` beside ``benign/``, or ``masks/`` beside two classes or more, when every one
    of its files is called like one of their pictures. Names alone do not do: there are classes
    that are called ``mask`` and ``no mask``.
    """
    found: dict[str, str] = {}
    kinds = {folder.name: _kind(_FOLDER, folder.name) for folder in tree.folders}
    classes = {_folded(folder.name): folder for folder in tree.folders if kinds[folder.name] is None}
    for folder in tree.folders:
        kind = kinds[folder.name]
        match = _FOLDER.fullmatch(_folded(folder.name))
        if kind is None or match is None:
            continue
        owners = [classes[match["plain"]]] if match["plain"] in classes else []
        if match["plain"] is None and len(classes) > 1:
            owners = list(classes.values())
        around = _stems(Path(path).name for owner in owners for path in owner.picture_paths())
        paths = folder.picture_paths()
        if owners and all(_plain_stems(path) & around for path in paths):
            found |= dict.fromkeys(paths, kind)
    return found


def is_picture_folder(tree: Tree) -> bool:
    """Whether a folder is named for what it holds, pictures, and not for a class."""
    return _PICTURES.fullmatch(_folded(tree.name)) is not None


def is_companion_folder(tree: Tree) -> bool:
    """Whether a folder is named like one of masks or other companions."""
    return _kind(_FOLDER, tree.name) is not None


def described(companions: Companions, folder: Path) -> str:
    """How many there are of each kind, and the first few.

    Examples
    --------
    >>> described({"x/1_mask.png": "mask", "x/2_mask.png": "mask"}, Path("x"))
    '2 masks (1_mask.png; 2_mask.png)'
    """
    kinds = Counter(companions.values())
    said = " and ".join(counted(number, kind) for kind, number in sorted(kinds.items()))
    places = [path.removeprefix(f"{folder.as_posix()}/") for path in sorted(companions)]
    return f"{said} ({first_few(places, 3)})"


def _beside(names: list[str]) -> dict[str, str]:
    """The names that are another name of the list with a companion's word: name -> kind."""
    stems = _stems(names)
    found = {}
    for name in names:
        for form in (_AFTER, _BEFORE):
            match = form.fullmatch(_stem(name))
            if match and _owners(match["plain"]) & stems:
                found[name] = _kind_of(match)
                break
    return found


def _owners(plain: str) -> set[str]:
    """What the picture may be called: ``x_lung_mask`` and ``x_mask`` both belong to ``x``."""
    shorter = re.sub(r"[\s_.\-]+[^\W\d_]+$", "", plain)
    return {plain, shorter} - {""}


def _plain_stems(path: str) -> set[str]:
    """A file's name without its ending, and without a companion's word too."""
    stem = _stem(path)
    matches = [form.fullmatch(stem) for form in (_AFTER, _BEFORE)]
    return {stem}.union(*(_owners(match["plain"]) for match in matches if match))


def _stems(names: Iterable[str]) -> set[str]:
    return {_stem(name) for name in names}


def _stem(path: str) -> str:
    return _folded(Path(path).stem)


def _folded(name: str) -> str:
    return plain_name(name).casefold()


def _kind(form: re.Pattern[str], name: str) -> str | None:
    match = form.fullmatch(_folded(name))
    return _kind_of(match) if match else None


def _kind_of(match: re.Match[str]) -> str:
    return next(kind for number, kind in enumerate(_KINDS) if match[f"k{number}"])
