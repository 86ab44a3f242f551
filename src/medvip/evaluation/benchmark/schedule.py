"""Which run a worker does next, and how long all will take.

A worker stays with one data set and backbone, whose vectors it has in memory, as long as there are
runs of it; then it takes the one with the most work left. Within one, the longest run goes first, so
that none is left over at the end while the other workers have nothing to do.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence

from medvip.evaluation.benchmark.plan import Run
from medvip.evaluation.benchmark.rows import needs_pixels, options_tried

Key = tuple[str, str | None]
"""Data set and backbone."""

PIXELS_SECONDS, TRAINED_SECONDS, OTHER_SECONDS = 600.0, 20.0, 1.0
"""First guesses, of a method that encodes pictures at every step, of others that are trained, of the rest."""


def key_of(run: Run) -> Key:
    """The data set and backbone of a run."""
    return run.cell.data, run.cell.backbone


class Schedule:
    """The runs still to do.

    Parameters
    ----------
    runs
        To be done.
    """

    def __init__(self, runs: Iterable[Run]) -> None:
        self._waiting: dict[Key, list[Run]] = defaultdict(list)
        for run in runs:
            self._waiting[key_of(run)].append(run)
        self._seconds: dict[tuple[str, str, object], list[float]] = defaultdict(list)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def next_for(self, current: Key | None, taken: Sequence[Key | None]) -> Run | None:
        """Take the next run for a worker; None when there is none left.

        Parameters
        ----------
        current
            What the worker has in memory.
        taken
            What the other workers have.
        """
        left = {key: sum(map(self.seconds_of, runs)) for key, runs in self._waiting.items() if runs}
        if not left:
            return None
        free = [key for key in left if key not in taken]
        key = current if current in left else max(free or left, key=lambda key: left[key])
        assert key is not None
        run = max(self._waiting[key], key=self.seconds_of)
        self._waiting[key].remove(run)
        return run

    def done(self, run: Run, seconds: float) -> None:
        """Learn how long a run took."""
        cell = run.cell
        for about in ((cell.data, cell.row, cell.shots), (cell.data, cell.row, None), ("", cell.row, None)):
            self._seconds[about].append(seconds)

    def seconds_of(self, run: Run) -> float:
        """How long a run will take: as others of its row did, the most alike first."""
        cell = run.cell
        for about in ((cell.data, cell.row, cell.shots), (cell.data, cell.row, None), ("", cell.row, None)):
            if seen := self._seconds.get(about):
                return statistics.median(seen)
        method = run.settings["method"]
        guess = TRAINED_SECONDS if "recipe" in method["options"] else OTHER_SECONDS
        if needs_pixels(method["name"]):
            guess = PIXELS_SECONDS
        return guess * len(options_tried(method))

    def seconds_left(self, workers: int, running: Iterable[Run] = ()) -> float:
        """Until all is done, if nothing else keeps the processors busy."""
        waiting = [run for runs in self._waiting.values() for run in runs]
        ahead = sum(map(self.seconds_of, waiting)) + sum(map(self.seconds_of, running)) / 2
        return ahead / max(1, workers)
