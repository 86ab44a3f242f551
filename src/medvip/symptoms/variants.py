"""Four kinds of knowledge in the place of the symptoms, to see whether it matters what they say.

The paper's Fig. 5 replaces the symptoms by text about something else (food), by text that is true
of every picture and tells no class apart (the structure of skin), and by each symptom's opposite.
If a classifier is as good with those, it owes nothing to what the symptoms say. Variants are for
that comparison alone; each says so in its provenance.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path

from medvip.atomic import folder_written_whole
from medvip.errors import SymptomError
from medvip.symptoms.checking import check_symptoms, require_usable, words
from medvip.symptoms.plain_text import kind_of, shown
from medvip.symptoms.symptom_set import SymptomSet

KINDS = ("out-of-domain", "useless", "opposite", "symptoms")

_MEANING = {
    "out-of-domain": "text about food, which has nothing to do with the pictures",
    "useless": "true of every picture of the kind, so it tells no class apart",
    "opposite": "each symptom's opposite, one for one: wrong on purpose",
}
_READY_MADE = ("melanoma-nevus", "paediatric-pneumonia")


def knowledge_variants(
    symptom_set: SymptomSet, *, write: Callable[[SymptomSet, str], SymptomSet] | None = None
) -> dict[str, SymptomSet]:
    """Give a symptom set in the four kinds of knowledge of the paper's Fig. 5.

    Parameters
    ----------
    symptom_set
        The real symptoms.
    write
        Called with the set and a kind: gives the set with its symptoms replaced, one for one. A
        function that asks a language model, say. None: the variants that medvip brings along.
        What its provenance leaves open (the kind, the set it was made from) is added; modality
        and plain names are those of `symptom_set`, and nobody has reviewed it.

    Returns
    -------
    dict
        Kind -> set, in the order of `KINDS`; ``"symptoms"`` is `symptom_set` itself. All have the
        same classes and as many symptoms a class.

    Raises
    ------
    SymptomError
        There are no variants of the set and no `write`; or a variant has other classes or another
        number of symptoms, an error that `check_symptoms` finds, or one of the real symptoms.

    Examples
    --------
    >>> for kind, symptoms in knowledge_variants(SymptomSet.load("melanoma-nevus")).items():
    ...     print(f"{kind}: {symptoms.classes['nevus'][1]}")
    out-of-domain: fish grilled quickly over a charcoal fire
    useless: hairs that come out of tiny openings
    opposite: rough, unclear edge all the way around
    symptoms: smooth, clear edge all the way around
    """
    require_usable(check_symptoms(symptom_set))
    ready = None
    if write is None:
        digest = symptom_set.digest
        ready = next((name for name in _READY_MADE if SymptomSet.load(name).digest == digest), None)
    if ready is None and write is None:
        raise SymptomError(
            f"medvip brings no variants of {symptom_set.origin or 'these symptoms'} along, and nothing "
            "was given that writes some",
            fix=f"use {' or '.join(_READY_MADE)}, or name a language model with --model (in Python: write=)",
        )
    variants = {}
    for kind in KINDS[:-1]:
        if ready is not None:
            variants[kind] = _ready_made(ready, kind)
        elif write is not None:
            variants[kind] = _completed(write(symptom_set, kind), symptom_set, kind)
        _require_comparable(variants[kind], symptom_set, kind)
    return {**variants, KINDS[-1]: symptom_set}


def save_variants(variants: Mapping[str, SymptomSet], folder: str | Path, *, force: bool = False) -> Path:
    """Write ``<kind>.json`` for each of the four kinds: the whole folder or nothing.

    Returns
    -------
    Path
        The folder written.

    Raises
    ------
    SymptomError
        `folder` is there already (an empty one may be) and `force` is not set; or with `force` it
        is no folder that an earlier call wrote; or it cannot be written; or a kind is missing.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     variants = knowledge_variants(SymptomSet.load("paediatric-pneumonia"))
    ...     kinds = save_variants(variants, Path(folder) / "kinds")
    ...     sorted(file.name for file in kinds.iterdir())
    ['opposite.json', 'out-of-domain.json', 'symptoms.json', 'useless.json']
    """
    if set(variants) != set(KINDS):
        raise SymptomError(
            f"variants of the kinds {', '.join(map(shown, variants))} are not the four kinds",
            fix=f"give one of each: {', '.join(KINDS)}",
        )
    folder = Path(folder)
    require_free(folder, force=force)
    try:
        with folder_written_whole(folder.absolute()) as unfinished:
            for kind in KINDS:
                variants[kind].save(unfinished / _file(kind))
    except (OSError, ValueError) as error:
        raise _cannot_write(folder, error) from error
    return folder


def require_free(folder: Path, *, force: bool) -> None:
    """Raise `SymptomError` when variants may not be written to `folder`.

    Asked before the work, not only after it. With `force` an earlier call's folder may be replaced:
    one that holds the four files and nothing else, since a lone ``symptoms.json`` is somebody's own.
    """
    where = shown(folder, limit=300)
    try:
        if not os.path.lexists(folder):
            return
        if folder.is_symlink() or not folder.is_dir() or folder.samefile(Path.cwd()):
            raise SymptomError(
                f"{where} is a file, a link or the folder you are in, which is not replaced",
                fix="choose another folder",
            )
        there = {entry.name for entry in folder.iterdir()}
        if not there:
            return
        if not force:
            raise SymptomError(
                f"{where} is there already", fix="choose another folder, or overwrite it with force"
            )
        if there != set(map(_file, KINDS)) or not all(entry.is_file() for entry in folder.iterdir()):
            raise SymptomError(
                f"{where} does not hold the four files {', '.join(map(_file, KINDS))} and nothing else, "
                "so it is not replaced",
                fix="choose another folder",
            )
    except (OSError, ValueError) as error:
        raise _cannot_write(folder, error) from error


def _file(kind: str) -> str:
    return f"{kind}.json"


def _cannot_write(folder: Path, error: Exception) -> SymptomError:
    reason = getattr(error, "strerror", None) or str(error)
    return SymptomError(
        f"{shown(folder, limit=300)} cannot be written: {reason}",
        fix="check the path, the folder's rights and the disk",
    )


def _ready_made(name: str, kind: str) -> SymptomSet:
    file = resources.files("medvip.symptoms") / "ready_made" / "variants" / f"{name}.{kind}.json"
    return SymptomSet.from_json(file.read_text(encoding="utf-8"), origin=f"variant '{kind}' of {name}")


def _completed(written: object, real: SymptomSet, kind: str) -> SymptomSet:
    """What `write` gave, differing from the real set in the symptoms alone, and saying what it is."""
    if not isinstance(written, SymptomSet):
        raise SymptomError(
            f"the variant '{kind}': {kind_of(written)} where a SymptomSet is expected",
            fix="let write give a SymptomSet with the symptoms replaced",
        )
    _require_same_classes(written, real, kind)
    note = written.provenance.note
    if not _says_so(written, real, kind):
        note = "; ".join(filter(None, (_note(real, kind), note)))
    provenance = replace(written.provenance, note=note, reviewed_by=None)
    return SymptomSet(written.classes, real.modality, provenance, real.names, origin=written.origin)


def _note(real: SymptomSet, kind: str) -> str:
    return (
        f"{kind}: {_MEANING[kind]}. Made for an ablation from the symptoms with digest {real.digest}; "
        "not to be used for anything else"
    )


def _says_so(variant: SymptomSet, real: SymptomSet, kind: str) -> bool:
    said = f"{variant.provenance.method} {variant.provenance.note or ''}"
    return kind in said and real.digest in said


def _require_comparable(variant: SymptomSet, real: SymptomSet, kind: str) -> None:
    """Refuse a variant with which a comparison would show something else than the kind."""
    _require_same_classes(variant, real, kind)
    require_usable(check_symptoms(variant))
    if not _says_so(variant, real, kind):
        raise SymptomError(
            f"the variant '{kind}' was made from other symptoms than these", fix="make it from these again"
        )
    taken = {words(symptom) for symptoms in real.classes.values() for symptom in symptoms}
    for name, symptoms in variant.classes.items():
        for symptom in symptoms:
            if words(symptom) in taken:
                raise SymptomError(
                    f"the variant '{kind}', class {shown(name)}: {shown(symptom)} is a real symptom",
                    fix="say something else",
                )


def _require_same_classes(variant: SymptomSet, real: SymptomSet, kind: str) -> None:
    counts = {name: len(symptoms) for name, symptoms in variant.classes.items()}
    wanted = {name: len(symptoms) for name, symptoms in real.classes.items()}
    if counts != wanted:
        raise SymptomError(
            f"the variant '{kind}' has symptoms for {_counted(counts)}, not for {_counted(wanted)}",
            fix="write as many for each class as the real set has",
        )


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{shown(name)} ({counts[name]})" for name in sorted(counts))
