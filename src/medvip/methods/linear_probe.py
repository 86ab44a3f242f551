"""Linear probe: multinomial logistic regression on frozen image vectors (CLIP's protocol).

Radford et al., *Learning Transferable Visual Models From Natural Language Supervision* (ICML
2021), section "Linear probe" of the appendix: scikit-learn's L-BFGS with at most 1,000 iterations;
the strength of the L2 penalty by a log-spaced sweep on validation images between 1e-6 and 1e6, done
as a search that starts at seven values two decades apart and halves the interval around the best
until there are eight steps a decade. CoOp's released `lpclip/linear_probe.py` starts from the same
seven values, with scikit-learn's ``C``; CLIP's README gives ``C = 0.316`` as its example and asks for
a sweep. (The starting values, the solver and 0.316 were checked in the released code; the eight
steps a decade are from the paper and were not looked up again.)

Unlike there, the vectors have length 1, as for all other methods here: then ``C`` means the same for
every backbone, whatever the length of its vectors. And the best value is that of the highest
macro-F1 (`medvip.methods.selection`), not accuracy.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from medvip.features import FeatureTable
from medvip.methods.linear import LinearMethod
from medvip.methods.selection import Selection

START = tuple(10.0**power for power in range(-6, 7, 2))
"""The first values of C."""
HALVINGS = (1.0, 0.5, 0.25, 0.125)
"""Decades to the left and to the right of the best so far."""
DEFAULT_C = 0.316
"""Where nothing can be chosen by: CLIP's README."""
MAX_ITERATIONS = 1000


class LinearProbe(LinearMethod):
    """Multinomial logistic regression with an L2 penalty on image vectors of length 1.

    Augmented views, where there are some, are images like any other. C is chosen on the validation images,
    without any by cross-validation in the training images, and is 0.316 where a class has images
    of one group only.
    """

    name: ClassVar[str] = "linear-probe"

    def learn(
        self, train: FeatureTable, validation: FeatureTable
    ) -> tuple[Float[Tensor, "class dim"], Float[Tensor, " class"]]:
        """W and b at the chosen C."""
        return self._regression(train, self._choose(train, validation))

    def _choose(self, train: FeatureTable, validation: FeatureTable) -> float:
        selection = Selection[float](("C",), train, validation, self.history)
        if not selection.possible:
            return DEFAULT_C
        best = selection.among(START, self._scores)
        for decades in HALVINGS:
            around = [best * 10**-decades, best * 10**decades]
            best = selection.among([C for C in around if START[0] <= C <= START[-1]], self._scores)
        return best

    def _scores(
        self, train: FeatureTable, images: Float[Tensor, "image dim"], values: Sequence[float]
    ) -> Iterator[Float[Tensor, "image class"]]:
        vectors = self.unit(images)
        for C in values:
            weights, bias = self._regression(train, C)
            yield vectors @ weights.T + bias

    def _regression(
        self, train: FeatureTable, C: float
    ) -> tuple[Float[Tensor, "class dim"], Float[Tensor, " class"]]:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        with warnings.catch_warnings():
            # With a weak penalty the iterations run out; the protocol stops there.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression(C=C, max_iter=MAX_ITERATIONS)
            model.fit(self.vectors(train).cpu().numpy(), self.labels(train).cpu().numpy())
        return softmax_form(model.coef_, model.intercept_, self.backbone.device)


def softmax_form(
    weights, bias, device: torch.device
) -> tuple[Float[Tensor, "class feature"], Float[Tensor, " class"]]:
    """scikit-learn's coefficients as W and b of a softmax; it gives one row only for two classes."""
    W, b = torch.tensor(weights, device=device).double(), torch.tensor(bias, device=device).double()
    if len(W) == 1:
        W, b = torch.cat([torch.zeros_like(W), W]), torch.cat([torch.zeros_like(b), b])
    return W, b
