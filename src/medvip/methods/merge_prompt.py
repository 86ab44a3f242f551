"""The merge prompt: one vector of each class from its symptoms, by attention; gradients in closed form.

From the encoded symptoms T [symptom, dim] of a class and its learned vector g [dim],

    s = g + a T,    a = softmax(z / sqrt(dim)),    z = q K^T,    q = g W_q,    K = T W_k.

With s' the gradient by s, those by the others are

    a' = s' T^T,      z' = a (a' - a a'^T) / sqrt(dim),
    q' = z' K,        K' = z'^T q,
    g' = s' + q' W_q^T,    T' = a^T s' + K' W_k^T,    W_q' = g^T q',    W_k' = T^T K'.

A linear layer's weight is W_q or W_k turned.

A training step here is so small that autograd's bookkeeping would take longer than its arithmetic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from medvip.training import FewRows, add_gradient

INITIAL_STD = 0.02
"""Of context and class vectors (reference code)."""


class MergePrompt(nn.Module):
    """One vector a class from its symptoms, by attention.

    Sized by the width of the joint space, which symptoms and images share; a text tower's own
    width may differ. W_q and W_k are shared by all classes. There is no value projection.
    """

    def __init__(self, classes: int, dim: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(classes, dim))
        self.query_projection, self.key_projection = FewRows(dim, dim), FewRows(dim, dim)
        nn.init.normal_(self.query, std=INITIAL_STD, generator=generator)
        nn.init.xavier_normal_(self.query_projection.weight, generator=generator)
        nn.init.xavier_normal_(self.key_projection.weight, generator=generator)

    def attention(
        self, symptoms: Float[Tensor, "class symptom dim"], present: Bool[Tensor, "class symptom"]
    ) -> Float[Tensor, "class symptom"]:
        """Weight of each symptom in its class; rows sum to 1, absent symptoms have 0."""
        return _weights(self.query_projection(self.query), self.key_projection(symptoms), present)

    def forward(
        self, symptoms: Float[Tensor, "class symptom dim"], present: Bool[Tensor, "class symptom"]
    ) -> Float[Tensor, "class dim"]:
        """The representative vector s of each class."""
        return self.query + _mixed(self.attention(symptoms, present), symptoms)

    @torch.no_grad()
    def merged(
        self, symptoms: Float[Tensor, "class symptom dim"], present: Bool[Tensor, "class symptom"]
    ) -> Merged:
        """The class vectors, and what `Merged.back` needs; go back before the next step, which changes it."""
        query_rows, key_rows = self.query_projection.rows(self.query), self.key_projection.rows(symptoms)
        queries = self.query_projection.product(query_rows)
        keys = self.key_projection.product(key_rows).view_as(symptoms)
        weights = _weights(queries, keys, present)
        class_vectors = self.query + _mixed(weights, symptoms)
        return Merged(class_vectors, self, symptoms, query_rows, key_rows, queries, keys, weights)


@dataclass(frozen=True)
class Merged:
    """The class vectors of one step, and what their way back needs.

    Attributes
    ----------
    class_vectors
        s.
    merge_prompt, symptoms
        Whose they are, and T.
    query_rows, key_rows
        g and T as rows.
    queries, keys, weights
        q, K and a.
    """

    class_vectors: Float[Tensor, "class dim"]
    merge_prompt: MergePrompt
    symptoms: Float[Tensor, "class symptom dim"]
    query_rows: Float[Tensor, "class dim"]
    key_rows: Float[Tensor, "class_symptom dim"]
    queries: Float[Tensor, "class dim"]
    keys: Float[Tensor, "class symptom dim"]
    weights: Float[Tensor, "class symptom"]

    @torch.no_grad()
    def back(
        self, gradient: Float[Tensor, "class dim"], *, to_symptoms: bool
    ) -> Float[Tensor, "class symptom dim"] | None:
        """Leave gradients in the merge prompt, from that by the class vectors; give T' where it is wanted."""
        merge = self.merge_prompt
        by_weights = _scores(gradient, self.symptoms)
        by_scores = self.weights * (by_weights - (self.weights * by_weights).sum(-1, keepdim=True))
        by_scores /= math.sqrt(gradient.shape[1])
        by_queries, by_keys = _mixed(by_scores, self.keys), by_scores[..., None] * self.queries[:, None]
        by_keys = by_keys.flatten(0, 1)
        merge.query_projection.learn(by_queries, self.query_rows)
        merge.key_projection.learn(by_keys, self.key_rows)
        by_query = gradient + merge.query_projection.back(by_queries)
        add_gradient(merge.query, by_query)
        if not to_symptoms:
            return None
        back = merge.key_projection.back(by_keys).view_as(self.symptoms)
        return back.addcmul_(self.weights[..., None], gradient[:, None])


def cross_entropy_of_cosines(
    images: Float[Tensor, "image dim"],
    labels: Int[Tensor, " image"],
    class_vectors: Float[Tensor, "class dim"],
    scale: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, "class dim"]]:
    """Mean cross-entropy of the logits `scale` cos(image, class vector), and its gradient by these vectors.

    Examples
    --------
    >>> images, classes = torch.eye(2), torch.tensor([[3.0, 0.0], [0.0, 5.0]])
    >>> loss, gradient = cross_entropy_of_cosines(images, torch.tensor([0, 1]), classes, 1.0)
    >>> round(loss.item(), 4)  # log(1 + exp(-1))
    0.3133
    >>> gradient[0, 0].item(), gradient[0, 1].item() > 0  # a class vector's length changes nothing
    (0.0, True)
    """
    images, labels = images.to(class_vectors.device), labels.to(class_vectors.device)
    image_lengths = images.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    lengths = class_vectors.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    directions = class_vectors / lengths
    logarithms = (images @ directions.T * (scale / image_lengths)).log_softmax(-1)
    loss = nn.functional.nll_loss(logarithms, labels)
    by_logits = logarithms.exp()
    by_logits[torch.arange(len(labels), device=labels.device), labels] -= 1
    by_directions = (by_logits * (scale / len(labels) / image_lengths)).T @ images
    along = (by_directions * directions).sum(-1, keepdim=True)
    return loss, (by_directions - along * directions) / lengths


def _weights(
    queries: Float[Tensor, "class dim"],
    keys: Float[Tensor, "class symptom dim"],
    present: Bool[Tensor, "class symptom"],
) -> Float[Tensor, "class symptom"]:
    """softmax(q K^T / sqrt(dim)) over the symptoms that are there."""
    scores = _scores(queries, keys) / math.sqrt(queries.shape[1])
    return scores.masked_fill(~present, -torch.inf).softmax(-1)


def _scores(
    vectors: Float[Tensor, "class dim"], others: Float[Tensor, "class symptom dim"]
) -> Float[Tensor, "class symptom"]:
    """Scalar products of a class's vector with each of its others."""
    return (others @ vectors[..., None]).squeeze(-1)


def _mixed(
    weights: Float[Tensor, "class symptom"], vectors: Float[Tensor, "class symptom dim"]
) -> Float[Tensor, "class dim"]:
    """The weighted sum of each class's vectors."""
    return (weights[:, None] @ vectors).squeeze(1)
