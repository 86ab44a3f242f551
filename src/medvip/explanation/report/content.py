"""What a report holds, as plain values: whoever gathers it needs no HTML, the page no run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from medvip.evaluation.metrics import Metrics
from medvip.evaluation.shortcuts import Shortcut
from medvip.evaluation.subgroups import Division
from medvip.explanation.contributions import ClassContributions
from medvip.explanation.reliance import Reliance
from medvip.explanation.report.overview import ClassOverview
from medvip.explanation.report.thumbnails import Thumbnail


@dataclass(frozen=True)
class Facts:
    """What was trained on what.

    Attributes
    ----------
    method, data
        By name.
    settings
        (what, value) pairs in the order in which they are shown.
    images
        Split -> class -> number of images in training.
    groups
        Split -> number of groups (patients).
    notes
        What was decided on the way to the splits.
    made, medvip
        Date and time of the training, and the version that trained.
    stopped
        Why training stopped early; None when it did not.
    """

    method: str
    data: str
    settings: tuple[tuple[str, str], ...]
    images: dict[str, dict[str, int]]
    groups: dict[str, int]
    notes: tuple[str, ...]
    made: str
    medvip: str
    stopped: str | None = None


@dataclass(frozen=True)
class Neighbour:
    """A training image near a failure.

    Attributes
    ----------
    path
        Where it lies, from the data folder.
    cosine
        Between the two images' vectors.
    picture
        None where pictures are left out.
    """

    path: str
    cosine: float
    picture: Thumbnail | None


@dataclass(frozen=True)
class MapPanel:
    """Where in the picture one part of a logit was seen.

    Attributes
    ----------
    class_name
        Of the logit.
    symptom
        None for the class vector.
    picture
        The map over the picture in grey.
    """

    class_name: str
    symptom: str | None
    picture: Thumbnail


@dataclass(frozen=True)
class FailureMaps:
    """The maps of one failure.

    Attributes
    ----------
    what
        What their numbers are, in words; said, because patch similarities add up to nothing.
    panels
        The predicted class's, then the true class's.
    largest
        What the ends of the symptoms' colours stand for: minus this and plus this.
    largest_of_class_vector
        The same of the class vectors', which have a scale of their own; None where there are none.
    """

    what: str
    panels: tuple[MapPanel, ...]
    largest: float
    largest_of_class_vector: float | None


@dataclass(frozen=True)
class Failure:
    """One image that was named wrongly.

    Attributes
    ----------
    path
        Where it lies, from the data folder.
    truth, prediction
        Class names.
    probabilities
        Class name -> probability.
    picture
        None where pictures are left out.
    shares
        What the logits of the predicted and of the true class are made of; empty for methods whose
        logits are no sums over symptoms.
    neighbours
        Class name -> its nearest training images, nearest first; the predicted class, then the true
        one. Empty where there are no training images.
    maps
        Where the symptoms of these two classes were seen; None where nothing can say, or pictures are
        left out.
    """

    path: str
    truth: str
    prediction: str
    probabilities: dict[str, float]
    picture: Thumbnail | None
    shares: tuple[ClassContributions, ...]
    neighbours: dict[str, tuple[Neighbour, ...]]
    maps: FailureMaps | None = None

    @property
    def confidence(self) -> float:
        """Probability of the wrong class that was named."""
        return self.probabilities[self.prediction]


@dataclass(frozen=True)
class Report:
    """All that stands on the page.

    Attributes
    ----------
    facts
        What was trained on what.
    split, data
        What was measured.
    warnings
        What makes the figures doubtful, to be said before them.
    metrics
        On the images measured.
    recorded
        Accuracy, macro-F1 and AUROC that the run recorded of its own test images; None when it has none.
    probabilities, labels
        Of each image, in the order of ``metrics.classes``.
    groups
        Of each image.
    divisions
        Figures by further columns.
    shortcuts
        How well size and brightness alone tell the classes apart; empty when not looked at.
    overview
        Of the symptoms, by class; empty for methods whose logits are no sums over symptoms.
    reliance
        How much rests on the class vectors, which no symptom explains; None for methods without.
    symptom_facts
        (what, value) pairs: who wrote the symptoms, and who reviewed them.
    failures
        The most confident first.
    failures_in_all
        How many there are; `failures` may be fewer.
    neighbours_from
        What the nearest training images were looked for in, or why there are none.
    pictures
        Whether pictures are shown.
    """

    facts: Facts
    split: str
    data: str
    warnings: tuple[str, ...]
    metrics: Metrics
    recorded: dict[str, float] | None
    probabilities: Float[np.ndarray, "image class"]
    labels: Int[np.ndarray, "image"]
    groups: tuple[str, ...]
    divisions: tuple[Division, ...]
    shortcuts: tuple[Shortcut, ...]
    overview: tuple[ClassOverview, ...]
    reliance: Reliance | None
    symptom_facts: tuple[tuple[str, str], ...]
    failures: tuple[Failure, ...]
    failures_in_all: int
    neighbours_from: str
    pictures: bool
