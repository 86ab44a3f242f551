"""`medvip fit` with every method: its own options by --option, and none that would do nothing."""

# ruff: noqa: F401, F811 (fixtures are imported by name)
from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, Optional, Union

import pytest
from command_answers import medvip, symptom_file

from medvip.cli.options import parse_value
from medvip.errors import UsageError


@pytest.fixture
def fit_method(medvip, symptom_file, tiny_clip, tiny_images, tmp_path):
    """``fit_method(name, more...)``: a run of that method in ``tmp_path / "run"``."""

    def run(name: str, *more: object, symptoms: bool = True):
        given = ("--symptoms", symptom_file) if symptoms else ()
        where = ("--out", tmp_path / "run", "--backbone", tiny_clip)
        return medvip("fit", tiny_images, *where, *given, "--method", name, "--quiet", *more)

    return run


def recorded(tmp_path: Path) -> dict:
    return json.loads((tmp_path / "run" / "config.json").read_text())


@pytest.mark.parametrize(
    "name", ["majority", "nearest-class-mean", "linear-probe", "gda", "lp++", "ss-text", "tip-adapter"]
)
def test_a_method_without_recipe_needs_no_option_and_no_symptoms(
    name, fit_method, medvip, tiny_images, tmp_path
):
    out = fit_method(name, symptoms=False).done()
    assert "test: accuracy " in out
    assert recorded(tmp_path)["method"] == name
    medvip("predict", tmp_path / "run", tiny_images / "red", "--quiet").done()


def test_options_of_the_method_are_recorded_and_used_again(fit_method, medvip, tiny_images, tmp_path):
    more = ("--epochs", 2, "--option", "ratio=0.5", "--option", "text=symptoms", "--seed", 7)
    fit_method("clip-adapter", *more, "--option", "reduction=3").done()
    options = recorded(tmp_path)["options"]
    assert (options["ratio"], options["text"], options["reduction"], options["seed"]) == (
        0.5,
        "symptoms",
        3,
        7,
    )
    assert options["recipe"]["epochs"] == 2
    assert options["recipe"]["learning_rate"] == 0.01, "the method's own recipe, not ViP's"
    medvip("predict", tmp_path / "run", tiny_images / "red", "--quiet").done()


@pytest.mark.parametrize(("more", "recorded_as"), [((), True), (("--option", "full_stop=no"), False)])
def test_the_full_stop_can_be_left_out(more, recorded_as, fit_method, tmp_path):
    fit_method("vip", "--epochs", 1, *more).done()
    assert recorded(tmp_path)["options"]["full_stop"] is recorded_as


def test_what_is_not_given_is_the_methods_own(fit_method, tmp_path):
    fit_method("vip", "--epochs", 1).done()
    options = recorded(tmp_path)["options"]
    assert (options["context"], options["seed"], options["recipe"]["learning_rate"]) == (4, 1, 0.002)


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("linear-probe", ["--context", 4], "linear-probe has no such option, so context would do nothing"),
        ("linear-probe", ["--seed", 1], "linear-probe has no such option, so seed would do nothing"),
        ("gda", ["--epochs", 3, "--set", "momentum=0.5"], "epochs, momentum would do nothing"),
        ("zero-shot-names", ["--context", 2], "zero-shot-names is not trained, so context would do nothing"),
        ("clip-adapter", ["--context", 2], "context would do nothing"),
        ("clip-adapter", ["--option", "ratio"], "not of the form NAME=VALUE"),
        ("clip-adapter", ["--option", "ratio=half"], "ratio is half"),
        ("clip-adapter", ["--option", "ratio=1.5"], "ratio is 1.5"),
        ("clip-adapter", ["--option", "reduction=2.5"], "use a whole number"),
        ("clip-adapter", ["--option", "text=poems"], "use names or symptoms"),
        ("clip-adapter", ["--option", "seed=3"], "write --seed 3"),
        ("clip-adapter", ["--option", "colour=red"], "its options are: text, ratio, reduction"),
        ("majority", ["--option", "colour=red"], "leave it out: it has none"),
        ("linear-prob", [], "did you mean 'linear-probe'"),
    ],
)
def test_options_that_would_do_nothing_or_make_no_sense_are_refused(name, more, said, fit_method, tmp_path):
    assert said in fit_method(name, *more).failed(2)
    assert not (tmp_path / "run").exists()


def test_text_from_symptoms_needs_some_before_anything_is_encoded(
    fit_method, medvip, tmp_path, tiny_images, tiny_clip, monkeypatch
):
    def encode(*_, **__):
        raise AssertionError("pictures were encoded")

    monkeypatch.setattr("medvip.runs.fitting.compute_features", encode)
    assert "no symptoms are given" in fit_method("gda", "--option", "text=symptoms", symptoms=False).failed(2)
    others = tmp_path / "others.json"
    others.write_text(json.dumps({"cat": ["furry"], "dog": ["loud"]}))
    given = ("fit", tiny_images, "--out", tmp_path / "run", "--backbone", tiny_clip, "--symptoms", others)
    assert "blue" in medvip(*given, "--method", "gda", "--option", "text=symptoms").failed()


def test_a_seed_is_good_for_few_shots_whatever_the_method(fit_method, tmp_path):
    fit_method("nearest-class-mean", "--shots", 2, "--seed", 5).done()
    assert any("seed 5" in note for note in recorded(tmp_path)["data"]["notes"])


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("3", int, 3),
        ("3", float, 3.0),
        ("1e-3", float, 0.001),
        ("a photo", str, "a photo"),
        ("", str, ""),
        ("yes", bool, True),
        ("False", bool, False),
        ("none", Optional[int], None),  # noqa: UP045 (the older spelling has to work too)
        ("4", int | None, 4),
        ("b", Literal["a", "b"], "b"),
        ("last", Union[int, Literal["last"]], "last"),  # noqa: UP007
        ("7", int | str, 7),
        ("seven", int | str, "seven"),
    ],
)
def test_values_become_what_the_parameter_asks_for(text, kind, value):
    found = parse_value("name", text, kind)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "kind"), [("3.5", int), ("maybe", bool), ("c", Literal["a", "b"]), ("x", dict)]
)
def test_values_that_do_not_fit(text, kind):
    with pytest.raises(UsageError, match=f"name is {text}"):
        parse_value("name", text, kind)
