"""What a measurement ran on, how it was timed, and how fast its matrix products can be there."""

from __future__ import annotations

import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

PACKAGES = ("medvip", "torch", "transformers", "numpy", "pillow")


def description() -> dict[str, Any]:
    """The machine in words for JSON: processor, threads, versions, and how busy it was."""
    return {
        "processor": _processor(),
        "processors_usable": _usable(),
        "memory_gb": round(_memory_bytes() / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "registers": torch.backends.cpu.get_cpu_capability(),
        "torch_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "load_average": round(os.getloadavg()[0], 2),
    }


def _usable() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    """Linux says the model's name in a file only."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def peak_memory_mb() -> float:
    """The most memory that this process ever held, in MiB.

    On Linux from /proc, since `getrusage` counts there what the process held that started this one, too.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return round(int(found[0]) / 2**10, 1) if found else math.nan


def in_child(script: Path, *arguments: str) -> dict[str, Any]:
    """What `script` prints as JSON, run by itself: its peak memory is its own."""
    done = subprocess.run(
        [sys.executable, str(script), *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)


def seconds_of(run: Callable[[], Any], repeats: int, warm_up: int = 1) -> list[float]:
    """Wall-clock seconds of each of `repeats` calls, after `warm_up` calls that are not timed."""
    for _ in range(warm_up):
        run()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return seconds


def summary(seconds: list[float]) -> dict[str, Any]:
    """Median, fastest and slowest, and of how many."""
    return {
        "median": statistics.median(seconds),
        "fastest": min(seconds),
        "slowest": max(seconds),
        "repeats": len(seconds),
    }


class Product(NamedTuple):
    """The size of a matrix product [rows, inner] x [inner, columns]."""

    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        """A multiplication and an addition for each number that is summed."""
        return 2 * self.rows * self.inner * self.columns


def products(run: Callable[[], Any]) -> Counter[Product]:
    """The matrix products that `run` makes, forwards and backwards, and how often each.

    Linear layers and convolutions (as the product that they come down to). The small products
    inside attention are left out: 0.5 % of the text tower's work at 16 tokens, 4 % of the image
    tower's.
    """
    recorder = _Recorder()
    with recorder:
        run()
    return recorder.seen


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[Product] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        match name := func.overloadpacket.__name__:
            case "mm" | "addmm":
                left, right = args[-2:]
                self.seen[Product(left.shape[0], left.shape[1], right.shape[1])] += 1
            case "_linear_pointwise":
                *rows, inner = args[0].shape
                self.seen[Product(math.prod(rows), inner, made.shape[-1])] += 1
            case "convolution" | "_convolution_pointwise" | "_convolution_pointwise_":
                batch, channels, *places = made.shape
                weight = args[2 if name.endswith("_") else 1]  # that one adds to its first argument
                inner = math.prod(weight.shape[1:])
                self.seen[Product(batch * math.prod(places), inner, channels)] += 1
        return made


def peak(size: Product) -> float:
    """Floating-point operations a second of one such product, both operands warm: the best there is.

    The median of at least three timings, of the fastest of all ways that torch has: its usual one
    with the right operand lying either way in memory (a layer's weights lie one way forwards and
    the other way backwards), and oneDNN's with the right operand packed beforehand.
    """
    left = torch.randn(size.rows, size.inner)
    stored, turned = torch.randn(size.inner, size.columns), torch.randn(size.columns, size.inner)
    ways = [lambda: torch.mm(left, stored), lambda: torch.mm(left, turned.T)]
    for rows in (None, size.rows) if torch.backends.mkldnn.is_available() else ():
        packed = torch.ops.mkldnn._reorder_linear_weight(turned, rows)
        ways.append(partial(torch.ops.mkldnn._linear_pointwise, left, packed, None, "none", [], ""))
    with torch.no_grad():
        return size.flops / min(_seconds_a_call(way) for way in ways)


def _seconds_a_call(run: Callable[[], Any]) -> float:
    """Median of up to 15 timings, at least three, each of as many calls as take some milliseconds."""
    once = min(seconds_of(run, 3))
    calls = max(1, int(0.004 / once))

    def several() -> None:
        for _ in range(calls):
            run()

    repeats = min(15, max(3, int(0.25 / (calls * once))))
    return statistics.median(seconds_of(several, repeats)) / calls


def against_peak(seen: Counter[Product], seconds: float) -> dict[str, Any]:
    """What was achieved in `seconds`, and what share of it the products alone would take at their peaks.

    Sizes that make up less than a thousandth of the work are counted, but their peak is taken to
    be that of the others together.
    """
    total = sum(size.flops * count for size, count in seen.items())
    main = {size: count for size, count in seen.items() if size.flops * count >= total / 1000}
    peaks = {size: peak(size) for size in main}
    work = sum(size.flops * count for size, count in main.items())
    least = sum(size.flops * count / peaks[size] for size, count in main.items()) * total / work
    return {
        "gflop": total / 1e9,
        "gflop_per_second": total / seconds / 1e9,
        "peak_gflop_per_second": total / least / 1e9,
        "share_of_peak": least / seconds,
        "peaks_gflop_per_second": {
            f"{size.rows} x {size.inner} x {size.columns}, {count} times": peaks[size] / 1e9
            for size, count in sorted(main.items())
        },
    }
