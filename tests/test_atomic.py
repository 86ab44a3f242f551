"""Whole or not at all: files and folders."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from medvip.atomic import folder_written_whole, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / "file.txt"
    write_atomically(file, "größer")
    assert file.read_bytes() == "größer".encode()
    write_atomically(file, b"\x00\xff")
    assert file.read_bytes() == b"\x00\xff"
    assert names(file.parent) == ["file.txt"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    write_atomically(file, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(file, "new")
    assert file.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_folder_in_the_way_stays(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomically(tmp_path / "target", "new")
    assert names(tmp_path) == ["target"]


def test_readers_see_old_or_new_never_a_part(tmp_path: Path) -> None:
    file = tmp_path / "file"
    contents = {letter * 200_000 for letter in "ab"}
    write_atomically(file, "a" * 200_000)
    done = threading.Event()
    seen: set[str] = set()

    def read() -> None:
        while not done.is_set():
            seen.add(file.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    writers = [
        threading.Thread(target=lambda: [write_atomically(file, c) for _ in range(10) for c in contents])
        for _ in range(2)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    done.set()
    reader.join()
    assert seen <= contents
    assert names(tmp_path) == ["file"]


def test_rights_follow_the_umask_and_threads_do_not_change_it(tmp_path: Path) -> None:
    """In a process of its own, since the umask belongs to the whole process."""
    script = f"""
import os, threading
from pathlib import Path
from medvip.atomic import folder_written_whole, write_atomically
os.umask(0o027)
folder = Path({str(tmp_path)!r})
def write(name):
    for i in range(20):
        write_atomically(folder / name, "x")
        with folder_written_whole(folder / (name + " folder")) as new:
            (new / "x").touch()
threads = [threading.Thread(target=write, args=(str(n),)) for n in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
assert os.umask(0) == 0o027
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert {(tmp_path / str(n)).stat().st_mode & 0o777 for n in range(8)} == {0o640}
    assert {(tmp_path / f"{n} folder").stat().st_mode & 0o777 for n in range(8)} == {0o750}
    assert len(names(tmp_path)) == 16


def test_a_folder_is_written_and_replaced(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "run"
    with folder_written_whole(target) as new:
        (new / "one").write_text("1")
        assert not target.exists()
    with folder_written_whole(target) as new:
        (new / "two").write_text("2")
        assert names(target) == ["one"]
    assert names(target) == ["two"]
    assert names(target.parent) == ["run"]


def test_a_folder_that_fails_half_way_leaves_what_was_there(tmp_path: Path) -> None:
    def interrupted(target: Path) -> None:
        with folder_written_whole(target) as new:
            (new / "half").write_text("…")
            raise KeyboardInterrupt

    target = tmp_path / "run"
    for before in ([], ["run"]):
        with pytest.raises(KeyboardInterrupt):
            interrupted(target)
        assert names(tmp_path) == before
        if not before:
            with folder_written_whole(target) as new:
                (new / "whole").write_text("1")
    assert names(target) == ["whole"]


def test_a_replacement_that_fails_brings_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "run"
    with folder_written_whole(target) as new:
        (new / "old").touch()
    replace = Path.replace

    def refuse(self: Path, other: Path) -> Path:
        if self.suffix == ".part":
            raise OSError("the disk is gone")
        return replace(self, other)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="disk is gone"), folder_written_whole(target) as new:
        (new / "new").touch()
    assert names(tmp_path) == ["run"]
    assert names(target) == ["old"]
