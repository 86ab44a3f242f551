"""Studies on drawn pictures: what runs see, what is kept, what goes on, and that numbers repeat."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmark_studies import (
    COLOURS,
    QUICK,
    draw_images,
    method,
    read_split,
    record,
    records,
    write_split,
    write_study,
)

import medvip
from medvip.errors import RunError, UsageError
from medvip.evaluation import evaluate
from medvip.evaluation.benchmark import load_study, plan_study, run_study, workers
from medvip.evaluation.benchmark.material import drawn, stored_features, with_permuted_labels
from medvip.evaluation.benchmark.new_classes import halves, of_classes
from medvip.evaluation.benchmark.records import Predictions, read_predictions
from medvip.evaluation.benchmark.running import StudyResult
from medvip.evaluation.benchmark.schedule import Schedule, key_of
from medvip.features import FeatureTable, compute_features, open_pictures
from medvip.methods import METHODS, LinearProbe
from medvip.methods.vectors import class_means

MIXED = "".join(
    [
        method("vip", options=QUICK),
        method("majority"),
        method("trivial-cues"),
        method("nearest-class-mean"),
        method("linear-probe"),
        method("zero-shot-symptoms"),
        method("label-permutation", of='"linear-probe"'),
    ]
)


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take most of a tiny study's time, and have tests of their own."""
    monkeypatch.setattr("medvip.evaluation.benchmark.tables.draw_plots", lambda *_: ([], []))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    draw_images(tmp_path / "colours")
    return tmp_path


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, tiny_clip: Path) -> tuple[Path, Path]:
    """A study with every kind of row, done in this process: its file and its folder."""
    place = tmp_path_factory.mktemp("mixed")
    draw_images(place / "colours")
    draw_images(place / "others", seed=1)
    data = '[[data]]\npath = "colours"\nsymptoms = "symptoms.json"\n[[data]]\npath = "others"\n'
    study = write_study(place, tiny_clip, MIXED, data=data + 'symptoms = "symptoms.json"')
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("medvip.evaluation.benchmark.tables.draw_plots", lambda *_: ([], []))
        run(study, place / "out", cache=place / "cache")
    return study, place / "out"


def run(study: Path, out: Path, **more: Any) -> StudyResult:
    return run_study(study, out, **({"workers": 0, "quiet": True, "device": "cpu"} | more))


def predicted(out: Path, *parts: str, part: str = "test") -> Predictions:
    """What the one run says whose path holds all of these."""
    (path,) = [path for path in records(out) if all(one in path for one in parts)]
    return read_predictions(out / path, records(out)[path], part)


# ------------------------------------------------------------------ what a record holds


def test_a_record_holds_all_that_decided_it_and_no_file_name(mixed: tuple[Path, Path]) -> None:
    _, out = mixed
    found = records(out)
    assert len(found) == 2 * (4 + 1 + 3 + 3 + 3 + 1 + 4)
    one = record(out, "colours", "vip", "2-shots_seed-1")
    assert one["settings"]["method"]["options"]["recipe"]["epochs"] == 3
    assert (
        one["settings"]["symptoms"]["digest"] == medvip.SymptomSet.load(out.parent / "symptoms.json").digest
    )
    assert (one["cell"]["shots"], one["cell"]["seed"], one["status"]) == (2, 1, "done")
    assert one["images"]["train"] == dict.fromkeys(COLOURS, 2)
    assert one["images"]["test"] == dict.fromkeys(COLOURS, 8)
    assert set(one["made"]["versions"]) == {
        "medvip",
        "python",
        "torch",
        "transformers",
        "numpy",
        "scikit-learn",
    }
    assert one["made"]["threads"] == 1
    assert one["chosen"]["by_the_method"]["val_accuracy"] >= 0
    whole = json.loads((out / "runs/colours").rglob("2-shots_seed-1.json").__next__().read_text())
    assert set(whole["seconds"]) == {"fit", "fit_processor", "predict"}
    for text in (file.read_text() for file in out.rglob("*.json")):
        assert ".png" not in text
        assert str(out.parent) not in text.replace('"backbone":"', "")
        assert "blue-" not in text  # names of patients


def test_figures_can_be_made_again_from_the_record_alone(mixed: tuple[Path, Path]) -> None:
    _, out = mixed
    for file in (out / "runs").rglob("*.json"):
        content = json.loads(file.read_text())
        said = read_predictions(file, content)
        again = evaluate(said.probabilities, said.labels, said.classes, groups=said.groups).to_json()
        figures = content["metrics"]["test"]
        assert set(figures) == {"accuracy", "macro_f1", "balanced_accuracy", "auroc", "ece"}
        assert {name: again[name] for name in figures} == figures


