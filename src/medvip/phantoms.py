"""Phantoms: drawn pictures of skin lesions whose symptoms are known because they were drawn.

They are for the demo, the tests, and for asking whether an explanation points at what is really
there. They look a little like dermoscopy and are not medical pictures: nothing learned from
them says anything about skin.

A lesion is *suspicious* when at least two of four symptoms were drawn, else *harmless*:

- ``asymmetric``: it bulges out on one side and is bitten into on another;
- ``jagged_edge``: its border runs in irregular spikes;
- ``several_colours``: patches of black, blue-grey, red or white lie in the brown;
- ``dark_dots``: small dark dots are scattered over it.

No single symptom decides. Skin colour, light, hairs, blur, and the lesion's size, place and
brown do not depend on the class.

The way: `plan_phantoms` draws lots (what is where), `paint` turns one plan into pixels,
`draw_phantoms` writes a data set. All coordinates are in pixels, x to the right, y down.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFilter

from medvip.errors import DataError, UsageError
from medvip.types import Split

CLASSES = ("harmless", "suspicious")
SYMPTOMS = ("asymmetric", "jagged_edge", "several_colours", "dark_dots")

#: Raised whenever the same seed would give other pictures.
VERSION = 1
#: Fewer could leave a class without validation images.
FEWEST = 40

PALETTE = {
    "black": (38, 30, 32),
    "blue-grey": (100, 112, 138),
    "red": (180, 62, 60),
    "white": (232, 214, 202),
}
SKIN_TONES = ((244, 214, 194), (234, 196, 170), (222, 178, 150), (204, 158, 126), (186, 138, 108))
LESION_BROWNS = ((178, 122, 86), (156, 100, 68), (132, 84, 60), (164, 98, 80), (146, 106, 76))
HAIR_COLOURS = ((40, 28, 24), (74, 50, 36), (120, 88, 58), (176, 148, 108))

README = """# Phantoms: drawn, not medical

{images} pictures of skin lesions **drawn by a program** (medvip, `medvip.phantoms`, version
{version}, seed {seed}). No patient, no camera, no diagnosis: they exist so that a classifier can be
tried out, and its explanations checked, on pictures whose symptoms are known because they were
drawn. Do not use them, or a model trained on them, for anything medical.

- A lesion is *suspicious* when at least two of four symptoms were drawn (asymmetric shape, jagged
  edge, several colours, dark dots), else *harmless*.
- `split.csv`: path, class, "patient" (1 to 3 pictures with the same skin and hair), split.
- `truth.json`: for each picture what was drawn, and where (pixels; x to the right, y down):
  `symptoms`, the lesion's `outline` as [x, y] points, and `marks`: for each symptom that is there
  a list of discs [x, y, radius] that it lies in.
