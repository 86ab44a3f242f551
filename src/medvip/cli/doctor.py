"""``medvip doctor``: finds what would go wrong, before it does, each with its mend."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from medvip.cli.console import say

NEEDED_PYTHON = (3, 11)
CACHE_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `fix` is empty when all is well."""

    what: str
    found: str
    fix: str = ""
    needed: bool = True


def doctor(
    offline: Annotated[bool, typer.Option("--offline", help="Do not try to reach the model hub.")] = False,
) -> None:
    """Check versions, torch, the embedded backbone, cache, disk, threads and the model hub.

    Exit code 1 when something that medvip needs is broken. Sends nothing but one request for the
    hub's front page, and not even that with --offline.

    Example: medvip doctor --offline
    """
    looks: list[Callable[[], Finding]] = [
        _python,
        _packages,
        _torch,
        _embedded,
        _language_model,
        _cache,
        _disk,
        _threads,
    ]
    findings = [look() for look in looks] + ([] if offline else [_hub()])
    for finding in findings:
        mark = "ok  " if not finding.fix else ("FAIL" if finding.needed else "note")
        say(f"{mark}  {finding.what}: {finding.found}")
        if finding.fix:
            say(f"      to mend it: {finding.fix}")
    if any(finding.fix and finding.needed for finding in findings):
        raise typer.Exit(1)


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    fix = "" if sys.version_info[:2] >= NEEDED_PYTHON else "install Python 3.11 or newer"
    return Finding("python", found, fix)


def _packages() -> Finding:
    """Installed versions against what medvip's own metadata asks for."""
    from packaging.requirements import Requirement

    wrong, count = [], 0
    for line in importlib.metadata.requires("medvip") or []:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        count += 1
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version}, not {requirement.specifier}")
    fix = "pip install --upgrade medvip" if wrong else ""
    return Finding("packages", "; ".join(wrong) or f"all {count} in range", fix)


def _language_model() -> Finding:
    """What asking a language model needs; medvip does all else without."""
    needed = {"openai": "openai", "wordfreq": "wordfreq", "python-dotenv": "dotenv"}
    missing = [name for name, module in needed.items() if importlib.util.find_spec(module) is None]
    found = f"{' and '.join(missing)} missing" if missing else "openai, wordfreq and python-dotenv are there"
    fix = "pip install 'medvip[llm]', if you want a language model to write symptoms" if missing else ""
    return Finding("symptom generator", found, fix, needed=False)


def _torch() -> Finding:
    try:
        import torch

        device = (
            torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device, the CPU is used"
        )
        return Finding("torch", f"{torch.__version__}, {device}")
    except Exception as error:
        return Finding("torch", f"does not import: {error}", "pip install --force-reinstall torch")


def _embedded() -> Finding:
    from medvip.errors import MedvipError

    try:
        from medvip.backbones import load_backbone

        backbone: Any = load_backbone("embedded", device="cpu")
        how = "ONNX Runtime" if backbone.uses_onnx_runtime else "torch, slower than with onnx and onnxruntime"
        return Finding("embedded backbone", f"fingerprint {backbone.fingerprint[:12]}, pictures by {how}")
    except (MedvipError, ImportError, OSError) as error:
        fix = error.fix if isinstance(error, MedvipError) else "pip install 'medvip[embedded]'"
        return Finding("embedded backbone", str(getattr(error, "problem", error)), fix, needed=False)


def _cache() -> Finding:
    from medvip.atomic import write_atomically
    from medvip.cache import cache_folder

    folder = cache_folder()
    try:
        write_atomically(folder / "doctor", "")
        (folder / "doctor").unlink()
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        return Finding("cache", f"{folder}, {size / 1e6:,.0f} MB")
    except OSError as error:
        fix = "set MEDVIP_CACHE to a folder that you may write to"
        return Finding("cache", f"{folder} cannot be written to: {error.strerror}", fix)


def _disk() -> Finding:
    from medvip.cache import cache_folder

    folder = cache_folder()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    fix = "" if free > CACHE_BYTES else "free some space, or set MEDVIP_CACHE to a folder on another disk"
    return Finding("disk", f"{free / 1e9:,.1f} GB free for the cache", fix, needed=False)


def _threads() -> Finding:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    import torch

    used = torch.get_num_threads()
    fix = f"unset OMP_NUM_THREADS, or set it to {usable}" if used < usable else ""
    return Finding("threads", f"torch uses {used} of {usable} processors", fix, needed=False)


def _hub() -> Finding:
    import http.client
    import urllib.request

    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return Finding("model hub", "turned off by HF_HUB_OFFLINE=1")
    try:
        with urllib.request.urlopen(address, timeout=5):
            return Finding("model hub", f"{address} answers")
    except (OSError, ValueError, http.client.HTTPException) as error:
        fix = "none needed for --backbone embedded or a model folder; else check network and proxy"
        return Finding("model hub", f"{address} does not answer ({type(error).__name__})", fix, needed=False)
