"""`medvip benchmark`: what it says and writes, on drawn pictures and a tiny CLIP."""

# ruff: noqa: F401, F811 (fixtures are imported by name)
from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))
from benchmark_studies import draw_images, method, records, write_study
from command_answers import medvip

ROWS = method("linear-probe") + method("nearest-class-mean") + method("majority")
DIVERGES = '{ recipe = { from = "fast", learning_rate = 1e38, epochs = 3 } }'


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medvip.evaluation.benchmark.tables.draw_plots", lambda *_: ([], []))


@pytest.fixture
def study(tmp_path: Path, tiny_clip: Path) -> Path:
    draw_images(tmp_path / "colours")
    return write_study(tmp_path, tiny_clip, ROWS)


@pytest.fixture
def benchmark(medvip: Callable, study: Path, tmp_path: Path) -> Callable:
    """The command on that study, in this process."""
    return lambda *more: medvip("benchmark", study, "--out", tmp_path / "out", *more)


def run(benchmark: Callable, *more: object):
    return benchmark("--workers", "0", "--device", "cpu", *more)


def test_a_study_is_run_and_told_step_by_step(
    benchmark: Callable, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medvip.evaluation.benchmark.watching.SECONDS_A_LINE", 0)
    answer = run(benchmark)
    assert "macro-F1, colours" in answer.done()
    assert f"files written, first {tmp_path / 'out/tables/results.md'}" in answer.out
    lines = answer.err.splitlines()
    assert not any("there already" in line for line in lines)
    told = [line.split(", about")[0] for line in lines if line.startswith("tiny: ")]
    assert list(dict.fromkeys(told)) == [f"tiny: {number} of 7 runs" for number in range(8)]
    assert lines[-1] == "making tables"
    assert {one["status"] for one in records(tmp_path / "out").values()} == {"done"}
    assert not (tmp_path / "out/.lock").exists()

    for file in list((tmp_path / "out/runs").rglob("linear-probe/*.json"))[:2]:
        file.unlink()
    resumed = run(benchmark).err.splitlines()
    assert resumed.index("5 of 7 runs are there already") < resumed.index("making tables")
    told = [line.split(", about")[0] for line in resumed if line.startswith("tiny: ")]
    assert told[0] == "tiny: 5 of 7 runs"


def test_failed_runs_end_it_with_their_reasons(
    medvip: Callable, study: Path, tmp_path: Path, tiny_clip: Path
) -> None:
    rows = ROWS + "".join(
        method("vip", label=f'"diverges {number}"', options=DIVERGES) for number in range(3)
    )
    study = write_study(tmp_path, tiny_clip, rows, head="seeds = [1, 2]\nshots = [2]")
    answer = medvip(
        "benchmark", study, "--out", tmp_path / "out", "--workers", "0", "--device", "cpu", "--quiet"
    )
    text = answer.failed(1)
    assert "6 of 11 runs failed: diverges 0, colours" in text
    assert "not finite" in text
    assert "and 1 more" in text
    assert "run the same command again: only failed and missing runs are done" in text
    assert "| linear-probe |" in (tmp_path / "out/tables/results.md").read_text()


def test_notes_are_said_before_the_work_starts(
    medvip: Callable, study: Path, tmp_path: Path, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark_studies import read_split, write_split

    rows = read_split(tmp_path / "colours")
    rows[-1][3] = rows[0][3]  # a patient in two splits
    write_split(tmp_path / "colours", rows)
    data = '[[data]]\npath = "colours"\nsymptoms = "symptoms.json"\nallow_leakage = true'
    study = write_study(tmp_path, tiny_clip, ROWS, data=data)
    arguments = ("benchmark", study, "--out", tmp_path / "out", "--workers", "0", "--device", "cpu")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("medvip.evaluation.benchmark.running.perform_here", interrupted)
        answer = medvip(*arguments)
    assert answer.code == 130
    lines = [line for line in answer.err.splitlines() if line]
    assert lines[0].startswith("note: colours: ")
    assert "the same command goes on" in lines[-2]
    assert lines[-1].startswith("interrupted")
    assert not (tmp_path / "out/.lock").exists()
    quiet = medvip(*arguments, "--quiet")
    assert quiet.code == 0
    assert quiet.err.count(lines[0]) == 1
    assert "making tables" not in quiet.err


def test_a_dry_run_shows_the_plan_and_writes_nothing(benchmark: Callable, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    answer = benchmark("--dry-run")
    assert "7 runs: 7 to do, 0 done, 0 failed, 0 not possible" in answer.done()
    assert "linear-probe" in answer.out
    assert sorted(tmp_path.rglob("*")) == before


def test_a_study_that_cannot_start_says_all_that_is_missing(
    medvip: Callable, study: Path, tmp_path: Path
) -> None:
    data = '[[data]]\npath = "colours"\n[[data]]\npath = "nowhere"\n[[data]]\npath = "no place"'
    study = write_study(tmp_path, tmp_path, method("majority"), data=data)
    for more in (["--dry-run"], []):
        answer = medvip("benchmark", study, "--out", tmp_path / "out", *more)
        assert answer.code == 2
        error = [line for line in answer.err.splitlines() if line.startswith("error: ")]
        assert len(error) == 1
        assert ("the study cannot start: " in error[0]) == bool(more)
        assert "2 more" in error[0]
        assert not (tmp_path / "out").exists()
        for missing in ("nowhere does not exist", "no place does not exist") if more else ():
            assert f"missing: data {missing.split(' does')[0]}" in answer.err
            assert missing in answer.err


def test_tables_only_needs_nothing_but_the_runs(benchmark: Callable, study: Path, tmp_path: Path) -> None:
    run(benchmark, "--quiet").done()
    tables = {file.name: file.read_bytes() for file in (tmp_path / "out/tables").iterdir()}
    for file in (tmp_path / "out/tables").iterdir():
        file.unlink()
    (tmp_path / "colours").rename(tmp_path / "elsewhere")
    answer = benchmark("--tables-only")
    assert "macro-F1, colours" in answer.done()
    assert "not use" not in answer.err
    assert {file.name: file.read_bytes() for file in (tmp_path / "out/tables").iterdir()} == tables
    answer = benchmark("--tables-only", "--data", tmp_path, "--workers", "2", "--device", "cuda")
    assert answer.code == 0
    assert "--tables-only does not use --data, --workers, --device" in answer.err


def test_dry_run_and_tables_only_exclude_each_other(benchmark: Callable, tmp_path: Path) -> None:
    assert "exclude each other" in benchmark("--dry-run", "--tables-only").failed(2)
    assert not (tmp_path / "out").exists()
