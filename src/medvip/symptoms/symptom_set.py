"""`SymptomSet`: class name -> visual symptoms, with who wrote them and how."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from medvip.errors import SymptomError
from medvip.symptoms.class_names import closest, find_name, match_names, refuse_ambiguous, spoken
from medvip.symptoms.file_forms import FORMAT, VERSION, read_parts
from medvip.symptoms.generation import Generation
from medvip.symptoms.plain_text import clean_line, kind_of, shown
from medvip.symptoms.provenance import Provenance
from medvip.symptoms.ready import read_source
from medvip.symptoms.reviewing import (
    Review,
    Verdict,
    clean_reviews,
    not_reviewed,
    review_state,
    with_review,
)
from medvip.symptoms.whole_files import write_whole

UNKNOWN_MODALITY = "medical image"
UNKNOWN_PROVENANCE = Provenance(author="unknown", method="unknown", date="unknown")


@dataclass(frozen=True)
class SymptomSet:
    """Visual symptoms of each class. Immutable; classes are reached by name.

    Attributes
    ----------
    classes
        Class name -> its symptoms. The order of the classes means nothing.
    modality
        What the pictures are: "dermoscopic image".
    provenance
        Who wrote the symptoms, how and when.
    names
        Class name -> the plain name to be used in a sentence, where they differ.
    reviews
        Class name -> what people found about its symptoms, one verdict a symptom.
    generation
        How a language model wrote the set; None where none did, or nothing is known.
    origin
        Where the set was read from, for messages; neither compared nor saved.

    Raises
    ------
    SymptomError
        A class or symptom is not one clean line of text, two class names differ only in case,
        ``_``, ``-`` or spaces, or a review does not fit the symptoms.

    Examples
    --------
    >>> symptoms = SymptomSet.load("melanoma-nevus")
    >>> symptoms.modality
    'dermoscopic image'
    >>> [len(texts) for texts in symptoms.for_classes(["nevus", "melanoma"])]
    [4, 4]
    """

    classes: Mapping[str, tuple[str, ...]]
    modality: str = UNKNOWN_MODALITY
    provenance: Provenance = UNKNOWN_PROVENANCE
    names: Mapping[str, str] = field(default_factory=dict)
    reviews: Mapping[str, tuple[Review, ...]] = field(default_factory=dict)
    generation: Generation | None = None
    origin: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        where = self.origin or "the symptoms"
        classes = _clean_classes(self.classes, where)
        modality = clean_line(self.modality, f"{where}, modality")
        if not modality:
            raise SymptomError(
                f"{where}: the modality is blank", fix='say what the images are: "chest X-ray"'
            )
        names = _clean_names(self.names, classes, where)
        reviews = clean_reviews(self.reviews, classes, where)
        if self.generation is not None and not isinstance(self.generation, Generation):
            raise SymptomError(
                f"{where}: {kind_of(self.generation)} where a Generation is expected", fix="make one"
            )
        # The one place that writes to the frozen object: what was given, made clean.
        object.__setattr__(self, "classes", MappingProxyType(classes))
        object.__setattr__(self, "modality", modality)
        object.__setattr__(self, "names", MappingProxyType(names))
        object.__setattr__(self, "reviews", MappingProxyType(reviews))

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> tuple[type[SymptomSet], tuple[Any, ...]]:
        # A read-only mapping does not travel to another process; a dict does.
        return SymptomSet, (
            dict(self.classes),
            self.modality,
            self.provenance,
            dict(self.names),
            dict(self.reviews),
            self.generation,
            self.origin,
        )

    @classmethod
    def from_mapping(
        cls,
        classes: Mapping[str, Sequence[str]],
        *,
        modality: str = UNKNOWN_MODALITY,
        provenance: Provenance = UNKNOWN_PROVENANCE,
        names: Mapping[str, str] | None = None,
        generation: Generation | None = None,
    ) -> SymptomSet:
        """Make a set from ``{"class name": ["symptom", ...]}``.

        Raises
        ------
        SymptomError
            See `SymptomSet`.

        Examples
        --------
        >>> drawn = {"nevus": ["one even color"], "melanoma": ["several colors"]}
        >>> symptoms = SymptomSet.from_mapping(drawn, modality="photo of the skin")
        >>> symptoms.for_classes(["melanoma"], allow_extra=True)
        (('several colors',),)
        """
        # __post_init__ turns the sequences into tuples.
        return cls(
            classes,  # pyright: ignore[reportArgumentType]
            modality,
            provenance,
            names or {},
            generation=generation,
        )

    @classmethod
    def load(cls, source: str | Path) -> SymptomSet:
        """Read a symptom file, native or plain, or a ready-made set by its name.

        A string that is the name of a ready-made set means that set; for a file or folder of
        the same name write ``./name``.

        Raises
        ------
        SymptomError
            There is no such file or set, or it is malformed: one line that says where and how
            to mend it.

        Examples
        --------
        >>> sorted(SymptomSet.load("paediatric-pneumonia").classes)
        ['normal', 'pneumonia']
        >>> SymptomSet.load("paediatric-pnuemonia")
        Traceback (most recent call last):
        medvip.errors.SymptomError: there is no symptom file or ready-made set 'paediatric-pnuemonia' \
