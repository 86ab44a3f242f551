"""Shuffling that depends on the seed and on nothing else.

Not on the order in which things come, the platform, where the folder lies, or the version of a
random number generator.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from medvip.errors import UsageError


def shuffled(names: Iterable[str], seed: int, *salt: str) -> list[str]:
    """Names in a random order drawn from `seed`; `salt` makes independent orders of one seed.

    The order is drawn over the places of the sorted names, not over the names, so that the
    same files in another folder come out the same.

    Examples
    --------
    >>> shuffled(["c", "a", "b"], seed=1) == shuffled(["a", "b", "c"], seed=1)
    True
    >>> [name[-1] for name in shuffled(["x/a", "x/b", "x/c"], 1)] == shuffled("abc", 1)
    True
    """

    def draw(place: int) -> bytes:
        return hashlib.sha256("\0".join([str(seed), *salt, str(place)]).encode()).digest()

    ordered = sorted(names)
    return [ordered[place] for place in sorted(range(len(ordered)), key=draw)]


def require_seed(seed: int) -> None:
    """Raise UsageError unless `seed` is a whole number from 0 up."""
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UsageError(f"the seed is {seed!r}", fix="give a whole number, 0 or greater")
