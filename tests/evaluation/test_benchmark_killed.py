"""A study whose process is killed half way, as the command is used: it goes on, with the same numbers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from benchmark_studies import draw_images, method, records, write_study

QUICK = '{ recipe = { from = "fast", epochs = 40, min_steps = 0, batch_size = 4 } }'
ROWS = method("vip", options=QUICK) + method("coop", options=QUICK) + method("linear-probe")


@pytest.mark.slow
def test_killed_half_way_it_goes_on_with_the_same_numbers(tmp_path: Path, tiny_clip: Path) -> None:
    draw_images(tmp_path / "colours")
    study = write_study(tmp_path, tiny_clip, ROWS, head='seeds = [1, 2, 3]\nshots = [2, "all"]')

    def command(out: str) -> subprocess.Popen:
        words = ["-m", "medvip", "benchmark", str(study), "--out", str(tmp_path / out), "--quiet"]
        return subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, env=dict(os.environ))

    assert command("whole").wait(300) == 0
    whole = records(tmp_path / "whole")
    assert {record["status"] for record in whole.values()} == {"done"}

    killed = command("killed")
    runs, last = tmp_path / "killed/runs", time.monotonic() + 300
    while len(list(runs.rglob("*.json"))) < len(whole) // 2:
        assert killed.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < last
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    time.sleep(2)  # its workers follow it
    before = {file: file.read_bytes() for file in runs.rglob("*.json")}
    time.sleep(2)
    assert before == {file: file.read_bytes() for file in runs.rglob("*.json")}, "a worker outlived it"
    assert len(before) < len(whole)

    assert command("killed").wait(300) == 0
    assert records(tmp_path / "killed") == whole
    for file, content in before.items():
        assert file.read_bytes() == content, "what was there was not run again"
    assert not list((tmp_path / "killed").rglob("*.part"))
    for table in ("results.md", "results.tex", "results.csv", "comparisons.csv", "ranks.csv"):
        assert (tmp_path / "killed/tables" / table).read_bytes() == (
            tmp_path / "whole/tables" / table
        ).read_bytes()