def test_kept_probabilities_are_those_of_the_method(mixed: tuple[Path, Path], tiny_clip: Path) -> None:
    """The linear probe on a few pictures, step by step through the public functions."""
    _, out = mixed
    backbone = medvip.load_backbone(str(tiny_clip), device="cpu")
    dataset = medvip.few_shot(medvip.load_dataset(out.parent / "colours"), 2, seed=2)
    features = compute_features(dataset, backbone, cache=out.parent / "cache", quiet=True)
    symptoms = medvip.SymptomSet.load(out.parent / "symptoms.json")
    fitted = medvip.create_method("linear-probe", backbone, symptoms).fit(features.train, features.val)
    (file,) = (out / "runs/colours").rglob("linear-probe/2-shots_seed-2.json")
    said = read_predictions(file, json.loads(file.read_text()))
    np.testing.assert_allclose(said.probabilities, fitted.predict_proba(features.test.plain), atol=1e-6)
    assert said.labels.tolist() == features.test.labels.tolist()
    assert said.ids == tuple(content[:12] for content in features.test.contents)


# ------------------------------------------------------------------ what runs see


def image_set(place: Path, backbone: Path | str = "embedded"):
    study = load_study(write_study(place, backbone, method("majority")))
    return plan_study(study, place).sets["colours"]


def same(one: FeatureTable, other: FeatureTable) -> None:
    assert one.paths == other.paths
    assert one.groups == other.groups
    assert one.contents == other.contents
    assert one.classes == other.classes
    assert torch.equal(one.labels, other.labels)
    assert torch.equal(one.vectors, other.vectors)


@pytest.mark.parametrize("views", [0, 2])
def test_drawing_from_all_vectors_takes_the_pictures_of_few_shot(
    views: int, place: Path, tiny_clip: Path
) -> None:
    backbone = medvip.load_backbone(str(tiny_clip), device="cpu")
    wanted = replace(image_set(place), augmentation=medvip.Augmentation(views=views))
    whole = compute_features(wanted.dataset, backbone, augmentation=wanted.augmentation, quiet=True)
    stored = stored_features(wanted, backbone.fingerprint, wanted.augmentation)
    for split in ("train", "val", "test"):
        same(getattr(stored, split), getattr(whole, split))
    for shots in (1, 3, 99):
        for seed in (1, 2):
            few = medvip.few_shot(wanted.dataset, shots, seed=seed)
            expected = compute_features(few, backbone, augmentation=wanted.augmentation, quiet=True)
            found = drawn(stored, wanted.dataset, shots, seed)
            for split in ("train", "val", "test"):
                same(getattr(found, split), getattr(expected, split))


def test_selection_never_sees_the_test_labels(place: Path, tiny_clip: Path) -> None:
    """The same pictures with the test labels in another order: same choices, same probabilities."""
    rows = [
        method("vip", options=QUICK, tune='{ context = [1, 2], "recipe.learning_rate" = [0.01, 0.3] }'),
        method("linear-probe"),
        method("gda"),
        method("trivial-cues"),
    ]
    study = write_study(place, tiny_clip, "".join(rows), head='seeds = [1]\nshots = [4, "all"]')
    run(study, place / "one")
    split = read_split(place / "colours")
    test = [row for row in split if row[2] == "test"]
    labels = np.random.default_rng(0).permutation([row[1] for row in test])
    for row, label in zip(test, labels, strict=True):
        row[1] = str(label)
        row[3] = row[0]  # a patient has one label
    write_split(place / "colours", split)
    run(study, place / "two")
    one, two = records(place / "one"), records(place / "two")
    assert list(one) == list(two)
    for path, before in one.items():
        after = two[path]
        assert after["status"] == "done"
        assert after["digest"] != before["digest"]
        assert after["chosen"] == before["chosen"], path
        said = []
        for out, one in ((place / "one", before), (place / "two", after)):
            read = read_predictions(out / path, one)
            said.append(dict(zip(read.ids, read.probabilities.tolist(), strict=True)))
        assert said[0] == said[1], path
        assert after["metrics"] != before["metrics"], path


