"""Where in the picture each share comes from.

Two kinds, never mixed up, because they are not the same thing:

- ``share``: of a backbone whose image vector is made of means over places (the embedded one). With
  f = (1/P) sum_p f_p, the share of a part splits once more: place p adds <f_p, part> / (P |f|).
  A map sums to the share; all maps of a class, its class vector's included, sum to its logit. Where
  f's numbers come from grids of several sizes, one from each stage of the image tower, each grid has a
  map of its own, and their sum is drawn on one grid between them (`joined`).
- ``patch similarity``: of a vision transformer, whose image vector is no sum over patches. The
  cosine of each patch's own vector with the symptom's. It says what a patch resembles, not what it
  adds to the decision, and its values sum to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from medvip.explanation.logit_parts import LogitParts

if TYPE_CHECKING:
    from medvip.explanation.contributions import ClassContributions

Kind = Literal["share", "patch similarity"]
JOINED_SIDE = 28
"""Rows and columns of the one grid that maps of several sizes are added up on."""

Box = tuple[float, float, float, float]
"""left, top, right, bottom in pixels of the picture."""

WHAT: dict[str, str] = {
    "share": "what each place adds to the logit; sums to the share",
    "patch similarity": "cosine of each patch alone with the symptom; does not sum to the share",
}


@dataclass(frozen=True)
class GridMaps:
    """What the places of one grid add: of each class's symptoms, and of each class vector."""

    symptoms: Float[np.ndarray, "class symptom row column"]
    class_vector: Float[np.ndarray, "class row column"]


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
    grids
        Where these two are sums of maps of several sizes, and those were asked for: they as they are, in
        the order of the image tower's stages. Else empty.
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
    grids: tuple[GridMaps, ...] = ()

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
        content: dict[str, Any] = {
            "kind": self.kind,
            "exact": self.exact,
            "what": WHAT[self.kind],
            "box": list(self.box),
            "picture_size": list(self.picture_size),
            "classes": _by_name(self.symptoms, self.class_vector, classes),
        }
        if self.grids:
            content["grids"] = [_by_name(one.symptoms, one.class_vector, classes) for one in self.grids]
        return content


def share_maps(
    grids: Sequence[Float[Tensor, "image _row _column _width"]], parts: LogitParts
) -> list[
    tuple[Float[Tensor, "image class symptom _row _column"], Float[Tensor, "image class _row _column"]]
]:
    """What each place of each grid adds to each symptom's and each class vector's share.

    Parameters
    ----------
    grids
        Whose means over rows and columns, end to end, are the image's vector.
    parts
        Of the method's logits.
    """
    made, start = [], 0
    for places in parts.units_by_place(grids):
        own = slice(start, start + places.shape[-1])
        made.append(_products(places, parts.symptoms[..., own], parts.class_vector[:, own]))
        start = own.stop
    return made


def similarity_maps(
    places: Float[Tensor, "image row column dim"], parts: LogitParts
) -> tuple[Float[Tensor, "image class symptom row column"], Float[Tensor, "image class row column"]]:
    """Cosine of each place's vector with each symptom and with each class vector."""
    class_vectors = nn.functional.normalize(parts.class_vector, dim=-1)
    return _products(parts.units(places), parts.directions, class_vectors)


def joined(maps: Sequence[Float[Tensor, "*any _row _column"]]) -> Float[Tensor, "*any row column"]:
    """The sum of maps of several sizes on one grid; each keeps its own sum, place by place as far as it can.

    A finer map's places are added up. A coarser one's are spread by bilinear interpolation, whose weights
    for one place add up to the number of places it becomes, at the rim too. A single map stays as it is.

    Parameters
    ----------
    maps
        Square, with sides that divide `JOINED_SIDE` or are multiples of it.

    Examples
    --------
    >>> joined([torch.ones(56, 56), torch.ones(7, 7)]).shape
    torch.Size([28, 28])
    >>> joined([torch.ones(56, 56), torch.ones(7, 7)]).sum().item() == 56 * 56 + 7 * 7
    True
    """
    if len(maps) == 1:
        return maps[0]
    return torch.stack([_resized(one, JOINED_SIDE) for one in maps]).sum(0)


def _resized(numbers: Float[Tensor, "*any row column"], side: int) -> Float[Tensor, "*any side side"]:
    flat = numbers.flatten(0, -3)[:, None] if numbers.ndim > 2 else numbers[None, None]
    own = numbers.shape[-1]
    if own >= side:
        flat = nn.functional.avg_pool2d(flat, own // side, divisor_override=1)
    else:
        size = (side, side)
        flat = nn.functional.interpolate(flat, size, mode="bilinear", align_corners=False) * (own / side) ** 2
    return flat.view(*numbers.shape[:-2], side, side)


def _products(
    places: Float[Tensor, "image row column width"],
    symptoms: Float[Tensor, "class symptom width"],
    class_vector: Float[Tensor, "class width"],
) -> tuple[Float[Tensor, "image class symptom row column"], Float[Tensor, "image class row column"]]:
    of_symptoms = (places @ symptoms.flatten(0, 1).T).unflatten(-1, symptoms.shape[:2])
    of_class_vector = places @ class_vector.T
    return of_symptoms.permute(0, 3, 4, 1, 2).cpu(), of_class_vector.permute(0, 3, 1, 2).cpu()


def _by_name(
    symptoms: Float[np.ndarray, "class symptom row column"],
    class_vector: Float[np.ndarray, "class row column"],
    classes: Sequence[ClassContributions],
) -> dict[str, Any]:
    return {
        one.class_name: {
            "class_vector": _rounded(class_vector[c]),
            "symptoms": [
                {"symptom": share.symptom, "map": _rounded(symptoms[c, i])}
                for i, share in enumerate(one.symptoms)
            ],
        }
        for c, one in enumerate(classes)
    }


def _rounded(numbers: Float[np.ndarray, "row column"]) -> list[list[float]]:
    """Short enough to read; the sum of all stays within 1e-5 of the truth."""
    digits = 8 if numbers.size <= JOINED_SIDE**2 else 9
    return [[round(float(number), digits) for number in row] for row in numbers]
