"""Runs in worker processes: one thread each, as many as there are processors.

A worker gets runs one by one over a pipe and writes their records itself. One thread a process is
faster than two processes with two threads each, and makes a run's bits independent of how many
workers there are.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from medvip.backbones import Backbone, load_backbone
from medvip.backbones.protocol import encode_texts
from medvip.errors import RunError
from medvip.evaluation.benchmark.material import Splits, stored_features
from medvip.evaluation.benchmark.one_run import failure, heading, perform, words_of
from medvip.evaluation.benchmark.plan import ImageSet, Run
from medvip.evaluation.benchmark.records import write_record
from medvip.evaluation.benchmark.rows import UnloadedBackbone, needs_pixels
from medvip.evaluation.benchmark.schedule import Key, Schedule, key_of
from medvip.features import Augmentation, Features, open_pictures

LOOK_SECONDS = 10.0
"""Between two looks at a long run, so that the time left is told anew."""
MOST_DEATHS = 2

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True)
class Source:
    """Where the pictures of one data set, and their vectors by one backbone, are.

    Attributes
    ----------
    image_set
        The data.
    backbone
        Name or folder; None for the trivial cues.
    fingerprint
        Of the backbone.
    """

    image_set: ImageSet
    backbone: str | None
    fingerprint: str


@dataclass(frozen=True)
class Outcome:
    """How a run ended: ``done`` or ``failed``, why, and after how long.

    The reason is for a terminal: it may name pictures, as the record must not.
    """

    run: Run
    status: str
    reason: str | None
    seconds: float
    worker_died: bool = False


@dataclass(frozen=True)
class Place:
    """Where runs are done: the study's folder, the cache, the device."""

    out: Path
    cache: Path | None
    device: str


