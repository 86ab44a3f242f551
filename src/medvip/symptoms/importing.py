"""Take over descriptor files as they were released with papers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path

from medvip.errors import SymptomError
from medvip.symptoms.class_names import match_names, refuse_ambiguous
from medvip.symptoms.file_forms import read_parts
from medvip.symptoms.plain_text import shown
from medvip.symptoms.provenance import Provenance
from medvip.symptoms.strict_json import read_text
from medvip.symptoms.symptom_set import SymptomSet


def import_descriptors(
    path: str | Path, *, modality: str, rename: Mapping[str, str] | None = None
) -> SymptomSet:
    """Read ``{"class name": ["symptom", ...]}`` and note where it came from and when.

    Parameters
    ----------
    path
        A descriptor file (plain form).
    modality
        What the images are: "dermoscopic image". The file does not say.
    rename
        Name in the file -> name of the class in your data.

    Returns
    -------
    SymptomSet
        Its provenance names the file and today's date; the author stays unknown.

    Raises
    ------
    SymptomError
        The file is malformed or has its own provenance already, or `rename` names a class
        that the file does not have, or gives two classes one name.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "descriptors_skin.json"
    ...     _ = path.write_text('{"mole": ["one even color"], "melanoma": ["several colors"]}')
    ...     symptoms = import_descriptors(path, modality="dermoscopic image", rename={"mole": "nevus"})
    >>> sorted(symptoms.classes), symptoms.provenance.source
    (['melanoma', 'nevus'], 'descriptors_skin.json')
    """
    path = Path(path)
    where = shown(path, limit=300)
    parts = read_parts(read_text(path), where)
    if parts.provenance is not None:
        raise SymptomError(
            f"{where} has its own provenance already", fix="load it as it is; no import is needed"
        )
    # First as the file has it, so that errors speak of the file's own names.
    found = SymptomSet(parts.classes, modality, origin=where)
    rename = rename or {}
    matched = match_names(list(rename), found.classes, where=f"{where}, rename", allow_extra=True)
    new_names = {matched[name]: new for name, new in rename.items()}
    renamed = [(new_names.get(name, name), symptoms) for name, symptoms in found.classes.items()]
    refuse_ambiguous((name for name, _ in renamed), f"{where}, rename")
    provenance = Provenance(
        author="unknown", method="imported descriptors", date=date.today().isoformat(), source=path.name
    )
    return SymptomSet(dict(renamed), modality, provenance, origin=where)
