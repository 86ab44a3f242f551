"""A failure's symptom maps as small pictures: colour over the picture in grey.

Colours and strength are those of `medvip.explanation.drawing`; here they are put together without
drawing axes, a hundred times faster, since a report has hundreds of them.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageColor

from medvip.evaluation.plot_style import AGAINST, FOR
from medvip.explanation.contributions import Explanation
from medvip.explanation.maps import WHAT, Box, SymptomMaps
from medvip.explanation.report.content import FailureMaps, MapPanel
from medvip.explanation.report.thumbnails import thumbnail

SIDE = 176
"""Longer side of a map, in pixels."""


def maps_of_failure(explanation: Explanation, picture: Image.Image, classes: tuple[str, ...]) -> FailureMaps:
    """The maps of some classes' symptoms, all on one symmetric scale, and those of their class vectors.

    Parameters
    ----------
    explanation
        With maps.
    picture
        What was explained, RGB.
    classes
        Names, in the order in which they are shown.
    """
    maps = explanation.maps
    assert maps is not None
    position = {part.class_name: c for c, part in enumerate(explanation.classes)}
    chosen = [(explanation.of_class(name), position[name]) for name in classes]
    largest = max(float(np.abs(maps.symptoms[c, : len(part.symptoms)]).max()) for part, c in chosen)
    of_vectors = max(float(np.abs(maps.class_vector[c]).max()) for _, c in chosen) if maps.exact else 0.0
    panels = []
    for part, c in chosen:
        for i, share in enumerate(part.symptoms):
            shown = overlay(picture, maps, maps.symptoms[c, i], largest)
            panels.append(MapPanel(part.class_name, share.symptom, thumbnail(shown, SIDE)))
        if of_vectors > 0:
            shown = overlay(picture, maps, maps.class_vector[c], of_vectors)
            panels.append(MapPanel(part.class_name, None, thumbnail(shown, SIDE)))
    return FailureMaps(WHAT[maps.kind], tuple(panels), largest, of_vectors or None)


def overlay(
    picture: Image.Image, maps: SymptomMaps, values: Float[np.ndarray, "row column"], largest: float
) -> Image.Image:
    """One map over the part of the picture that the backbone saw, strong where its number is large.

    Blue is for, vermilion against, white nothing; the picture is grey and pale beneath.

    Parameters
    ----------
    picture
        RGB.
    maps
        Say where the map lies.
    values
        Of each place.
    largest
        What is shown at full strength.
    """
    left, top, right, bottom = maps.box
    factor = SIDE / max(right - left, bottom - top)
    size = (max(1, round(factor * (right - left))), max(1, round(factor * (bottom - top))))
    seen = picture.convert("L").resize(size, Image.Resampling.BILINEAR, box=_inside(maps.box, picture.size))
    grey = 40 + np.asarray(seen, dtype=np.float64)[..., None] * (215 / 255)
    scaled = np.clip(values / (largest or 1.0), -1, 1)
    between = Image.Resampling.BILINEAR if maps.exact else Image.Resampling.NEAREST
    strength = np.asarray(Image.fromarray(scaled.astype(np.float32)).resize(size, between), dtype=np.float64)[
        ..., None
    ]
    ends = {sign: np.array(ImageColor.getrgb(colour)) for sign, colour in ((1, FOR), (-1, AGAINST))}
    colour = 255 + np.abs(strength) * (np.where(strength > 0, ends[1], ends[-1]) - 255)
    opacity = 0.1 + 0.7 * np.abs(strength)
    return Image.fromarray(np.rint(grey + opacity * (colour - grey)).astype(np.uint8))


def _inside(box: Box, size: tuple[int, int]) -> Box:
    """The box cut to the picture: a preprocessor that pads looks beyond it."""
    width, height = size
    left, top, right, bottom = box
    return max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom)
