"""What a classifier knows that looks at nothing but size and brightness of a picture.

Image sets have shortcuts: one class was taken with another device, cropped otherwise, or is
brighter. A study's row ``trivial-cues`` shows how far these alone go: a logistic regression on six
numbers a picture. A method that is no better has not shown that it sees the disease.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from medvip.errors import FeatureError, NotFittedError, UnreadableImages
from medvip.features import FeatureTable
from medvip.features.augmentation import PLAIN
from medvip.features.store import FeatureStore
from medvip.images import read_picture
from medvip.methods.selection import Selection
from medvip.methods.vectors import require_every_class
from medvip.progress import progress_bar

CUES = ("width", "height", "aspect ratio", "mean", "contrast", "corner brightness")
FINGERPRINT = "trivial-cues-1"
"""Stands where a backbone's fingerprint stands: the cache keeps cues beside vectors."""

STRENGTHS = tuple(10.0**power for power in range(-4, 5))
DEFAULT_C = 1.0
"""Where nothing can be chosen by: scikit-learn's default."""
CORNER = 0.1
"""Side of a corner square, as a share of the shorter side."""
AT_ONCE = 512
"""Pictures between two writes to the cache."""


def cues_of(picture: Image.Image) -> Float[np.ndarray, "cue"]:
    """The six numbers of one picture, in the order of `CUES`; brightness from 0 to 1.

    Examples
    --------
    >>> cues_of(Image.new("RGB", (20, 10), (255, 255, 255))).tolist()
    [20.0, 10.0, 2.0, 1.0, 0.0, 1.0]
    """
    grey = np.asarray(picture.convert("L"), dtype=np.float64) / 255
    height, width = grey.shape
    side = max(1, round(CORNER * min(height, width)))
    corners = [grey[rows, columns] for rows in (slice(side), slice(-side, None)) for columns in
               (slice(side), slice(-side, None))]  # fmt: skip
    corner = np.mean([part.mean() for part in corners])
    return np.array([width, height, width / height, grey.mean(), grey.std(), corner])


def compute_cues(
    paths: Sequence[str], contents: Sequence[str], cache: Path | None = None, *, quiet: bool = False
) -> None:
    """Make sure that the cache holds the cues of these pictures, by their content hashes.

    Raises
    ------
    UnreadableImages
        Pictures that cannot be read, all of them listed.
    """
    store = FeatureStore(FINGERPRINT, cache)
    known = store.load(PLAIN, contents)
    missing = {content: path for content, path in zip(contents, paths, strict=True) if content not in known}
    unreadable: dict[str, str] = {}

    def of(path: str) -> Tensor | None:
        try:
            return torch.from_numpy(cues_of(read_picture(path))).float()
        except UnreadableImages as error:
            unreadable.update(error.reasons)
            return None

    items = list(missing.items())
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        progress_bar("trivial cues", len(items), "pictures", quiet=quiet) as advance,
    ):
        for start in range(0, len(items), AT_ONCE):
            part = items[start : start + AT_ONCE]
            found = zip(part, pool.map(of, [path for _, path in part]), strict=True)
            store.add(PLAIN, {content: cues for (content, _), cues in found if cues is not None})
            advance(len(part))
    if unreadable:
        raise UnreadableImages(unreadable, fix="mend or remove the files")


class TrivialCues:
    """Logistic regression on the standardised cues; C is chosen on the validation images."""

    name: ClassVar[str] = "trivial-cues"
    needs: ClassVar[Literal["features", "pixels"]] = "features"
    uses_symptoms: ClassVar[bool] = False
    learns: ClassVar[bool] = True

    def __init__(self) -> None:
        self.classes: tuple[str, ...] = ()
        self.history: list[dict[str, Any]] = []

    def fit(self, train: FeatureTable, validation: FeatureTable, *, quiet: bool = True) -> TrivialCues:
        """Learn from tables whose vectors are cues.

        Raises
        ------
        FeatureError
            They are not.
        TrainingError
            A class has no training image.
        """
        if train.fingerprint != FINGERPRINT:
            raise FeatureError("these vectors are no cues", fix="compute them with compute_cues")
        self.classes, self.history = (), []
        require_every_class(train)
        selection = Selection[float](("C",), train, validation, self.history)

        def scores(part: FeatureTable, images: Float[Tensor, "image dim"], values: Sequence[float]):
            for C in values:
                yield torch.from_numpy(_regression(part, C).predict_proba(images.double().numpy()))

        C = selection.among(STRENGTHS, scores) if selection.possible else DEFAULT_C
        self._model, self.classes = _regression(train, C), train.classes
        return self

    def predict_proba(self, images: Float[Tensor, "image dim"]) -> Float[np.ndarray, "image class"]:
        """Probability of each class for each row of cues."""
        if not self.classes:
            raise NotFittedError("these trivial-cues have learned nothing yet", fix="call fit first")
        return self._model.predict_proba(images.double().numpy())


def _regression(train: FeatureTable, C: float) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=1000))
    return model.fit(train.plain.double().numpy(), train.labels.numpy())
