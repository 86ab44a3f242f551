"""A run on disk: written whole, read with everything checked."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from medvip.atomic import folder_written_whole
from medvip.backbones import Backbone, load_backbone
from medvip.errors import BackboneError, MedvipError, RunError, UsageError
from medvip.explanation import SimilarityQuantiles, parts_of
from medvip.methods import Method, create_method, options_of
from medvip.runs.card import model_card
from medvip.runs.run import Run
from medvip.symptoms import SymptomSet

CONFIG, SYMPTOMS, PROMPTS, METRICS, HISTORY, CARD = (
    "config.json",
    "symptoms.json",
    "prompts.safetensors",
    "metrics.json",
    "history.jsonl",
    "README.md",
)
SEEN = "training_similarity_quantiles"
"""The one tensor of PROMPTS that is not the method's; absent from older runs."""
_KNOWN = {CONFIG, SYMPTOMS, PROMPTS, METRICS, HISTORY, CARD}


def require_free(folder: Path, *, force: bool) -> None:
    """Raise `RunError` when a run may not, or cannot, be written to `folder`.

    Asked before the work, not only after it. With `force`, an earlier run there may be replaced,
    and nothing else: a folder that is no run, or that holds other files too, is never deleted.
    """
    try:
        _require_place(folder)
        if not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir())):
            return
        if not force:
            raise RunError(
                f"{folder} is there already", fix="choose another --out, or replace it with --force"
            )
        try:
            _read_config(folder)
        except RunError as error:
            raise RunError(
                f"{folder} is not a run, so it is not replaced", fix="choose another --out"
            ) from error
        if others := sorted(path.name for path in folder.iterdir() if path.name not in _KNOWN):
            raise RunError(
                f"{folder} also holds {others[0]}, which is no part of a run, so it is not replaced",
                fix="move what you want to keep elsewhere, or choose another --out",
            )
    except OSError as error:
        raise _cannot_write(folder, error) from error


def _require_place(folder: Path) -> None:
    """Raise `RunError` where a folder could not be put by renaming it, as runs are."""
    if folder.is_dir() and (os.path.ismount(folder) or folder.samefile(Path.cwd())):
        raise RunError(
            f"{folder} is a mount point or the folder you are in, which cannot be replaced",
            fix=f"choose a folder inside it, such as --out {folder / 'run'}",
        )
    parent = folder.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise RunError(f"{folder} cannot be written: {parent} is no folder that you may write to", fix=_MEND)


_MEND = "check the path, the folder's rights and the disk"


def _cannot_write(folder: Path, error: Exception) -> RunError:
    return RunError(f"{folder} cannot be written: {getattr(error, 'strerror', None) or error}", fix=_MEND)


def save_run(run: Run, folder: Path, *, force: bool = False) -> Path:
    """Write a run to `folder`, whole or not at all."""
    require_free(folder, force=force)
    try:
        with folder_written_whole(folder) as unfinished:
            if run.symptoms is not None:
                run.symptoms.save(unfinished / SYMPTOMS)
            state = run.method.state() | ({} if run.seen is None else {SEEN: run.seen.values})
            tensors = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
            prompts = save(tensors)
            (unfinished / PROMPTS).write_bytes(prompts)
            checksum = hashlib.sha256(prompts).hexdigest()
            _write_json(unfinished / CONFIG, {**run.config, "prompts_sha256": checksum})
            _write_json(unfinished / METRICS, run.metrics)
            lines = [json.dumps(entry) + "\n" for entry in run.method.history]
            _write(unfinished / HISTORY, "".join(lines))
            _write(unfinished / CARD, model_card(run))
    except OSError as error:
        raise _cannot_write(folder, error) from error
    return folder


def load_run(folder: str | Path, *, backbone: Backbone | None = None, device: str = "auto") -> Run:
    """A run from its folder. Nothing but the folder and the backbone is needed.

    Parameters
    ----------
    folder
        Made by `fit` or `Run.save`.
    backbone
        The one to use; loaded by the name that the run recorded when None.
    device
        For that loading: ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Raises
    ------
    RunError
        The folder is no run, or something in it is missing or damaged.
    BackboneError
        The backbone cannot be loaded, or is not the one that the run was trained with.
    """
    folder = Path(folder)
    config = _read_config(folder)
    _require_form(config, folder)
    recorded = config["backbone"]
    try:
        prompts = (folder / PROMPTS).read_bytes()
        if hashlib.sha256(prompts).hexdigest() != config["prompts_sha256"]:
            raise RunError(
                f"{folder} is damaged: {PROMPTS} is not the file that was saved with it", fix=_COPY_AGAIN
            )
        backbone = backbone or _load_recorded(recorded["name"], device)
        if backbone.fingerprint != recorded["fingerprint"]:
            raise BackboneError(
                f"{folder} was trained on the backbone {recorded['name']} with fingerprint "
                f"{recorded['fingerprint'][:12]}, but {backbone.name} has {backbone.fingerprint[:12]}",
                fix="use the backbone of the training (same weights and package versions), or train again",
            )
        symptoms = _read_symptoms(config, folder)
        try:
            method = create_method(config["method"], backbone, symptoms, **_options(config))
        except UsageError as error:
            problem = " ".join(error.problem.split())[:300]
            raise RunError(f"{folder / CONFIG}: {problem}", fix=_COPY_AGAIN) from error
        tensors = load(prompts)
        quantiles = tensors.pop(SEEN, None)
        method.load_state(tuple(config["classes"]), tensors)
        _require_prediction(method)
        seen = None if quantiles is None else _read_seen(quantiles, method)
        method.history = _read_json_lines(folder / HISTORY)
        metrics = _read_json(folder / METRICS)
        if not isinstance(metrics, dict):
            raise RunError(f"{folder / METRICS} holds no figures", fix=_COPY_AGAIN)
        return Run(backbone, method, symptoms, config, metrics, seen)
    except MedvipError:
        raise
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise RunError(f"{folder} is damaged: {type(error).__name__}: {reason}", fix=_COPY_AGAIN) from error


