"""The one place on the user's disk where medvip keeps what it would otherwise compute again."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """The folder of cached features and alignments; ``MEDVIP_CACHE`` overrides the user's default.

    Deleting it is always safe: everything in it is computed again when it is needed.
    """
    override = os.environ.get("MEDVIP_CACHE")
    return Path(override).expanduser() if override else platformdirs.user_cache_path("medvip")
