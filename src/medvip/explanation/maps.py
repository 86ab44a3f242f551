"""Where in the picture each share comes from.

Two kinds, never mixed up, because they are not the same thing:

- ``share``: of a backbone whose image vector is the mean over its places (the embedded one). With
  f = (1/P) sum_p f_p, the share of a part splits once more: place p adds <f_p, part> / (P |f|).
  A map sums to the share; all maps of a class, its class vector's included, sum to its logit.
- ``patch similarity``: of a vision transformer, whose image vector is no sum over patches. The
  cosine of each patch's own vector with the symptom's. It says what a patch resembles, not what it
  adds to the decision, and its values sum to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from medvip.explanation.logit_parts import LogitParts

if TYPE_CHECKING:
    from medvip.explanation.contributions import ClassContributions

Kind = Literal["share", "patch similarity"]
Box = tuple[float, float, float, float]
"""left, top, right, bottom in pixels of the picture."""

WHAT: dict[str, str] = {
    "share": "what each place adds to the logit; sums to the share",
    "patch similarity": "cosine of each patch alone with the symptom; does not sum to the share",
}


@dataclass(frozen=True)
class SymptomMaps:
    """The maps of one picture.

    Attributes
    ----------
    kind
        ``"share"``: in units of the logit, exact. ``"patch similarity"``: cosines, not exact.
    symptoms
        Of each class's symptoms; zeros where a class has no further symptom.
    class_vector
        Of each class vector; zeros for a method without one.
    box
        The part of the picture that the maps cover: what the backbone saw of it. It ends at a
        picture's edge or inside; where a preprocessor pads small pictures, beyond it.
    picture_size
        Width and height of the picture in pixels.
    """

    kind: Kind
    symptoms: Float[np.ndarray, "class symptom row column"]
    class_vector: Float[np.ndarray, "class row column"]
    box: Box
    picture_size: tuple[int, int]

    @property
    def exact(self) -> bool:
        """Whether a map sums to its share."""
        return self.kind == "share"

    @property
    def classes(self) -> Float[np.ndarray, "class row column"]:
        """What each place adds to each class's logit. Of exact maps only.

        Raises
        ------
        ValueError
            The maps are patch similarities, which do not add up.
        """
        if not self.exact:
            raise ValueError("patch similarities do not add up to a class's logit")
        return self.class_vector + self.symptoms.sum(1)

    def to_json(self, classes: Sequence[ClassContributions]) -> dict[str, Any]:
        """Plain JSON values, by the names of classes and symptoms; rows from the top."""
        return {
            "kind": self.kind,
            "exact": self.exact,
            "what": WHAT[self.kind],
            "box": list(self.box),
            "picture_size": list(self.picture_size),
            "classes": {
                one.class_name: {
                    "class_vector": _rounded(self.class_vector[c]),
                    "symptoms": [
                        {"symptom": share.symptom, "map": _rounded(self.symptoms[c, i])}
                        for i, share in enumerate(one.symptoms)
                    ],
                }
                for c, one in enumerate(classes)
            },
        }


def share_maps(
    places: Float[Tensor, "image row column dim"], parts: LogitParts
) -> tuple[Float[np.ndarray, "image class symptom row column"], Float[np.ndarray, "image class row column"]]:
    """What each place adds to each symptom's and each class vector's share.

    Parameters
    ----------
    places
        Whose mean over rows and columns is the image's vector.
    parts
        Of the method's logits.
    """
    return _products(parts.units_by_place(places), parts.symptoms, parts.class_vector)


def similarity_maps(
    places: Float[Tensor, "image row column dim"], parts: LogitParts
) -> tuple[Float[np.ndarray, "image class symptom row column"], Float[np.ndarray, "image class row column"]]:
    """Cosine of each place's vector with each symptom and with each class vector."""
    class_vectors = nn.functional.normalize(parts.class_vector, dim=-1)
    return _products(parts.units(places), parts.directions, class_vectors)


def _products(
    places: Float[Tensor, "image row column dim"],
    symptoms: Float[Tensor, "class symptom dim"],
    class_vector: Float[Tensor, "class dim"],
) -> tuple[Float[np.ndarray, "image class symptom row column"], Float[np.ndarray, "image class row column"]]:
    of_symptoms = (places @ symptoms.flatten(0, 1).T).unflatten(-1, symptoms.shape[:2])
    of_class_vector = places @ class_vector.T
    return of_symptoms.permute(0, 3, 4, 1, 2).cpu().numpy(), of_class_vector.permute(0, 3, 1, 2).cpu().numpy()


def _rounded(numbers: Float[np.ndarray, "row column"]) -> list[list[float]]:
    """Short enough to read, and 1e-8 of a logit from the truth."""
    return [[round(float(number), 8) for number in row] for row in numbers]
