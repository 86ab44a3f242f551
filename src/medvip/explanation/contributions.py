"""ViP's logit split without remainder into a share of each symptom and one of the class vector.

With f the normalised image, the logit of a class is

    scale * <f, g + sum_i a_i t_i> / |s|  =  scale * <f, g> / |s|  +  sum_i scale * a_i <f, t_i> / |s|,

where a is the merge prompt's attention, t the encoded symptoms, g the class vector and s the
representative vector of the class. `vip-whitened` has a scale of its own for each class, and f is
the normalised vector of rooted numbers (``class_scales``, ``image_origin`` and ``image_power`` of its state).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from medvip.errors import UsageError
from medvip.methods.vectors import rooted


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
    """

    symptom: str
    share: float
    attention: float
    similarity: float


@dataclass(frozen=True)
class ClassContributions:
    """The logit of one class: `class_vector` + the symptoms' shares = `logit`.

    Attributes
    ----------
    class_name, logit
        The class, and exp(logit_scale) times its cosine similarity to the image.
    class_vector
        The share of the learned class vector g, which no symptom explains.
    symptoms
        In the order of the symptom file.
    """

    class_name: str
    logit: float
    class_vector: float
    symptoms: tuple[SymptomShare, ...]


@dataclass(frozen=True)
class Explanation:
    """One image: what is predicted, how sure, and what each class's logit is made of."""

    path: str
    prediction: str
    probabilities: dict[str, float]
    classes: tuple[ClassContributions, ...]

    def to_json(self) -> dict[str, Any]:
        """The same, as plain JSON values."""
        return asdict(self)


def contributions(
    images: Float[Tensor, "image dim"],
    state: Mapping[str, Tensor],
    logit_scale: float,
    classes: tuple[str, ...],
    symptoms: tuple[tuple[str, ...], ...],
) -> list[tuple[ClassContributions, ...]]:
    """Shares for each image and each class, from what `ViP.state` gives.

    Parameters
    ----------
    images
        As the backbone gives them.
    state
        With ``merge_query``, ``symptom_vectors``, ``symptom_attention`` and ``class_vectors``; with
        ``class_scales``, ``image_origin`` and ``image_power`` where the method has its own.
    logit_scale
        Of the backbone; not used where there are ``class_scales``.
    classes, symptoms
        Class names, and each one's symptoms, in the order of the tensors.

    Raises
    ------
    UsageError
        `state` is not that of a ViP.
    """
    if "symptom_attention" not in state:
        raise UsageError(
            "only runs of the method vip can be explained, and of vip-whitened",
            fix="train one with --method vip and explain that",
        )
    attention, vectors = state["symptom_attention"].double(), state["symptom_vectors"].double()
    pixels = images.to(vectors.device).double()
    if "image_power" in state:
        pixels = rooted(pixels, state["image_origin"], state["image_power"])
    pixels = nn.functional.normalize(pixels, dim=-1)
    lengths = state["class_vectors"].double().norm(dim=-1)
    scales = state["class_scales"].double() if "class_scales" in state else math.exp(logit_scale)
    factor = scales / lengths
    products = (pixels @ vectors.flatten(0, 1).T).unflatten(1, attention.shape)
    shares = factor[:, None] * attention * products
    similarities = products / vectors.norm(dim=-1).clamp(min=1e-12)
    of_class_vector = factor * (pixels @ state["merge_query"].double().T)
    logits = scales * (pixels @ (state["class_vectors"].double() / lengths[:, None]).T)
    return [
        tuple(
            ClassContributions(
                class_name=name,
                logit=float(logits[image, c]),
                class_vector=float(of_class_vector[image, c]),
                symptoms=tuple(
                    SymptomShare(
                        text,
                        float(shares[image, c, i]),
                        float(attention[c, i]),
                        float(similarities[image, c, i]),
                    )
                    for i, text in enumerate(symptoms[c])
                ),
            )
            for c, name in enumerate(classes)
        )
        for image in range(len(pixels))
    ]
