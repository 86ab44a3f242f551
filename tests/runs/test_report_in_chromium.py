"""The report in a real browser: quiet, self-contained, accessible, and never wider than the screen.

Skipped where there is no Chromium. Faults of accessibility are axe-core's serious and critical ones;
MEDVIP_AXE names another axe.min.js than the one that the development packages bring.
"""

# ruff: noqa: F401, F811 (fixtures are imported by name)
from __future__ import annotations

import contextlib
import http.server
import importlib.util
import json
import os
import re
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from report_runs import (
    HOSTILE_CLASSES,
    LONG,
    WORSE_CLASSES,
    clip_fit,
    hostile_plain,
    hostile_vip,
    sites,
)

import medvip
from browser import Browser, open_browser

WINDOWS = [(400, "light"), (400, "dark"), (1400, "light"), (1400, "dark")]


@pytest.fixture(scope="module")
def browser():
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core."""
    if named := os.environ.get("MEDVIP_AXE"):
        return Path(named).read_text(encoding="utf-8")
    found = importlib.util.find_spec("axe_core_python")
    if found is None or found.origin is None:
        pytest.skip("no axe-core here: pip install -e '.[dev]', or name an axe.min.js in MEDVIP_AXE")
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pages(clip_fit, hostile_vip, hostile_plain, sites, tmp_path_factory) -> dict[str, Path]:
    """Reports: an ordinary one, one without pictures, and hostile ones."""
    place = tmp_path_factory.mktemp("reports")
    colours = medvip.load_dataset(sites)
    made = {
        "plain": medvip.write_report(clip_fit, colours, place / "plain", quiet=True),
        "no-images": medvip.write_report(clip_fit, colours, place / "none", pictures=False, quiet=True),
    }
    for name, (run, folder) in {"hostile": hostile_vip, "worse": hostile_plain}.items():
        made[name] = medvip.write_report(run, medvip.load_dataset(folder), place / name, quiet=True)
    return made


def faults(browser: Browser, axe: str) -> list[str]:
    """Serious and critical faults that axe-core finds in the page as it is shown."""
    browser.value(f"{axe}\n;0")
    results = browser.value("axe.run(document, {resultTypes: ['violations']}).then(JSON.stringify)")
    return [
        f"{rule['impact']}: {rule['id']}: {[node['html'][:200] for node in rule['nodes'][:3]]}"
        for rule in json.loads(results)["violations"]
        if rule["impact"] in ("serious", "critical")
    ]


def fetched(browser: Browser, file: Path) -> list[str]:
    """What the page asked for beside itself and the pictures inside it."""
    own = file.resolve().as_uri()
    return [address for address in browser.requests if address != own and not address.startswith("data:")]


# ------------------------------------------------------------------ the harness notices


def test_the_browser_notices_what_it_should(browser, axe, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text(
        "<!doctype html><title>x</title><img src='http://127.0.0.1:9/x.png'>"
        "<p style='color:#eee;background:#fff'>pale</p><div style='width:3000px'>wide</div>"
        "<script>console.error('loud'); setTimeout(() => alert('popped'), 0)</script>",
        encoding="utf-8",
    )
    browser.ask("Page.navigate", url=page.as_uri())
    limit = time.monotonic() + 30
    while not browser.dialogs and time.monotonic() < limit:
        browser.ask("Browser.getVersion")  # what the browser says meanwhile is read along with its answer
        time.sleep(0.02)
    browser.ask("Page.handleJavaScriptDialog", accept=True)
    assert browser.dialogs == ["popped"]
    assert any("loud" in complaint for complaint in browser.complaints)
    assert fetched(browser, page) == ["http://127.0.0.1:9/x.png"]
    assert browser.value("document.documentElement.scrollWidth") >= 3000
    found = " ".join(faults(browser, axe))
    assert "color-contrast" in found
    assert "image-alt" in found
    assert "html-has-lang" in found


# ------------------------------------------------------------------ every report, every window


@pytest.mark.parametrize("name", ["plain", "no-images", "hostile", "worse"])
@pytest.mark.parametrize(("width", "scheme"), WINDOWS)
def test_it_is_quiet_fits_and_has_no_serious_fault(browser, axe, pages, name, width, scheme):
    browser.open(pages[name], width=width, scheme=scheme)
    assert browser.complaints == []
    assert browser.dialogs == []
    assert fetched(browser, pages[name]) == []
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert faults(browser, axe) == []
    # The window, and no more than what scrolls by itself, is what text keeps to.
    beyond = """[...document.querySelectorAll('main *, header *')].filter(e =>
        !e.closest('.scroll, svg, .unseen, .skip') && e.getBoundingClientRect().right > innerWidth + 1
    ).map(e => e.outerHTML.slice(0, 120))"""
    assert browser.value(beyond) == []


def test_dark_is_dark_light_is_light_and_paper_is_light(browser, pages):
    def brightness() -> float:
        colour = browser.value("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3])) / 765

    browser.open(pages["plain"], scheme="light")
    assert brightness() > 0.95
    browser.open(pages["plain"], scheme="dark")
    assert brightness() < 0.15
    browser.open(pages["plain"], scheme="dark", media="print")
    assert brightness() > 0.95


def test_figures_take_the_pages_colours(browser, pages):
    ink = "getComputedStyle(document.querySelector('.plot text')).fill"
    browser.open(pages["plain"], scheme="light")
    light = browser.value(ink)
    browser.open(pages["plain"], scheme="dark")
    assert browser.value(ink) != light
    drawn = browser.value("document.querySelectorAll('.plot svg path').length")
    assert drawn > 10
    assert not re.findall(r"#0[1-8]0[0-9a-f]{3}\b", pages["plain"].read_text())  # no placeholder is left


# ------------------------------------------------------------------ hostile text


@pytest.mark.parametrize(
    ("name", "classes"), [("hostile", HOSTILE_CLASSES), ("worse", WORSE_CLASSES)], ids=["hostile", "worse"]
)
def test_hostile_text_is_seen_as_text(browser, pages, name, classes):
    browser.open(pages[name], width=400)
    assert browser.value("document.scripts.length") == 0
    assert browser.value("document.querySelectorAll('iframe, object, embed, form, input').length") == 0
    events = """[...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames())
        .filter(n => n.startsWith('on'))"""
    assert browser.value(events) == []
    sources = browser.value("[...document.images].map(i => i.currentSrc.slice(0, 22))")
    assert set(sources) == {"data:image/jpeg;base64"}
    seen = browser.value("document.body.innerText")
    for text in classes:
        written = text.replace("\n", "\\n").replace("\u202e", "\\u202e").replace("\u2066", "\\u2066")
        assert written in seen
    assert browser.dialogs == []


def test_a_right_to_left_name_does_not_turn_its_surroundings(browser, pages):
    browser.open(pages["hostile"], width=1400)
    # in "X taken for Y" the heading's number stays in front, whatever the direction of X
    order = """[...document.querySelectorAll('.case > h3')].map(h => {
        const range = document.createRange();
        range.setStart(h.firstChild, 0); range.setEnd(h.firstChild, 1);
        const name = h.querySelector('bdi').getBoundingClientRect();
        return range.getBoundingClientRect().left < name.left + 1;
    })"""
    assert browser.value(order)
    assert all(browser.value(order))
    names = browser.value("[...document.querySelectorAll('.case > h3 bdi')].map(b => b.textContent)")
    assert HOSTILE_CLASSES[2] in names


def test_nothing_could_get_out_even_if_text_became_an_element(browser, pages):
    """The page's own policy refuses network and script, should escaping ever fail."""
    hits = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            hits.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        browser.open(pages["plain"])
        refused = browser.value(f"""new Promise(resolve => {{
            const refused = [];
            document.addEventListener('securitypolicyviolation', e => {{
                refused.push(e.effectiveDirective); if (refused.length >= 4) resolve(refused.sort());
            }});
            const put = html => document.body.appendChild(
                document.createRange().createContextualFragment(html));
            put('<img src="{address}/picture">');
            put('<script>window.ran = true</' + 'script>');
            put('<p onclick="window.ran = true">x</p>').lastElementChild;
            document.body.lastElementChild.click();
            fetch('{address}/fetch').catch(() => 0);
            setTimeout(() => resolve(refused.sort()), 3000);
        }})""")
        server.shutdown()
    assert refused == ["connect-src", "img-src", "script-src-attr", "script-src-elem"]
    assert not browser.value("window.ran === true")
    assert hits == []


