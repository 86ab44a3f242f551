"""Nearest class mean: cosine similarity to the mean training image of each class.

The visual half of what SS-Text, Tip-Adapter and LP++ blend with text. Mensink et al. (TPAMI 2013)
classify by the distance to class means; here it is the cosine, on the backbone's own scale, so
that the figures can be compared with zero-shot-names: only the class vectors differ.
"""

from __future__ import annotations

import math
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from medvip.features import FeatureTable
from medvip.methods.linear import LinearMethod
from medvip.methods.vectors import class_means, unit


class NearestClassMean(LinearMethod):
    """Logit of a class: exp(logit_scale) * cosine(image, mean of the class's images of length 1).

    Augmented views, where there are some, are images like any other. Nothing has to be chosen.
    """

    name: ClassVar[str] = "nearest-class-mean"

    def learn(
        self, train: FeatureTable, validation: FeatureTable
    ) -> tuple[Float[Tensor, "class dim"], Float[Tensor, " class"]]:
        """The class means, at the length that gives logits."""
        means = unit(class_means(self.vectors(train), self.labels(train), len(train.classes)))
        return math.exp(self.backbone.logit_scale) * means, means.new_zeros(len(means))