- `phantoms.json`: what made this folder.
"""


@dataclass(frozen=True)
class Patient:
    """What the pictures of one patient share."""

    name: str
    label: str
    skin: tuple[float, float, float]
    hair: tuple[float, float, float]
    hairs: int


@dataclass(frozen=True)
class Patch:
    """A patch of another colour inside the lesion: a disc with a wavy border."""

    colour: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Phantom:
    """The plan of one picture: all that is true of it.

    Attributes
    ----------
    name
        Number of the picture, for its file name.
    patient, label, split
        To whom it belongs, its class, and where it is used.
    symptoms
        Those of `SYMPTOMS` that were drawn.
    size
        Width and height in pixels.
    outline
        The lesion's border, [point, 2] as x and y in pixels.
    x, y
        The point that the outline goes around.
    radius
        Of a disc of the lesion's area, in pixels.
    bulge, notch
        Angles of the asymmetric shape's bulge and notch, or None.
    spikes
        Angles of the jagged edge's outward tips.
    patches, dots
        Patches of other colours; dark dots as [dot, 3]: x, y, radius.
    brown
        The lesion's main colour.
    seed
        For all that means nothing: texture, light, hairs, blur.
    """

    name: str
    patient: Patient
    split: Split
    symptoms: tuple[str, ...]
    size: int
    outline: Float[np.ndarray, "point 2"]
    x: float
    y: float
    radius: float
    bulge: float | None
    notch: float | None
    spikes: tuple[float, ...]
    patches: tuple[Patch, ...]
    dots: Float[np.ndarray, "dot 3"]
    brown: tuple[float, float, float]
    seed: tuple[int, ...]

    @property
    def label(self) -> str:
        """Its class."""
        return self.patient.label

    @property
    def path(self) -> str:
        """Where its picture is, within the data set's folder."""
        return f"{self.label}/{self.name}.jpg"

    def marks(self) -> dict[str, list[tuple[float, float, float]]]:
        """For each symptom that is there, the discs (x, y, radius) that it lies in."""
        found: dict[str, list[tuple[float, float, float]]] = {}
        if self.bulge is not None and self.notch is not None:
            found["asymmetric"] = [self._on_outline(a, 0.4 * self.radius) for a in (self.bulge, self.notch)]
        if self.spikes:
            found["jagged_edge"] = [self._on_outline(a, 0.15 * self.radius) for a in self.spikes]
        if self.patches:
            found["several_colours"] = [(patch.x, patch.y, patch.radius) for patch in self.patches]
        if len(self.dots):
            found["dark_dots"] = [(x, y, radius) for x, y, radius in self.dots.tolist()]
        return found

    def _on_outline(self, angle: float, radius: float) -> tuple[float, float, float]:
        nearest = round(angle / (2 * math.pi) * len(self.outline)) % len(self.outline)
        x, y = self.outline[nearest]
        return float(x), float(y), radius

    def to_json(self) -> dict[str, Any]:
        """One entry of ``truth.json``: small, coordinates rounded to a tenth of a pixel."""
        return {
            "path": self.path,
            "label": self.label,
            "patient": self.patient.name,
            "split": self.split,
            "symptoms": {symptom: symptom in self.symptoms for symptom in SYMPTOMS},
            "lesion": {"x": round(self.x, 1), "y": round(self.y, 1), "radius": round(self.radius, 1)},
            "colours": [patch.colour for patch in self.patches],
            "outline": np.round(self.outline[::4], 1).tolist(),
            "marks": {
                symptom: [[round(number, 1) for number in disc] for disc in discs]
                for symptom, discs in self.marks().items()
            },
        }


# The plan ------------------------------------------------------------------------------------