(to mend it: did you mean 'paediatric-pneumonia'?)
        """
        text, origin = read_source(source)
        return cls.from_json(text, origin=origin)

    @classmethod
    def from_json(cls, text: str, *, origin: str = "the symptoms") -> SymptomSet:
        """Read the text of a symptom file, native or plain.

        Raises
        ------
        SymptomError
            As `load`.

        Examples
        --------
        >>> symptoms = SymptomSet.from_json('{"nevus": ["one even color"], "melanoma": ["several colors"]}')
        >>> symptoms.provenance.author
        'unknown'
        """
        parts = read_parts(text, origin)
        return cls(
            classes=parts.classes,
            modality=UNKNOWN_MODALITY if parts.modality is None else parts.modality,
            provenance=UNKNOWN_PROVENANCE if parts.provenance is None else parts.provenance,
            names=parts.names,
            reviews=parts.reviews,
            generation=parts.generation,
            origin=origin,
        )

    def to_json(self) -> str:
        """Give the text of the native form: classes sorted by name, so equal sets give equal files.

        Examples
        --------
        >>> symptoms = SymptomSet.load("phantoms")
        >>> SymptomSet.from_json(symptoms.to_json()) == symptoms
        True
        """
        document: dict[str, Any] = {"format": FORMAT, "version": VERSION, "modality": self.modality}
        document["classes"] = {name: list(self.classes[name]) for name in sorted(self.classes)}
        if self.names:
            document["names"] = {name: self.names[name] for name in sorted(self.names)}
        document["provenance"] = self.provenance.to_dict()
        if self.reviews:
            document["reviews"] = {
                name: [review.to_dict() for review in self.reviews[name]] for name in sorted(self.reviews)
            }
        if self.generation is not None:
            document["generation"] = self.generation.to_dict()
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the native form, whole or not at all.

        Returns
        -------
        Path
            The file written.

        Raises
        ------
        SymptomError
            The file is there and `force` is not set, it cannot be written, or the set holds
            nothing that `load` would take (no class, a class without symptoms).

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = SymptomSet.load("phantoms").save(Path(folder) / "mine.json")
        ...     SymptomSet.load(path) == SymptomSet.load("phantoms")
        True
        """
        text = self.to_json()
        read_parts(text, self.origin or "the symptoms")
        return write_whole(path, text, force=force)

    def for_classes(self, names: Sequence[str], *, allow_extra: bool = False) -> tuple[tuple[str, ...], ...]:
        """Give the symptoms of each class of `names`, in the order of `names`.

        A name is looked for exactly first, then without regard to case, ``_``, ``-`` and
        spaces; never by position.

        Raises
        ------
        SymptomError
            A class has no symptoms here, or there are symptoms for a class not in `names`
            (unless `allow_extra`); it says which are missing, which extra, and what is close.

        Examples
        --------
        >>> classes = {"Melanocytic nevus": ["even color"], "melanoma": ["jagged edge"]}
        >>> symptoms = SymptomSet.from_mapping(classes)
        >>> symptoms.for_classes(["melanoma", "melanocytic_nevus"])
        (('jagged edge',), ('even color',))
        """
        where = self.origin or "the symptoms"
        matched = match_names(names, self.classes, where=where, allow_extra=allow_extra)
        return tuple(self.classes[matched[name]] for name in names)

    def plain_name(self, class_name: str) -> str:
        """Give the name of a class as one would say it in a sentence.

        Examples
        --------
        >>> SymptomSet.load("paediatric-pneumonia").plain_name("normal")
        'normal lungs'
        >>> SymptomSet.from_mapping({"basal_cell": ["pearly bump"]}).plain_name("basal_cell")
        'basal cell'
        """
        found = find_name(class_name, self.names)
        return spoken(class_name) if found is None else self.names[found]

    def with_review(
        self,
        class_name: str,
        symptom: str,
        verdict: Verdict,
        *,
        by: str,
        date: str | None = None,
        reworded: str | None = None,
        note: str | None = None,
    ) -> SymptomSet:
        """Give the set with a person's verdict on one symptom noted, and followed.

        A later verdict on a symptom takes the place of the earlier one; the words that stood
        there before the first rewording are remembered.

        Parameters
        ----------
        class_name, symptom
            Which one. A symptom that was dropped can be judged anew: keeping or rewording it
            puts it back, at the end of its class.
        verdict
            ``"keep"``; ``"drop"``, which takes it out of the set; ``"reworded"``, which puts
            `reworded` in its place (rewording it to what it was at first is keeping it).
        by
            Who says so.
        date
            ISO date or time; now when None.
        reworded
            The new words.
        note
            Anything else worth knowing.

        Raises
        ------
        SymptomError
            There is no such class or symptom, it is the last one of its class and cannot be
            dropped, or the new words are blank, the old ones, in the class already or found
            wrong by `check_symptoms`.
        UsageError
            `reworded` is given without ``"reworded"``, or the other way round.

        Examples
        --------
        >>> symptoms = SymptomSet.load("phantoms")
        >>> read = symptoms.with_review(
        ...     "harmless", "plain, clean surface inside", "reworded", by="A. Doctor",
        ...     reworded="plain surface", date="2026-11-23",
        ... )
        >>> read.classes["harmless"][-1], read.reviews["harmless"][0].was
        ('plain surface', 'plain, clean surface inside')
        """
        return with_review(self, class_name, symptom, verdict, by=by, date=date, reworded=reworded, note=note)

    def not_reviewed(self) -> dict[str, tuple[str, ...]]:
        """Class name -> its symptoms that nobody has judged; classes without such are left out.

        Examples
        --------
        >>> symptoms = SymptomSet.from_mapping({"nevus": ["even color"], "melanoma": ["jagged edge"]})
        >>> symptoms.with_review("nevus", "even color", "keep", by="A. Doctor").not_reviewed()
        {'melanoma': ('jagged edge',)}
        """
        return not_reviewed(self)

    def review_state(self) -> str:
        """Say in one line who has read how many of the symptoms, and when.

        Examples
        --------
        >>> symptoms = SymptomSet.from_mapping({"nevus": ["even color"], "melanoma": ["jagged edge"]})
        >>> symptoms.review_state()
        'not reviewed by anyone'
        >>> symptoms.with_review(
        ...     "nevus", "even color", "keep", by="A. Doctor", date="2026-11-23"
        ... ).review_state()
        '1 of 2 symptoms reviewed by A. Doctor (2026-11-23)'
        """
        return review_state(self)

    @property
    def digest(self) -> str:
        """sha256 of what a model is trained on: modality, classes by name, symptoms in order.

        Provenance, plain names, reviews, the record of generation and the order of the classes
        do not change it.

        Examples
        --------
        >>> one = SymptomSet.from_mapping({"a": ["red"], "b": ["blue"]})
        >>> other = SymptomSet.from_mapping({"b": ["blue"], "a": ["red"]})
        >>> one.digest == other.digest, len(one.digest)
        (True, 64)
        """
        content = {"modality": self.modality, "classes": dict(self.classes)}
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def _clean_classes(classes: object, where: str) -> dict[str, tuple[str, ...]]:
    """Check class names and symptoms, and give them as text without the space around it."""
    if not isinstance(classes, Mapping):
        raise SymptomError(
            f"{where}: {kind_of(classes)} where classes are expected",
            fix='write {"class name": ["symptom", "symptom"]}',
        )
    clean: dict[str, tuple[str, ...]] = {}
    for name, symptoms in classes.items():
        if clean_line(name, f"{where}, class name") != name:
            raise SymptomError(
                f"{where}: the class name {shown(name)} has space around it", fix="remove the space"
            )
        if isinstance(symptoms, str) or not isinstance(symptoms, Sequence):
            raise SymptomError(
                f"{where}, class {shown(name)}: {kind_of(symptoms)} where a list of symptoms is expected",
                fix='write ["symptom", "symptom"]',
            )
        clean[name] = tuple(
            clean_line(symptom, f"{where}, class {shown(name)}, symptom {number}")
            for number, symptom in enumerate(symptoms, start=1)
        )
    refuse_ambiguous(clean, where)
    return clean


def _clean_names(names: object, classes: Mapping[str, object], where: str) -> dict[str, str]:
    """Check the plain names, and give them under the classes' own names."""
    if not isinstance(names, Mapping):
        raise SymptomError(
            f"{where}, names: {kind_of(names)} where plain names are expected",
            fix='write {"class name": "plain name"}',
        )
    refuse_ambiguous((clean_line(name, f"{where}, names") for name in names), f"{where}, names")
    clean: dict[str, str] = {}
    for name, plain in names.items():
        found = find_name(name, classes)
        if found is None:
            near = closest(name, classes)
            raise SymptomError(
                f"{where}, names: {shown(name)} is not a class of the set",
                fix="remove it" if near is None else f"remove it, or rename it to {shown(near)}",
            )
        clean[found] = clean_line(plain, f"{where}, plain name of {shown(name)}")
        if not clean[found]:
            raise SymptomError(
                f"{where}: the plain name of {shown(name)} is blank", fix="write it, or remove it"
            )
    return clean
