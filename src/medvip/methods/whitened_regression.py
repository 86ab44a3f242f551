"""Multinomial regression with a penalty in the covariance of the images, and weights of symptoms.

Image vectors f_i [dim] of length 1 with labels y_i and C classes; a class c has symptom vectors t_cj.
Learned are a class vector g_c [dim] and a weight b_cj >= b_min of each symptom:

    w_c = g_c + sum_j b_cj t_cj                            logits f^T w_c, no bias

    minimise  sum_i v_i CE(softmax_c(f_i^T w_c), y_i)
              + (penalty V / 2) sum_c (g_c^T M g_c + symptom_penalty sum_j b_cj^2)

    M   = (D S / trace(S) + shrinkage I) / (1 + shrinkage)    S: covariance about the class means, D: dim
    V   = mean squared distance of the images to their mean
    v_i = proportional to (images of class y_i)^-balance, with mean 1

Directions in which the images of one class differ much are dear, as in Gaussian discriminant analysis
(whose W is S^-1 mu) and unlike in a linear probe (M = I). The objective is convex in (g, b) and strictly
so in g: there is one solution and nothing to draw at random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

LEAST_WEIGHT = 0.01
"""b_min: every symptom keeps a little, so that weights can be divided by their sum."""
MAX_ITERATIONS = 200


@dataclass(frozen=True)
class Strengths:
    """``shrinkage``, ``penalty``, ``balance`` and ``symptom_penalty`` of the equations above."""

    shrinkage: float
    penalty: float
    balance: float
    symptom_penalty: float


@dataclass(frozen=True)
class Solution:
    """Class vectors g, symptom weights b [text] of all classes in a row, and the objective there."""

    vectors: Float[np.ndarray, "class dim"]
    weights: Float[np.ndarray, " text"]
    objective: float


class WhitenedRegression:
    """The problem for some images: their span, their covariance, and where the last solution was.

    g lies in the span of the images (M maps the span onto itself and all else costs without gaining),
    so that it is sought among as many numbers as there are images, at most.

    Parameters
    ----------
    images
        Of length 1; a picture's views one behind the other.
    labels
        Class of each.
    owners
        Class of each symptom.
    strengths
        Of the penalties.
    views
        How many rows each picture has. Each counts as one part of it.
    """

    def __init__(
        self,
        images: Float[np.ndarray, "image dim"],
        labels: Int[np.ndarray, " image"],
        owners: Int[np.ndarray, " text"],
        strengths: Strengths,
        views: int = 1,
    ) -> None:
        classes = int(owners.max()) + 1
        self._images, self._owners = images, owners
        self._targets, self._of_class = np.eye(classes)[labels], np.eye(classes)[owners]
        counts = self._targets.sum(0)
        wanted = (counts**-strengths.balance)[labels]
        self._rows = wanted * len(labels) / wanted.sum() / views
        self._span = span(images)
        coordinates = images @ self._span
        spread = float(((coordinates - coordinates.mean(0)) ** 2).sum(1).mean())
        means = (self._targets / counts).T @ coordinates
        metric = shrunk(coordinates - means[labels], len(labels) - classes, images.shape[1], strengths)
        self._whiten = inverse_root(metric)
        self._whitened = coordinates @ self._whiten
        self._cost = strengths.penalty * max(spread, np.finfo(float).tiny)
        self._symptom_cost = self._cost * strengths.symptom_penalty
        self._position = np.zeros(classes * self._span.shape[1] + len(owners))
        self._position[len(self._position) - len(owners) :] = LEAST_WEIGHT

    def solve(self, symptoms: Float[np.ndarray, "text dim"], iterations: int = MAX_ITERATIONS) -> Solution:
        """From where the last call ended, by L-BFGS-B.

        Parameters
        ----------
        symptoms
            Of length 1, in the order of `owners`.
        iterations
            At most so many.
        """
        from scipy.optimize import minimize

        similarity = self._images @ symptoms.T
        free = self._targets.shape[1] * self._whitened.shape[1]
        found = minimize(
            self._objective,
            self._position,
            (similarity,),
            method="L-BFGS-B",
            jac=True,
            bounds=[(None, None)] * free + [(LEAST_WEIGHT, None)] * len(self._owners),
            options={"maxiter": iterations},
        )
        self._position = found.x
        vectors, weights = self._parts(found.x)
        return Solution(vectors @ self._whiten.T @ self._span.T, weights, float(found.fun))

    def slope(self, symptoms: Float[np.ndarray, "text dim"]) -> Float[np.ndarray, "text dim"]:
        """Derivative of the objective by the symptoms' vectors, at the last solution's g and b."""
        _, weights = self._parts(self._position)
        error = self._errors(self._position, self._images @ symptoms.T)[1]
        return weights[:, None] * ((error @ self._of_class.T).T @ self._images)

    def _objective(
        self, position: Float[np.ndarray, " number"], similarity: Float[np.ndarray, "image text"]
    ) -> tuple[float, Float[np.ndarray, " number"]]:
        vectors, weights = self._parts(position)
        loss, error = self._errors(position, similarity)
        loss += self._cost / 2 * float((vectors**2).sum())
        loss += self._symptom_cost / 2 * float((weights**2).sum())
        by_vectors = error.T @ self._whitened + self._cost * vectors
        by_weights = (similarity * (error @ self._of_class.T)).sum(0) + self._symptom_cost * weights
        return loss, np.concatenate([by_vectors.ravel(), by_weights])

    def _errors(
        self, position: Float[np.ndarray, " number"], similarity: Float[np.ndarray, "image text"]
    ) -> tuple[float, Float[np.ndarray, "image class"]]:
        """The weighted cross-entropy, and its derivative by the logits."""
        vectors, weights = self._parts(position)
        logits = self._whitened @ vectors.T + (similarity * weights) @ self._of_class
        logits -= logits.max(1, keepdims=True)
        exponentials = np.exp(logits)
        sums = exponentials.sum(1, keepdims=True)
        loss = float((self._rows * (np.log(sums[:, 0]) - (logits * self._targets).sum(1))).sum())
        return loss, (exponentials / sums - self._targets) * self._rows[:, None]

    def _parts(
        self, position: Float[np.ndarray, " number"]
    ) -> tuple[Float[np.ndarray, "class direction"], Float[np.ndarray, " text"]]:
        """Class vectors in whitened coordinates, and the symptoms' weights."""
        free = len(position) - len(self._owners)
        return position[:free].reshape(self._targets.shape[1], -1), position[free:]