def plan_phantoms(images: int = 320, seed: int = 1, size: int = 224) -> tuple[Phantom, ...]:
    """Draw lots for a whole data set: patients, splits, symptoms, shapes. Nothing is painted.

    Parameters
    ----------
    images
        Number of pictures, at least 40; half of them (rounded down) are suspicious.
    seed
        The same seed gives the same plans.
    size
        Width and height in pixels, at least 64.

    Returns
    -------
    tuple[Phantom, ...]
        In no particular order of classes; every class in every split (60/15/25), every patient
        in one class and one split.

    Raises
    ------
    UsageError
        Too few or too small pictures.

    Examples
    --------
    >>> plans = plan_phantoms(images=40, seed=1)
    >>> len(plans), sorted({plan.label for plan in plans}), sorted({plan.split for plan in plans})
    (40, ['harmless', 'suspicious'], ['test', 'train', 'val'])
    >>> all((len(plan.symptoms) >= 2) == (plan.label == "suspicious") for plan in plans)
    True
    """
    if images < FEWEST:
        raise UsageError(f"{images} phantoms are too few", fix=f"ask for at least {FEWEST}")
    if size < 64:
        raise UsageError(f"phantoms of {size} pixels show nothing", fix="ask for at least 64 pixels")
    if seed < 0:
        raise UsageError(f"seed {seed} is negative", fix="use 0 or more")
    rng = np.random.default_rng(seed)
    members: list[tuple[str, int, Split]] = []
    for label, number in (("harmless", images - images // 2), ("suspicious", images // 2)):
        for pictures, split in _patients_of_class(number, rng):
            members.append((label, pictures, split))
    plans: list[Phantom] = []
    names = iter(rng.permutation(images))
    for number, place in enumerate(rng.permutation(len(members))):
        label, pictures, split = members[place]
        patient = _plan_patient(f"patient-{number:03d}", label, rng)
        for _ in range(pictures):
            name = int(next(names))
            plans.append(_plan_lesion(f"{name:04d}", patient, split, size, (seed, name)))
    return tuple(plans)


def _patients_of_class(images: int, rng: np.random.Generator) -> list[tuple[int, Split]]:
    """Patients with 1 to 3 pictures each, shared out 60/15/25 by pictures."""
    patients: list[tuple[int, Split]] = []
    before = 0
    while before < images:
        pictures = min(int(rng.integers(1, 4)), images - before)
        split: Split = "train" if before < 0.6 * images else "val" if before < 0.75 * images else "test"
        patients.append((pictures, split))
        before += pictures
    return patients


def _plan_patient(name: str, label: str, rng: np.random.Generator) -> Patient:
    hairy = rng.random() < 0.55
    return Patient(
        name=name,
        label=label,
        skin=_between(SKIN_TONES, rng),
        hair=_between(HAIR_COLOURS, rng),
        hairs=int(rng.integers(2, 10)) if hairy else 0,
    )


def _between(
    colours: tuple[tuple[int, int, int], ...], rng: np.random.Generator
) -> tuple[float, float, float]:
    """A colour on the way between two of the list."""
    first, second = rng.choice(len(colours), size=2, replace=False)
    mixed = np.array(colours[first]) + rng.random() * (np.array(colours[second]) - colours[first])
    red, green, blue = mixed.tolist()
    return red, green, blue


def _plan_lesion(name: str, patient: Patient, split: Split, size: int, seed: tuple[int, ...]) -> Phantom:
    """Everything about one picture, from a generator of its own."""
    rng = np.random.default_rng([*seed, 0])
    if patient.label == "suspicious":
        number = int(rng.choice([2, 3, 4], p=[0.55, 0.35, 0.1]))
    else:
        number = int(rng.choice([0, 1], p=[0.3, 0.7]))
    drawn = set(rng.choice(len(SYMPTOMS), size=number, replace=False).tolist())
    symptoms = tuple(symptom for place, symptom in enumerate(SYMPTOMS) if place in drawn)

    radius = size * rng.uniform(0.17, 0.28)
    distance, bulge, notch, spikes = _plan_outline(symptoms, rng)
    angles = np.arange(len(distance)) * (2 * np.pi / len(distance))
    around = radius * distance[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    centre = _inside(size * rng.uniform(0.42, 0.58, size=2), around, size)
    patches = _plan_patches(centre, radius, distance, rng) if "several_colours" in symptoms else ()
    dots = (
        _plan_dots(centre, radius, distance, patches, size, rng)
        if "dark_dots" in symptoms
        else np.zeros((0, 3))
    )
    return Phantom(
        name=name,
        patient=patient,
        split=split,
        symptoms=symptoms,
        size=size,
        outline=centre + around,
        x=float(centre[0]),
        y=float(centre[1]),
        radius=float(radius),
        bulge=bulge,
        notch=notch,
        spikes=spikes,
        patches=patches,
        dots=dots,
        brown=_between(LESION_BROWNS, rng),
        seed=seed,
    )


def _inside(centre: np.ndarray, around: np.ndarray, size: int) -> np.ndarray:
    """The centre, moved so that the whole outline lies in the picture where it can."""
    margin = 0.03 * size
    centre = np.minimum(centre, size - margin - around.max(axis=0))
    return np.maximum(centre, margin - around.min(axis=0))


def _plan_outline(
    symptoms: tuple[str, ...], rng: np.random.Generator, points: int = 480
) -> tuple[Float[np.ndarray, "point"], float | None, float | None, tuple[float, ...]]:
    """Distance of the border from the centre in each direction; the area is that of a unit disc.

    So neither a bulge nor spikes make a lesion larger. Also returns the angles of bulge, notch
    and outward tips.
    """
    angles = np.arange(points) * (2 * np.pi / points)
    aspect, turn = rng.uniform(0.76, 1.0), rng.uniform(0, np.pi)
    distance = 1 / np.hypot(np.cos(angles - turn), np.sin(angles - turn) / aspect)
    for waves in (2, 3, 4, 5):  # nothing that grows is a perfect ellipse
        distance *= 1 + rng.uniform(0, 0.035) * np.cos(waves * angles + rng.uniform(0, 2 * np.pi))

    bulge = notch = None
    if "asymmetric" in symptoms:
        bulge = float(rng.uniform(0, 2 * np.pi))
        side = rng.choice([-1, 1])
        notch = float((bulge + side * rng.uniform(1.7, 2.5)) % (2 * np.pi))
        distance *= 1 + rng.uniform(0.5, 0.85) * np.exp(3.5 * (np.cos(angles - bulge) - 1))
        distance *= 1 - rng.uniform(0.42, 0.6) * np.exp(7.0 * (np.cos(angles - notch) - 1))

    spikes: tuple[float, ...] = ()
    if "jagged_edge" in symptoms:
        zigzag, spikes = _zigzag(angles, rng)
        distance *= 1 + rng.uniform(0.1, 0.26) * zigzag
    return distance / np.sqrt(np.mean(distance**2)), bulge, notch, spikes


def _zigzag(
    angles: Float[np.ndarray, "point"], rng: np.random.Generator
) -> tuple[Float[np.ndarray, "point"], tuple[float, ...]]:
    """Irregular spikes around a circle, from -1 (inward) to 1 (outward), and where the tips are."""
    teeth = int(rng.integers(11, 23))
    widths = rng.gamma(4.0, size=2 * teeth) + 0.8  # of very different width, none too thin to see
    corners = np.cumsum(widths) / widths.sum() * 2 * np.pi
    stronger_on_a_side = 1 + 0.35 * np.cos(corners - rng.uniform(0, 2 * np.pi))
    heights = rng.uniform(0.3, 1.0, size=2 * teeth) * np.tile([1.0, -0.7], teeth) * stronger_on_a_side
    return np.interp(angles, corners, heights, period=2 * np.pi), tuple(
        float(corner % (2 * np.pi)) for corner in corners[::2]
    )


def _plan_patches(
    centre: np.ndarray, radius: float, distance: np.ndarray, rng: np.random.Generator
) -> tuple[Patch, ...]:
    """Three or four patches of different colours, spread around the centre."""
    colours = rng.permutation(list(PALETTE))[: rng.integers(3, 5)]
    start = rng.uniform(0, 2 * np.pi)
    patches = []
    for place, colour in enumerate(colours):
        angle = (start + 2 * np.pi * (place + rng.uniform(-0.2, 0.2)) / len(colours)) % (2 * np.pi)
        border = distance[int(angle / (2 * np.pi) * len(distance))]
        away = radius * border * rng.uniform(0.45, 0.62)
        patches.append(
            Patch(
                str(colour),
                x=float(centre[0] + away * np.cos(angle)),
                y=float(centre[1] + away * np.sin(angle)),
                radius=float(radius * rng.uniform(0.27, 0.4)),
            )
        )
    return tuple(patches)


def _plan_dots(
    centre: np.ndarray,
    radius: float,
    distance: np.ndarray,
    patches: tuple[Patch, ...],
    size: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "dot 3"]:
    """Six to sixteen dots inside the lesion, apart from each other and not on black."""
    black = [patch for patch in patches if patch.colour == "black"]
    wanted = int(rng.integers(6, 17))
    dots: list[tuple[float, float, float]] = []
    for _ in range(40 * wanted):
        angle = rng.uniform(0, 2 * np.pi)
        border = distance[int(angle / (2 * np.pi) * len(distance))]
        away = radius * border * 0.85 * np.sqrt(rng.random())
        x, y = centre[0] + away * np.cos(angle), centre[1] + away * np.sin(angle)
        dot = size / 224 * rng.uniform(1.5, 3.0)
        apart = all(math.hypot(x - a, y - b) > 2.2 * (dot + c) for a, b, c in dots)
        seen = all(math.hypot(x - p.x, y - p.y) > 1.35 * p.radius + 2 * dot for p in black)
        if apart and seen:
            dots.append((float(x), float(y), float(dot)))
        if len(dots) == wanted:
            break
    return np.array(dots).reshape(-1, 3)


# The picture ---------------------------------------------------------------------------------


def paint(plan: Phantom) -> UInt8[np.ndarray, "height width 3"]:
    """The pixels of one plan.

    Parameters
    ----------
    plan
        One of `plan_phantoms`.

    Returns
    -------
    UInt8[np.ndarray, "height width 3"]
        RGB, 0 to 255.

    Examples
    --------
    >>> paint(plan_phantoms(images=40, size=64)[0]).shape
    (64, 64, 3)
    """
    rng = np.random.default_rng([*plan.seed, 1])
    canvas = _skin(plan, rng)
    cover = _lesion_cover(plan, rng)
    lesion = _lesion_colours(plan, rng)
    canvas += cover[..., None] * (lesion - canvas)
    canvas = _with_hairs(canvas, plan, rng)
    return _photographed(canvas, rng)


def _skin(plan: Phantom, rng: np.random.Generator) -> Float[np.ndarray, "height width 3"]:
    """Skin: one tone, mottled, with redder and paler areas and a fine grain."""
    mottle = 0.05 * _noise(plan.size, 5, rng) + 0.025 * _noise(plan.size, 40, rng)
    redness = 0.035 * (1 + _noise(plan.size, 4, rng))
    tint = 1 + mottle[..., None] + redness[..., None] * np.array([0.4, -1.0, -0.7])
    return np.array(plan.patient.skin) * tint


def _lesion_cover(plan: Phantom, rng: np.random.Generator) -> Float[np.ndarray, "height width"]:
    """How much of each pixel the lesion covers, 0 to 1.

    A border may be soft or sharp, whatever its symptoms.
    """
    scale = 2
    mask = Image.new("L", (scale * plan.size, scale * plan.size))
    corners = [(scale * float(x), scale * float(y)) for x, y in plan.outline]
    ImageDraw.Draw(mask).polygon(corners, fill=255)
    softness = scale * plan.size / 224 * rng.uniform(0.5, 2.0)
    mask = mask.filter(ImageFilter.GaussianBlur(softness)).resize(
        (plan.size, plan.size), Image.Resampling.BOX
    )
    return np.asarray(mask, dtype=np.float64) / 255 * rng.uniform(0.88, 1.0)


def _lesion_colours(plan: Phantom, rng: np.random.Generator) -> Float[np.ndarray, "height width 3"]:
    """The lesion's inside, painted over the whole picture: brown, then patches, then dots.

    Browns differ within any lesion, and any may have a few pale, soft spots: those are no symptom.
    """
    size = plan.size
    across, down = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    towards_edge = np.hypot(across - plan.x, down - plan.y) / plan.radius
    shade = rng.uniform(-0.14, 0.14) * (1 - towards_edge) + 0.06 * _noise(size, 9, rng)
    shade += rng.uniform(0.02, 0.1) * _noise(size, 30, rng)
    warmth = rng.uniform(0, 0.09) * _noise(size, 6, rng)
    colours = np.array(plan.brown) * (1 + shade[..., None] + warmth[..., None] * np.array([1, 0, -1]))
    for _ in range(int(rng.choice([0, 3, 7], p=[0.5, 0.25, 0.25]))):
        x, y = np.array([plan.x, plan.y]) + plan.radius * rng.uniform(-0.7, 0.7, size=2)
        spot = size / 224 * rng.uniform(3, 6)
        near = _window(x, y, 3 * spot, size)
        pale = 0.22 * np.exp(-((across[near] - x) ** 2 + (down[near] - y) ** 2) / spot**2)
        colours[near] *= 1 - rng.choice([-1, 1]) * pale[..., None]

    waves = _noise(size, 12, rng) + 0.5 * _noise(size, 28, rng)
    opacity = rng.uniform(0.5, 0.9)
    for patch in plan.patches:
        near = _window(patch.x, patch.y, 2 * patch.radius, size)
        away = np.hypot(across[near] - patch.x, down[near] - patch.y) / patch.radius + 0.4 * waves[near]
        cover = opacity * np.clip((1.15 - away) / 0.4, 0, 1)
        colours[near] += cover[..., None] * (np.array(PALETTE[patch.colour]) - colours[near])

    dark = np.array(plan.brown) * rng.uniform(0.16, 0.45)
    for x, y, radius in plan.dots:
        near = _window(x, y, radius + 2, size)
        cover = np.clip((radius + 0.7 - np.hypot(across[near] - x, down[near] - y)) / 1.4, 0, 1)
        colours[near] += cover[..., None] * (dark - colours[near])
    return colours


def _window(x: float, y: float, reach: float, size: int) -> tuple[slice, slice]:
    """The rows and columns within `reach` of a point, cut to the picture."""
    rows = slice(max(0, math.floor(y - reach)), min(size, math.ceil(y + reach)))
    return rows, slice(max(0, math.floor(x - reach)), min(size, math.ceil(x + reach)))


def _with_hairs(
    canvas: Float[np.ndarray, "height width 3"], plan: Phantom, rng: np.random.Generator
) -> Float[np.ndarray, "height width 3"]:
    """The patient's hairs, each a bent line across the picture."""
    if not plan.patient.hairs:
        return canvas
    size, scale = plan.size, 3
    mask = Image.new("L", (scale * size, scale * size))
    pen = ImageDraw.Draw(mask)
    along = np.linspace(0, 1, 24)[:, None]
    for _ in range(max(1, plan.patient.hairs + int(rng.integers(-2, 3)))):
        middle, bow = rng.uniform(0, 1, size=2), rng.uniform(-0.25, 0.25)
        angle, half = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.6)
        way = half * np.array([np.cos(angle), np.sin(angle)])
        start, end = scale * size * (middle - way), scale * size * (middle + way)
        bend = scale * size * (middle + 2 * bow * half * np.array([-np.sin(angle), np.cos(angle)]))
        curve = (1 - along) ** 2 * start + 2 * along * (1 - along) * bend + along**2 * end
        width = max(1, round(scale * size / 224 * rng.uniform(0.7, 1.7)))
        pen.line([(float(x), float(y)) for x, y in curve], fill=255, width=width, joint="curve")
    cover = np.asarray(mask.resize((size, size), Image.Resampling.BOX), dtype=np.float64) / 255
    return canvas + rng.uniform(0.6, 0.9) * cover[..., None] * (np.array(plan.patient.hair) - canvas)


def _photographed(
    canvas: Float[np.ndarray, "height width 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "height width 3"]:
    """Light from one side, darker corners, colour cast, a lens not quite sharp, sensor noise."""
    size = len(canvas)
    side = np.linspace(-1, 1, size)
    angle = rng.uniform(0, 2 * np.pi)
    light = 1 + rng.uniform(0, 0.13) * (np.cos(angle) * side[None, :] + np.sin(angle) * side[:, None])
    corner = np.clip(np.hypot(side[None, :], side[:, None]) - 0.75, 0, None)
    light *= 1 - rng.uniform(0, 0.9) * corner**1.5
    light *= rng.uniform(0.86, 1.06)
    cast = 1 + rng.uniform(-0.04, 0.04, size=3)
    lit = np.clip(canvas * light[..., None] * cast, 0, 255).astype(np.uint8)
    blurred = Image.fromarray(lit).filter(ImageFilter.GaussianBlur(size / 224 * rng.uniform(0.2, 1.1)))
    noise = rng.normal(0, rng.uniform(1.0, 4.0), size=(size, size, 1))
    return np.clip(np.asarray(blurred) + noise, 0, 255).round().astype(np.uint8)


def _noise(size: int, cells: int, rng: np.random.Generator) -> Float[np.ndarray, "height width"]:
    """Smooth noise around 0, mostly within -1 and 1, with about `cells` bumps across."""
    coarse = Image.fromarray(rng.uniform(-1, 1, size=(cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float64)


# The folder ----------------------------------------------------------------------------------


def draw_phantoms(folder: Path, *, images: int = 320, seed: int = 1, size: int = 224) -> Path:
    """Write a data set of phantoms: pictures, ``split.csv``, ``truth.json``, a README.

    The folder is written whole or not at all. If it already holds the very same phantoms they
    are used as they are.

    Parameters
    ----------
    folder
        Where to; it may exist if it is empty. Parents are made.
    images
        Number of pictures, at least 40.
    seed
        The same seed gives the same bytes (with the same versions of numpy and Pillow).
    size
        Width and height in pixels, at least 64.

    Returns
    -------
    Path
        The folder: ``<class>/<number>.jpg`` and the files beside.

    Raises
    ------
    DataError
        The folder holds something else, or cannot be written.
    UsageError
        Too few or too small pictures.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     folder = draw_phantoms(Path(place) / "phantoms", images=40, size=64)
    ...     sorted(path.name for path in folder.iterdir())
    ['README.md', 'harmless', 'phantoms.json', 'split.csv', 'suspicious', 'truth.json']
    """
    folder = Path(folder)
    made_by = {"made_by": "medvip.phantoms", "version": VERSION, "images": images, "seed": seed, "size": size}
    plans = plan_phantoms(images, seed, size)
    if _is_taken(folder, made_by):
        return folder
    partial = folder.absolute().with_name(f".{folder.absolute().name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        partial.mkdir(parents=True)
        _write(partial, plans, made_by)
        if folder.exists():
            folder.rmdir()  # it is empty; on Windows, rename would not replace it
        partial.rename(folder)
    except OSError as error:
        if _is_taken(folder, made_by):  # another process was quicker
            return folder
        raise DataError(
            f"phantoms cannot be written to {folder}: {error.strerror or error}",
            fix="choose a folder that can be written, on a disk with 20 MB to spare",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _is_taken(folder: Path, made_by: dict[str, Any]) -> bool:
    """Whether the folder holds these very phantoms; anything else in it is an error."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    if not folder.is_dir():
        raise DataError(f"{folder} is a file", fix="name a folder for the phantoms")
    try:
        manifest = json.loads((folder / "phantoms.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DataError(
            f"{folder} is not empty, and what it holds are not phantoms",
            fix="name a new or empty folder for the phantoms",
        ) from None
    if not isinstance(manifest, dict) or any(manifest.get(key) != made_by[key] for key in made_by):
        raise DataError(
            f"{folder} holds other phantoms (other seed, number, size or version)",
            fix="name a new folder, or delete this one",
        )
    if manifest.get("digest") != _digest(folder):
        raise DataError(
            f"the phantoms in {folder} were changed since they were drawn",
            fix="delete the folder, or name a new one, and they are drawn afresh",
        )
    return True


def _write(folder: Path, plans: tuple[Phantom, ...], made_by: dict[str, Any]) -> None:
    for label in CLASSES:
        (folder / label).mkdir()
    for plan in plans:
        Image.fromarray(paint(plan)).save(folder / plan.path, quality=92, subsampling=0)
    listed = sorted(plans, key=lambda plan: plan.path)
    with (folder / "split.csv").open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(["path", "label", "patient_or_group", "split"])
        rows.writerows([plan.path, plan.label, plan.patient.name, plan.split] for plan in listed)
    entries = ",\n".join(json.dumps(plan.to_json()) for plan in listed)
    head = json.dumps({**made_by, "symptoms": SYMPTOMS})[:-1]
    (folder / "truth.json").write_text(f'{head}, "images": [\n{entries}\n]}}\n', encoding="utf-8")
    (folder / "README.md").write_text(README.format(**made_by), encoding="utf-8")
    manifest = {**made_by, "digest": _digest(folder)}
    (folder / "phantoms.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _digest(folder: Path) -> str:
    """One number for all pictures and tables of the folder."""
    digest = hashlib.sha256()
    tables = [folder / "split.csv", folder / "truth.json"]
    for path in tables + sorted(path for label in CLASSES for path in (folder / label).glob("*.jpg")):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes() if path.is_file() else b"missing")
    return digest.hexdigest()
