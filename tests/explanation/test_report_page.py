"""Pieces of a report: text of users' files, numbers, maps and figures."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medvip.evaluation.calibration import reliability
from medvip.evaluation.plot_style import AGAINST, FOR
from medvip.explanation import SymptomMaps
from medvip.explanation.contributions import ClassContributions, Explanation, SymptomShare
from medvip.explanation.report import maps_of_failure, thumbnail
from medvip.explanation.report.figures import reliability_figure, roc_figure, series
from medvip.explanation.report.map_pictures import SIDE, overlay
from medvip.explanation.report.page import data, number, shortened, signed, visible


@given(st.text())
def test_any_text_becomes_text_and_nothing_else(text):
    html = str(data(text))
    inside = html.removeprefix("<bdi>").removesuffix("</bdi>").replace("<wbr>", "")
    assert not set(inside) & set("<>\"'")
    assert re.sub(r"&(amp|lt|gt|#34|#39);", "", inside).count("&") == 0
    import html as standard

    assert standard.unescape(inside) == visible(text)


@given(st.text())
def test_what_cannot_be_seen_is_written_out(text):
    for character in visible(text):
        assert character.isprintable() or character in "\u200c\u200d\u00a0"


@given(st.text(max_size=300), st.integers(3, 80))
def test_long_text_is_cut_in_its_middle(text, longest):
    short = shortened(text, longest)
    assert len(short) <= longest
    assert short == text if len(text) <= longest else short.startswith(text[: (longest - 1) // 2])


def test_numbers_that_are_none_are_a_dash():
    assert number(None) == number(float("nan")) == signed(float("nan")) == "\N{EN DASH}"
    assert number(-0.1234) == "\N{MINUS SIGN}0.123"


@given(st.integers(0, 31), st.integers(0, 31))
def test_thirty_two_curves_can_be_told_apart(one, other):
    assert (series(one) == series(other)) == (one == other)


def test_figures_are_sound_xml_with_ids_of_their_own_and_escaped_descriptions():
    curve = (np.array([0.0, 0.2, 1.0]), np.array([0.0, 0.7, 1.0]))
    roc = roc_figure([curve, None, curve], 'classes <b> & "c"')
    confidence, correct = np.linspace(0.5, 1, 30), np.arange(30) % 3 > 0
    calibration = reliability_figure(reliability(confidence, correct, np.ones((1, 30))), "bins")
    ids = []
    for figure in (roc, calibration):
        root = ET.fromstring(str(figure).replace("xlink:href", "href"))
        own = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
        ids += own
        uses = re.findall(r'(?:href="|url\()#([^")]+)', figure)
        assert uses
        assert set(uses) <= set(own)
        assert "<style" not in figure
        assert "#0" not in re.sub(r'(?:href="|url\()#[^")]+', "", figure)
        assert "currentColor" in figure
        assert "var(--series-1)" in figure
    assert len(ids) == len(set(ids))
    assert ET.fromstring(str(roc).replace("xlink:href", "href")).attrib["aria-label"] == 'classes <b> & "c"'


def test_a_thumbnail_keeps_the_picture_and_drops_its_camera_data():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 300, 3), dtype=np.uint8))
    picture = picture.resize((600, 60), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x010F] = "Hospital of Someone"
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", exif=exif, comment=b"Anna Patient")
    small = thumbnail(Image.open(io.BytesIO(buffer.getvalue())), 200)
    content = base64.b64decode(small.source.split(",")[1])
    assert (small.width, small.height) == (200, 20)
    assert b"Someone" not in content
    assert b"Patient" not in content
    assert Image.open(io.BytesIO(content)).size == (200, 20)
    same = thumbnail(Image.new("RGB", (30, 20)), 200)
    assert (same.width, same.height) == (30, 20)


@pytest.fixture
def explained() -> Explanation:
    share = SymptomShare("edge", 1.0, 1.0, 0.1)
    parts = tuple(ClassContributions(name, 2.0, 1.0, (share, share)) for name in ("a", "b", "c"))
    symptoms = np.zeros((3, 3, 2, 2))
    symptoms[0, 0] = [[1.0, 0.0], [0.0, -2.0]]
    symptoms[1, 1] = [[0.0, 0.5], [0.0, 0.0]]
    symptoms[2] = 50.0  # of a class that is not shown
    symptoms[:2, 2] = 70.0  # behind the class's last symptom
    vectors = np.zeros((3, 2, 2))
    vectors[1] = [[4.0, 0.0], [0.0, 0.0]]
    maps = SymptomMaps("share", symptoms, vectors, (20.0, 0.0, 60.0, 40.0), (80, 40))
    return Explanation("a.png", "a", {"a": 0.5, "b": 0.3, "c": 0.2}, parts, maps)


def test_maps_of_the_two_classes_share_one_scale(explained):
    picture = Image.new("RGB", (80, 40), (90, 90, 90))
    found = maps_of_failure(explained, picture, ("b", "a"))
    assert (found.largest, found.largest_of_class_vector) == (2.0, 4.0)
    assert [(panel.class_name, panel.symptom) for panel in found.panels] == [
        *[("b", "edge")] * 2, ("b", None), *[("a", "edge")] * 2, ("a", None),
    ]  # fmt: skip
    assert "sums to the share" in found.what


def test_a_map_is_blue_for_and_vermilion_against_where_the_numbers_are(explained):
    maps = explained.maps
    assert maps is not None
    shown = overlay(Image.new("RGB", (80, 40), (90, 90, 90)), maps, maps.symptoms[0, 0], 2.0)
    assert shown.size == (SIDE, SIDE)
    pixels = np.asarray(shown, dtype=float)
    quarter = SIDE // 4
    at = {
        (row, column): pixels[quarter + row * SIDE // 2, quarter + column * SIDE // 2]
        for row in (0, 1)
        for column in (0, 1)
    }
    assert at[0, 0][2] - at[0, 0][0] > 30  # half as strong, for
    assert at[1, 1][0] - at[1, 1][2] > 100  # at full strength, against
    for nothing in (at[0, 1], at[1, 0]):
        assert np.ptp(nothing) < 3
    full = np.array([int(AGAINST[i : i + 2], 16) for i in (1, 3, 5)])
    assert np.abs(at[1, 1] - (0.2 * (40 + 90 * 215 / 255) + 0.8 * full)).max() < 2
    assert FOR != AGAINST


def test_a_map_lies_over_what_the_backbone_saw(explained):
    maps = explained.maps
    assert maps is not None
    picture = Image.new("RGB", (80, 40), (0, 0, 0))
    picture.paste((255, 255, 255), (20, 0, 40, 40))  # the left half of the box is white
    shown = np.asarray(overlay(picture, maps, np.zeros((2, 2)), 1.0), dtype=float)
    assert shown[4:-4, 4 : SIDE // 2 - 4].min() > 230
    assert shown[4:-4, SIDE // 2 + 4 : -4].max() < 100
