"""Live progress on the terminal; silent when nobody watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

SECONDS_A_LINE = 30.0


class Advance(Protocol):
    """Moves the bar on by `count`; `said` is shown beside it."""

    def __call__(self, count: int, said: str = "") -> None:
        """Move on."""
        ...


@contextmanager
def progress_bar(description: str, total: int, unit: str, *, quiet: bool = False) -> Iterator[Advance]:
    """A bar with rate and time left on standard error; yields a function that advances it.

    Nothing is shown when `quiet` or when there is nothing to do. Where standard error is not a
    terminal (a log file should not fill with bars) there is a plain line every half minute.
    """
    if quiet or total == 0:
        yield lambda count, said="": None
        return
    if not sys.stderr.isatty():
        yield _PlainLines(description, total, unit)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[said]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total, rate="", said="")

        def advance(count: int, said: str = "") -> None:
            progress.update(task, advance=count, said=said)
            speed = progress.tasks[task].speed
            progress.update(task, rate=f"{speed:,.1f} {unit}/s" if speed else "")

        yield advance


class _PlainLines:
    """Progress for a log: a line every `SECONDS_A_LINE`."""

    def __init__(self, description: str, total: int, unit: str) -> None:
        self._description, self._total, self._unit = description, total, unit
        self._done, self._started = 0, time.monotonic()
        self._last = self._started

    def __call__(self, count: int, said: str = "") -> None:
        self._done += count
        now = time.monotonic()
        if now - self._last < SECONDS_A_LINE:
            return
        self._last = now
        left = (now - self._started) / self._done * (self._total - self._done)
        line = f"{self._description}: {self._done}/{self._total} {self._unit}, {left:.0f} s left"
        print(f"{line}, {said}" if said else line, file=sys.stderr)
