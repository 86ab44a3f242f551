"""A class's logit split without remainder into a share of each symptom and one of the class vector.

The share of a part p is <f, p>, see `medvip.explanation.logit_parts`. What decides between two
classes splits in the same way, see `Decision`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from medvip.explanation.logit_parts import LogitParts
from medvip.explanation.maps import SymptomMaps
from medvip.explanation.percentiles import SimilarityQuantiles


@dataclass(frozen=True)
class SymptomShare:
    """What one symptom adds to its class's logit.

    Attributes
    ----------
    symptom
        In plain words.
    share
        Added to the logit; negative when the image speaks against it.
    attention
        The merge prompt's weight, in [0, 1]; a class's sum to 1.
    similarity
        Cosine between the image and the symptom alone, in [-1, 1].
    percentile
        Per cent of the training images whose similarity is lower; None where the run does not
        know (too few training images, or a run from before this was kept).
    """

    symptom: str
    share: float
    attention: float
    similarity: float
    percentile: float | None = None


@dataclass(frozen=True)
class ClassContributions:
    """The logit of one class: `class_vector` + the symptoms' shares = `logit`.

    Attributes
    ----------
    class_name, logit
        The class, and exp(logit_scale) times its cosine similarity to the image.
    class_vector
        The share of the learned class vector g, which no symptom explains; 0 for methods
        without one.
    symptoms
        In the order of the symptom file.
    """

    class_name: str
    logit: float
    class_vector: float
    symptoms: tuple[SymptomShare, ...]

    @property
    def of_symptoms(self) -> float:
        """The symptoms' shares together."""
        return sum(share.share for share in self.symptoms)


@dataclass(frozen=True)
class Decision:
    """Why the predicted class and not the runner-up: their logits' difference, split in two.

    Attributes
    ----------
    prediction, runner_up
        The classes with the largest and second largest logit.
    margin
        Logit of the prediction less that of the runner-up; not negative.
        `from_symptoms` + `from_class_vector` = `margin`.
    from_symptoms
        The prediction's symptom shares less the runner-up's.
    from_class_vector
        The same of the class vectors, which no symptom explains.
    symptoms_alone
        The class that the symptoms' shares alone would name.
    """

    prediction: str
    runner_up: str
    margin: float
    from_symptoms: float
    from_class_vector: float
    symptoms_alone: str

    @property
    def class_vector_part(self) -> float | None:
        """`from_class_vector` / `margin`; None of a tie.

        Above 1 when the symptoms speak for the runner-up and the class vector outvotes them; below
        0 when it is the other way round.
        """
        return None if self.margin == 0 else self.from_class_vector / self.margin

    def in_words(self) -> str:
        """One plain sentence."""
        margin = f"{self.prediction} leads {self.runner_up} by {self.margin:.2f} (difference of logits): "
        parts = (
            f"{self.from_symptoms:+.2f} from symptoms, {self.from_class_vector:+.2f} from the class vector"
        )
        if self.symptoms_alone != self.prediction:
            return f"{margin}{parts}. By symptoms alone it would be {self.symptoms_alone}."
        if self.from_class_vector == 0:
            return f"{margin}all of it from symptoms."
        part = self.class_vector_part
        if part is None or part <= 0:
            return f"{margin}{parts}, which speaks against it."
        if part > 1:
            return f"{margin}{parts}; against this runner-up the symptoms speak for the latter."
        return f"{margin}{parts}, which no symptom explains ({100 * part:.0f} %)."


@dataclass(frozen=True)
class Explanation:
    """One image: what is predicted, how sure, what each class's logit is made of, and where it was seen.

    Attributes
    ----------
    path, prediction, probabilities
        As in a prediction.
    classes
        In the order of the run's classes.
    maps
        Where each share comes from; None where not asked for.
    """

    path: str
    prediction: str
    probabilities: dict[str, float]
    classes: tuple[ClassContributions, ...]
    maps: SymptomMaps | None = field(default=None, compare=False)

    @property
    def confidence(self) -> float:
        """Probability of the predicted class."""
        return self.probabilities[self.prediction]

    @property
    def decision(self) -> Decision:
        """How the lead over the runner-up splits."""
        return decision(self.classes)

    def of_class(self, name: str) -> ClassContributions:
        """The contributions of one class, by name."""
        return next(one for one in self.classes if one.class_name == name)

    def to_json(self) -> dict[str, Any]:
        """The same, as plain JSON values."""
        decided = self.decision
        return {
            "path": self.path,
            "prediction": self.prediction,
            "probabilities": self.probabilities,
            "classes": [asdict(one) for one in self.classes],
            "decision": {**asdict(decided), "class_vector_part": decided.class_vector_part},
            "maps": self.maps and self.maps.to_json(self.classes),
        }


def decision(classes: Sequence[ClassContributions]) -> Decision:
    """How the lead of the class with the largest logit over the second splits.

    Examples
    --------
    >>> nevus = ClassContributions("nevus", 3.0, 1.0, (SymptomShare("one color", 2.0, 1.0, 0.1),))
    >>> melanoma = ClassContributions("melanoma", 1.0, 0.5, (SymptomShare("ragged", 0.5, 1.0, 0.05),))
    >>> decision([melanoma, nevus]).in_words()
    'nevus leads melanoma by 2.00 (difference of logits): +1.50 from symptoms, +0.50 from the class \
vector, which no symptom explains (25 %).'
    """
    first, second = sorted(classes, key=lambda one: -one.logit)[:2]
    return Decision(
        first.class_name,
        second.class_name,
        margin=first.logit - second.logit,
        from_symptoms=first.of_symptoms - second.of_symptoms,
        from_class_vector=first.class_vector - second.class_vector,
        symptoms_alone=max(classes, key=lambda one: one.of_symptoms).class_name,
    )


def contributions(
    images: Float[Tensor, "image dim"],
    parts: LogitParts,
    classes: tuple[str, ...],
    symptoms: tuple[tuple[str, ...], ...],
    seen: SimilarityQuantiles | None = None,
) -> list[tuple[ClassContributions, ...]]:
    """Shares for each image and each class.

    Parameters
    ----------
    images
        As the backbone gives them; their length does not matter.
    parts
        Of the method's logits.
    classes, symptoms
        Class names, and each one's symptoms, in the order of the tensors.
    seen
        Quantiles over training images, for the percentiles.
    """
    shares, of_class_vector = (numbers.cpu().tolist() for numbers in parts.shares(images))
    similarities = parts.similarities(images)
    percentiles = None if seen is None else seen.percentiles(similarities).tolist()
    cosines, attention = similarities.cpu().tolist(), parts.attention.cpu().tolist()
    logits = parts.logits(images).cpu().tolist()
    return [
        tuple(
            ClassContributions(
                class_name=name,
                logit=logits[image][c],
                class_vector=of_class_vector[image][c],
                symptoms=tuple(
                    SymptomShare(
                        text,
                        shares[image][c][i],
                        attention[c][i],
                        cosines[image][c][i],
                        None if percentiles is None else percentiles[image][c][i],
                    )
                    for i, text in enumerate(symptoms[c])
                ),
            )
            for c, name in enumerate(classes)
        )
        for image in range(len(images))
    ]
