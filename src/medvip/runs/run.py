"""A trained classifier that takes pictures: the backbone, what was learned, and its record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from medvip.backbones import Backbone
from medvip.errors import DataError
from medvip.evaluation import Metrics, evaluate
from medvip.explanation import (
    Explanation,
    Reliance,
    SimilarityQuantiles,
    explain_pictures,
    explain_vectors,
    parts_of,
    reliance,
)
from medvip.explanation.what_if import Change, changed_method
from medvip.features import (
    FeatureTable,
    Table,
    compute_features,
    encode_paths,
    open_pictures,
    read_pixels,
)
from medvip.methods import Method
from medvip.symptoms import SymptomSet
from medvip.types import ImageDataset, Split


@dataclass(frozen=True)
class Prediction:
    """One picture's class, and the probability of every class by name."""

    path: str
    prediction: str
    probabilities: dict[str, float]

    @property
    def confidence(self) -> float:
        """Probability of the predicted class."""
        return self.probabilities[self.prediction]


@dataclass(frozen=True)
class Run:
    """A fitted method on its backbone.

    Attributes
    ----------
    backbone, method
        The frozen encoders, and what was learned on them.
    symptoms
        What the method was given; None for methods that need none.
    config
        All that was decided: data, seeds, options, versions. What `config.json` holds.
    metrics
        By split, as in `metrics.json`.
    seen
        How similar the training images were to each symptom, as quantiles; None for a method that
        cannot be explained, too few images, or a run from before this was kept.
    """

    backbone: Backbone
    method: Method
    symptoms: SymptomSet | None
    config: dict[str, Any]
    metrics: dict[str, Any] = field(default_factory=dict)
    seen: SimilarityQuantiles | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the columns of `predict_proba`."""
        return self.method.classes

    def predict_proba(self, paths: Sequence[str | Path], **reading: Any) -> Float[np.ndarray, "image class"]:
        """Probability of each class for each picture; `reading` goes to `encode_paths`.

        Where the method needs pixels no vector is read or kept, so its ``cache`` has no meaning.
        """
        if self.method.needs == "features":
            return self.method.predict_proba(self._encode(paths, **reading))
        reading.pop("cache", None)
        return self._probabilities(read_pixels([str(path) for path in paths], self.backbone, **reading))

    def predict(self, paths: Sequence[str | Path], **reading: Any) -> list[Prediction]:
        """The most probable class of each picture.

        Raises
        ------
        UnreadableImages
            Pictures that cannot be read, all of them listed.
        """
        return [
            Prediction(
                str(path),
                self.classes[int(row.argmax())],
                dict(zip(self.classes, map(float, row), strict=True)),
            )
            for path, row in zip(paths, self.predict_proba(paths, **reading), strict=True)
        ]

    def evaluate(self, dataset: ImageDataset, split: Split = "test", **reading: Any) -> Metrics:
        """All figures with intervals on one split of a data set with the same classes.

        Raises
        ------
        DataError
            The data set has other classes, or no picture in that split.
        """
        self.require_classes(dataset)
        part = dataset.only(split)
        if len(part) == 0:
            raise DataError(
                f"{dataset.name} has no {split} images",
                fix="choose another split (--split train, val or test)",
            )
        # Read as one block, whatever split it is: only training pictures get views.
        block = part.with_samples(replace(sample, split="test") for sample in part)
        if self.method.needs == "features":
            return self.evaluate_table(compute_features(block, self.backbone, **reading).test)
        return self.evaluate_table(open_pictures(block, self.backbone, workers=reading.get("workers")).test)

    def evaluate_table(self, table: Table) -> Metrics:
        """All figures with intervals; the table's classes may be in another order."""
        position = np.array([self.classes.index(name) for name in table.classes])
        return evaluate(
            self.probabilities_of(table),
            position[table.labels.numpy()],
            self.classes,
            groups=table.groups,
        )

    def probabilities_of(self, table: Table) -> Float[np.ndarray, "image class"]:
        """Probability of each of the run's classes for each image of a table."""
        return self._probabilities(table.parts())

    def explain(
        self, paths: Sequence[str | Path], *, maps: bool = False, **reading: Any
    ) -> list[Explanation]:
        """What each class's logit is made of, picture by picture; with `maps` also where.

        The shares are exact. Whether the maps are depends on the backbone, and each says so
        (`medvip.explanation.SymptomMaps`). `reading` goes to `medvip.explanation.explain_pictures`.

        Raises
        ------
        UsageError
            The method's logits are no sum over symptoms, or its backbone cannot say where.
        UnreadableImages
            Pictures that cannot be read, all of them listed.
        """
        return explain_pictures(paths, self.method, self.seen, maps=maps, **reading)

    def explain_table(self, table: FeatureTable) -> list[Explanation]:
        """The same, without maps, of pictures whose vectors are there already.

        Raises
        ------
        UsageError
            The method's logits are no sum over symptoms.
        """
        return explain_vectors(table.plain, table.paths, self.method, self.seen)

    def reliance(self, table: FeatureTable) -> Reliance:
        """How much of the decisions on these images rests on what no symptom explains.

        The table's classes may be in another order.

        Raises
        ------
        UsageError
            The method's logits are no sum over symptoms.
        """
        position = np.array([self.classes.index(name) for name in table.classes])
        labels = position[table.labels.cpu().numpy()]
        return reliance(table.plain, parts_of(self.method), labels, table.groups)

    def what_if(self, *changes: Change) -> Run:
        """The run as it would be with symptoms dropped or reworded, without retraining.

        Its metrics are empty: measure it. It can be saved, and its config says what was changed.

        Raises
        ------
        SymptomError
            A change does not fit the run's symptoms.
        UsageError
            The run's method does not decide by symptoms.

        Examples
        --------
        >>> other = run.what_if(Change("melanoma", "ragged, blurry edge"))   # doctest: +SKIP
        >>> other.evaluate(dataset).accuracy                                 # doctest: +SKIP
        """
        method = changed_method(self.method, changes)
        assert method.symptoms is not None
        config = {
            **self.config,
            "symptoms": {"digest": method.symptoms.digest, "review": method.symptoms.review_state()},
            "changed_after_training": [
                *self.config.get("changed_after_training", []),
                *(asdict(change) for change in changes),
            ],
        }
        return replace(self, method=method, symptoms=method.symptoms, config=config, metrics={}, seen=None)

    def save(self, folder: str | Path, *, force: bool = False) -> Path:
        """Write the run folder, whole or not at all.

        Raises
        ------
        RunError
            `folder` is there and `force` is not set, or it cannot be written.
        """
        from medvip.runs.folder import save_run

        return save_run(self, Path(folder), force=force)

    def require_classes(self, dataset: ImageDataset) -> None:
        """Raise `DataError` unless the data set's classes are the run's."""
        if set(dataset.classes) != set(self.classes):
            raise DataError(
                f"{dataset.name} has the classes {', '.join(dataset.classes)}, "
                f"but the run was trained on {', '.join(self.classes)}",
                fix="evaluate on a data set whose folders have the run's class names",
            )

    def _probabilities(self, parts: Iterable[Tensor]) -> Float[np.ndarray, "image class"]:
        """Of images that come in parts."""
        tables = [self.method.predict_proba(part) for part in parts]
        return np.concatenate([np.empty((0, len(self.classes))), *tables])

    def _encode(self, paths: Sequence[str | Path], **reading: Any) -> Float[Tensor, "image dim"]:
        return encode_paths([str(path) for path in paths], self.backbone, **reading)


def splits_differ(config: dict[str, Any], dataset: ImageDataset) -> bool:
    """Whether the data set's splits were made here, and otherwise than when the run was trained."""
    made = [note for note in dataset.notes if note.startswith("splits made")]
    recorded = config.get("data", {})
    same = (
        set(made) <= set(recorded.get("notes", ()))
        and recorded.get("images", {}).get("test") == dataset.only("test").counts()
    )
    return bool(made) and not same
