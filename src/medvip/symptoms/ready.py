"""The symptom sets that medvip brings along, and how a source is found by name or path."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from medvip.errors import SymptomError
from medvip.symptoms.class_names import closest
from medvip.symptoms.plain_text import shown
from medvip.symptoms.strict_json import read_text

_DESCRIPTIONS = {
    "breast-ultrasound": "breast ultrasound: benign, malignant, normal",
    "ham10000": "dermoscopy: the seven diagnoses of HAM10000",
    "melanoma-nevus": "dermoscopy: melanoma or nevus",
    "paediatric-pneumonia": "chest X-ray of children: normal or pneumonia",
    "phantoms": "drawn lesions (no patient): suspicious or harmless",
    "white-blood-cells": "blood smear: eosinophil, lymphocyte, monocyte, neutrophil",
}


def ready_made() -> dict[str, str]:
    """Name -> one-line description of each ready-made symptom set.

    They were drafted by a language model and not reviewed by a clinician; each says so in its
    provenance.

    Examples
    --------
    >>> ready_made()["melanoma-nevus"]
    'dermoscopy: melanoma or nevus'
    """
    return dict(_DESCRIPTIONS)


def read_source(source: str | Path) -> tuple[str, str]:
    """Read a ready-made set or a file.

    Returns
    -------
    tuple
        The text, and what to call its origin in messages.

    Raises
    ------
    SymptomError
        There is no such set or file, or it cannot be read as a small UTF-8 text.

    Examples
    --------
    >>> read_source("phantoms")[1]
    'ready-made set phantoms'
    """
    path = Path(source)
    if str(source) in _DESCRIPTIONS and (isinstance(source, str) or not path.is_file()):
        file = resources.files("medvip.symptoms") / "ready_made" / f"{source}.json"
        return file.read_text(encoding="utf-8"), f"ready-made set {source}"
    if len(path.parts) == 1 and not path.suffix and not _exists(path):
        near = closest(str(source), _DESCRIPTIONS)
        raise SymptomError(
            f"there is no symptom file or ready-made set {shown(source)}",
            fix=f"choose one of {', '.join(_DESCRIPTIONS)}"
            if near is None
            else f"did you mean {shown(near)}?",
        )
    return read_text(path), shown(path, limit=300)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
