"""Live progress on the terminal; silent when nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int], None]


@contextmanager
def progress_bar(description: str, total: int, unit: str, *, quiet: bool = False) -> Iterator[Advance]:
    """A bar with rate and time left on standard error; yields a function that advances it.

    Nothing is drawn when `quiet`, when there is nothing to do, or when standard error is not a
    terminal (a log file should not fill with bars).
    """
    if quiet or total == 0 or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total, rate="")

        def advance(count: int) -> None:
            progress.update(task, advance=count)
            speed = progress.tasks[task].speed
            progress.update(task, rate=f"{speed:,.1f} {unit}/s" if speed else "")

        yield advance
