"""How much of a run's decisions rests on the class vectors, which no symptom explains.

Two questions, and both are asked, because either alone can mislead:

- *What gives the lead?* Of each image the lead of the predicted class over the runner-up splits into
  a symptom part and a class-vector part (`Decision`). `part_of_lead` is the ratio of their sums
  over the images. A class vector that adds the same to every image counts here like any other.
- *What tells images apart?* A part that is the same for all images tells none apart. With l the logits of
  an image less their mean over its classes, split into l = u + v (u symptoms, v class vectors), the
  variance of l over images splits into the covariances with u and with v:
  `part_of_spread` = sum_c Cov(l_c, v_c) / sum_c Var(l_c).

And a third that needs no formula: how often would the symptoms alone name another class, and how often
would that be right?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from medvip.evaluation.bootstrap import group_codes, group_weights, percentile_interval
from medvip.evaluation.metrics import Estimate
from medvip.explanation.logit_parts import LogitParts

RESAMPLES = 1000
SEED = 1


@dataclass(frozen=True)
class Reliance:
    """Over a table of images, each figure with a 95 % bootstrap interval over groups.

    Attributes
    ----------
    images, groups
        How many stand behind the figures.
    part_of_lead
        Share of the leads over the runners-up that the class vectors have; see the module. Above 1
        when the symptoms speak against the predictions taken together.
    part_of_spread
        Share of what tells the images apart that the class vectors have.
    same_by_symptoms
        Share of the images for which the symptoms alone name the same class.
    accuracy, accuracy_of_symptoms, accuracy_of_class_vectors
        Of the logits as they are, of the symptoms' part alone, of the class vectors' alone.
        None where the true classes were not given.
    """

    images: int
    groups: int
    part_of_lead: Estimate
    part_of_spread: Estimate
    same_by_symptoms: Estimate
    accuracy: Estimate | None
    accuracy_of_symptoms: Estimate | None
    accuracy_of_class_vectors: Estimate | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; what is undefined is None."""
        return {
            name: getattr(self, name).to_json() if isinstance(value, dict) else value
            for name, value in asdict(self).items()
        }

    def in_words(self) -> str:
        """Plain sentences for a reader who has not seen a formula."""
        lead, spread, same = self.part_of_lead, self.part_of_spread, self.same_by_symptoms
        said = [
            f"Over {self.images} images the class vectors, which no symptom explains, give {_per_cent(lead)} "
            f"of the predicted class's lead and {_per_cent(spread)} of what tells the images apart.",
            f"By symptoms alone {_per_cent(same)} of the images would get the same class.",
        ]
        if self.accuracy and self.accuracy_of_symptoms and self.accuracy_of_class_vectors:
            said.append(
                f"Right are {_per_cent(self.accuracy)} as it is, {_per_cent(self.accuracy_of_symptoms)} by "
                f"symptoms alone, {_per_cent(self.accuracy_of_class_vectors)} by class vectors alone."
            )
        return " ".join(said)


def reliance(
    images: Float[Tensor, "image dim"],
    parts: LogitParts,
    labels: Int[np.ndarray, "image"] | None = None,
    groups: Sequence[str | None] | None = None,
) -> Reliance:
    """How much of the decisions on these images rests on the class vectors.

    Parameters
    ----------
    images
        As the backbone gives them; at least one.
    parts
        Of the method's logits.
    labels
        True class of each image, as a position among the parts' classes.
    groups
        Patient of each image, for the intervals.
    """
    of_each, of_class_vector = (numbers.cpu().numpy() for numbers in parts.shares(images))
    of_symptoms = of_each.sum(-1)
    logits = of_symptoms + of_class_vector
    codes = group_codes(groups, len(logits))
    weights = group_weights(codes, RESAMPLES, np.random.default_rng(SEED))
    weights = np.concatenate([np.ones((1, len(logits))), weights])

    def estimate(figure: Float[np.ndarray, "resample"]) -> Estimate:
        resampled = figure[1:] if codes.max() > 0 else figure[:0]
        return percentile_interval(float(figure[0]), resampled)

    def share_of(true: np.ndarray) -> Estimate:
        return estimate(weights @ true / weights.sum(1))

    ranked = logits.argsort(1)
    rows, first, second = np.arange(len(logits)), ranked[:, -1], ranked[:, -2]
    lead = logits[rows, first] - logits[rows, second]
    from_class_vector = of_class_vector[rows, first] - of_class_vector[rows, second]

    def accuracy(scores: np.ndarray) -> Estimate | None:
        return None if labels is None else share_of(scores.argmax(1) == labels)

    return Reliance(
        images=len(logits),
        groups=int(codes.max()) + 1,
        part_of_lead=estimate(_ratio(weights @ from_class_vector, weights @ lead)),
        part_of_spread=estimate(_part_of_spread(logits, of_class_vector, weights)),
        same_by_symptoms=share_of(of_symptoms.argmax(1) == first),
        accuracy=accuracy(logits),
        accuracy_of_symptoms=accuracy(of_symptoms),
        accuracy_of_class_vectors=accuracy(of_class_vector),
    )


def _part_of_spread(
    logits: Float[np.ndarray, "image class"],
    part: Float[np.ndarray, "image class"],
    weights: Float[np.ndarray, "resample image"],
) -> Float[np.ndarray, "resample"]:
    """sum_c Cov(l_c, v_c) / sum_c Var(l_c), both less their mean over the classes of each image."""
    whole, some = (numbers - numbers.mean(1, keepdims=True) for numbers in (logits, part))
    total = weights.sum(1, keepdims=True)

    def covariance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        means = (weights @ one / total) * (weights @ other / total)
        return (weights @ (one * other) / total - means).sum(1)

    return _ratio(covariance(whole, some), covariance(whole, whole))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """NaN where there is nothing to divide."""
    enough = below > 1e-12
    return np.where(enough, above / np.where(enough, below, 1), np.nan)


def _per_cent(estimate: Estimate) -> str:
    if np.isnan(estimate.value):
        return "an undefined share"
    if np.isnan(estimate.low):
        return f"{100 * estimate.value:.0f} %"
    return f"{100 * estimate.value:.0f} % [{100 * estimate.low:.0f}, {100 * estimate.high:.0f}]"
