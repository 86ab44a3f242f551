"""Scenes of blobs and streaks on a textured ground, drawn from a few named numbers.

They look like nothing in particular. What they are for is variety: light and dark, grey and coloured,
smooth and grainy, empty and crowded, sharp and blurred, as medical pictures of many kinds are. The
embedded backbone takes from them how far each of its numbers usually moves
(`medvip.backbones.image_space`), so that this does not hang on anybody's patients.

The way: `random_scene` draws lots, `draw` turns one scene into pixels. The same scene gives the same pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

VERSION = 1
"""Raised whenever the same seed would give other pictures."""
SIDE = 224

Colour = tuple[float, float, float]
"""Red, green and blue; 0 is black and 1 is white, what lies beyond is cut off when it is drawn."""


@dataclass(frozen=True)
class Scene:
    """What is drawn. Lengths are shares of the picture's side, amplitudes shares of full brightness.

    Attributes
    ----------
    seed
        Of everything that has no number of its own: places, contours, noise.
    ground, colour
        Of the background and of the objects; three equal numbers are grey.
    unevenness
        Amplitude of the slow changes of the ground's brightness.
    grain, grain_size
        Amplitude and width of the fine noise over all.
    objects
        How many.
    radius
        Of a typical object.
    raggedness
        How far a contour departs from an ellipse, as a share of its radius.
    softness
        Width of an object's edge.
    mottling
        Amplitude of the texture inside objects.
    streaks, streak_width
        How many crooked lines cross the picture, and how wide.
    blur
        Standard deviation of the blur over all.
    contrast
        1 leaves brightness as it is, less moves it towards the middle.
    dark_corners
        How much darker the corners are than the middle.
    """

    seed: int
    ground: Colour
    colour: Colour
    unevenness: float
    grain: float
    grain_size: float
    objects: int
    radius: float
    raggedness: float
    softness: float
    mottling: float
    streaks: int
    streak_width: float
    blur: float
    contrast: float
    dark_corners: float


def random_scene(seed: int) -> Scene:
    """A scene by lot. Four in ten are grey; each trait is absent in some and strong in others.

    Examples
    --------
    >>> random_scene(3) == random_scene(3), random_scene(3) == random_scene(4)
    (True, False)
    """
    random = np.random.default_rng([VERSION, seed])

    def sometimes(chance: float, low: float, high: float) -> float:
        """0, or with that chance a number between, small ones as likely as large ones by ratio."""
        drawn = math.exp(random.uniform(math.log(low), math.log(high)))
        return drawn if random.random() < chance else 0.0

    def colour() -> Colour:
        red, green, blue = random.random() + saturation * random.uniform(-0.5, 0.5, 3)
        return (red, green, blue)

    saturation = 0.0 if random.random() < 0.4 else float(random.random())
    radius = float(math.exp(random.uniform(math.log(0.03), math.log(0.4))))
    most = max(1, min(40, int(0.25 / radius**2)))
    return Scene(
        seed=seed,
        ground=colour(),
        colour=colour(),
        unevenness=sometimes(0.8, 0.02, 0.3),
        grain=sometimes(0.8, 0.01, 0.2),
        grain_size=float(random.uniform(0.002, 0.02)),
        objects=0 if random.random() < 0.1 else int(random.integers(1, most + 1)),
        radius=radius,
        raggedness=sometimes(0.8, 0.02, 0.4),
        softness=float(math.exp(random.uniform(math.log(0.003), math.log(0.08)))),
        mottling=sometimes(0.7, 0.02, 0.3),
        streaks=int(random.integers(1, 15)) if random.random() < 0.4 else 0,
        streak_width=float(random.uniform(0.004, 0.03)),
        blur=sometimes(0.4, 0.003, 0.02),
        contrast=1.0 if random.random() < 0.6 else float(random.uniform(0.3, 1.0)),
        dark_corners=sometimes(0.3, 0.1, 0.8),
    )


def draw(scene: Scene) -> UInt8[np.ndarray, "224 224 3"]:
    """The pixels of a scene, RGB."""
    random = np.random.default_rng([VERSION, scene.seed, 1])
    light = scene.unevenness * _noise(random, 0.3)
    picture = np.array(scene.ground) + light[..., None]
    texture = scene.mottling * _noise(random, 0.04)
    for _ in range(scene.objects):
        inside = _object(random, scene)[..., None]
        shade = np.array(scene.colour) + random.normal(0, 0.06) + texture[..., None]
        picture += inside * (shade - picture)
    if scene.streaks:
        lines = _streaks(random, scene)[..., None]
        picture += lines * (np.array(scene.colour) * random.uniform(0.3, 1.3) - picture)
    from scipy.ndimage import gaussian_filter

    if scene.blur:
        picture = gaussian_filter(picture, (scene.blur * SIDE, scene.blur * SIDE, 0))
    picture += scene.grain * _noise(random, scene.grain_size)[..., None]
    x, y = _places()
    picture *= 1 - scene.dark_corners * np.clip(2 * (x**2 + y**2), 0, 1)[..., None]
    picture = 0.5 + scene.contrast * (picture - 0.5)
    return np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)


def _places() -> tuple[Float[np.ndarray, "224 224"], Float[np.ndarray, "224 224"]]:
    """How far each pixel is right of and below the middle."""
    steps = (np.arange(SIDE) + 0.5) / SIDE - 0.5
    return np.broadcast_to(steps, (SIDE, SIDE)), np.broadcast_to(steps[:, None], (SIDE, SIDE))


def _noise(random: np.random.Generator, width: float) -> Float[np.ndarray, "224 224"]:
    """Smooth noise with mean 0 and deviation 1, whose hills are about `width` of the picture wide."""
    cells = max(3, min(SIDE, round(1 / width) + 2))
    coarse = Image.fromarray(random.standard_normal((cells, cells)).astype(np.float32))
    fine = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float64)
    return (fine - fine.mean()) / fine.std()


def _object(random: np.random.Generator, scene: Scene) -> Float[np.ndarray, "224 224"]:
    """How much of each pixel an object covers, from 0 to 1."""
    x, y = _places()
    x, y = x - random.uniform(-0.4, 0.4), y - random.uniform(-0.4, 0.4)
    turn, stretch = random.uniform(0, math.pi), random.uniform(1, 1.8)
    along, across = (
        x * math.cos(turn) + y * math.sin(turn),
        y * math.cos(turn) - x * math.sin(turn),
    )
    distance = np.hypot(along / math.sqrt(stretch), across * math.sqrt(stretch))
    angle = np.arctan2(across, along)
    waves = np.arange(2, 14)
    sizes = random.standard_normal(len(waves)) / np.sqrt(waves)
    phases = random.uniform(0, 2 * math.pi, len(waves))
    # Of an angle only 360 values are computed: a contour has few waves.
    table = np.linspace(-math.pi, math.pi, 360)
    contour = (sizes[:, None] * np.cos(waves[:, None] * table + phases[:, None])).sum(0)
    contour = np.interp(angle, table, contour) * scene.raggedness
    reach = scene.radius * random.uniform(0.7, 1.3) * np.clip(1 + contour, 0.2, 2)
    return 1 / (1 + np.exp(np.clip((distance - reach) / (scene.softness / 2), -50, 50)))


def _streaks(random: np.random.Generator, scene: Scene) -> Float[np.ndarray, "224 224"]:
    """How much of each pixel crooked lines cover, from 0 to 1."""
    canvas = Image.new("L", (SIDE, SIDE))
    pen = ImageDraw.Draw(canvas)
    for _ in range(scene.streaks):
        start, direction = random.uniform(0, SIDE, 2), random.uniform(0, 2 * math.pi)
        directions = direction + np.cumsum(random.normal(0, 0.25, 24))
        steps = random.uniform(2, 12) * np.stack([np.cos(directions), np.sin(directions)], 1)
        points = [tuple(point) for point in start + np.cumsum(steps, 0)]
        pen.line(points, fill=int(random.uniform(80, 255)), width=max(1, round(scene.streak_width * SIDE)))
    return np.asarray(canvas, dtype=np.float64) / 255
