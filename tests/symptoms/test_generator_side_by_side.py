"""Several classes at once: all outcomes, as they come, and nobody waits who wants to stop."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvip.symptoms.generator.side_by_side import side_by_side


@given(names=st.lists(st.text(max_size=3), max_size=9, unique=True), at_once=st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_every_name_has_its_outcome_once(names, at_once):
    def work(name: str) -> str:
        if "a" in name:
            raise ValueError(name)
        return name * 2

    outcomes = list(side_by_side(work, names, at_once, give_up=lambda: pytest.fail("nobody left")))
    assert sorted(name for name, _ in outcomes) == sorted(names)
    for name, outcome in outcomes:
        assert (str(outcome) if "a" in name else outcome) == (name if "a" in name else name * 2)
        assert isinstance(outcome, ValueError) == ("a" in name)


@pytest.mark.parametrize("at_once", [1, 3])
def test_as_many_as_allowed_work_at_the_same_time(at_once):
    together = threading.Barrier(at_once)
    most, now, lock = 0, 0, threading.Lock()

    def work(_: str) -> None:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        together.wait(timeout=5)  # reached only when as many as allowed are here
        with lock:
            now -= 1
        together.wait(timeout=5)

    assert not any(outcome for _, outcome in side_by_side(work, ["a", "b", "c"], at_once, give_up=print))
    assert most == at_once


def test_outcomes_come_as_soon_as_they_are_there():
    slow_may_end = threading.Event()

    def work(name: str) -> bool:
        return name == "quick" or slow_may_end.wait(5)

    with closing(side_by_side(work, ["slow", "quick"], 2, give_up=slow_may_end.set)) as outcomes:
        assert next(outcomes) == ("quick", True)
        slow_may_end.set()
        assert next(outcomes) == ("slow", True)


def test_who_leaves_early_does_not_wait_for_the_slow_ones_and_starts_no_more():
    forever, started, given_up = threading.Event(), [], []

    def work(name: str) -> None:
        started.append(name)
        if name != "quick":
            forever.wait(30)

    names = ["quick", *(f"slow {number}" for number in range(9))]
    start = time.monotonic()
    with closing(side_by_side(work, names, 2, give_up=lambda: given_up.append(1))) as outcomes:
        assert next(outcomes)[0] == "quick"
    assert time.monotonic() - start < 2
    assert given_up == [1]
    left = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    assert all(thread.daemon for thread in left)  # so that the program can end
    forever.set()
    time.sleep(0.05)
    assert len(started) <= 3  # the one that was done, and two that were at it


def test_those_that_end_soon_are_waited_for():
    ended = []

    def work(name: str) -> None:
        if name == "writing":
            time.sleep(0.1)
        ended.append(name)

    with closing(side_by_side(work, ["quick", "writing"], 2, give_up=lambda: None)) as outcomes:
        assert next(outcomes)[0] == "quick"
    assert ended == ["quick", "writing"]