class Runner:
    """Does runs one after the other; keeps the vectors and the backbone of the last one."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._sources: dict[Key, Source] = {}
        self._held: tuple[Key, Features] | None = None
        self._backbone: tuple[str | None, Backbone] = None, UnloadedBackbone()

    def knows(self, key: Key, source: Source) -> None:
        """Remember where the pictures and vectors of `key` are."""
        self._sources[key] = source

    def run(self, run: Run) -> Outcome:
        """Do a run and write its record."""
        started = time.perf_counter()
        key, file = key_of(run), self._place.out / run.cell.path
        source = self._sources[key]
        images = reason = None
        try:
            backbone = self._loaded(source.backbone)
            splits = self._splits(run, source, backbone)
            record, images = perform(run, source.image_set, splits, backbone)
        except Exception as error:
            record = heading(run, source.fingerprint, None) | failure(error, source.image_set)
            reason = words_of(error)
        write_record(file, record, images)
        return Outcome(run, record["status"], reason, time.perf_counter() - started)

    def _splits(self, run: Run, source: Source, backbone: Backbone) -> Splits:
        if not needs_pixels(run.settings["method"]["name"]):
            return self._features(key_of(run), source)
        image_set = source.image_set
        return open_pictures(
            image_set.dataset,
            backbone,
            augmentation=image_set.augmentation,
            workers=1,
            contents=image_set.content_of,
        )

    def _features(self, key: Key, source: Source) -> Features:
        if self._held is None or self._held[0] != key:
            self._held = None  # frees the memory first
            views = Augmentation() if source.backbone is None else source.image_set.augmentation
            found = stored_features(source.image_set, source.fingerprint, views, self._place.cache)
            self._held = key, found
        return self._held[1]

    def _loaded(self, name: str | None) -> Backbone:
        if name is not None and self._backbone[0] != name:
            self._backbone = name, load_backbone(name, device=self._place.device)
            encode_texts(self._backbone[1], ["x"])  # loads the text side now, not in a run's seconds
        return UnloadedBackbone() if name is None else self._backbone[1]


def perform_here(schedule: Schedule, sources: dict[Key, Source], place: Place, report: Any) -> None:
    """Do all runs in this process, with one thread."""
    with _one_thread():
        runner, current = Runner(place), None
        for key, source in sources.items():
            runner.knows(key, source)
        while (run := schedule.next_for(current, [])) is not None:
            current = key_of(run)
            report(None, [run])
            report(runner.run(run), [])


def perform_in_workers(
    schedule: Schedule,
    sources: dict[Key, Source],
    place: Place,
    workers: int,
    report: Callable[[Outcome | None, list[Run]], None],
) -> None:
    """Do all runs in worker processes.

    A worker that dies (of too little memory, for example) costs its run, which is recorded as
    failed; another takes its place. Where the first ones die before any has answered, something is
    wrong with all: the study stops. On an interrupt all workers are ended at once.

    Parameters
    ----------
    schedule
        What to do.
    sources
        Where the vectors of each data set and backbone are.
    place
        Where the records go.
    workers
        How many processes.
    report
        Called when runs start and end, with what ended and what is running.

    Raises
    ------
    RunError
        `MOST_DEATHS` workers have died and none has done a run.
    """
    answered, deaths = False, 0
    crew = [_Worker(place) for _ in range(min(workers, len(schedule)))]
    try:
        while True:
            for index, worker in enumerate(crew):
                if worker.run is not None:
                    continue
                others = [other.key for other in crew if other is not worker and other.run is not None]
                run = schedule.next_for(worker.key, others)
                if run is None:
                    continue
                if worker.process.exitcode is not None:
                    worker = crew[index] = _Worker(place)
                worker.start(run, sources[key_of(run)])
            running = [worker for worker in crew if worker.run is not None]
            report(None, [worker.run for worker in running if worker.run is not None])
            if not running:
                break
            ready = wait([worker.pipe for worker in running], timeout=LOOK_SECONDS)
            for worker in running:
                if worker.pipe in ready:
                    outcome = worker.outcome(sources)
                    report(outcome, [w.run for w in crew if w.run is not None])
                    answered, deaths = answered or not outcome.worker_died, deaths + outcome.worker_died
                    if deaths == MOST_DEATHS and not answered:
                        raise RunError(
                            f"{deaths} worker processes died before any run was done: {outcome.reason}",
                            fix="run again with --workers 0: in one process an error shows",
                        )
        for worker in crew:
            worker.dismiss()
    finally:
        for worker in crew:
            worker.end()


class _Worker:
    """One process, seen from the parent."""

    def __init__(self, place: Place) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, place), daemon=True)
        with _environment_of_one_thread():
            self.process.start()
        theirs.close()
        self._place = place
        self._told: set[Key] = set()
        self.key: Key | None = None
        self.run: Run | None = None
        self._started = 0.0

    def start(self, run: Run, source: Source) -> None:
        """Give it a run."""
        self.key, self.run, self._started = key_of(run), run, time.perf_counter()
        with contextlib.suppress(OSError):  # it is dead already: `outcome` finds out
            self.pipe.send((run, None if self.key in self._told else source))
        self._told.add(self.key)

    def outcome(self, sources: dict[Key, Source]) -> Outcome:
        """What it answered; a failure where it died."""
        run, self.run = self.run, None
        assert run is not None
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(5)
            reason = f"its worker process ended with exit code {self.process.exitcode} (too little memory?)"
        record = heading(run, sources[key_of(run)].fingerprint, None) | {"status": "failed", "reason": reason}
        write_record(self._place.out / run.cell.path, record)
        seconds = time.perf_counter() - self._started
        return Outcome(run, "failed", reason, seconds, worker_died=True)

    def dismiss(self) -> None:
        """Let it go."""
        with contextlib.suppress(OSError):
            self.pipe.send(None)
        self.process.join(5)

    def end(self) -> None:
        """End it, whatever it is at; a record that it writes just then is finished or taken back."""
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(2)
        if self.process.is_alive():
            self.process.kill()
            self.process.join(2)
        self.pipe.close()


def _work(pipe: Connection, place: Place) -> None:
    """A worker's whole life."""
    import sklearn.linear_model  # noqa: F401 (now, not in a run's seconds)
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt reaches the parent, which ends the workers
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_follow_parent, daemon=True).start()
    runner = Runner(place)
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        while (job := pipe.recv()) is not None:
            run, source = job
            if source is not None:
                runner.knows(key_of(run), source)
            pipe.send(runner.run(run))


def _leave(*_: object) -> None:
    raise SystemExit(0)


def _follow_parent() -> None:
    """A parent that was killed ends nobody: so its workers look out for it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _environment_of_one_thread() -> Iterator[None]:
    """What numerical libraries read when they are loaded, for processes started meanwhile."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    import torch
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)
