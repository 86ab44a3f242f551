"""A run on disk: written whole, read with everything checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from medvip.atomic import folder_written_whole
from medvip.backbones import Backbone, load_backbone
from medvip.errors import BackboneError, MedvipError, RunError
from medvip.methods import create_method
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


def require_free(folder: Path, *, force: bool) -> None:
    """Raise `RunError` when a run may not be written to `folder`.

    With `force`, an earlier run there may be replaced, and nothing else: a folder that is no
    run is never deleted.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not force:
        raise RunError(f"{folder} is there already", fix="choose another --out, or replace it with --force")
    if not (folder / CONFIG).is_file():
        raise RunError(f"{folder} is not a run, so it is not replaced", fix="choose another --out")


def save_run(run: Run, folder: Path, *, force: bool = False) -> Path:
    """Write a run to `folder`, whole or not at all."""
    require_free(folder, force=force)
    try:
        with folder_written_whole(folder) as unfinished:
            _write_json(unfinished / CONFIG, run.config)
            if run.symptoms is not None:
                run.symptoms.save(unfinished / SYMPTOMS)
            tensors = {name: tensor.cpu().contiguous() for name, tensor in run.method.state().items()}
            save_file(tensors, unfinished / PROMPTS)
            _write_json(unfinished / METRICS, run.metrics)
            lines = [json.dumps(entry) + "\n" for entry in run.method.history]
            (unfinished / HISTORY).write_text("".join(lines), encoding="utf-8")
            (unfinished / CARD).write_text(model_card(run), encoding="utf-8")
    except OSError as error:
        raise RunError(
            f"{folder} cannot be written: {error.strerror or error}",
            fix="check the folder's rights and the disk",
        ) from error
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
    try:
        recorded = config["backbone"]
        backbone = backbone or load_backbone(recorded["name"], device=device)
        if backbone.fingerprint != recorded["fingerprint"]:
            raise BackboneError(
                f"{folder} was trained on the backbone {recorded['name']} with fingerprint "
                f"{recorded['fingerprint'][:12]}, but {backbone.name} has {backbone.fingerprint[:12]}",
                fix="use the backbone of the training (same weights and package versions), or train again",
            )
        symptoms = SymptomSet.load(folder / SYMPTOMS) if (folder / SYMPTOMS).exists() else None
        method = create_method(config["method"], backbone, symptoms, **config["options"])
        method.load_state(tuple(config["classes"]), load_file(folder / PROMPTS))
        method.history = [json.loads(line) for line in _lines(folder / HISTORY)]
        return Run(backbone, method, symptoms, config, json.loads("".join(_lines(folder / METRICS))))
    except MedvipError:
        raise
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{folder} is damaged: {type(error).__name__}: {error}", fix="copy the run again, or train again"
        ) from error


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunError(
            f"{folder} is not a run: it has no {CONFIG}", fix="pass the folder that medvip fit wrote"
        ) from error
    except (OSError, ValueError) as error:
        raise RunError(f"{folder / CONFIG} cannot be read: {error}", fix="copy the run again") from error
    if not isinstance(config, dict) or config.get("format") != "medvip-run" or config.get("version") != 1:
        raise RunError(
            f"{folder / CONFIG} is not that of a run that this medvip knows",
            fix="pass the folder that medvip fit wrote, with a medvip at least as new",
        )
    return config


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


def _write_json(file: Path, content: object) -> None:
    file.write_text(
        json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )
