"""How each symptom does by itself on training images, before anything is learned.

Three questions: does the symptom alone separate its class, does another symptom say the same, and
are its words plain? Only training images are asked. Whoever drops symptoms by what validation or
test images say has used them up.

The AUROC is that of zero-shot similarity on one frozen backbone. A low one may be the backbone's
fault as well as the symptom's. Symptoms are read as they are written, without the full stop that
`vip` closes them with: so they were read when `NEAR_DUPLICATE` was chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from medvip.backbones import Backbone
from medvip.backbones.protocol import encode_texts
from medvip.errors import DataError, FeatureError, UsageError
from medvip.evaluation.bootstrap import group_codes, group_weights, percentile_interval
from medvip.evaluation.measure import BLOCK
from medvip.evaluation.metrics import Estimate
from medvip.evaluation.ranking import auroc
from medvip.evaluation.symptom_suggestions import Suggestion, suggest
from medvip.features import FeatureTable, compute_features
from medvip.methods.prompts import require_fitting
from medvip.symptoms import SymptomSet
from medvip.symptoms.plain_text import shown
from medvip.symptoms.plain_words import rarest_word, words_of
from medvip.types import ImageDataset


@dataclass(frozen=True)
class Neighbour:
    """The symptom most like another one.

    Attributes
    ----------
    class_name, symptom
        Which it is.
    likeness
        Cosine between the two text vectors after the mean of all the set's symptoms is taken off;
        in [-1, 1], about ``-1 / (symptoms - 1)`` for symptoms that have nothing in common.
    """

    class_name: str
    symptom: str
    likeness: float

    def to_json(self) -> dict[str, Any]:
        """``{"class": .., "symptom": .., "likeness": ..}``."""
        return {"class": self.class_name, "symptom": self.symptom, "likeness": self.likeness}


@dataclass(frozen=True)
class AuditedSymptom:
    """What an audit says of one symptom.

    Attributes
    ----------
    class_name, symptom
        Which it is.
    separation
        AUROC of the cosine between image and symptom, images of its class against all others,
        with a 95 % interval over groups. 0.5 separates nothing; below, it points away.
    points_to, points_to_auroc
        The class that the symptom separates best from all others, and that AUROC.
    in_class
        The symptom of the same class most like it; None when it is the class's only one.
    elsewhere
        The symptom of other classes most like it.
    rarest_word, zipf
        Its least common word and that word's Zipf frequency in English; 0.0 for an unknown word.
    tokens_per_word
        Into how many tokens the backbone splits a word of it, on average: rare words are split.
    suggestion
        What to do with it, and why.
    """

    class_name: str
    symptom: str
    separation: Estimate
    points_to: str
    points_to_auroc: float
    in_class: Neighbour | None
    elsewhere: Neighbour
    rarest_word: str
    zipf: float
    tokens_per_word: float
    suggestion: Suggestion

    def to_json(self) -> dict[str, Any]:
        """One entry of the audit's file."""
        return {
            "class": self.class_name,
            "symptom": self.symptom,
            "auroc": self.separation.to_json(),
            "points_to": {"class": self.points_to, "auroc": self.points_to_auroc},
            "likest_in_class": self.in_class.to_json() if self.in_class else None,
            "likest_elsewhere": self.elsewhere.to_json(),
            "rarest_word": {"word": self.rarest_word, "zipf": self.zipf},
            "tokens_per_word": self.tokens_per_word,
            "suggestion": self.suggestion.to_json(),
        }


@dataclass(frozen=True)
class Audit:
    """All that `audit_symptoms` found.

    Attributes
    ----------
    rows
        One for each symptom: classes by name, symptoms in the order of the set.
    images
        Class name -> number of its training images; no other image was looked at.
    groups
        Number of groups (patients) among them.
    dataset, backbone, fingerprint, symptoms_digest
        What was audited on what.
    seed, resamples
        Of the bootstrap.
    """

    rows: tuple[AuditedSymptom, ...]
    images: dict[str, int]
    groups: int
    dataset: str
    backbone: str
    fingerprint: str
    symptoms_digest: str
    seed: int
    resamples: int

    interval = "95 % percentile bootstrap over groups"
    caution = (
        "AUROC of zero-shot similarity on this backbone, training images only: a low one may be the "
        "backbone's fault. A suggestion is a reason to look, not a verdict."
    )

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and text; None for an interval's ends where one group gives none."""
        return {
            "format": "medvip-symptom-audit",
            "version": 1,
            "dataset": self.dataset,
            "split": "train",
            "images": dict(self.images),
            "groups": self.groups,
            "backbone": {"name": self.backbone, "fingerprint": self.fingerprint},
            "symptoms_digest": self.symptoms_digest,
            "seed": self.seed,
            "resamples": self.resamples,
            "interval": self.interval,
            "caution": self.caution,
            "symptoms": [row.to_json() for row in self.rows],
        }


def audit_symptoms(
    symptom_set: SymptomSet,
    dataset: ImageDataset,
    backbone: Backbone,
    *,
    resamples: int = 1000,
    seed: int = 1,
    cache: Path | None = None,
    workers: int | None = None,
    quiet: bool = False,
) -> Audit:
    """Look at each symptom by itself, on training images as they are (no augmented views).

    - Separation: AUROC of the cosine between image and symptom for the symptom's class against all
      others, ties counting half, with a percentile bootstrap over groups. The order of the images
      does not matter.
    - Likeness: cosine between text vectors from which the mean of the set's is taken off, since what
      all symptoms share adds the same to every class and tells none apart.
    - Plain words: Zipf frequency in English of the rarest word, and tokens for each word.

    The suggestions' rules are those of `medvip.evaluation.symptom_suggestions.suggest`.

    Parameters
    ----------
    symptom_set
        With symptoms of every class of `dataset` and of no other.
    dataset
        With its splits decided. What is not in split ``"train"`` is put aside first of all.
    backbone
        The frozen encoders.
    resamples
        Number of bootstrap resamples; 0 computes no intervals, and then nothing points away.
    seed
        The same seed gives the same intervals.
    cache, workers, quiet
        As in `medvip.compute_features`.

    Raises
    ------
    SymptomError
        The classes do not match, a symptom cannot be used, or wordfreq is not installed.
    DataError
        A class has no training image.
    UnreadableImages
        Training images that cannot be read, all of them listed.
    UsageError
        A negative number of resamples.
    """
    if resamples < 0:
        raise UsageError(f"{resamples} resamples", fix="use 1000, or 0 for no intervals")
    training = dataset.only("train")
    images = {name: training.counts()[name] for name in sorted(dataset.classes)}
    by_class = dict(zip(images, symptom_set.for_classes(tuple(images)), strict=True))
    require_fitting(symptom_set, backbone, context=0)
    if empty := [name for name, count in images.items() if not count]:
        raise DataError(
            f"{dataset.name} has no training image of class {', '.join(map(shown, empty))}",
            fix="put images of it into the training split, or leave the class out everywhere",
        )
    classes = [name for name, texts in by_class.items() for _ in texts]
    symptoms = [text for texts in by_class.values() for text in texts]
    rarest = [rarest_word(text) for text in symptoms]  # before any picture is encoded: it may be missing

    table = compute_features(training, backbone, cache=cache, workers=workers, quiet=quiet).train
    texts = _text_vectors(backbone, symptoms)
    similarity, is_class, codes = _measured(table, texts)
    everything = np.ones((1, len(table)))
    ranked = {
        name: np.array([auroc(scores, positive, everything)[0] for scores in similarity.T])
        for name, positive in is_class.items()
    }
    separations = _separations(similarity, [is_class[name] for name in classes], codes, resamples, seed)
    likeness = centred_cosines(texts)
    suggestions = suggest(classes, symptoms, separations, likeness, rarest)

    def row(index: int) -> AuditedSymptom:
        own = classes[index]
        # Of equals the own class, so that a symptom that separates nothing points nowhere else.
        points_to = max(ranked, key=lambda name: (ranked[name][index], name == own))

        def likest(others: list[int]) -> Neighbour | None:
            best = max(others, key=lambda other: likeness[index, other], default=None)
            if best is None:
                return None
            return Neighbour(classes[best], symptoms[best], float(likeness[index, best]))

        elsewhere = likest([other for other, name in enumerate(classes) if name != own])
        assert elsewhere is not None, "there are two classes or more, each with a symptom"
        return AuditedSymptom(
            class_name=own,
            symptom=symptoms[index],
            separation=separations[index],
            points_to=points_to,
            points_to_auroc=float(ranked[points_to][index]),
            in_class=likest([o for o, name in enumerate(classes) if name == own and o != index]),
            elsewhere=elsewhere,
            rarest_word=rarest[index][0],
            zipf=rarest[index][1],
            tokens_per_word=_tokens_per_word(backbone, symptoms[index]),
            suggestion=suggestions[index],
        )

    return Audit(
        rows=tuple(map(row, range(len(symptoms)))),
        images=images,
        groups=int(codes.max()) + 1,
        dataset=dataset.name,
        backbone=backbone.name,
        fingerprint=backbone.fingerprint,
        symptoms_digest=symptom_set.digest,
        seed=seed,
        resamples=resamples,
    )


def centred_cosines(vectors: Float[np.ndarray, "symptom dim"]) -> Float[np.ndarray, "symptom symptom"]:
    """Cosines between unit vectors from which their mean is taken off; 1 between equal ones.

    Parameters
    ----------
    vectors
        Of norm 1.

    Examples
    --------
    >>> corners = np.eye(3)
    >>> centred_cosines(corners).round(2).tolist()
    [[1.0, -0.5, -0.5], [-0.5, 1.0, -0.5], [-0.5, -0.5, 1.0]]
    """
    centred = vectors - vectors.mean(axis=0)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    # Equal vectors that are also the mean have no direction left, and yet are as alike as can be.
    return np.where(vectors @ vectors.T > 1 - 1e-9, 1.0, np.clip(centred @ centred.T, -1, 1))


def _text_vectors(backbone: Backbone, symptoms: list[str]) -> Float[np.ndarray, "symptom dim"]:
    """Of norm 1."""
    vectors = encode_texts(backbone, symptoms).double().cpu().numpy()
    for text, vector in zip(symptoms, vectors, strict=True):
        if not np.isfinite(vector).all():
            raise FeatureError(
                f"the backbone {backbone.name} gives numbers that are not finite for {shown(text)}",
                fix="check the model's weights",
            )
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _measured(
    table: FeatureTable, texts: Float[np.ndarray, "symptom dim"]
) -> tuple[
    Float[np.ndarray, "image symptom"], dict[str, Bool[np.ndarray, "image"]], Int[np.ndarray, "image"]
]:
    """Cosines, which images are of each class, and the groups' numbers.

    In an order of its own (by content), so that the same images give the same resamples however
    they come.
    """
    labels = table.labels.cpu().numpy()
    order = sorted(range(len(table)), key=lambda i: (table.contents[i], int(labels[i]), table.groups[i]))
    vectors = table.plain.double().cpu().numpy()[order]
    norms = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    cosines = vectors @ texts.T / norms
    is_class = {name: labels[order] == column for column, name in enumerate(table.classes)}
    # Rounded, so that copies of one picture are equal whichever way the product was summed up.
    return np.round(cosines, 9), is_class, group_codes([table.groups[i] for i in order], len(order))


def _separations(
    similarity: Float[np.ndarray, "image symptom"],
    positives: list[Bool[np.ndarray, "image"]],
    codes: Int[np.ndarray, "image"],
    resamples: int,
    seed: int,
) -> list[Estimate]:
    """AUROC of each symptom for its class; all symptoms are measured on the same resamples."""
    images = len(codes)
    if codes.max() == 0:
        resamples = 0  # one patient says nothing about how much patients differ
    rng = np.random.default_rng(seed)
    resampled: list[list[np.ndarray]] = [[] for _ in positives]
    for start in range(0, resamples, step := max(1, BLOCK // images)):
        weights = group_weights(codes, min(step, resamples - start), rng)
        for kept, scores, positive in zip(resampled, similarity.T, positives, strict=True):
            kept.append(auroc(scores, positive, weights))
    return [
        percentile_interval(
            float(auroc(scores, positive, np.ones((1, images)))[0]), np.concatenate([*kept, np.empty(0)])
        )
        for kept, scores, positive in zip(resampled, similarity.T, positives, strict=True)
    ]


def _tokens_per_word(backbone: Backbone, symptom: str) -> float:
    """Mean number of tokens of a word by itself, start and end tokens not counted; 0.0 without words."""
    words = words_of(symptom)
    nothing, *ends = backbone.tokenize(["", *words]).end.tolist()
    return sum(end - nothing for end in ends) / max(1, len(words))
