"""From class probabilities and true labels to figures with intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from medvip import confusion
from medvip.errors import UsageError
from medvip.evaluation import calibration, ranking
from medvip.evaluation.bootstrap import group_codes, group_weights, percentile_interval
from medvip.evaluation.inputs import check_inputs
from medvip.evaluation.metrics import ClassMetrics, Estimate, Metrics

#: Weights held in memory at a time (resamples * images): 32 MB.
BLOCK = 4_000_000


def evaluate(
    probabilities: Float[np.ndarray, "image class"],
    labels: Int[np.ndarray, "image"],
    classes: tuple[str, ...],
    *,
    groups: Sequence[str | None] | None = None,
    resamples: int = 1000,
    seed: int = 1,
) -> Metrics:
    """Measure a classifier on a split; each figure with a 95 % interval over groups.

    - The prediction is the most probable class; of equals, the first.
    - Macro-F1, balanced accuracy and AUROC (one-vs-rest, macro) average over the classes for which
      they are defined: those with images and, for AUROC, with images of other classes beside them.
      For two classes the AUROC is the ordinary one.
    - ECE: 15 bins of equal width on the predicted class's probability (Guo et al. 2017).
    - Intervals: percentile bootstrap over groups, all images of a group together. A resample
      that misses a class leaves it out of what that resample cannot define.
    - The order of the images and the names of the groups do not matter.

    Parameters
    ----------
    probabilities
        One distribution over classes for each image; rows sum to 1 within 1e-3.
    labels
        The true class of each image, from 0 to number of classes - 1.
    classes
        Class names, in the order of the columns.
    groups
        The patient (or lesion) of each image. None, for an image or for all, means that the
        image stands for itself.
    resamples
        Number of bootstrap resamples; 0 computes no intervals.
    seed
        The same seed gives the same intervals.

    Returns
    -------
    Metrics
        Frozen; ``.summary()`` is one line, ``.to_json()`` the form of ``metrics.json``.

    Raises
    ------
    DataError
        Probabilities that are not distributions, shapes or lengths that do not fit, a label
        outside the classes, no images.
    UsageError
        A negative number of resamples.

    Examples
    --------
    >>> probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.4, 0.6], [0.2, 0.8], [0.6, 0.4]])
    >>> metrics = evaluate(probabilities, np.array([0, 0, 1, 1, 1]), ("benign", "malignant"))
    >>> metrics.accuracy.value, metrics.auroc.value, metrics.confusion.tolist()
    (0.8, 1.0, [[2, 0], [1, 2]])
    """
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    check_inputs(probabilities, labels, classes, groups)
    if resamples < 0:
        raise UsageError(f"{resamples} resamples", fix="use 1000, or 0 for no intervals")

    # In an order of its own, so that the same images give the same resamples however they come.
    order = np.lexsort((*probabilities.T, labels))
    probabilities, labels = probabilities[order].astype(np.float64), labels[order].astype(np.int64)
    codes = group_codes(None if groups is None else [groups[i] for i in order], len(labels))
    group_number = int(codes.max()) + 1
    if group_number == 1:
        resamples = 0  # one patient says nothing about how much patients differ

    observed = _figures(probabilities, labels, np.ones((1, len(labels))))
    resampled = _resampled_figures(probabilities, labels, codes, resamples, seed)
    estimates = {
        name: [
            percentile_interval(float(value), column)
            for value, column in zip(values[0], resampled[name].T, strict=True)
        ]
        for name, values in observed.items()
    }
    predictions = probabilities.argmax(axis=1)
    counts = confusion.confusion_matrix(labels, predictions, len(classes))

    def headline(name: str) -> Estimate:
        return estimates[name][0]

    return Metrics(
        accuracy=headline("accuracy"),
        macro_f1=headline("macro_f1"),
        balanced_accuracy=headline("balanced_accuracy"),
        auroc=headline("auroc"),
        ece=headline("ece"),
        per_class={
            name: ClassMetrics(
                sensitivity=estimates["class_sensitivity"][c],
                specificity=estimates["class_specificity"][c],
                precision=estimates["class_precision"][c],
                f1=estimates["class_f1"][c],
                auroc=estimates["class_auroc"][c],
                support=int((labels == c).sum()),
            )
            for c, name in enumerate(classes)
        },
        classes=tuple(classes),
        confusion=counts,
        images=len(labels),
        groups=group_number,
        resamples=resamples,
    )


def _figures(
    probabilities: Float[np.ndarray, "image class"],
    labels: Int[np.ndarray, "image"],
    weights: Float[np.ndarray, "resample image"],
) -> dict[str, Float[np.ndarray, "resample figure"]]:
    """Every figure of every resample: one column for a headline figure, else one for each class."""
    predictions = probabilities.argmax(axis=1)
    confidence = np.clip(probabilities.max(axis=1), 0, 1)
    matrices = confusion.confusion_matrices(labels, predictions, weights, probabilities.shape[1])
    class_auroc = ranking.one_vs_rest_auroc(probabilities, labels, weights)
    ece = calibration.expected_calibration_error(confidence, predictions == labels, weights)
    return {
        "accuracy": confusion.accuracy(matrices)[:, None],
        "macro_f1": confusion.macro_f1(matrices)[:, None],
        "balanced_accuracy": confusion.balanced_accuracy(matrices)[:, None],
        "auroc": ranking.macro_auroc(class_auroc)[:, None],
        "ece": ece[:, None],
        "class_sensitivity": confusion.sensitivity(matrices),
        "class_specificity": confusion.specificity(matrices),
        "class_precision": confusion.precision(matrices),
        "class_f1": confusion.f1(matrices),
        "class_auroc": class_auroc,
    }


def _resampled_figures(
    probabilities: Float[np.ndarray, "image class"],
    labels: Int[np.ndarray, "image"],
    codes: Int[np.ndarray, "image"],
    resamples: int,
    seed: int,
) -> dict[str, Float[np.ndarray, "resample figure"]]:
    """`_figures` on all resamples, in blocks that fit into memory."""
    rng = np.random.default_rng(seed)
    step = max(1, BLOCK // len(labels))
    sizes = [min(step, resamples - start) for start in range(0, resamples, step)] or [0]
    blocks = [_figures(probabilities, labels, group_weights(codes, size, rng)) for size in sizes]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
