"""SS-Text: class means pulled towards the text, in closed form.

Silva-Rodriguez et al., *Full Conformal Adaptation of Medical Vision-Language Models* (IPMI 2025,
arXiv 2506.06076). The class vector w_k minimises

    - (1 / N) sum over the class's images of f^T w_k / tau  +  (lambda / 2) |w_k - t_k|^2,

with N training images, text vector t_k, temperature tau = exp(-logit_scale) and lambda = 1 / N, at
least 0.001; so

    w_k = t_k + (sum of the class's f) / (N lambda tau),

and the logit is exp(logit_scale) * cosine(image, w_k). The closed form, lambda and its floor were
checked in the authors' released `solvers/sstext.py`, where nothing is chosen on any image; the
objective is that which this form minimises (the paper's own text could not be read). Image vectors have
length 1 here; the released code takes them as its feature files hold them.
"""

from __future__ import annotations

import math
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from medvip.features import FeatureTable
from medvip.methods.linear import LinearTextMethod
from medvip.methods.vectors import class_sums, unit

LEAST_LAMBDA = 1e-3


class SSText(LinearTextMethod):
    """Training-free blend of class means and text, nothing to choose.

    Augmented views, where there are some, are images like any other.
    """

    name: ClassVar[str] = "ss-text"

    def learn(
        self, train: FeatureTable, validation: FeatureTable
    ) -> tuple[Float[Tensor, "class dim"], Float[Tensor, " class"]]:
        """The class vectors, at the length that gives logits."""
        scale = math.exp(self.backbone.logit_scale)
        vectors = self.vectors(train)
        strength = max(1 / len(vectors), LEAST_LAMBDA)
        sums = class_sums(vectors, self.labels(train), len(train.classes))
        blended = self.text_vectors(train.classes) + scale * sums / (len(vectors) * strength)
        return scale * unit(blended), blended.new_zeros(len(blended))
