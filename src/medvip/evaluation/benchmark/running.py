"""A whole study: what is there is kept, what is missing is run, what fails is recorded."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medvip.atomic import write_atomically
from medvip.backbones import Backbone, load_backbone
from medvip.backbones.loading import resolve_device
from medvip.backbones.protocol import encode_texts
from medvip.errors import MedvipError, RunError, UsageError
from medvip.evaluation.benchmark.cells import Cell
from medvip.evaluation.benchmark.cues import FINGERPRINT, compute_cues
from medvip.evaluation.benchmark.one_run import failure, heading, words_of
from medvip.evaluation.benchmark.plan import Plan, Run, plan_study, state_of
from medvip.evaluation.benchmark.records import one_line, private, read_record, write_record
from medvip.evaluation.benchmark.rows import needs_pixels, unsuitable
from medvip.evaluation.benchmark.schedule import Key, Schedule, key_of
from medvip.evaluation.benchmark.study import load_study
from medvip.evaluation.benchmark.tables import Report, write_tables
from medvip.evaluation.benchmark.watching import Show, Standing, watched
from medvip.evaluation.benchmark.workers import Outcome, Place, Source, perform_here, perform_in_workers
from medvip.features import compute_features


@dataclass(frozen=True)
class StudyResult:
    """How a study ended.

    Attributes
    ----------
    plan
        What it was.
    failures
        Runs that failed: (which, why).
    report
        The tables, as they were written.
    """

    plan: Plan
    failures: tuple[tuple[str, str], ...]
    report: Report


def run_study(
    study: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    device: str = "auto",
    cache: Path | None = None,
    quiet: bool = False,
) -> StudyResult:
    """Do all runs of a study that are not done yet, and write its tables.

    A run that is there is kept if what decides its numbers is the same: data, symptoms, weights,
    options, shots and seed. So a study that was ended, however, goes on where it was, and ends
    with the same numbers. One that failed is tried again.

    Call it below ``if __name__ == "__main__":`` in a script: the workers import the script.

    Parameters
    ----------
    study
        A TOML file (`load_study`).
    out
        Folder for ``runs/``, ``tables/`` and ``plots/``.
    data
        Folder where the study's paths are looked for before the study's own folder.
    workers
        Processes; one a processor by default (one on a GPU). 0: in this process. The numbers are
        the same.
    device
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    cache
        For vectors, instead of the user's cache folder.
    quiet
        Without progress.

    Raises
    ------
    UsageError
        The study has a mistake, or something that it names is missing.
    RunError
        Another process is running a study in `out`.

    Examples
    --------
    >>> result = run_study("study.toml", "results", data="images")       # doctest: +SKIP
    >>> result.failures                                                   # doctest: +SKIP
    ()
    """
    file, folder = Path(study).expanduser(), Path(out).expanduser()
    read = load_study(file)
    plan = plan_study(read, file.resolve().parent, _path(data), verify=False)
    if plan.problems:
        problem, fix = plan.problems[0]
        more = f" (and {len(plan.problems) - 1} more; --dry-run lists them)" if len(plan.problems) > 1 else ""
        raise UsageError(problem + more, fix=fix)
    place = Place(folder, cache, device)
    with _alone_in(folder):
        write_atomically(folder / "study.toml", file.read_bytes())
        for run in plan.runs:
            if run.impossible is not None:
                _record_impossible(run, folder, None, run.impossible)
        with watched(one_line(read.name), quiet=quiet) as show:
            for note in plan.notes:
                show(None, f"note: {one_line(note)}")
            told = _perform(plan, place, workers, show, quiet)
            show(None, "making tables")
        failures = []
        for run in plan.runs:
            record = read_record(folder / run.cell.path)
            if run.impossible is None and record is not None and record.get("status") == "failed":
                failures.append((run.cell.words, told.get(run.cell, str(record.get("reason")))))
        return StudyResult(plan, tuple(failures), write_tables(read, folder))


def _perform(plan: Plan, place: Place, workers: int | None, show: Show, quiet: bool) -> dict[Cell, str]:
    """Do what is not done; why runs failed, in words for a terminal."""
    told: dict[Cell, str] = {}
    sources, todo, there = _prepared(plan, place, show, told, quiet)
    if there:
        show(None, f"{there} of {there + len(todo)} runs are there already")
    if not todo:
        return told
    schedule, standing = Schedule(todo), Standing(there + len(todo), there)
    if workers is None:
        on_gpu = resolve_device(place.device).type == "cuda"
        workers = 1 if on_gpu else _processors()

    def report(outcome: Outcome | None, running: list[Run]) -> None:
        said = ""
        if outcome is not None:
            schedule.done(outcome.run, outcome.seconds)
            standing.done += 1
            if outcome.status == "failed":
                standing.failed += 1
                told[outcome.run.cell] = str(outcome.reason)
                said = f"failed: {outcome.run.cell.words}: {outcome.reason}"
        standing.running = [run.cell.words for run in running]
        standing.seconds_left = schedule.seconds_left(workers or 1, running)
        show(standing, said)

    if workers == 0:
        perform_here(schedule, sources, place, report)
    else:
        perform_in_workers(schedule, sources, place, workers, report)
    return told


def _prepared(
    plan: Plan, place: Place, show: Show, told: dict[Cell, str], quiet: bool
) -> tuple[dict[Key, Source], list[Run], int]:
    """Vectors computed and kept; where they are, the runs that are not done, and how many are.

    Where a backbone cannot be loaded or a picture cannot be encoded, the runs are recorded as failed;
    where a method cannot work on its backbone, as not possible.
    """
    wanted: dict[str | None, list[Run]] = {}
    for run in plan.runs:
        if run.impossible is None:
            wanted.setdefault(run.cell.backbone, []).append(run)
    sources: dict[Key, Source] = {}
    todo: list[Run] = []
    there = 0

    def failed(runs: list[Run], fingerprint: str | None, error: MedvipError) -> None:
        for run in runs:
            record = read_record(place.out / run.cell.path)
            if state_of(run, record, fingerprint) != "done":
                said = failure(error, plan.sets[run.cell.data])
                write_record(place.out / run.cell.path, heading(run, fingerprint, None) | said)
                told[run.cell] = words_of(error)
        show(None, f"failed: {len(runs)} runs: {words_of(error)}")

    for label, runs in wanted.items():
        name = None if label is None else plan.backbones[label]
        try:
            backbone = None if name is None else load_backbone(name, device=place.device)
            fingerprint = FINGERPRINT if backbone is None else backbone.fingerprint
        except MedvipError as error:
            failed(runs, None, error)
            continue
        missing = [
            run
            for run in runs
            if state_of(run, read_record(place.out / run.cell.path), fingerprint) != "done"
        ]
        there += len(runs) - len(missing)
        if backbone is not None:
            missing = [run for run in missing if _is_suitable(plan, run, backbone, place.out)]
        if missing and backbone is not None:
            encode_texts(backbone, ["x"])  # what a backbone computes once is there before workers want it
        for key in dict.fromkeys(map(key_of, missing)):
            of_key = [run for run in missing if key_of(run) == key]
            try:
                if not all(needs_pixels(run.settings["method"]["name"]) for run in of_key):
                    _encode(plan, key, backbone, place, quiet)
            except MedvipError as error:
                failed(of_key, fingerprint, error)
                continue
            sources[key] = Source(plan.sets[key[0]], name, fingerprint)
            todo += of_key
    return sources, todo, there


def _encode(plan: Plan, key: Key, backbone: Backbone | None, place: Place, quiet: bool) -> None:
    image_set = plan.sets[key[0]]
    if backbone is None:
        paths = [sample.path for sample in image_set.dataset]
        compute_cues(paths, image_set.contents, place.cache, quiet=quiet)
        return
    compute_features(
        image_set.dataset,
        backbone,
        augmentation=image_set.augmentation,
        cache=place.cache,
        quiet=quiet,
    )


def _is_suitable(plan: Plan, run: Run, backbone: Backbone, out: Path) -> bool:
    """Whether the method can work on that backbone; recorded where not."""
    reason = unsuitable(run.settings["method"], run.symptoms, backbone)
    if reason is not None:
        _record_impossible(run, out, backbone.fingerprint, reason)
    return reason is None


def _record_impossible(run: Run, out: Path, fingerprint: str | None, reason: str) -> None:
    said = {"status": "not possible", "reason": one_line(private(reason))}
    made = {"digest": run.digest, "fingerprint": fingerprint} | said
    record = read_record(out / run.cell.path) or {}
    if any(record.get(name) != value for name, value in made.items()):
        write_record(out / run.cell.path, heading(run, fingerprint, None) | said)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Nobody else runs a study in this folder meanwhile; what a killed one left half-written is removed.

    Raises
    ------
    RunError
        Somebody does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / ".lock"
    with lock.open("w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not (lock.exists() and os.path.samestat(lock.stat(), os.fstat(file.fileno()))):
                raise BlockingIOError  # its owner has removed it just now
        except BlockingIOError as error:
            raise RunError(
                f"a study is being run in {folder} already", fix="wait for it, or give another --out"
            ) from error
        except (ImportError, OSError):
            pass  # no locks here (Windows, some network folders): trust the user
        for left in folder.rglob(".*.part"):
            left.unlink(missing_ok=True)
        try:
            yield
        finally:
            for left in folder.rglob(".*.part"):
                left.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # Windows removes no open file
                lock.unlink()


def _processors() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _path(path: str | os.PathLike[str] | None) -> Path | None:
    return None if path is None else Path(path).expanduser().resolve()