_COPY_AGAIN = "copy the run again, or train again"


def _options(config: dict[str, Any]) -> dict[str, Any]:
    """The method's options; runs from before symptoms were closed with a full stop go on without it."""
    earlier = {"full_stop": False} if "full_stop" in options_of(config["method"]) else {}
    return earlier | config["options"]


def _read_symptoms(config: dict[str, Any], folder: Path) -> SymptomSet | None:
    """The symptoms of the training, and no others: explanations speak of them."""
    if config["symptoms"] is None:
        return None
    symptoms = SymptomSet.load(folder / SYMPTOMS)
    if symptoms.digest != config["symptoms"]["digest"]:
        raise RunError(
            f"{folder / SYMPTOMS} has other symptoms than the run was trained with", fix=_COPY_AGAIN
        )
    return symptoms


def _load_recorded(name: str, device: str) -> Backbone:
    try:
        return load_backbone(name, device=device)
    except BackboneError as error:
        raise BackboneError(
            error.problem,
            fix=f"if it lies elsewhere on this machine, say where with --backbone; or: {error.fix}",
        ) from error


def _read_seen(quantiles: Tensor, method: Method) -> SimilarityQuantiles:
    """Raise where they do not fit the symptoms, or are no quantiles of cosines."""
    wanted = parts_of(method).present.shape
    good = quantiles.is_floating_point() and quantiles.ndim == 3 and quantiles.shape[:2] == wanted
    if not (good and quantiles.shape[2] and bool((quantiles.abs() <= 1 + 1e-6).all())):
        raise ValueError(f"{SEEN} of {PROMPTS} does not fit the symptoms")
    return SimilarityQuantiles(quantiles.sort(-1).values)


def _require_prediction(method: Method) -> None:
    """Raise where the tensors do not fit each other, the backbone or the classes."""
    side = method.backbone.image_size
    image = (
        torch.ones(1, method.backbone.embed_dim)
        if method.needs == "features"
        else torch.ones(1, 3, side, side)
    )
    probabilities = method.predict_proba(image)
    if probabilities.shape != (1, len(method.classes)) or not bool((probabilities >= 0).all()):
        raise ValueError(f"the tensors of {PROMPTS} do not give a probability for each class")


def _read_config(folder: Path) -> dict[str, Any]:
    if not (folder / CONFIG).exists():
        raise RunError(
            f"{folder} is not a run: it has no {CONFIG}", fix="pass the folder that medvip fit wrote"
        )
    config = _read_json(folder / CONFIG)
    if not isinstance(config, dict) or config.get("format") != "medvip-run" or config.get("version") != 1:
        raise RunError(
            f"{folder / CONFIG} is not that of a run that this medvip knows",
            fix="pass the folder that medvip fit wrote, with a medvip at least as new",
        )
    return config


def _require_form(config: dict[str, Any], folder: Path) -> None:
    """Raise `RunError` unless what loading needs is there and of the right kind."""
    classes, backbone, symptoms = (config.get(key) for key in ("classes", "backbone", "symptoms"))
    wrong = [
        name
        for name, good in {
            "classes": isinstance(classes, list)
            and all(isinstance(name, str) for name in classes)
            and len(set(classes)) == len(classes) >= 2,
            "method": isinstance(config.get("method"), str),
            "options": isinstance(config.get("options"), dict),
            "prompts_sha256": isinstance(config.get("prompts_sha256"), str),
            "backbone": isinstance(backbone, dict)
            and all(isinstance(backbone.get(key), str) for key in ("name", "fingerprint")),
            "symptoms": symptoms is None
            or (isinstance(symptoms, dict) and isinstance(symptoms.get("digest"), str)),
        }.items()
        if not good
    ]
    if wrong:
        raise RunError(f"{folder / CONFIG} has no usable {', '.join(wrong)}", fix=_COPY_AGAIN)


def _read_json(file: Path) -> Any:
    return _parsed(file, json.loads)


def _read_json_lines(file: Path) -> list[Any]:
    return _parsed(file, lambda text: [json.loads(line) for line in text.splitlines()])


def _parsed(file: Path, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{file} cannot be read: {error}", fix=_COPY_AGAIN) from error


def _write(file: Path, text: str) -> None:
    r"""As UTF-8; bytes of file names that are none become ``\udcNN``, which JSON reads back."""
    file.write_text(text, encoding="utf-8", errors="backslashreplace")


def _write_json(file: Path, content: object) -> None:
    _write(file, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
