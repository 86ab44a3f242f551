"""Imports point back up the list of rooms, never down it."""

from __future__ import annotations

import ast
from pathlib import Path

import medvip

ROOMS = [
    "images",
    "symptoms",
    "drawings",
    "backbones",
    "features",
    "training",
    "methods",
    "evaluation",
    "explanation",
    "runs",
    "cli",
]
PACKAGE = Path(medvip.__file__).parent


def imported_modules(file: Path) -> set[str]:
    """All ``medvip.…`` modules that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] == "medvip"}


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else None


def test_every_folder_is_a_room() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(ROOMS)


def test_imports_only_go_up_the_list() -> None:
    downward = []
    for file in PACKAGE.rglob("*.py"):
        own = file.relative_to(PACKAGE).parts[0]
        if own not in ROOMS:
            continue
        for module in imported_modules(file):
            room = room_of(module)
            if room is not None and ROOMS.index(room) > ROOMS.index(own):
                downward.append(f"{file.relative_to(PACKAGE)} imports {module}")
    assert not downward, "\n".join(downward)


def test_what_stands_outside_the_rooms_uses_none_of_them() -> None:
    """Files beside the rooms (types, errors, confusion, ...) are below all rooms; the package is lazy."""
    for file in PACKAGE.glob("*.py"):
        if file.name in ("__init__.py", "__main__.py"):
            continue
        rooms = {room for module in imported_modules(file) if (room := room_of(module))}
        assert not rooms, f"{file.name} imports {rooms}"


def test_importing_medvip_does_not_import_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys, medvip, medvip.cli.main; sys.exit(bool({'torch', 'transformers'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
