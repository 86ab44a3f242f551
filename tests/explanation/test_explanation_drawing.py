"""Drawings: they open, they say what is true of them, and hostile text in them stays text."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from medvip.errors import MedvipError
from medvip.evaluation.plot_style import (
    AGAINST,
    COLOURS,
    FOR,
    UNEXPLAINED,
    as_png,
    as_svg,
    diverging,
    label,
    require_matplotlib,
)
from medvip.explanation import ClassContributions, Explanation, SymptomMaps
from medvip.explanation.contributions import SymptomShare
from medvip.explanation.drawing import draw_explanation

HOSTILE = [
    "<script>alert(1)</script>",
    "a & b \"c\" 'd' $x^2$ $\\frac{",
    "\x1b[31mred\x00\n\r\t",
    "\u202eright to left",
    "مرحبا بالعالم",
    "图像 🙂",
    "x" * 5000,
    "\udcff",
    " ",
    "",
    "_hidden",
    "]]><!--",
]


def explanation(
    names=("nevus", "melanoma"),
    symptoms: int = 4,
    kind: str | None = "share",
    path: str = "a.png",
    size=(60, 40),
    box=(10.0, 0.0, 50.0, 40.0),
    percentile: float | None = 62.0,
) -> Explanation:
    random = np.random.default_rng(0)
    classes, of_symptoms = [], random.normal(size=(len(names), symptoms, 7, 7))
    of_class_vector = random.normal(size=(len(names), 7, 7))
    for c, name in enumerate(names):
        shares = tuple(
            SymptomShare(f"{name} {i}", float(of_symptoms[c, i].sum()), 1 / symptoms, 0.1, percentile)
            for i in range(symptoms)
        )
        vector = float(of_class_vector[c].sum())
        classes.append(ClassContributions(name, vector + sum(s.share for s in shares), vector, shares))
    best = max(classes, key=lambda one: one.logit).class_name
    maps = None if kind is None else SymptomMaps(kind, of_symptoms, of_class_vector, box, size)
    return Explanation(path, best, {name: 1 / len(names) for name in names}, tuple(classes), maps)


def texts_of(svg: bytes) -> str:
    """All text of an SVG, read by a parser of XML."""
    return " ".join(" ".join(ElementTree.fromstring(svg).itertext()).split())


def test_both_forms_open_and_the_numbers_are_in_them() -> None:
    one = explanation()
    figure = draw_explanation(one, Image.new("RGB", (60, 40), (200, 120, 90)))
    picture = Image.open(io.BytesIO(as_png(figure)))
    assert picture.width == 1080  # 7.2 inches
    assert len(set(np.asarray(picture.convert("RGB")).reshape(-1, 3)[:, 0].tolist())) > 50
    said = texts_of(as_svg(figure))
    for part in one.classes:
        assert f"{part.class_name}: logit {part.logit:.2f}" in said
        assert f"{part.class_vector:+.2f}" in said
        for share in part.symptoms:
            assert share.symptom in said
            assert f"{share.share:+.2f}" in said
    assert "class vector" in said
    assert "62 %" in said
    assert "added to the logit at each place" in said
    assert "what is inside" in said, "the box is smaller than the picture"


def test_the_same_explanation_gives_the_same_bytes() -> None:
    drawn = [draw_explanation(explanation(), Image.new("RGB", (60, 40))) for _ in range(2)]
    assert as_svg(drawn[0]) == as_svg(drawn[1])
    assert as_png(drawn[0]) == as_png(drawn[1])


def test_patch_similarities_are_called_what_they_are() -> None:
    one = explanation(kind="patch similarity", box=(0.0, 0.0, 60.0, 40.0))
    said = texts_of(as_svg(draw_explanation(one, Image.new("RGB", (60, 40)))))
    assert "does not sum to the share" in said
    assert "added to the logit at each place" not in said
    assert "what is inside" not in said, "all of the picture was seen"


def test_without_maps_and_without_percentiles() -> None:
    one = explanation(kind=None, percentile=None)
    said = texts_of(as_svg(draw_explanation(one, Image.new("RGB", (60, 40)))))
    assert "nevus: logit" in said
    assert "added to the logit" not in said
    assert "of training images" not in said


def test_only_the_two_classes_between_which_it_was_decided() -> None:
    one = explanation(names=tuple("abcdefg"), symptoms=7)
    said = texts_of(as_svg(draw_explanation(one, Image.new("RGB", (60, 40)))))
    shown = [name for name in "abcdefg" if f"{name}: logit" in said]
    ranked = sorted(one.classes, key=lambda part: -part.logit)
    assert sorted(shown) == sorted(part.class_name for part in ranked[:2])


@pytest.mark.parametrize("shape", [(1, 1), (3000, 20), (20, 3000), (224, 224)])
def test_pictures_of_any_shape(shape) -> None:
    one = explanation(size=shape, box=(-5.0, 0.0, shape[0] + 5.0, float(shape[1])))
    as_png(draw_explanation(one, Image.new("RGB", shape)))


def test_the_overlay_lies_where_the_backbone_looked() -> None:
    """One strong place of the map, at the top right of the box, must be blue there in the picture."""
    one = explanation(symptoms=1, size=(70, 70), box=(0.0, 0.0, 70.0, 70.0))
    one.maps.symptoms[:] = 0
    one.maps.symptoms[0, 0, 0, 6] = 1.0
    one.maps.symptoms[1, 0, 6, 0] = -1.0
    figure = draw_explanation(one, Image.new("RGB", (70, 70), (128, 128, 128)))
    as_png(figure)  # lays everything out
    overlays = [
        axes.images[1] for axes in figure.findobj(lambda o: hasattr(o, "images")) if len(axes.images) > 1
    ]
    assert len(overlays) >= 2
    for overlay in overlays:
        left, right, bottom, top = overlay.get_extent()
        assert (left, right, bottom, top) == (0, 70, 70, 0)
    first = next(o for o in overlays if o.get_array()[0, 6] == 1.0)
    colour = first.cmap(first.norm(1.0))
    assert colour[2] > colour[0], "for is blue"
    assert first.get_alpha()[0, 6] > 5 * first.get_alpha()[3, 3]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_stay_text(text: str) -> None:
    one = explanation(names=(f"{text}1", f"{text}2"), symptoms=2, path=f"/somewhere/{text}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = draw_explanation(one, Image.new("RGB", (60, 40)))
        svg, png = as_svg(figure), as_png(figure)
    root = ElementTree.fromstring(svg)
    names = {element.tag.split("}")[-1] for element in root.iter()}
    assert "script" not in names
    assert not {"foreignObject", "a", "iframe"} & names
    said = "".join(root.itertext())
    assert all(letter.isprintable() or letter in "\n\t" for letter in said)
    if "script" in text:
        assert "<script>" in said, "shown as it is written"
    assert Image.open(io.BytesIO(png)).width == 1080


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_labels_are_short_and_printable(text: str) -> None:
    made = label(text, width=20, lines=2)
    assert made
    assert all(len(line) <= 20 for line in made.splitlines())
    assert len(made.splitlines()) <= 2
    assert all(letter.isprintable() or letter == "\n" for letter in made)


# ------------------------------------------------------------------ colours


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def seen_by(colour: str, kind: str) -> np.ndarray:
    """The colour as someone without that cone sees it (Viénot, Brettel and Mollon 1999), in Lab."""
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    simulated = {
        "normal": np.eye(3),
        "protan": np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]),
        "deutan": np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]),
    }[kind] @ linear
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ simulated
    f = np.cbrt(np.clip(xyz / np.array([0.9505, 1.0, 1.089]), 0, None))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("kind", ["normal", "protan", "deutan"])
def test_for_against_and_unexplained_differ_for_the_colour_blind(kind: str) -> None:
    colours = [seen_by(colour, kind) for colour in (FOR, AGAINST, UNEXPLAINED)]
    for i in range(3):
        for j in range(i):
            assert np.linalg.norm(colours[i] - colours[j]) > 20, (
                "twenty is plain to see; two can just be seen"
            )


def test_the_diverging_colours_are_those_of_the_signs_with_white_between() -> None:
    from matplotlib.colors import to_hex

    colours = diverging()
    assert to_hex(colours(0.0)).upper() == AGAINST
    assert to_hex(colours(1.0)).upper() == FOR
    assert min(colours(0.5)[:3]) > 0.98
    assert len(set(COLOURS)) == 8
    for colour in (FOR, AGAINST):
        assert 1.05 / (luminance(colour) + 0.05) >= 3, "3:1 on white, as WCAG asks of graphics"


# ------------------------------------------------------------------ imports


def test_nothing_is_drawn_before_it_is_asked_for() -> None:
    code = (
        "import sys, medvip, medvip.cli.main, medvip.explanation, medvip.explanation.drawing\n"
        "sys.exit('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_matplotlib_there_is_a_clear_error(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MedvipError, match="matplotlib, which is not installed") as caught:
        require_matplotlib("or give --no-images")
    assert "medvip[plots]" in caught.value.fix
    assert "--no-images" in caught.value.fix
