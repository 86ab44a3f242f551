"""What lies below a folder, links followed, and what of it is not a picture."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from medvip.images.formats import has_picture_name

# Left behind by systems and tools everywhere; nobody means them to be read, so nobody is told.
_LITTER = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini", ".DS_Store", ".directory"})
_OF_TOOLS = frozenset(
    {".git", ".dvc", ".cache", ".ipynb_checkpoints", ".idea", ".vscode", ".Trash", ".AppleDouble"}
)


@dataclass
class Tree:
    """One folder and everything below it.

    Attributes
    ----------
    path
        As it is reached from the data folder: links are not replaced by what they lead to.
    pictures, others
        Names of the files that are pictures by their ending, and of those that are not.
    hidden
        Names of pictures and folders that begin with a dot, but for what systems leave behind.
    loops
        Names of links that lead back to a folder on the way to them.
    nowhere
        Names of links to nothing that are not named like a picture.
    folders
        The folders in it.
    """

    path: Path
    pictures: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    loops: list[str] = field(default_factory=list)
    nowhere: list[str] = field(default_factory=list)
    folders: list[Tree] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.name

    def walk(self) -> Iterator[Tree]:
        """The folder and all below it, each before the ones in it."""
        yield self
        for folder in self.folders:
            yield from folder.walk()

    def picture_paths(self) -> list[str]:
        """All pictures below, as paths."""
        return [Path(tree.path, name).as_posix() for tree in self.walk() for name in tree.pictures]


def read_tree(folder: Path, above: frozenset[str] = frozenset()) -> Tree:
    """List what lies below a folder, sorted by name.

    `above` holds the real paths of the folders on the way: a link to one of them would never end.

    Raises
    ------
    OSError
        A folder cannot be opened.
    """
    way = above | {os.path.realpath(folder)}
    tree = Tree(folder)
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name in _LITTER or entry.name.startswith("._"):
            continue
        if entry.name.startswith("."):
            if _worth_a_word(entry):
                tree.hidden.append(entry.name)
        elif _is_folder(entry):
            if os.path.realpath(entry.path) in way:
                tree.loops.append(entry.name)
            else:
                tree.folders.append(read_tree(folder / entry.name, way))
        elif has_picture_name(entry.name) and (entry.is_symlink() or entry.is_file()):
            tree.pictures.append(entry.name)
        elif entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110
            tree.nowhere.append(entry.name)
        else:
            tree.others.append(entry.name)
    return tree


def tree_of(paths: list[str]) -> Tree:
    """The tree that holds these pictures and nothing else."""
    root = Tree(Path(os.path.commonpath([os.path.dirname(path) for path in paths])))  # noqa: PTH120
    known = {root.path: root}

    def folder(path: Path) -> Tree:
        if path not in known:
            known[path] = Tree(path)
            folder(path.parent).folders.append(known[path])
        return known[path]

    for path in map(Path, paths):
        folder(path.parent).pictures.append(path.name)
    return root


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # unlike the entry's own answer, path.isdir has one for a link that leads to itself
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()  # noqa: PTH112


def _worth_a_word(entry: os.DirEntry[str]) -> bool:
    if _is_folder(entry):
        return entry.name not in _OF_TOOLS
    return has_picture_name(entry.name)