# ------------------------------------------------------------------ keyboard, screen reader, paper


def test_it_can_be_used_with_the_keyboard_alone(browser, pages):
    browser.open(pages["plain"], width=1400)
    browser.press("Tab")
    assert browser.value("document.activeElement.className") == "skip"
    assert browser.value("document.activeElement.getBoundingClientRect().left") >= 0
    browser.press("Enter")
    assert browser.value("location.hash") == "#content"
    browser.press("Tab")
    assert browser.value("document.activeElement.closest('main') !== null")
    # wide tables can be reached, and so be scrolled with the arrow keys
    assert browser.value("[...document.querySelectorAll('.scroll')].every(e => e.tabIndex === 0)")
    opened = browser.value("document.querySelectorAll('details').length")
    for number in range(opened):
        browser.value(f"document.querySelectorAll('summary')[{number}].focus()")
        browser.press("Enter")
    assert browser.value("[...document.querySelectorAll('details')].every(e => e.open)")


def test_a_screen_reader_finds_its_way(browser, pages):
    browser.open(pages["plain"])
    nodes = browser.ask("Accessibility.getFullAXTree")["nodes"]
    heard = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node.get("ignored") and "role" in node
    ]
    landmarks = {role for role, _ in heard}
    assert {"main", "navigation", "banner", "contentinfo", "region", "article", "table"} <= landmarks
    headings = [name for role, name in heard if role == "heading"]
    for wanted in (
        "Figures",
        "What was trained on what",
        "Symptoms",
        "Failures",
        "What this run must not be used for",
    ):
        assert wanted in headings
    pictures = [name for role, name in heard if role in ("image", "img")]
    assert len(pictures) > 5
    assert all(pictures)
    levels = browser.value("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(second - first <= 1 for first, second in pairwise(levels))


def test_it_prints_with_everything_opened(browser, pages):
    browser.open(pages["plain"], media="print")
    hidden = """[...document.querySelectorAll('details > :not(summary)')]
        .filter(e => !e.checkVisibility({contentVisibilityAuto: true})).length"""
    assert browser.value("document.querySelectorAll('details').length") > 0
    assert browser.value(hidden) == 0
    assert browser.value("getComputedStyle(document.querySelector('nav')).display") == "none"
    browser.open(pages["plain"])
    printed = browser.pdf()
    assert printed.startswith(b"%PDF")
    assert printed.count(b"/Type /Page\n") > 2
