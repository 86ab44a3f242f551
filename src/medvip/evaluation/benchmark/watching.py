"""What a person sees while a study runs: a live table on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from medvip.progress import SECONDS_A_LINE


@dataclass
class Standing:
    """How far a study is.

    Attributes
    ----------
    total, done, failed
        Numbers of runs; failed ones are done, too.
    seconds_left
        By the runs so far.
    running
        What each worker is at.
    """

    total: int
    done: int = 0
    failed: int = 0
    seconds_left: float = 0.0
    running: Sequence[str] = field(default=())

    def line(self) -> str:
        """In one line.

        Examples
        --------
        >>> Standing(10, 4, 1, 125.0).line()
        '4 of 10 runs, 1 failed, about 2 min 5 s left'
        """
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done} of {self.total} runs{failed}, about {duration(self.seconds_left)} left"


def duration(seconds: float) -> str:
    """Seconds as one says them.

    Examples
    --------
    >>> duration(4.6), duration(125.0), duration(7300.0)
    ('5 s', '2 min 5 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@runtime_checkable
class Show(Protocol):
    """Called whenever a run starts or ends; `said` is worth a line of its own (a failure, a note)."""

    def __call__(self, standing: Standing | None, said: str = "") -> None:
        """Show it."""
        ...


@contextmanager
def watched(title: str, *, quiet: bool = False) -> Iterator[Show]:
    """Show a study's standing on standard error; nothing when `quiet`."""
    if quiet:
        yield lambda standing, said="": None
    elif sys.stderr.isatty():
        yield from _live(title)
    else:
        yield _Lines(title)


def _live(title: str) -> Iterator[Show]:
    from rich.console import Console
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    console = Console(stderr=True)
    with Live(console=console, transient=True, refresh_per_second=2) as live:

        def show(standing: Standing | None, said: str = "") -> None:
            if said:
                console.print(Text(said))
            if standing is None:
                return
            table: Any = Table.grid(padding=(0, 2))
            table.add_row(Text(title), ProgressBar(standing.total, standing.done, width=30), standing.line())
            for number, run in enumerate(standing.running, start=1):
                table.add_row("", Text(f"worker {number}"), Text(run))
            live.update(table)

        yield show


class _Lines:
    def __init__(self, title: str) -> None:
        self._title, self._last = title, time.monotonic()

    def __call__(self, standing: Standing | None, said: str = "") -> None:
        if said:
            print(said, file=sys.stderr)
        now = time.monotonic()
        if standing is not None and now - self._last >= SECONDS_A_LINE:
            self._last = now
            print(f"{self._title}: {standing.line()}", file=sys.stderr)