def test_tuning_keeps_the_best_on_validation_and_records_all(place: Path, tiny_clip: Path) -> None:
    tune = '{ "recipe.learning_rate" = [0.00001, 0.3, 0.1], context = [1, 2] }'
    study = write_study(place, tiny_clip, method("vip", options=QUICK, tune=tune), head="seeds = [1]")
    run(study, place / "out")
    chosen = record(place / "out", "vip")["chosen"]
    tried = chosen["tried"]
    assert len(tried) == 6
    assert [one["options"]["context"] for one in tried] == [1, 2] * 3
    scores = [(one["validation"]["macro_f1"], one["validation"]["accuracy"]) for one in tried]
    first_best = tried[scores.index(max(scores))]
    assert chosen["options"] == first_best["options"]
    assert chosen["validation"] == first_best["validation"]


def test_permuted_labels_keep_their_numbers_and_leave_test_alone(place: Path, tiny_clip: Path) -> None:
    backbone = medvip.load_backbone(str(tiny_clip), device="cpu")
    features = compute_features(image_set(place).dataset, backbone, quiet=True)
    permuted = with_permuted_labels(features, seed=3)
    same(permuted.test, features.test)
    for split in ("train", "val"):
        before, after = getattr(features, split), getattr(permuted, split)
        assert torch.equal(before.vectors, after.vectors)
        assert torch.equal(before.labels.bincount(), after.labels.bincount())
        assert not torch.equal(before.labels, after.labels)
    assert not torch.equal(with_permuted_labels(features, seed=4).train.labels, permuted.train.labels)


def test_permuted_labels_teach_nothing(mixed: tuple[Path, Path]) -> None:
    _, out = mixed
    learned = record(out, "runs/colours/", "/linear-probe/all-shots")["metrics"]["test"]["accuracy"]["value"]
    permuted = [
        one["metrics"]["test"]["accuracy"]["value"]
        for path, one in records(out).items()
        if "label-permutation" in path and "all-shots" in path
    ]
    assert len(permuted) == 4
    assert learned > 0.7
    assert np.mean(permuted) < 0.5


# ------------------------------------------------------------------ going on, failing, repeating


def test_two_runs_give_the_same_numbers_to_the_bit(mixed: tuple[Path, Path], tmp_path: Path) -> None:
    study, out = mixed
    run(study, tmp_path / "again", cache=out.parent / "cache")
    assert records(tmp_path / "again") == records(out)
    for table in (out / "tables").glob("*"):
        if table.name != "seconds.csv":
            assert table.read_bytes() == (tmp_path / "again/tables" / table.name).read_bytes()


@pytest.mark.slow
def test_worker_processes_give_the_same_numbers(place: Path, tiny_clip: Path) -> None:
    study = write_study(place, tiny_clip, method("vip", options=QUICK) + method("linear-probe"))
    run(study, place / "here")
    run(study, place / "there", workers=2)
    assert records(place / "there") == records(place / "here")
    assert multiprocessing.active_children() == []


def count_runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    done: list[str] = []
    perform = workers.perform

    def counted(run, *more):
        done.append(run.cell.path.as_posix())
        return perform(run, *more)

    monkeypatch.setattr(workers, "perform", counted)
    return done


