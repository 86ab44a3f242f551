"""LP++: a linear probe whose class weights are image prototypes plus learned shares of the text.

Huang et al., *LP++: A Surprisingly Strong Linear Probe for Few-Shot CLIP* (CVPR 2024, arXiv
2404.02285). With image vectors f and text vectors t of length 1, the logit of class k is

    l_k = f^T (w_k + alpha_k t_k) + b_k,

and cross-entropy over all N training images at once is minimised by steps whose sizes follow from
the data (from approximate Lipschitz constants of the gradient, their Prop. 2 and Eq. 13):

- w_k starts as the sum of the class's image vectors; step 4 N / (largest eigenvalue of F^T F), with
  momentum 0.9, in each of 300 iterations;
- alpha_k starts as 250 times the mean over the classes of f^T t between a class's images and its
  text; step N / (4 max_k sum_i (f_i^T t_k)^2), in every tenth iteration.

All numbers are those of the authors' released `methods/linear_probe_p2.py`. Three things differ. Its
alpha steps along the sum of all gradients since the beginning (they are never reset), here along the
gradient where it stands, as the paper's block-wise descent says. Its b starts at random, here at 0,
so that no seed is needed. It keeps the last of the iterations with the best validation accuracy, here
the iteration is chosen like every other value (`medvip.methods.selection`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from medvip.features import FeatureTable
from medvip.methods.linear import LinearTextMethod
from medvip.methods.selection import Selection
from medvip.methods.vectors import class_means, class_sums, one_hot

ITERATIONS = 300
TEXT_EVERY = 10
"""Every how many iterations alpha takes a step."""
TEXT_START = 250.0
MOMENTUM = 0.9


class LPPlusPlus(LinearTextMethod):
    """A linear probe that blends each class's text in by a learned multiplier.

    Augmented views, where there are some, are images like any other. The number of iterations is chosen on
    the validation images, without any by cross-validation in the training images; 300 where a
    class has images of one group only.
    """

    name: ClassVar[str] = "lp++"

    def learn(
        self, train: FeatureTable, validation: FeatureTable
    ) -> tuple[Float[Tensor, "class dim"], Float[Tensor, " class"]]:
        """W and b after the chosen number of iterations."""
        text = self.text_vectors(train.classes)

        def scores(
            part: FeatureTable, images: Float[Tensor, "image dim"], values: Sequence[int]
        ) -> Iterator[Float[Tensor, "image class"]]:
            vectors = self.unit(images)
            steps = descent(self.vectors(part), self.labels(part), text)
            for weights, bias in islice(steps, len(values)):
                yield vectors @ weights.T + bias

        selection = Selection[int](("iterations",), train, validation, self.history)
        counts = range(1, ITERATIONS + 1)
        chosen = selection.among(counts, scores) if selection.possible else ITERATIONS
        steps = descent(self.vectors(train), self.labels(train), text)
        return next(islice(steps, chosen - 1, None))


def descent(
    images: Float[Tensor, "image dim"], labels: Int[Tensor, " image"], text: Float[Tensor, "class dim"]
) -> Iterator[tuple[Float[Tensor, "class dim"], Float[Tensor, " class"]]]:
    """W (image and text parts together) and b after 1, 2, 3 ... iterations, without end."""
    classes = len(text)
    similarity = images @ text.T
    target = one_hot(labels, classes)
    step = 4 * len(images) / largest_eigenvalue(images)
    text_step = len(images) / (4 * similarity.square().sum(0).max())
    weights, bias = class_sums(images, labels, classes), text.new_zeros(classes)
    own = class_means(similarity, labels, classes).diagonal()
    alpha = (TEXT_START * own.mean()).repeat(classes)
    speed, bias_speed = torch.zeros_like(weights), torch.zeros_like(bias)
    iteration = 0
    while True:
        iteration += 1
        error = ((images @ weights.T + bias + alpha * similarity).softmax(-1) - target) / len(images)
        speed = MOMENTUM * speed + error.T @ images
        bias_speed = MOMENTUM * bias_speed + error.sum(0)
        weights, bias = weights - step * speed, bias - step * bias_speed
        if iteration % TEXT_EVERY == 0:
            alpha = alpha - text_step * (error * similarity).sum(0)
        yield weights + alpha[:, None] * text, bias


def largest_eigenvalue(images: Float[Tensor, "image dim"]) -> Float[Tensor, ""]:
    """Of F^T F, taken from the smaller of F^T F and F F^T, which share it."""
    rows, columns = images.shape
    return torch.linalg.eigvalsh(images.T @ images if columns < rows else images @ images.T)[-1]
