"""Whether an explanation is true of the model, and of the picture: pure functions that measure it.

- *Deletion and insertion* (Petsiuk et al. 2018): places are blurred away in the order of a map,
  highest first, or brought back into a blurred picture. If the map names what the model looked at,
  the prediction falls (or rises) sooner than in random order.
- *Scores against truth*: where it is known what was drawn, how well a symptom's similarity tells
  pictures with it from those without: among all, and among pictures of the same class, since whoever
  only knows the class scores above chance on every symptom that goes with it.
- *Pointing*: whether a map's highest place touches what was drawn, against chance.
- *Sanity* (Adebayo et al. 2018): the same of a model whose learned vectors are random.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from medvip.evaluation.ranking import auroc
from medvip.explanation.maps import Box
from medvip.methods import ViP

BLUR = 16.0
"""Standard deviation in pixels of the blur that stands for "not there": half a place of 32 pixels."""

Disc = tuple[float, float, float]
"""x, y, radius in pixels of the picture."""


# Deletion and insertion ----------------------------------------------------------------------


def blurred(
    pixels: Float[Tensor, "batch 3 size size"], deviation: float = BLUR
) -> Float[Tensor, "batch 3 size size"]:
    """Pictures through a Gaussian of that standard deviation, their rim mirrored."""
    reach = min(int(3 * deviation), pixels.shape[-1] - 1)
    along = torch.arange(-reach, reach + 1, dtype=pixels.dtype, device=pixels.device)
    weights = torch.exp(-(along**2) / (2 * deviation**2))
    weights = (weights / weights.sum()).expand(3, 1, 1, -1)
    wide = nn.functional.pad(pixels, [reach] * 4, mode="reflect")
    across = nn.functional.conv2d(wide, weights, groups=3)
    return nn.functional.conv2d(across, weights.transpose(2, 3), groups=3)


def highest_first(values: Float[np.ndarray, "row column"]) -> Int[np.ndarray, "place"]:
    """Places of a map, counted row by row, the highest first; equals in the order of the picture.

    Examples
    --------
    >>> highest_first(np.array([[0.1, 0.9], [0.9, -1.0]])).tolist()
    [1, 2, 0, 3]
    """
    return np.argsort(-values.ravel(), kind="stable")


def along_order(
    picture: Float[Tensor, "3 size size"],
    instead: Float[Tensor, "3 size size"],
    order: Int[np.ndarray, "place"],
    grid: tuple[int, int],
    steps: int,
) -> Float[Tensor, "step 3 size size"]:
    """A picture whose places are replaced by those of another, a few more at each step.

    Deletion: the picture, and its blurred self `instead`. Insertion: the other way round.

    Parameters
    ----------
    picture, instead
        As the image encoder takes them.
    order
        Places in the order of their replacement, counted row by row.
    grid
        Rows and columns of places.
    steps
        The result has one more: the picture as it is, and at the end `instead`.
    """
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    replaced = np.round(np.linspace(0, len(order), steps + 1))  # how many, at each step
    gone = torch.from_numpy(rank[None] < replaced[:, None]).view(steps + 1, 1, *grid)
    size = picture.shape[-1]
    rows, columns = (torch.arange(size) * number // size for number in grid)
    mask = gone[:, :, rows][:, :, :, columns].to(picture.device)
    return torch.where(mask, instead[None], picture[None])


def area_under(curve: Float[np.ndarray, "*image step"]) -> Float[np.ndarray, "*image"]:
    """Area under curves over equal steps from 0 to 1, by trapezoids.

    Examples
    --------
    >>> float(area_under(np.array([1.0, 0.5, 0.0])))
    0.5
    """
    return np.asarray((curve[..., 1:] + curve[..., :-1]).mean(-1) / 2)


# Scores against truth ------------------------------------------------------------------------


def auroc_within(
    scores: Float[np.ndarray, "image"],
    positive: Bool[np.ndarray, "image"],
    strata: Int[np.ndarray, "image"],
    weights: Float[np.ndarray, "resample image"],
) -> Float[np.ndarray, "resample"]:
    """How often a positive image scores above a negative one *of the same stratum*, ties counting half.

    A score that tells only the strata apart gets 0.5.

    Parameters
    ----------
    scores, positive, weights
        As in `medvip.evaluation.ranking.auroc`.
    strata
        Of each image: its class.

    Examples
    --------
    >>> scores, positive = np.array([1.0, 2.0, 8.0, 9.0]), np.array([False, True, False, True])
    >>> auroc_within(scores, positive, np.array([0, 0, 1, 1]), np.ones((1, 4))).tolist()
    [1.0]
    """
    won, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for stratum in np.unique(strata):
        some = strata == stratum
        areas = auroc(scores[some], positive[some], weights[:, some])
        number = (weights[:, some] * positive[some]).sum(1) * (weights[:, some] * ~positive[some]).sum(1)
        won += np.where(number > 0, np.nan_to_num(areas) * number, 0)
        pairs += number
    return np.where(pairs > 0, won / np.where(pairs > 0, pairs, 1), np.nan)


# Pointing ------------------------------------------------------------------------------------


def places_touched(box: Box, grid: tuple[int, int], discs: Sequence[Disc]) -> Bool[np.ndarray, "row column"]:
    """Which places of a grid laid over `box` have a point in common with any of the discs.

    Examples
    --------
    >>> places_touched((0.0, 0.0, 20.0, 20.0), (2, 2), [(12.0, 5.0, 1.0)]).tolist()
    [[False, True], [False, False]]
    """
    left, top, right, bottom = box
    rows, columns = grid
    xs, ys = np.linspace(left, right, columns + 1), np.linspace(top, bottom, rows + 1)
    touched = np.zeros(grid, dtype=bool)
    for x, y, radius in discs:
        across = np.clip(x, xs[:-1], xs[1:]) - x  # from the disc's middle to the nearest point of a place
        down = np.clip(y, ys[:-1], ys[1:]) - y
        touched |= down[:, None] ** 2 + across[None] ** 2 <= radius**2
    return touched


def places_inside(
    box: Box, grid: tuple[int, int], outline: Float[np.ndarray, "point 2"]
) -> Bool[np.ndarray, "row column"]:
    """Which places of a grid laid over `box` have their middle inside a closed outline (even-odd rule).

    Examples
    --------
    >>> square = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 10.0]])
    >>> places_inside((0.0, 0.0, 20.0, 20.0), (2, 2), square).tolist()
    [[True, False], [False, False]]
    """
    left, top, right, bottom = box
    rows, columns = grid
    xs = left + (np.arange(columns) + 0.5) / columns * (right - left)
    ys = top + (np.arange(rows) + 0.5) / rows * (bottom - top)
    inside = np.zeros(grid, dtype=bool)
    for (x, y), (next_x, next_y) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        crosses = (y > ys) != (next_y > ys)
        if y != next_y:
            at = x + (ys - y) / (next_y - y) * (next_x - x)
            inside ^= crosses[:, None] & (xs[None] < at[:, None])
    return inside


def points_at(values: Float[np.ndarray, "row column"], touched: Bool[np.ndarray, "row column"]) -> bool:
    """Whether the highest place of a map is among those touched; of equals, the first."""
    return bool(touched.ravel()[highest_first(values)[0]])


# Sanity --------------------------------------------------------------------------------------


@torch.no_grad()
def with_random_prompts(method: ViP, seed: int) -> ViP:
    """The same method with context, g, W_q and W_k drawn anew, as before training."""
    other = type(method)(method.backbone, method.symptoms, **{**method.options(), "seed": seed})
    model = other._model(method.classes)
    other._keep(method.classes, model)
    return other
