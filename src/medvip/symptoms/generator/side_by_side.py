"""Several classes at the same time, in threads that never keep a user waiting who wants to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Sequence
from queue import Empty, SimpleQueue
from typing import TypeVar

Made = TypeVar("Made")

_LAST_WORDS = 1.0
"""Seconds that threads get to end in once nobody wants their outcome: enough to write a file out."""


def side_by_side(
    work: Callable[[str], Made], names: Sequence[str], at_once: int, *, give_up: Callable[[], None]
) -> Generator[tuple[str, Made | BaseException]]:
    """Yield each name with what `work` gave for it, or raised, as it comes.

    Whoever leaves the loop early (Ctrl-C does) waits no longer than a second: a thread that listens
    to a silent server is left behind, and does not hold up the end of the program as those of an
    executor would.

    Parameters
    ----------
    work
        Called in other threads, for up to `at_once` names at the same time.
    give_up
        Called when the loop is left early; has `work` end soon, where it can.

    Examples
    --------
    >>> sorted(side_by_side(len, ["nevus", "melanoma"], 2, give_up=lambda: None))
    [('melanoma', 8), ('nevus', 5)]
    """
    waiting: SimpleQueue[str] = SimpleQueue()
    done: SimpleQueue[tuple[str, Made | BaseException]] = SimpleQueue()
    for name in names:
        waiting.put(name)
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            try:
                name = waiting.get_nowait()
            except Empty:
                return
            try:
                done.put((name, work(name)))
            except BaseException as error:
                done.put((name, error))

    threads = [threading.Thread(target=run, daemon=True) for _ in range(min(at_once, len(names)))]
    for thread in threads:
        thread.start()
    left = len(names)
    try:
        while left:
            outcome = done.get()
            left -= 1
            yield outcome
    finally:
        if left:
            over.set()
            give_up()
            deadline = time.monotonic() + _LAST_WORDS
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
