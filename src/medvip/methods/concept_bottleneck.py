"""Concept bottleneck: a sparse classifier that sees nothing but the symptoms' similarities.

After Koh et al., *Concept Bottleneck Models* (ICML 2020), in the label-free form of Yang et al.,
*Language in a Bottle* (LaBo, CVPR 2023), and Yuksekgonul et al., *Post-hoc Concept Bottleneck Models*
(ICLR 2023): concepts are texts, an image's concept values are its cosines with them, and a linear
layer is learned on these. What is implemented here is the common core, and no number is taken from
these papers: all symptoms of all classes, standardised over the training images, and multinomial
logistic regression with an L1 penalty (scikit-learn's saga), its strength C chosen on validation
images.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from medvip.backbones import Backbone
from medvip.backbones.protocol import encode_texts
from medvip.errors import NotFittedError
from medvip.features import FeatureTable
from medvip.methods.linear_probe import softmax_form
from medvip.methods.prompts import require_fitting
from medvip.methods.selection import Selection
from medvip.methods.vectors import require_every_class, unit
from medvip.symptoms import SymptomSet

STRENGTHS = tuple(float(value) for value in np.logspace(-3, 3, 13))
DEFAULT_C = 1.0
"""Where nothing can be chosen by: scikit-learn's default."""
MAX_ITERATIONS = 2000


class ConceptBottleneck:
    """Sparse logistic regression on an image's similarities to all symptoms.

    Every class's logit may use every class's symptoms. Augmented views, where there are some, are
    images like any other. C is chosen on the validation images, without any by cross-validation in
    the training images; 1 where a class has images of one group only.

    Parameters
    ----------
    backbone
        The frozen encoders.
    symptoms
        Of every class, by name.
    seed
        Of the order in which the solver visits the images.
    """

    name: ClassVar[str] = "concept-bottleneck"
    needs: ClassVar[Literal["features", "pixels"]] = "features"
    uses_symptoms: ClassVar[bool] = True
    learns: ClassVar[bool] = True

    def __init__(self, backbone: Backbone, symptoms: SymptomSet, *, seed: int = 1) -> None:
        self.backbone, self.symptoms, self.seed = backbone, symptoms, seed
        self.classes: tuple[str, ...] = ()
        self.history: list[dict[str, Any]] = []
        self._state: dict[str, Tensor] = {}

    def fit(self, train: FeatureTable, validation: FeatureTable, *, quiet: bool = True) -> ConceptBottleneck:
        """Standardise the similarities, choose C, learn the weights.

        Raises
        ------
        SymptomError
            The symptoms do not fit the classes, or are too long for the text encoder.
        TrainingError
            A class has no training image.
        """
        self.classes, self.history, self._state = (), [], {}
        require_every_class(train)
        require_fitting(self.symptoms, self.backbone, context=0)
        texts = [text for texts in self.symptoms.for_classes(train.classes) for text in texts]
        symptoms = unit(encode_texts(self.backbone, texts))
        selection = Selection[float](("C",), train, validation, self.history)

        def scores(
            part: FeatureTable, images: Float[Tensor, "image dim"], values: Sequence[float]
        ) -> Iterator[Float[Tensor, "image class"]]:
            for C in values:
                yield logits(images.to(symptoms.device), self._regression(part, symptoms, C))

        C = selection.among(STRENGTHS, scores) if selection.possible else DEFAULT_C
        return self.load_state(train.classes, self._regression(train, symptoms, C))

    def predict_proba(self, images: Float[Tensor, "image dim"]) -> Float[np.ndarray, "image class"]:
        """Softmax of the logits, in double precision."""
        state = self.state()
        return logits(images.to(self.backbone.device), state).softmax(-1).cpu().numpy()

    def options(self) -> dict[str, Any]:
        """``seed``."""
        return {"seed": self.seed}

    def state(self) -> dict[str, Tensor]:
        """What `logits` needs.

        ``symptom_vectors`` [symptom, dim], all classes' symptoms in the order of the classes and
        of the symptom set; ``symptom_means`` and ``symptom_stds`` [symptom] of the similarities;
        ``weights`` [class, symptom], many of them 0, and ``bias`` [class].
        """
        if not self._state:
            raise NotFittedError("this concept-bottleneck has learned nothing yet", fix="call fit first")
        return dict(self._state)

    def load_state(self, classes: tuple[str, ...], state: dict[str, Tensor]) -> ConceptBottleneck:
        """From what `state` gave."""
        self.classes = classes
        self._state = {name: tensor.double().to(self.backbone.device) for name, tensor in state.items()}
        return self

    def _regression(
        self, train: FeatureTable, symptoms: Float[Tensor, "symptom dim"], C: float
    ) -> dict[str, Tensor]:
        from sklearn.exceptions import ConvergenceWarning

        labels = train.labels.repeat_interleave(train.views)
        similarity = unit(train.vectors.flatten(0, 1).to(symptoms.device)) @ symptoms.T
        means, stds = similarity.mean(0), similarity.std(0, correction=0)
        stds = torch.where(stds > 0, stds, 1.0)
        with warnings.catch_warnings():
            # With a weak penalty and separable images the iterations run out.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = sparse_regression(C, self.seed)
            model.fit(((similarity - means) / stds).cpu().numpy(), labels.cpu().numpy())
        weights, bias = softmax_form(model.coef_, model.intercept_, symptoms.device)
        state = {"symptom_vectors": symptoms, "symptom_means": means, "symptom_stds": stds}
        return state | {"weights": weights, "bias": bias}


def logits(images: Float[Tensor, "image dim"], state: dict[str, Tensor]) -> Float[Tensor, "image class"]:
    """W (cosines with the symptoms, standardised) + b."""
    similarity = unit(images) @ state["symptom_vectors"].T
    standardised = (similarity - state["symptom_means"]) / state["symptom_stds"]
    return standardised @ state["weights"].T + state["bias"]


def sparse_regression(C: float, seed: int):
    """scikit-learn's logistic regression with an L1 penalty, whichever way its version spells it."""
    import sklearn
    from packaging.version import Version
    from sklearn.linear_model import LogisticRegression

    # From 1.8 on, l1_ratio alone says which penalty; before, it is not looked at without this.
    older: dict[str, Any] = (
        {} if Version(sklearn.__version__) >= Version("1.8") else {"penalty": "elasticnet"}
    )
    return LogisticRegression(
        C=C, solver="saga", l1_ratio=1.0, max_iter=MAX_ITERATIONS, random_state=seed, **older
    )
