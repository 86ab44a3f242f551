"""The vectors that a class's logit is a sum of products with: one for each symptom, one for g.

With f the normalised image, every method below gives a class the logit

    <f, p_g + sum_i p_i>,

so a part of the logit belongs to each symptom without remainder. For ViP, with a the merge
prompt's attention, t the encoded symptoms, g the learned class vector, s = g + sum_i a_i t_i and
scale = exp(logit_scale):

    p_i = scale * a_i t_i / |s|,    p_g = scale * g / |s|.

A method whose class similarity is the mean over n symptoms' (zero-shot) has p_i = scale * t_i / (n |t_i|)
and no class vector. `vip-whitened` has a scale of its own for each class, and f is the normalised vector
of rooted numbers (``class_scales`` and ``image_power`` of its state). All in double
precision: the sums are exact to what the image vectors are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from medvip.errors import UsageError
from medvip.methods import Method, ViP
from medvip.methods.vectors import rooted
from medvip.methods.vip_whitened import ViPWhitened

MEANS = ("zero-shot-symptoms", "vip-context-mean")
"""Methods whose class similarity is the mean over its symptoms' similarities."""


@dataclass(frozen=True)
class LogitParts:
    """What an image's unit vector is multiplied with.

    Attributes
    ----------
    classes
        scale * s / |s|: its product with an image's unit vector is the logit. What the method predicts
        by, and not made of the parts below, so that their sum can be held against it.
    symptoms
        p_i of each class's symptoms; zeros where a class has no further symptom.
    class_vector
        p_g of each class; zeros where the method has none.
    attention
        Weight of each symptom in its class; rows sum to 1.
    directions
        t_i at length 1: the product with an image's unit vector is their cosine.
    present
        Where a symptom stands.
    has_class_vector
        Whether the method learns a class vector at all.
    power
        Images are rooted first: sign(x) |x|^power of each number. 1 leaves them as they are.
    """

    classes: Float[Tensor, "class dim"]
    symptoms: Float[Tensor, "class symptom dim"]
    class_vector: Float[Tensor, "class dim"]
    attention: Float[Tensor, "class symptom"]
    directions: Float[Tensor, "class symptom dim"]
    present: Bool[Tensor, "class symptom"]
    has_class_vector: bool = True
    power: float = 1.0

    def logits(self, images: Float[Tensor, "image dim"]) -> Float[Tensor, "image class"]:
        """What the method's probabilities are the softmax of."""
        return self.units(images) @ self.classes.T

    def units(self, images: Float[Tensor, "*place dim"]) -> Float[Tensor, "*place dim"]:
        """Vectors at length 1, in the precision and on the device of the parts."""
        return nn.functional.normalize(rooted(images.to(self.symptoms.device), self.power), dim=-1)

    def units_by_place(
        self, grids: Sequence[Float[Tensor, "image _row _column _width"]]
    ) -> list[Float[Tensor, "image _row _column _width"]]:
        """What each place has of the image's vector at length 1: the grids' sums, end to end, are it.

        A number of the image's vector is the mean over the places of its grid. A rooted one is the number
        times what depends on the image alone, so that it still is a mean over places.
        """
        grids = [grid.to(self.symptoms.device).double() for grid in grids]
        if self.power != 1:
            sizes = [grid.mean((1, 2), keepdim=True).abs() for grid in grids]
            grids = [
                grid * torch.where(size > 0, size ** (self.power - 1), 0)
                for grid, size in zip(grids, sizes, strict=True)
            ]
        lengths = torch.cat([grid.mean((1, 2)) for grid in grids], -1).norm(dim=-1).clamp(min=1e-12)
        return [grid / (grid.shape[1] * grid.shape[2] * lengths[:, None, None, None]) for grid in grids]

    def similarities(self, images: Float[Tensor, "image dim"]) -> Float[Tensor, "image class symptom"]:
        """Cosine of every image with every symptom; 0 where a class has no further symptom."""
        return (self.units(images) @ self.directions.flatten(0, 1).T).unflatten(1, self.present.shape)

    def shares(
        self, images: Float[Tensor, "image dim"]
    ) -> tuple[Float[Tensor, "image class symptom"], Float[Tensor, "image class"]]:
        """What each symptom, and each class vector, adds to the logit of its class."""
        units = self.units(images)
        of_symptoms = (units @ self.symptoms.flatten(0, 1).T).unflatten(1, self.present.shape)
        return of_symptoms, units @ self.class_vector.T


def can_be_explained(method: Method) -> bool:
    """Whether a method's logits are sums over symptoms."""
    return isinstance(method, ViP | ViPWhitened) or method.name in MEANS


def parts_of(method: Method) -> LogitParts:
    """The parts of a fitted method's logits.

    Raises
    ------
    UsageError
        Its logits are no sum over symptoms.
    """
    if not can_be_explained(method):
        raise UsageError(
            f"only runs of the methods vip, vip-whitened, vip-merge, {' and '.join(MEANS)} can be "
            "explained by symptoms, "
            f"and this is {method.name}",
            fix="train one with --method vip and explain that",
        )
    state, scale = method.state(), method.backbone.logit_scale
    if isinstance(method, ViP | ViPWhitened):
        return vip_parts(state, scale)
    return mean_parts(state["symptom_vectors"], state["symptom_present"].bool(), scale)


def vip_parts(state: Mapping[str, Tensor], logit_scale: float) -> LogitParts:
    """From ViP's tensors (`medvip.ViP.state`), or those of `vip-whitened`."""
    vectors, attention = state["symptom_vectors"].double(), state["symptom_attention"].double()
    class_vectors = state["class_vectors"].double()
    scales = state["class_scales"].double() if "class_scales" in state else math.exp(logit_scale)
    factor = (scales / class_vectors.norm(dim=-1))[:, None]
    return LogitParts(
        classes=factor * class_vectors,
        symptoms=(factor * attention)[..., None] * vectors,
        class_vector=factor * state["merge_query"].double(),
        attention=attention,
        directions=nn.functional.normalize(vectors, dim=-1),
        present=vectors.abs().sum(-1) > 0,
        power=float(state.get("image_power", 1.0)),
    )


def mean_parts(
    vectors: Float[Tensor, "class symptom dim"], present: Bool[Tensor, "class symptom"], logit_scale: float
) -> LogitParts:
    """From encoded symptoms whose similarities to the image are averaged."""
    directions = nn.functional.normalize(vectors.double(), dim=-1) * present[..., None]
    attention = present.double() / present.sum(-1, keepdim=True)
    return LogitParts(
        classes=math.exp(logit_scale) * directions.sum(1) / present.sum(-1, keepdim=True),
        symptoms=math.exp(logit_scale) * attention[..., None] * directions,
        class_vector=directions.new_zeros(len(vectors), vectors.shape[-1]),
        attention=attention,
        directions=directions,
        present=present,
        has_class_vector=False,
    )
