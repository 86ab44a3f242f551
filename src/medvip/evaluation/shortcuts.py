"""How well a picture's size or brightness alone tells the classes apart.

Where one of them does, a classifier may have learned the device or the cropping and not the
disease; the shortcut is in the images, whatever was trained on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from medvip.evaluation.benchmark.cues import CUES
from medvip.evaluation.bootstrap import group_codes, group_weights, percentile_interval
from medvip.evaluation.metrics import Estimate
from medvip.evaluation.ranking import auroc

STRONG = 0.7
"""From this AUROC on a cue is called a shortcut."""
RESAMPLES = 1000


@dataclass(frozen=True)
class Shortcut:
    """One cue, with the class that it tells apart best.

    Attributes
    ----------
    cue
        Which, of `medvip.evaluation.benchmark.cues.CUES`.
    class_name
        The class that it tells apart best from all others.
    higher
        Whether the cue is higher in that class; else it is lower.
    separation
        AUROC of that class against all others in that direction, so at least 0.5.
    """

    cue: str
    class_name: str
    higher: bool
    separation: Estimate

    @property
    def strong(self) -> bool:
        """Whether the cue alone does well enough to be a shortcut."""
        return self.separation.value >= STRONG


def find_shortcuts(
    cues: Float[np.ndarray, "image cue"],
    labels: Int[np.ndarray, "image"],
    classes: tuple[str, ...],
    *,
    groups: Sequence[str | None] | None = None,
    seed: int = 1,
) -> tuple[Shortcut, ...]:
    """Each cue's best separation of one class from the others, with a 95 % interval over groups.

    The class and the direction are chosen on these images, which favours the cue a little.

    Parameters
    ----------
    cues
        Of each image, as `medvip.evaluation.benchmark.cues.cues_of` gives them.
    labels, classes, groups, seed
        As `medvip.evaluation.evaluate` takes them.

    Examples
    --------
    >>> cues = np.array([[9.0, 9, 1, 0.5, 0.2, 0.5], [9, 9, 1, 0.9, 0.2, 0.5], [9, 9, 1, 0.8, 0.2, 0.5]])
    >>> best = max(find_shortcuts(cues, np.array([0, 1, 1]), ("a", "b")), key=lambda s: s.separation.value)
    >>> best.cue, best.class_name, best.higher, best.separation.value
    ('mean', 'a', False, 1.0)
    """
    codes = group_codes(groups, len(labels))
    weights = group_weights(codes, RESAMPLES, np.random.default_rng(seed))
    observed = np.ones((1, len(labels)))
    present = [c for c in range(len(classes)) if 0 < (labels == c).sum() < len(labels)]
    found = []
    for position, cue in enumerate(CUES):
        if not present:
            break
        values = {c: float(auroc(cues[:, position], labels == c, observed)[0]) for c in present}
        best = max(present, key=lambda c: abs(values[c] - 0.5))
        higher = values[best] >= 0.5
        sign = 1 if higher else -1
        resampled = auroc(sign * cues[:, position], labels == best, weights)
        value = values[best] if higher else 1 - values[best]
        found.append(Shortcut(cue, classes[best], higher, percentile_interval(value, resampled)))
    return tuple(found)
