"""What a report says: every number against the run itself, every picture against the file."""

# ruff: noqa: F401, F811 (fixtures are imported by name)
from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_runs import (
    HOSTILE_CLASSES,
    HOSTILE_FILES,
    LONG,
    WORSE_CLASSES,
    clip_fit,
    hostile_plain,
    hostile_vip,
    sites,
)

import medvip
from medvip.errors import DataError, RunError, UsageError
from medvip.evaluation import evaluate
from medvip.features import compute_features
from medvip.images import read_picture
from medvip.runs.report import NEAREST, gather_report


class Page(HTMLParser):
    """Elements with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._hidden = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._hidden = tag in ("style", "title")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def dataset(sites):
    return medvip.load_dataset(sites)


@pytest.fixture(scope="module")
def report(clip_fit, dataset, tmp_path_factory):
    return gather_report(clip_fit, dataset, quiet=True, cache=tmp_path_factory.mktemp("cache"))


# ------------------------------------------------------------------ what is gathered


def test_the_figures_are_those_of_evaluate(clip_fit, dataset, report):
    assert report.metrics.to_json() == clip_fit.evaluate(dataset, quiet=True).to_json()
    wrong = int((report.probabilities.argmax(1) != report.labels).sum())
    assert report.failures_in_all == wrong == len(report.failures) > 0


def test_failures_come_the_surest_first_and_are_the_runs_own(clip_fit, dataset, report, sites):
    sure = [failure.confidence for failure in report.failures]
    assert sure == sorted(sure, reverse=True)
    for failure in report.failures:
        (file,) = [s for s in dataset.only("test") if s.path.endswith(failure.path)]
        (predicted,) = clip_fit.predict([file.path])
        assert failure.truth == file.label != failure.prediction == predicted.prediction
        assert failure.confidence == pytest.approx(predicted.confidence, abs=1e-5)


def test_shares_are_those_of_explain_for_the_two_classes(clip_fit, report, sites):
    for failure in report.failures:
        (explained,) = clip_fit.explain([str(sites / "test" / failure.path.removeprefix("test/"))])
        by_name = {part.class_name: part for part in explained.classes}
        assert [part.class_name for part in failure.shares] == [failure.prediction, failure.truth]
        for part in failure.shares:
            other = by_name[part.class_name]
            assert part.logit == pytest.approx(other.logit, abs=1e-4)
            for one, two in zip(part.symptoms, other.symptoms, strict=True):
                assert one.symptom == two.symptom
                assert one.share == pytest.approx(two.share, abs=1e-4)


def test_neighbours_are_the_nearest_training_images_of_a_loop(clip_fit, dataset, report):
    features = compute_features(dataset, clip_fit.backbone, quiet=True)
    units = {
        path: vector.double().numpy() / np.linalg.norm(vector.double().numpy())
        for table in (features.train, features.test)
        for path, vector in zip(table.paths, table.plain, strict=True)
    }
    training = {sample.path: sample.label for sample in dataset.only("train")}
    for failure in report.failures:
        (image,) = [path for path in units if path.endswith(failure.path)]
        assert list(failure.neighbours) == [failure.prediction, failure.truth]
        for name, found in failure.neighbours.items():
            cosines = {p: float(units[image] @ units[p]) for p, label in training.items() if label == name}
            best = sorted(cosines, key=lambda path: -cosines[path])[:NEAREST]
            assert len(found) == min(NEAREST, len(cosines))
            for neighbour, path in zip(found, best, strict=True):
                assert neighbour.cosine == pytest.approx(cosines[path], abs=1e-5)
                assert path.endswith(neighbour.path)


def test_pictures_are_the_files_made_small_and_without_their_data(clip_fit, dataset, report, sites):
    for failure in report.failures:
        shown = Image.open(io.BytesIO(base64.b64decode(failure.picture.source.split(",")[1])))
        original = np.asarray(read_picture(str(sites / failure.path)), dtype=float)
        assert shown.format == "JPEG"
        assert shown.size == (failure.picture.width, failure.picture.height) == (48, 40)
        assert not shown.getexif()
        likeness = np.corrcoef(np.asarray(shown.convert("L")).ravel(), original.mean(-1).ravel())[0, 1]
        assert likeness > 0.8


def test_the_overview_is_the_mean_of_the_shares(clip_fit, dataset, report):
    paths = [sample.path for sample in dataset.only("test")]
    labels = [sample.label for sample in dataset.only("test")]
    explained = clip_fit.explain(paths)
    for part in report.overview:
        c = report.metrics.classes.index(part.class_name)
        for i, line in enumerate(part.symptoms):
            shares = {
                name: np.mean(
                    [
                        e.classes[c].symptoms[i].share
                        for e, n in zip(explained, labels, strict=True)
                        if n == name
                    ]
                )
                for name in report.metrics.classes
            }
            assert line.by_class == pytest.approx(shares, abs=1e-4)
            assert line.own == pytest.approx(shares[part.class_name], abs=1e-4)
            others = [share for name, share in shares.items() if name != part.class_name]
            assert line.others == pytest.approx(np.mean(others), abs=1e-4)  # classes are of one size here


def test_subgroups_come_from_the_tables_further_columns(dataset, report):
    assert [division.column for division in report.divisions] == ["sex", "age"]
    cells = [dict(sample.further)["sex"] for sample in dataset.only("test")]
    for part in report.divisions[0].subgroups:
        inside = [i for i, cell in enumerate(cells) if cell == part.name]
        alone = evaluate(
            report.probabilities[inside],
            report.labels[inside],
            report.metrics.classes,
            groups=[report.groups[i] for i in inside],
        )
        assert part.metrics.to_json() == alone.to_json()


def test_a_planted_shortcut_is_named(clip_fit, dataset, tmp_path):
    import shutil

    folder = tmp_path / "wide"
    shutil.copytree(Path(dataset.samples[0].path).parents[2], folder)
    for sample in dataset.only("test"):
        if sample.label == "red":
            file = folder / Path(sample.path).relative_to(Path(dataset.samples[0].path).parents[2])
            Image.open(file).resize((80, 40)).save(file)
    found = gather_report(clip_fit, medvip.load_dataset(folder), quiet=True, pictures=False)
    shortcut = next(one for one in found.shortcuts if one.cue == "aspect ratio")
    assert (shortcut.class_name, shortcut.higher, shortcut.strong) == ("red", True, True)
    assert shortcut.separation.value == 1.0


# ------------------------------------------------------------------ what is written


def test_the_page_is_one_file_that_refers_to_nothing(clip_fit, dataset, tmp_path):
    file = medvip.write_report(clip_fit, dataset, tmp_path / "why", quiet=True)
    assert [path.name for path in (tmp_path / "why").iterdir()] == ["report.html"]
    html = file.read_text(encoding="utf-8")
    page = Page(html)
    assert not page.all("script")
    assert not page.all("link")
    assert not page.all("iframe")
    assert all(str(image["src"]).startswith("data:image/jpeg;base64,") for image in page.all("img"))
    assert all(str(image["alt"]) for image in page.all("img"))
    assert all(str(link["href"]).startswith("#") for link in page.all("a"))
    assert "http:" not in html.replace("http://www.w3.org/", "")
    assert "url(http" not in html
    assert "@import" not in html
    policy = next(meta for meta in page.all("meta") if meta.get("http-equiv"))
    assert str(policy["content"]).startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    known = {f"#{name}" for name in ids}
    assert {str(link["href"]) for link in page.all("a")} <= known
    for _, attributes in page.elements:
        assert set(str(attributes.get("aria-labelledby", "")).split()) <= {name[1:] for name in known}
    # it says where the data lie only from the data folder on
    assert str(Path(dataset.samples[0].path).parents[3]) not in html


def test_the_page_shows_the_numbers(clip_fit, dataset, report, tmp_path):
    text = Page(medvip.write_report(clip_fit, dataset, tmp_path, quiet=True).read_text()).text
    for name in ("accuracy", "macro_f1", "balanced_accuracy", "auroc", "ece"):
        figure = getattr(report.metrics, name)
        assert f"{figure.value:.3f}" in text
        assert f"{figure.low:.3f} to {figure.high:.3f}" in text
    for texts in clip_fit.symptoms.classes.values():
        assert all(symptom in text for symptom in texts)
    for failure in report.failures:
        assert f"{failure.truth} taken for {failure.prediction}, confidence {failure.confidence:.2f}" in text
    assert "not reviewed by anyone" in text
    assert "A research tool, not a medical device" in text


def test_without_pictures_there_are_none_and_it_says_so(clip_fit, dataset, tmp_path):
    html = medvip.write_report(clip_fit, dataset, tmp_path, pictures=False, quiet=True).read_text()
    page = Page(html)
    assert not page.all("img")
    assert "data:image" not in html
    assert "base64" not in html
    assert "Pictures are left out of this report" in page.text
    assert "taken for" in page.text
    assert "Nearest training images of" in page.text


def test_few_failures_are_shown_and_the_rest_counted(clip_fit, dataset, report, tmp_path):
    text = Page(medvip.write_report(clip_fit, dataset, tmp_path, failures=2, quiet=True).read_text()).text
    assert len(re.findall(r"\d\. \w+ taken for \w+, confidence", text)) == 2
    assert f"{report.failures_in_all} images named wrongly, the surest first; the first 2 are shown" in text
    none = medvip.write_report(clip_fit, dataset, tmp_path, failures=0, force=True, quiet=True).read_text()
    assert f"{report.failures_in_all} images named wrongly; none are shown" in Page(none).text


def test_a_run_without_failures_says_so(clip_fit, dataset):
    named = {path: p.prediction for s in dataset for path in [s.path] for p in clip_fit.predict([path])}
    from dataclasses import replace

    right = dataset.with_samples(replace(sample, label=named[sample.path]) for sample in dataset)
    found = gather_report(clip_fit, right, quiet=True)
    from medvip.explanation.report import render

    assert found.failures_in_all == 0
    assert "None: every image was named rightly." in Page(render(found)).text


@pytest.mark.parametrize("method", ["zero-shot-names", "linear-probe", "majority"])
def test_methods_without_symptoms_have_a_report_too(method, tiny_clip, sites, tmp_path):
    dataset = medvip.load_dataset(sites)
    run = medvip.fit(dataset, medvip.load_backbone(str(tiny_clip)), method=method, quiet=True)
    text = Page(medvip.write_report(run, dataset, tmp_path, quiet=True).read_text()).text
    assert f"The method {method} has no logit that is a sum over symptoms" in text
    assert "Cosine: likeness" not in text
    assert "Nearest training images of" in text


def test_a_method_that_needs_pixels_has_one_too(tiny_clip, sites, tmp_path):
    dataset = medvip.load_dataset(sites)
    from medvip.training import get_recipe

    run = medvip.fit(
        dataset,
        medvip.load_backbone(str(tiny_clip)),
        method="maple",
        depth=2,
        recipe=get_recipe("paper", epochs=1),
        quiet=True,
    )
    assert run.method.needs == "pixels"
    found = gather_report(run, dataset, quiet=True)
    assert found.metrics.to_json() == run.evaluate(dataset).to_json()
    assert Page(medvip.write_report(run, dataset, tmp_path, quiet=True).read_text()).all("img")


# ------------------------------------------------------------------ other data and other splits


def test_what_makes_the_figures_doubtful_is_said_first(clip_fit, dataset):
    train = gather_report(clip_fit, dataset, split="train", quiet=True, failures=1)
    assert any("measured on training images" in warning for warning in train.warnings)
    assert all(not failure.neighbours for failure in train.failures)
    assert train.neighbours_from.startswith("No training images are shown")
    val = gather_report(clip_fit, dataset, split="val", quiet=True, failures=1)
    assert any("by which the epoch" in warning for warning in val.warnings)
    everything = gather_report(clip_fit, dataset, split="all", quiet=True, failures=1)
    assert everything.metrics.images == len(dataset)
    assert any("trained on images" in warning for warning in everything.warnings)


def test_splits_made_otherwise_than_in_training_are_warned_of(clip_fit, tiny_images):
    same = gather_report(clip_fit, medvip.load_dataset(tiny_images), quiet=True, failures=0)
    assert same.warnings == ()
    other = gather_report(clip_fit, medvip.load_dataset(tiny_images, seed=5), quiet=True, failures=0)
    assert any("these splits are not those of the run's training" in warning for warning in other.warnings)


def test_training_images_that_are_not_the_runs_are_called_so(clip_fit, dataset, tiny_images):
    few = medvip.few_shot(medvip.load_dataset(tiny_images), 2, seed=1)
    assert "not those that the run was trained on" in gather_report(clip_fit, few, quiet=True).neighbours_from
    full = gather_report(clip_fit, medvip.load_dataset(tiny_images), quiet=True).neighbours_from
    assert "not those" not in full


def test_what_cannot_be_done_is_refused(clip_fit, dataset, tmp_path):
    medvip.write_report(clip_fit, dataset, tmp_path, quiet=True, failures=0)
    before = (tmp_path / "report.html").read_bytes()
    with pytest.raises(RunError, match="is there already"):
        medvip.write_report(clip_fit, dataset, tmp_path, quiet=True)
    assert (tmp_path / "report.html").read_bytes() == before
    with pytest.raises(UsageError, match="failures is -1"):
        medvip.write_report(clip_fit, dataset, tmp_path / "new", failures=-1)
    with pytest.raises(DataError, match="has no val images"):
        medvip.write_report(
            clip_fit, dataset.with_samples(dataset.only("test").samples), tmp_path / "new", split="val"
        )
    from dataclasses import replace

    with pytest.raises(DataError, match="has the classes"):
        medvip.write_report(clip_fit, replace(dataset, classes=("a", "b")), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "spoiled",
    [
        {"data": None},
        {"data": {"name": "x", "images": {"train": [1]}, "groups": {}, "notes": []}},
        {"data": {"name": "x", "images": {}, "groups": {"train": "<b>"}, "notes": []}},
        {"made": "yesterday"},
        {"options": ["seed"]},
    ],
)
def test_a_record_that_was_spoiled_is_refused_in_one_line(clip_fit, dataset, spoiled):
    from dataclasses import replace

    run = replace(clip_fit, config=clip_fit.config | spoiled)
    with pytest.raises(RunError, match=r"the run's config.json does not say what it was trained on \("):
        gather_report(run, dataset, quiet=True)


@pytest.mark.parametrize("metrics", [{}, {"test": {"accuracy": {"value": "<b>"}}}, {"test": None}])
def test_recorded_figures_that_are_none_are_left_out(clip_fit, dataset, metrics):
    from dataclasses import replace

    found = gather_report(replace(clip_fit, metrics=metrics), dataset, quiet=True, failures=0)
    assert found.recorded is None
    ours = gather_report(clip_fit, dataset, quiet=True, failures=0).recorded
    assert ours is not None
    assert ours["accuracy"] == clip_fit.metrics["test"]["accuracy"]["value"]


# ------------------------------------------------------------------ hostile text


@pytest.mark.parametrize("which", ["hostile_vip", "hostile_plain"])
def test_hostile_text_makes_no_element_and_no_attribute(which, request, tmp_path):
    run, folder = request.getfixturevalue(which)
    html = medvip.write_report(run, medvip.load_dataset(folder), tmp_path, quiet=True).read_text("utf-8")
    page = Page(html)
    assert not page.all("script")
    assert all(set(element) <= {"class", "style", "aria-hidden"} for element in page.all("i"))
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
    assert all(str(image["src"]).startswith("data:image/jpeg;base64,") for image in page.all("img"))
    assert "\u202e" not in html
    assert "\u2066" not in html
    shown = page.text
    classes = HOSTILE_CLASSES if which == "hostile_vip" else WORSE_CLASSES
    for name in classes:
        written = name.replace("\n", "\\n").replace("\u202e", "\\u202e").replace("\u2066", "\\u2066")
        assert written in shown
    for name in HOSTILE_FILES:
        written = name.replace("\n", "\\n").replace("\u202e", "\\u202e")
        assert written in shown or f"/{written}" not in " ".join(f.path for f in _failures(run, folder))


def _failures(run, folder):
    return gather_report(run, medvip.load_dataset(folder), quiet=True, pictures=False).failures