def span(images: Float[np.ndarray, "image dim"]) -> Float[np.ndarray, "dim direction"]:
    """An orthonormal basis of the images' span, by the smaller of their two Gram matrices.

    Examples
    --------
    >>> abs(span(np.array([[0.6, 0.8, 0.0]])).T).round(6)
    array([[0.6, 0.8, 0. ]])
    """
    few = len(images) < images.shape[1]
    values, directions = np.linalg.eigh(images @ images.T if few else images.T @ images)
    kept = values > 1e-10 * values[-1]
    values, directions = values[kept], directions[:, kept]
    return images.T @ directions / np.sqrt(values) if few else directions


def shrunk(
    centred: Float[np.ndarray, "image direction"], freedom: int, dim: int, strengths: Strengths
) -> Float[np.ndarray, "direction direction"]:
    """M in the span; the identity where no class has two different images."""
    identity, scatter = np.eye(centred.shape[1]), centred.T @ centred
    if freedom < 1 or np.trace(scatter) < np.finfo(float).eps:
        return identity
    return (dim * scatter / np.trace(scatter) + strengths.shrinkage * identity) / (1 + strengths.shrinkage)


def inverse_root(matrix: Float[np.ndarray, "row row"]) -> Float[np.ndarray, "row row"]:
    """The symmetric A with A matrix A = I.

    Examples
    --------
    >>> inverse_root(np.diag([4.0, 1.0])).tolist()
    [[0.5, 0.0], [0.0, 1.0]]
    """
    values, directions = np.linalg.eigh(matrix)
    return directions / np.sqrt(values) @ directions.T