def test_what_is_there_is_kept_and_what_changed_is_run_again(
    place: Path, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = count_runs(monkeypatch)
    rows = method("linear-probe") + method("trivial-cues")
    study = write_study(place, tiny_clip, rows)
    run(study, place / "out")
    assert len(done) == 6
    before = {file: file.stat().st_mtime_ns for file in (place / "out/runs").rglob("*.json")}
    run(study, place / "out")
    assert len(done) == 6
    assert {file: file.stat().st_mtime_ns for file in before} == before

    (damaged, removed) = sorted(before)[:2]
    damaged.write_text(damaged.read_text()[:200])
    removed.unlink()
    run(study, place / "out")
    again = sorted(file.relative_to(place / "out").as_posix() for file in (damaged, removed))
    assert sorted(done[6:]) == again
    (images,) = (place / "out/images").iterdir()
    whole = images.read_bytes()
    images.write_bytes(whole.replace(b"0", b"1", 1))
    assert plan_study(load_study(study), place).states(place / "out") == {"to do": 6}
    run(study, place / "out")
    assert images.read_bytes() == whole
    assert len(done) == 14
    del done[8:]

    write_study(place, tiny_clip, method("linear-probe") + method("trivial-cues") + method("gda"))
    run(study, place / "out")
    assert {path.split("/")[-2] for path in done[8:]} == {"gda"}
    symptoms = json.loads((place / "symptoms.json").read_text())
    (place / "symptoms.json").write_text(json.dumps(symptoms | {"red": ["another one"]}))
    run(study, place / "out")
    assert {path.split("/")[-2] for path in done[11:]} == {"linear-probe", "gda"}  # the cues use none


def test_other_weights_under_the_same_name_are_noticed(
    place: Path, tiny_clip: Path, tiny_siglip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = count_runs(monkeypatch)
    model = Path(shutil.copytree(tiny_clip, place / "model"))
    study = write_study(place, model, method("nearest-class-mean"), head="seeds = [1]")
    run(study, place / "out")
    shutil.rmtree(model)
    shutil.copytree(tiny_siglip, model)
    run(study, place / "out")
    assert len(done) == 2


def test_a_failing_run_is_recorded_and_the_rest_goes_on(place: Path, tiny_clip: Path) -> None:
    diverging = '{ recipe = { from = "fast", learning_rate = 1e38, epochs = 3 } }'
    rows = method("linear-probe") + method("vip", label='"diverges"', options=diverging) + method("majority")
    study = write_study(place, tiny_clip, rows, head="seeds = [1]")
    result = run(study, place / "out")
    assert [words for words, _ in result.failures] == [
        f"diverges, colours, {tiny_clip.name}, all pictures, seed 1"
    ]
    failed = record(place / "out", "diverges")
    assert failed["status"] == "failed"
    assert "not finite" in failed["reason"]
    assert "\n" not in failed["reason"]
    assert "metrics" not in failed
    assert record(place / "out", "linear-probe")["status"] == "done"
    assert any("diverges" in note for note in result.report.notes)
    study.write_text(study.read_text().replace("1e38", "0.01"))
    assert run(study, place / "out").failures == ()
    assert record(place / "out", "diverges")["status"] == "done"


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_run_only(place: Path, tiny_clip: Path) -> None:
    """A worker is killed while it waits: its next run is recorded as failed, another takes its place."""
    study = write_study(place, tiny_clip, method("linear-probe") + method("nearest-class-mean"))
    run(study, place / "out")
    for file in list((place / "out/runs").rglob("*.json")):
        file.unlink()
    plan = plan_study(load_study(study), place)
    backbone = medvip.load_backbone(str(tiny_clip), device="cpu")
    source = workers.Source(plan.sets["colours"], str(tiny_clip), backbone.fingerprint)
    sources = {key_of(run): source for run in plan.runs}
    outcomes: list[workers.Outcome] = []

    def report(outcome, running) -> None:
        if outcome is not None:
            outcomes.append(outcome)
        elif not outcomes:
            for child in multiprocessing.active_children():
                child.kill()

    workers.perform_in_workers(
        Schedule(plan.runs), sources, workers.Place(place / "out", None, "cpu"), 1, report
    )
    assert len(outcomes) == len(plan.runs)
    assert [outcome.status for outcome in outcomes].count("failed") == 1
    (reason,) = [outcome.reason for outcome in outcomes if outcome.status == "failed"]
    assert "exit code -9" in str(reason)
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_workers_that_all_die_stop_the_study(place: Path, tiny_clip: Path) -> None:
    study = write_study(place, tiny_clip, method("linear-probe") + method("nearest-class-mean"))
    plan = plan_study(load_study(study), place)
    source = workers.Source(plan.sets["colours"], str(tiny_clip), "x")
    outcomes: list[workers.Outcome] = []

    def report(outcome, running) -> None:
        outcomes.extend([outcome] if outcome is not None else [])
        for child in multiprocessing.active_children():
            child.kill()

    schedule, out = Schedule(plan.runs), workers.Place(place / "out", None, "cpu")
    sources = {key_of(run): source for run in plan.runs}
    with pytest.raises(RunError, match="2 worker processes died before any run was done") as caught:
        workers.perform_in_workers(schedule, sources, out, 2, report)
    assert "--workers 0" in caught.value.fix
    assert len(outcomes) == 2
    assert len(records(place / "out")) == 2
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("row", ["linear-probe", "from-scratch"])
def test_a_picture_that_cannot_be_read_is_named_on_the_terminal_only(
    row: str, place: Path, tiny_clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once where vectors are computed, once in a run from pixels."""
    short = '{ recipe = { from = "fast", epochs = 1, batch_size = 4, min_steps = 0 } }'
    options = {} if row == "linear-probe" else {"options": short}
    study = write_study(place, tiny_clip, method(row, **options), head="seeds = [1]")
    (place / "colours/red/3.png").write_bytes(b"no picture")
    result = run(study, place / "out", cache=place / "cache", quiet=False)
    ((_, why),) = result.failures
    assert "3.png" in why
    assert "3.png" in capsys.readouterr().err
    failed = record(place / "out", row)
    assert failed["reason"] == "1 pictures cannot be read"
    for file in (place / "out").rglob("*"):
        assert file.is_dir() or b"3.png" not in file.read_bytes(), file


def test_warnings_of_a_run_name_no_picture(
    place: Path, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import warnings

    class Warns(LinearProbe):
        def fit(self, train, val):
            warnings.warn(f"{train.paths[0]} is pale, {Path(train.paths[1]).name} too", stacklevel=1)
            return super().fit(train, val)

    monkeypatch.setitem(METHODS, "linear-probe", Warns)
    study = write_study(place, tiny_clip, method("linear-probe"), head="seeds = [1]")
    run(study, place / "out")
    assert record(place / "out", "linear-probe")["warnings"] == ["[picture] is pale, [picture] too"]


def test_probabilities_that_are_none_fail_the_run(
    place: Path, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept of them would read back as a distribution."""

    class Logits(LinearProbe):
        def predict_proba(self, images):
            return 2 * super().predict_proba(images)

    monkeypatch.setitem(METHODS, "linear-probe", Logits)
    study = write_study(place, tiny_clip, method("linear-probe"), head="seeds = [1]")
    ((_, why),) = run(study, place / "out").failures
    assert "sum to 2" in why


def test_a_backbone_that_cannot_be_loaded_fails_its_runs_only(place: Path, tiny_clip: Path) -> None:
    broken = place / "broken"
    broken.mkdir()
    shutil.copy(tiny_clip / "config.json", broken)
    study = write_study(place, broken, method("linear-probe") + method("majority"), head="seeds = [1]")
    study.write_text(study.read_text().replace(f'["{broken}"]', f'["{broken}", "{tiny_clip}"]'))
    result = run(study, place / "out")
    assert len(result.failures) == 1
    assert "broken" in result.failures[0][0]
    assert record(place / "out", "linear-probe", tiny_clip.name)["status"] == "done"
    assert record(place / "out", "majority")["status"] == "done"


def test_nobody_else_writes_there_meanwhile(place: Path, tiny_clip: Path) -> None:
    from medvip.evaluation.benchmark.running import _alone_in

    study = write_study(place, tiny_clip, method("majority"))
    with _alone_in(place / "out"), pytest.raises(RunError, match="already"):
        run(study, place / "out")
    left = place / "out/runs/.x.json.abc.part"
    left.parent.mkdir()
    left.write_text("half")
    run(study, place / "out")
    assert not left.exists()
    assert not (place / "out/.lock").exists()


def test_what_is_missing_stops_it_before_it_starts(place: Path) -> None:
    study = write_study(place, "embedded", method("majority"), data='[[data]]\npath = "nowhere"')
    with pytest.raises(UsageError, match="nowhere does not exist"):
        run(study, place / "out")
    assert not (place / "out").exists()


# ------------------------------------------------------------------ from pixels


SHORT = 'recipe = { from = "fast", epochs = 2, batch_size = 4'
SLOW_BUT_SHORT = f"{SHORT}, min_steps = 0 }}"
MAPLE = method("maple", options=f"{{ depth = 2, {SHORT} }} }}")
FINE_TUNED = method("fine-tuned", options=f"{{ {SLOW_BUT_SHORT} }}", tune="{ tower_rate = [0.0, 0.01] }")
FROM_SCRATCH = method("from-scratch", options=f"{{ {SLOW_BUT_SHORT} }}")
ON_PIXELS = MAPLE + FINE_TUNED + FROM_SCRATCH + method("label-permutation", of='"fine-tuned"')
VIEWS = '[[data]]\npath = "colours"\nsymptoms = "symptoms.json"\nviews = 3\nflip = false'


@pytest.fixture(scope="module")
def on_pixels(tmp_path_factory: pytest.TempPathFactory, tiny_clip: Path) -> tuple[Path, Path]:
    """A study with all methods that need pixels, and one that does not: its file and its folder."""
    place = tmp_path_factory.mktemp("pixels")
    draw_images(place / "colours")
    head = "seeds = [2]\nshots = [2]\nbase_to_novel = true"
    study = write_study(place, tiny_clip, ON_PIXELS + method("linear-probe"), head=head, data=VIEWS)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("medvip.evaluation.benchmark.tables.draw_plots", lambda *_: ([], []))
        result = run(study, place / "out", cache=place / "cache")
    assert result.failures == ()
    return study, place / "out"


def test_a_record_from_pixels_is_as_whole_as_one_from_vectors(on_pixels: tuple[Path, Path]) -> None:
    _, out = on_pixels
    vectors = record(out, "linear-probe", "seed-2.json")
    decisive = ("data", "views", "symptoms", "shots", "seed", "task", "backbone", "protocol")
    for row in ("/maple/", "/fine-tuned/", "/from-scratch/", "/label-permutation"):
        pixels = record(out, row, "seed-2.json")
        assert pixels.keys() == vectors.keys()
        assert (pixels["status"], pixels["reason"], pixels["warnings"]) == ("done", None, [])
        for about in ("fingerprint", "images"):
            assert pixels[about] == vectors[about]
        for about in decisive:
            assert pixels["settings"][about] == vectors["settings"][about]
        assert pixels["made"]["threads"] == 1
        said, theirs = (one["predictions"] for one in (pixels, vectors))
        assert said["images"] == theirs["images"]
        assert said["test"]["classes"] == theirs["test"]["classes"]
        assert set(pixels["chosen"]["validation"]) == {"macro_f1", "accuracy"}
        assert pixels["chosen"]["by_the_method"]["epoch"] in (1, 2)
    assert len(record(out, "/fine-tuned/", "seed-2.json")["chosen"]["tried"]) == 2
    novel = record(out, "/maple/", "base-to-novel")
    assert novel["status"] == "done"
    assert novel["predictions"]["novel"]["classes"] == ["red", "white"]
    assert set(novel["metrics"]) == {"base", "novel", "harmonic_mean"}
    for row in ("/fine-tuned/", "/from-scratch/", "/label-permutation"):
        cannot = record(out, row, "base-to-novel")
        assert (cannot["status"], "not carry over" in cannot["reason"]) == ("not possible", True)


@pytest.mark.parametrize(("name", "options"), [("maple", {"depth": 2}), ("from-scratch", {})])
def test_probabilities_from_pixels_are_those_of_the_method(
    name: str, options: dict, on_pixels: tuple[Path, Path], tiny_clip: Path
) -> None:
    """Step by step through the public functions; base to novel too."""
    _, out = on_pixels
    backbone = medvip.load_backbone(str(tiny_clip), device="cpu")
    few = medvip.few_shot(medvip.load_dataset(out.parent / "colours"), 2, seed=2)
    views = medvip.Augmentation(views=3, flip=False)
    pictures = open_pictures(few, backbone, augmentation=views)
    symptoms = medvip.SymptomSet.load(out.parent / "symptoms.json")
    recipe = record(out, f"/{name}/", "seed-2.json")["settings"]["method"]["options"]["recipe"]
    options = {**options, "recipe": recipe, "seed": 2}

    def expected(predict: Callable, table) -> np.ndarray:
        return np.concatenate([predict(part) for part in table.parts()])

    fitted = medvip.create_method(name, backbone, symptoms, **options).fit(pictures.train, pictures.val)
    said = predicted(out, f"/{name}/", "seed-2.json").probabilities
    np.testing.assert_allclose(said, expected(fitted.predict_proba, pictures.test), atol=1e-6)
    if name != "maple":
        return
    base, novel = ("blue", "green"), ("red", "white")
    fitted = medvip.create_method(name, backbone, symptoms, **options)
    fitted.fit(*(of_classes(table, base) for table in (pictures.train, pictures.val)))
    for part, predict, classes in (
        ("base", fitted.predict_proba, base),
        ("novel", fitted.on_new_classes(novel, symptoms), novel),
    ):
        said = predicted(out, f"/{name}/", "base-to-novel", part=part).probabilities
        np.testing.assert_allclose(said, expected(predict, of_classes(pictures.test, classes)), atol=1e-6)


def test_a_study_from_pixels_repeats_and_goes_on_to_the_bit(
    on_pixels: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a cache without vectors, which nothing but linear-probe wants; contents are hashed once."""
    study, out = on_pixels
    done = count_runs(monkeypatch)
    study_of_pixels = study.with_name("pixels.toml")
    study_of_pixels.write_text(study.read_text().replace(method("linear-probe"), ""))
    again = shutil.copytree(out, tmp_path / "again")
    for row in ("linear-probe", "fine-tuned", "maple"):
        for folder in (again / "runs").rglob(row):
            shutil.rmtree(folder)
    monkeypatch.delattr("medvip.features.picture_table.content_hash")
    run(study_of_pixels, again, cache=tmp_path / "cache")
    assert sorted({path.split("/")[-2] for path in done}) == ["fine-tuned", "maple"]
    kept = {path: one for path, one in records(out).items() if "linear-probe" not in path}
    assert records(again) == kept
    assert not list((tmp_path / "cache").rglob("*"))
    run(study_of_pixels, again, cache=tmp_path / "cache")
    assert len(done) == 3  # maple has two tasks
    assert records(again) == kept


def test_runs_that_share_a_backbone_leave_it_as_it_was(place: Path, tiny_clip: Path) -> None:
    """Of two runs of the same settings, one comes before and one after the image tower was trained."""
    rows = ON_PIXELS + method("vip", options=QUICK) + method("coop", options=f"{{ {SHORT} }} }}")
    study = write_study(place, tiny_clip, rows, head="seeds = [1]\nshots = [2]", data=VIEWS)
    plan = plan_study(load_study(study), place)
    backbone = medvip.load_backbone(str(tiny_clip), device="cpu")
    (wanted,) = plan.sets.values()
    compute_features(wanted.dataset, backbone, augmentation=wanted.augmentation, quiet=True)
    runner = workers.Runner(workers.Place(place / "out", None, "cpu"))
    of_row = {run.cell.row: run for run in plan.runs}
    runner.knows(key_of(plan.runs[0]), workers.Source(wanted, str(tiny_clip), backbone.fingerprint))

    def after(*rows: str) -> dict[str, dict[str, Any]]:
        assert [runner.run(of_row[row]).status for row in rows] == ["done"] * len(rows)
        return records(place / "out")

    others = ("vip", "maple", "coop")
    before = after(*others)
    everything = after("fine-tuned", "from-scratch", "label-permutation of fine-tuned", *others)
    assert len(everything) == 6
    assert {path: everything[path] for path in before} == before
    ours = runner._backbone[1]
    assert ours is not backbone
    for name, tensor in backbone._model.state_dict().items():  # pyright: ignore
        assert torch.equal(tensor, ours._model.state_dict()[name]), name  # pyright: ignore
    assert not any(weight.requires_grad for weight in ours._model.parameters())  # pyright: ignore


def test_a_backbone_that_does_not_suit_a_method_is_no_failure(
    place: Path, tiny_clip: Path, tiny_siglip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = count_runs(monkeypatch)
    rows = MAPLE + method("maple", label='"too deep"') + method("nearest-class-mean")
    study = write_study(place, tiny_clip, rows, head="seeds = [1]")
    study.write_text(study.read_text().replace(f'["{tiny_clip}"]', f'["{tiny_clip}", "{tiny_siglip}"]'))
    for _ in range(2):
        result = run(study, place / "out")
        assert result.failures == ()
        assert len(done) == 3
        assert any("3 runs not possible" in note for note in result.report.notes)
    assert record(place / "out", tiny_clip.name, "/maple/")["status"] == "done"
    for backbone, row, reason in (
        (tiny_siglip, "/maple/", "is no CLIP"),
        (tiny_siglip, "too_deep", "is no CLIP"),
        (tiny_clip, "too_deep", "depth is 9, but the encoders of"),
    ):
        cannot = record(place / "out", f"/{backbone.name}/", row)
        assert (cannot["status"], reason in cannot["reason"]) == ("not possible", True)
        assert "metrics" not in cannot
    plan = plan_study(load_study(study), place)
    assert plan.states(place / "out") == {"done": 3, "not possible": 3}


@pytest.mark.slow
def test_worker_processes_give_the_same_numbers_from_pixels(
    on_pixels: tuple[Path, Path], tmp_path: Path
) -> None:
    study, out = on_pixels
    run(study, tmp_path / "there", workers=2, cache=out.parent / "cache")
    assert records(tmp_path / "there") == records(out)


# ------------------------------------------------------------------ base to novel


class NearestNames(LinearProbe):
    """Stands for a method that carries over: it knows the novel classes by their names only."""

    name = "nearest-names"
    seen: dict[str, Any] = {}  # noqa: RUF012

    def on_new_classes(self, classes, symptoms):
        NearestNames.seen = {"classes": classes, "symptoms": symptoms, "learned": self.classes}
        return lambda images: np.tile(np.eye(len(classes))[0], (len(images), 1))


def test_base_to_novel_learns_one_half_and_is_told_the_other_by_name(
    place: Path, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, "nearest-names", NearestNames)
    rows = [method(name) for name in ("zero-shot-symptoms", "nearest-class-mean", "nearest-names")]
    head = "seeds = [1]\nshots = [2]\nbase_to_novel = true"
    study = write_study(place, tiny_clip, "".join(rows), head=head)
    result = run(study, place / "out")
    assert result.failures == ()

    zero_shot = record(place / "out", "zero-shot-symptoms", "base-to-novel")
    assert list(zero_shot["images"]["base"]) == ["blue", "green"]
    assert list(zero_shot["images"]["novel"]) == ["red", "white"]
    backbone = medvip.load_backbone(str(tiny_clip), device="cpu")
    all_symptoms = json.loads((place / "symptoms.json").read_text())
    test = compute_features(image_set(place).dataset, backbone, quiet=True).test
    for part, classes in (("base", ("blue", "green")), ("novel", ("red", "white"))):
        table = of_classes(test, classes)
        symptoms = medvip.SymptomSet.from_mapping({name: all_symptoms[name] for name in classes})
        alone = medvip.create_method("zero-shot-symptoms", backbone, symptoms).fit(table, table)
        expected = evaluate(alone.predict_proba(table.plain), table.labels.numpy(), classes, resamples=0)
        assert zero_shot["metrics"][part]["accuracy"]["value"] == expected.accuracy.value
    base, novel = (zero_shot["metrics"][part]["accuracy"]["value"] for part in ("base", "novel"))
    assert zero_shot["metrics"]["harmonic_mean"]["accuracy"] == pytest.approx(2 / (1 / base + 1 / novel))

    seen = NearestNames.seen
    assert seen["learned"] == ("blue", "green")
    assert seen["classes"] == ("red", "white")
    assert set(seen["symptoms"].classes) == {"red", "white"}
    learned = record(place / "out", "nearest-names", "base-to-novel")
    assert set(learned["images"]["train"]) == {"blue", "green"}
    assert learned["metrics"]["novel"]["accuracy"]["value"] == 0.5

    cannot = record(place / "out", "nearest-class-mean", "base-to-novel")
    assert cannot["status"] == "not possible"
    assert "not carry over" in cannot["reason"]
    table = (place / "out/tables/base-to-novel.csv").read_text()
    assert "nearest-class-mean" not in table
    assert f"zero-shot-symptoms,1,novel,{novel!r}" in table


@pytest.mark.parametrize("name", ["vip", "coop"])
def test_what_was_learned_of_the_base_classes_names_the_novel_ones(
    name: str, place: Path, tiny_clip: Path
) -> None:
    head = "seeds = [3]\nshots = [2]\nbase_to_novel = true"
    study = write_study(place, tiny_clip, method(name, options=QUICK), head=head)
    assert run(study, place / "out").failures == ()
    one = record(place / "out", f"/{name}/", "base-to-novel")
    backbone = medvip.load_backbone(str(tiny_clip), device="cpu")
    dataset = image_set(place).dataset
    few = compute_features(medvip.few_shot(dataset, 2, seed=3), backbone, quiet=True)
    symptoms = medvip.SymptomSet.load(place / "symptoms.json")
    recipe = one["settings"]["method"]["options"]["recipe"]
    of_base, of_novel = (
        medvip.SymptomSet.from_mapping({label: list(symptoms.classes[label]) for label in classes})
        for classes in (("blue", "green"), ("red", "white"))
    )
    fitted = medvip.create_method(name, backbone, of_base, recipe=recipe, seed=3)
    fitted.fit(*(of_classes(table, ("blue", "green")) for table in (few.train, few.val)))
    novel = of_classes(few.test, ("red", "white"))
    told = fitted.on_new_classes(novel.classes, of_novel)(novel.plain)
    said = predicted(place / "out", f"/{name}/", "base-to-novel", part="novel")
    np.testing.assert_allclose(said.probabilities, told, atol=1e-6)
    assert said.labels.tolist() == novel.labels.tolist()


def test_three_classes_cannot_be_halved(place: Path, tiny_clip: Path) -> None:
    shutil.rmtree(place / "colours")
    draw_images(place / "colours", classes=3)
    symptoms = '[[data]]\npath = "colours"'
    head = "seeds = [1]\nbase_to_novel = true"
    study = write_study(place, tiny_clip, method("zero-shot-names"), head=head, data=symptoms)
    run(study, place / "out")
    one = record(place / "out", "base-to-novel")
    assert (one["status"], "3 classes" in one["reason"]) == ("not possible", True)


def test_classes_are_halved_and_relabelled(place: Path, tiny_clip: Path) -> None:
    assert halves(("c", "b", "a")) == (("a", "b"), ("c",))
    backbone = medvip.load_backbone(str(tiny_clip), device="cpu")
    table = compute_features(image_set(place).dataset, backbone, quiet=True).train
    part = of_classes(table, ("white", "blue"))
    for row, path in enumerate(part.paths):
        assert part.classes[part.labels[row]] in path
        assert torch.equal(part.vectors[row], table.vectors[table.paths.index(path)])
    means = class_means(part.plain, part.labels, 2)
    assert means.shape == (2, backbone.embed_dim)
