"""Tables and plots come from the records alone, equal what one computes by hand, and survive any label."""

from __future__ import annotations

import csv
import itertools
import json
import math
import re
import shutil
import statistics
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from benchmark_studies import QUICK, draw_images, method, record, records, write_study
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, roc_auc_score

from medvip.evaluation.benchmark import load_study, run_study, write_tables
from medvip.evaluation.benchmark.plots import COLOURS, critical_difference_diagram, curves, draw_plots, joined
from medvip.evaluation.benchmark.records import (
    Images,
    numbered,
    one_line,
    packed,
    private,
    read_predictions,
    read_record,
    unpacked,
    write_record,
)
from medvip.evaluation.benchmark.summary import Ranking, summarise
from medvip.evaluation.benchmark.text_tables import Table, latex_escaped, markdown_escaped
from medvip.evaluation.benchmark.watching import Standing, watched

HOSTILE = r"\input{x} & 50 % $y_1$ ~^ #1 {a} | *b* `c` <img src=x> [d](e) \\ ä ="
FORMULA = "=1+1"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_clip: Path) -> tuple[Path, Path]:
    """A study on two sets, one label hostile and one a formula; its file and folder."""
    place = tmp_path_factory.mktemp("tables")
    draw_images(place / "colours")
    draw_images(place / "others", seed=1)
    data = '[[data]]\npath = "colours"\nsymptoms = "symptoms.json"\n'
    data += f'[[data]]\npath = "others"\nname = \'{HOSTILE}\'\nsymptoms = "symptoms.json"'
    rows = [
        method("nearest-class-mean"),
        method("vip", label=f"'{HOSTILE}'", options=QUICK),
        method("zero-shot-names", label=f"'{FORMULA}'"),
        method("linear-probe"),
        method("majority"),
        method("trivial-cues"),
        method("label-permutation", of='"linear-probe"'),
    ]
    study = write_study(place, tiny_clip, "".join(rows), data=data)
    run_study(study, place / "out", workers=0, quiet=True, device="cpu", cache=place / "cache")
    return study, place / "out"


def read_csv(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def predictions(out: Path, *parts: str):
    """Of every run whose path holds all of these, by seed."""
    found = {}
    for file in (out / "runs").rglob("*.json"):
        if all(part in file.relative_to(out).as_posix() for part in parts):
            content = json.loads(file.read_text())
            found[content["cell"]["seed"]] = read_predictions(file, content)
    return dict(sorted(found.items()))


# ------------------------------------------------------------------ numbers


def test_means_spreads_and_intervals_by_hand(done: tuple[Path, Path]) -> None:
    _, out = done
    lines = read_csv(out / "tables/results.csv")
    by_seed = predictions(out, "runs/colours/", "nearest-class-mean/2-shots")
    assert list(by_seed) == [1, 2]
    groups = sorted(set(by_seed[1].groups), key=by_seed[1].groups.index)
    drawn = np.random.default_rng(1).multinomial(len(groups), [1 / len(groups)] * len(groups), size=1000)

    def figure(name: str, said, again: np.ndarray) -> float:
        t, p = said.labels[again], said.probabilities[again]
        if name == "accuracy":
            return float(np.mean(p.argmax(1) == t))
        if name == "macro_f1":
            return float(f1_score(t, p.argmax(1), average="macro", labels=np.unique(t)))
        one_vs_rest = [roc_auc_score(t == c, p[:, c]) for c in range(4) if 0 < (t == c).sum() < len(t)]
        return float(np.mean(one_vs_rest))

    everything = np.arange(len(by_seed[1].labels))
    for name in ("accuracy", "macro_f1", "auroc"):
        (line,) = [
            line
            for line in lines
            if (line["data"], line["shots"], line["method"], line["figure"])
            == ("colours", "2", "nearest-class-mean", name)
        ]
        values = [figure(name, said, everything) for said in by_seed.values()]
        assert float(line["mean"]) == pytest.approx(statistics.mean(values))
        assert float(line["spread"]) == pytest.approx(statistics.stdev(values))
        assert (line["runs"], line["runs_expected"]) == ("2", "2")
        means = []
        for counts in drawn[:: 1 if name == "accuracy" else 10]:
            often = dict(zip(groups, counts, strict=True))
            again = np.repeat(everything, [often[group] for group in by_seed[1].groups])
            means.append(statistics.mean(figure(name, said, again) for said in by_seed.values()))
        ends = (float(line["low"]), float(line["high"]))
        if name == "accuracy":  # all resamples, so the very same ends
            assert ends == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))
        assert ends == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])), abs=0.06)


def test_the_markdown_table_holds_the_means_of_the_records(done: tuple[Path, Path]) -> None:
    _, out = done
    text = (out / "tables/results.md").read_text()
    section = text.split("### accuracy, colours")[1].split("###")[0]
    values = [
        record(out, "runs/colours/", f"nearest-class-mean/2-shots_seed-{seed}")["metrics"]["test"][
            "accuracy"
        ]["value"]
        for seed in (1, 2)
    ]
    (line,) = [line for line in section.splitlines() if line.startswith("| nearest-class-mean |")]
    assert line.split("|")[2].strip() == f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"
    whole = record(out, "runs/colours/", "nearest-class-mean/all-shots")["metrics"]["test"]["accuracy"][
        "value"
    ]
    assert line.split("|")[3].strip() == f"{whole:.3f}"  # one run, no spread


def test_comparisons_by_hand(done: tuple[Path, Path]) -> None:
    _, out = done
    lines = [line for line in read_csv(out / "tables/comparisons.csv")
             if (line["data"], line["shots"]) == ("colours", "2")]  # fmt: skip
    assert len(lines) == 21 * 3  # all pairs of seven rows, three figures
    ncm = predictions(out, "runs/colours/", "nearest-class-mean/2-shots")
    (zero_shot,) = predictions(out, "runs/colours/", "1+1").values()
    (line,) = [one for one in lines if (one["first"], one["second"], one["figure"])
               == ("nearest-class-mean", "'" + FORMULA, "accuracy")]  # fmt: skip
    p_values, only = [], []
    for said in ncm.values():
        one, other = (s.probabilities.argmax(1) == s.labels for s in (said, zero_shot))
        b, c = int((one & ~other).sum()), int((other & ~one).sum())
        p_values.append(scipy.stats.binomtest(b, b + c).pvalue)
        only.append((b, c))
    assert line["only_first_by_seed"] == " ".join(str(b) for b, _ in only)
    assert line["only_second_by_seed"] == " ".join(str(c) for _, c in only)
    assert float(line["p"]) == pytest.approx(min(1, 2 * statistics.median(p_values)))
    for figure in ("accuracy", "macro_f1", "auroc"):
        family = [one for one in lines if one["figure"] == figure]
        ordered = sorted(float(one["p"]) for one in family)
        smallest = min(family, key=lambda one: float(one["p"]))
        assert float(smallest["p_holm"]) == pytest.approx(min(1, ordered[0] * len(family)))


def test_with_a_reference_only_its_pairs_are_tested(done: tuple[Path, Path], tmp_path: Path) -> None:
    study, out = done
    text = study.read_text().replace('name = "tiny"\n', 'name = "tiny"\nreference = "majority"\n')
    (tmp_path / "study.toml").write_text(text)
    shutil.copytree(out, tmp_path / "out")
    write_tables(load_study(tmp_path / "study.toml"), tmp_path / "out")
    lines = read_csv(tmp_path / "out/tables/comparisons.csv")
    assert {line["first"] for line in lines} == {"majority"}
    assert len(lines) == 2 * 2 * 6 * 3
    titles = re.findall("### majority against others, (.*)", (tmp_path / "out/tables/results.md").read_text())
    assert [title.split(", ")[-1] for title in titles] == ["all", "all"]  # most shots; one a data set


@pytest.mark.parametrize("shots", ["2", "all"])
@pytest.mark.parametrize("figure", ["accuracy", "macro_f1", "auroc"])
def test_ranks_by_hand(done: tuple[Path, Path], shots: str, figure: str) -> None:
    _, out = done
    lines, results = (
        [
            line
            for line in read_csv(out / "tables" / name)
            if (line["shots"], line["figure"]) == (shots, figure)
        ]
        for name in ("ranks.csv", "results.csv")
    )
    means = {(line["data"], line["method"]): float(line["mean"]) for line in results}
    names = [line["method"] for line in lines]
    assert names == ["nearest-class-mean", HOSTILE, "'" + FORMULA, "linear-probe"]  # no control
    table = np.array([[means[data, name] for name in names] for data in ("colours", HOSTILE)])
    expected = np.mean([scipy.stats.rankdata(-line) for line in table], axis=0)
    assert [float(line["mean_rank"]) for line in lines] == pytest.approx(list(expected))
    chi_square = scipy.stats.friedmanchisquare(*table.T).statistic
    with np.errstate(divide="ignore"):  # both sets agree
        p = scipy.stats.f.sf(chi_square / np.float64(6 - chi_square), 3, 3)
    assert float(lines[0]["friedman_p"]) == pytest.approx(max(p, 1 / 24))
    assert float(lines[0]["critical_difference"]) == pytest.approx(2.569 * math.sqrt(20 / 12), rel=1e-3)


def edit_records(out: Path, change: Any, *parts: str) -> None:
    """Change the records whose path holds all of these; None removes one."""
    for file in (out / "runs").rglob("*.json"):
        if all(part in file.relative_to(out).as_posix() for part in parts):
            content = json.loads(file.read_text())
            if change(content) is None:
                file.unlink()
            else:
                file.write_text(json.dumps(content))


def test_rows_without_a_common_seed_are_not_compared(done: tuple[Path, Path], tmp_path: Path) -> None:
    study, out = done
    shutil.copytree(out, tmp_path / "out")
    edit_records(tmp_path / "out", lambda _: None, "colours", "nearest-class-mean/2-shots_seed-1")
    edit_records(tmp_path / "out", lambda _: None, "colours", "linear-probe/2-shots_seed-2")
    report = write_tables(load_study(study), tmp_path / "out")
    lines = [(line["first"], line["second"]) for line in read_csv(tmp_path / "out/tables/comparisons.csv")
             if (line["data"], line["shots"]) == ("colours", "2")]  # fmt: skip
    assert ("nearest-class-mean", "linear-probe") not in lines
    assert len(lines) == 3 * 20
    (note,) = [note for note in report.notes if "no seed is common" in note]
    assert "nearest-class-mean and linear-probe, colours" in note


def test_what_is_not_ranked_is_told(done: tuple[Path, Path], tmp_path: Path) -> None:
    study, out = done
    shutil.copytree(out, tmp_path / "out")
    edit_records(tmp_path / "out", lambda _: None, "colours", "linear-probe/all-shots")
    report = write_tables(load_study(study), tmp_path / "out")
    (note,) = [note for note in report.notes if "not ranked" in note]
    assert "lack a data set: linear-probe (" in note
    assert "all shots" in note
    of_all = {
        line["method"] for line in read_csv(tmp_path / "out/tables/ranks.csv") if line["shots"] == "all"
    }
    assert of_all == {"nearest-class-mean", HOSTILE, "'" + FORMULA}

    def same_data(content: dict[str, Any]) -> dict[str, Any]:
        content["settings"]["data"]["digest"] = "0" * 64
        return content

    edit_records(tmp_path / "out", same_data)
    report = write_tables(load_study(study), tmp_path / "out")
    assert any(note == f"no ranks: colours and {HOSTILE} are the same images" for note in report.notes)
    assert read_csv(tmp_path / "out/tables/ranks.csv") == []


def test_nothing_but_the_records_is_needed(done: tuple[Path, Path], tmp_path: Path) -> None:
    study, out = done
    for folder in ("runs", "images"):
        shutil.copytree(out / folder, tmp_path / "out" / folder)
    report = write_tables(load_study(study), tmp_path / "out")
    for file in (out / "tables").iterdir():
        assert (tmp_path / "out/tables" / file.name).read_bytes() == file.read_bytes()
    assert {file.name for file in report.files} == {
        f.name for f in (*(out / "tables").iterdir(), *(out / "plots").iterdir())
    }


def test_records_that_do_not_belong_are_left_out_and_told(done: tuple[Path, Path], tmp_path: Path) -> None:
    study, out = done
    shutil.copytree(out, tmp_path / "out")
    changed = tmp_path / "study.toml"
    changed.write_text(study.read_text().replace("epochs = 3", "epochs = 4"))
    report = write_tables(load_study(changed), tmp_path / "out")
    assert any("8 runs made with other options" in note for note in report.notes)
    assert HOSTILE not in {line["method"] for line in read_csv(tmp_path / "out/tables/results.csv")}

    file = next((tmp_path / "out/runs/colours").rglob("nearest-class-mean/2-shots_seed-2.json"))
    content = json.loads(file.read_text())
    said = read_predictions(file, content)
    ids = ("another one", *said.ids[1:])
    write_record(file, content, Images("colours", said.classes, ids, said.groups, said.labels))
    next((tmp_path / "out/runs/colours").rglob("nearest-class-mean/2-shots_seed-1.json")).write_text("{")
    report = write_tables(load_study(study), tmp_path / "out")
    assert any("measured on other test images" in note for note in report.notes)
    assert any("1 runs missing" in note for note in report.notes)


def test_an_empty_folder_gives_empty_tables(done: tuple[Path, Path], tmp_path: Path) -> None:
    report = write_tables(load_study(done[0]), tmp_path)
    assert report.shown == ()
    assert [note for note in report.notes if "runs missing" in note]


def test_one_group_of_patients_has_no_intervals(done: tuple[Path, Path], tmp_path: Path) -> None:
    study, out = done
    for file in (out / "runs").rglob("*.json"):
        content = json.loads(file.read_text())
        said, data = read_predictions(file, content), content["cell"]["data"]
        images = Images(data, said.classes, said.ids, ("g0",) * len(said.ids), said.labels)
        write_record(tmp_path / "out" / file.relative_to(out), content, images)
    summary = summarise(load_study(study), tmp_path / "out")
    assert len(summary.places) == 2 * 2 * 7
    assert all(math.isnan(place.figures["accuracy"].low) for place in summary.places)


# ------------------------------------------------------------------ text


def test_hostile_labels_stay_text_in_every_form(done: tuple[Path, Path]) -> None:
    _, out = done
    markdown = (out / "tables/results.md").read_text()
    assert "<img" not in markdown
    assert HOSTILE not in markdown
    for table in re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE):
        columns = {len(re.split(r"(?<!\\)(?:\\\\)*\|", line)) for line in table.splitlines()}
        assert len(columns) == 1, table  # no label adds a column
    latex = (out / "tables/results.tex").read_text()
    assert r"\input" not in latex
    assert r"\textbackslash{}input\{x\}" in latex
    for line in latex.splitlines():
        assert not re.search(r"(?<!\\)[%#]", line)
    spreadsheet = (out / "tables/results.csv").read_text()
    assert not re.search(r"(^|,)=", spreadsheet, re.MULTILINE)
    assert {line["method"] for line in read_csv(out / "tables/results.csv")} >= {HOSTILE, "'" + FORMULA}


def unescaped_latex(text: str) -> str:
    """What LaTeX prints of it."""
    names = {"textbackslash": "\\", "textasciicircum": "^", "textasciitilde": "~", "textless": "<",
             "textgreater": ">", "textbar": "|"}  # fmt: skip
    text = text.replace(r"$\pm$", "±").replace("{[}", "[").replace("{*}", "*")
    return re.sub(
        r"\\(" + "|".join(names) + r")\{\}|\\([{}$&#_%])", lambda m: names[m[1]] if m[1] else m[2], text
    )


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from(list("\\{}$&#_%^~<>|[]*`ab ±")), max_size=12))
def test_escapes_print_the_same_text(text: str) -> None:
    escaped = latex_escaped(text)
    assert unescaped_latex(escaped) == text
    assert not re.search(r"(?<!\\)[%#&_]", escaped)
    from markdown_it import MarkdownIt

    table = Table("t", ("a", "b"), ((f"x{text}y", "1"),)).markdown()
    html = MarkdownIt("commonmark").enable("table").render(table)
    cells = ["".join(cell.itertext()) for cell in ElementTree.fromstring(f"<d>{html}</d>").iter("td")]
    assert [re.sub(" +", " ", cell) for cell in cells] == [re.sub(" +", " ", f"x{text}y"), "1"]


def test_a_table_has_its_parts() -> None:
    table = Table("a_b", ("method", "x"), (("m&m", "0.5 ± 0.1"),))
    assert table.markdown() == "### a\\_b\n\n| method | x |\n| --- | ---: |\n| m&amp;m | 0.5 ± 0.1 |\n"
    assert table.latex().splitlines() == [
        r"\begin{table}", r"\caption{a\_b}", r"\begin{tabular}{lr}", r"\hline", r"method & x \\", r"\hline",
        r"m\&m & 0.5 $\pm$ 0.1 \\", r"\hline", r"\end{tabular}", r"\end{table}",
    ]  # fmt: skip
    assert markdown_escaped("plain") == latex_escaped("plain") == "plain"


# ------------------------------------------------------------------ pictures


def test_plots_are_pictures_and_the_same_each_time(done: tuple[Path, Path], tmp_path: Path) -> None:
    study, out = done
    files, notes = draw_plots(summarise(load_study(study), out), tmp_path)
    assert notes == []
    kinds = {file.name.split("_")[0] + file.suffix for file in files}
    assert kinds == {"curve.svg", "ranks.svg"}
    assert len(files) == 2 * 3 + 2 * 3
    for file in files:
        assert file.read_bytes() == (out / "plots" / file.name).read_bytes(), file.name
    svg = next(file for file in files if file.name.startswith("curve_colours"))
    texts = {
        "".join(text.itertext()).strip()
        for text in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")
    }
    assert {HOSTILE.strip(), "nearest-class-mean", "all", "2"} <= texts


def test_without_matplotlib_there_are_tables_and_a_note(
    done: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    files, notes = draw_plots(summarise(load_study(done[0]), done[1]), tmp_path)
    assert files == []
    assert "pip install 'medvip[plots]'" in notes[0]


def test_curves_show_the_means_in_the_order_of_shots(done: tuple[Path, Path]) -> None:
    study, out = done
    summary = summarise(load_study(study), out)
    places = [place for place in summary.places if place.data == "colours"]
    picture = curves(summary.study, list(reversed(places)), "macro_f1")
    lines = {line.get_label(): line for line in picture.axes[0].lines}
    assert len(lines) == 7
    for name, line in lines.items():
        of = [p for p in places if p.row == name]
        means = [next(p for p in of if p.shots == shots).figures["macro_f1"].mean for shots in (2, "all")]
        assert list(line.get_ydata()) == means


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def test_every_line_can_be_seen_on_paper() -> None:
    """On white at least 2 : 1, and no two colours are the same."""
    assert len(set(COLOURS)) == 8
    for colour in COLOURS:
        assert 1.05 / (luminance(colour) + 0.05) > 2


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1, 9), min_size=1, max_size=7), st.floats(0.1, 4))
def test_bars_join_exactly_what_does_not_differ(mean_ranks: list[float], difference: float) -> None:
    mean_ranks = sorted(mean_ranks)
    bars = joined(mean_ranks, difference)
    for one, other in itertools.combinations(range(len(mean_ranks)), 2):
        alike = mean_ranks[other] - mean_ranks[one] <= difference
        assert any(first <= one and other <= last for first, last in bars) == alike
    for one, other in itertools.permutations(bars, 2):
        assert not (one[0] <= other[0] and other[1] <= one[1])  # none inside another


def test_a_diagram_names_every_method(tmp_path: Path) -> None:
    ranking = Ranking("b", "all", "auroc", {HOSTILE: 1.5, "x": 2.0, "y": 2.5}, 5, 0.2, 1.48)
    texts = [text.get_text() for text in critical_difference_diagram(ranking).axes[0].texts]
    assert any(HOSTILE in text for text in texts)
    assert any("1.48" in text for text in texts)


# ------------------------------------------------------------------ what is shown meanwhile


def test_progress_says_how_long_and_what_failed(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr("medvip.evaluation.benchmark.watching.SECONDS_A_LINE", 0)
    with watched("tiny") as show:
        show(Standing(10, 4, 1, 3700.0), "failed: x")
    assert capsys.readouterr().err == "failed: x\ntiny: 4 of 10 runs, 1 failed, about 1 h 1 min left\n"
    with watched("tiny") as show:
        show(None, "making tables")
    assert capsys.readouterr().err == "making tables\n"
    with watched("tiny", quiet=True) as show:
        show(Standing(10), "failed: x")
    assert capsys.readouterr().err == ""


def test_the_live_table_shows_labels_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with watched("[red]tiny[/red]") as show:
        show(Standing(3, 1, 0, 5.0, ["[bold]one[/bold]"]), "failed: [/x]")
        show(None, "making [b]tables")
    for text in ("[red]tiny[/red]", "[bold]one[/bold]", "failed: [/x]", "1 of 3 runs", "making [b]tables"):
        assert text in terminal.getvalue()


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_an_error_becomes_one_harmless_line(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert len(line) <= 403


# ------------------------------------------------------------------ what is kept of a run


CHANCES = st.floats(0, 1) | st.sampled_from([0.0, 1.0, 1e-300, 5e-39, 0.5000001])


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 6).flatmap(lambda k: st.lists(st.lists(CHANCES, min_size=k, max_size=k), min_size=1)))
def test_probabilities_are_read_back(rows: list[list[float]]) -> None:
    """Within what float32 keeps of a logarithm; zero too, and the order of two classes never turns."""
    given = np.array(rows) + 0.0
    given[given.sum(axis=1) == 0, -1] = 1
    given /= given.sum(axis=1, keepdims=True)
    number, classes = given.shape
    names = tuple("abcdef"[:classes])
    ids = tuple(f"{i:012x}" for i in range(number))
    images = Images("x", names, ids, ids, np.arange(number) % classes)
    back = unpacked(json.loads(json.dumps(packed(given, names))), images)
    np.testing.assert_allclose(back.probabilities, given, atol=2e-5)
    np.testing.assert_allclose(back.probabilities.sum(axis=1), 1)
    for before, after in zip(given, back.probabilities, strict=True):
        order = np.argsort(before)
        assert np.all(np.diff(after[order]) >= 0)
    assert (back.labels.tolist(), back.ids) == (images.labels.tolist(), ids)


def test_a_part_is_of_the_images_of_its_classes() -> None:
    images = Images(
        "x", ("a", "b", "c"), ("1", "2", "3", "4"), ("g0", "g1", "g0", "g2"), np.array([2, 0, 1, 2])
    )
    given = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
    back = unpacked(packed(given, ("c", "b")), images)
    assert (back.ids, back.groups, back.labels.tolist()) == (("1", "3", "4"), ("g0", "g0", "g2"), [0, 1, 0])
    np.testing.assert_allclose(back.probabilities, given, atol=1e-7)
    for classes in (["a", "b"], ["c", "unknown"]):
        with pytest.raises(ValueError, match=r"cannot reshape|not in tuple"):
            unpacked(packed(given, ("c", "b")) | {"classes": classes}, images)


def test_groups_are_numbered_whatever_they_are_called() -> None:
    ids = ["b", "d", "a", "c"]
    assert (
        numbered(["x", "y", "z", "x"], ids) == numbered(["3", "1", "2", "3"], ids) == ("g1", "g2", "g0", "g1")
    )


def test_a_record_is_none_when_its_images_are_missing_or_altered(
    done: tuple[Path, Path], tmp_path: Path
) -> None:
    shutil.copytree(done[1], tmp_path / "out")
    (file,) = (tmp_path / "out/runs/colours").rglob("majority/*.json")
    (images,) = (tmp_path / "out/images").glob("colours-*.json")
    assert read_record(file) is not None
    whole, record = images.read_bytes(), file.read_text()
    images.write_bytes(whole.replace(b'"g0"', b'"g1"', 1))
    assert read_record(file) is None
    images.unlink()
    assert read_record(file) is None
    images.write_bytes(whole)
    assert read_record(file) is not None
    file.write_text(record.replace('"log_ratios":"', '"log_ratios":"AAAA'))
    assert read_record(file) is None
    file.write_text(record.replace('"file":"', '"file":"../../../'))
    assert read_record(file) is not None  # it is looked for in its folder only


def test_records_are_small(done: tuple[Path, Path]) -> None:
    """All runs of a set share one file of images; a run adds 4 bytes a probability and its settings."""
    out = done[1]
    assert len(list((out / "images").iterdir())) == 2
    lines = next((out / "images").iterdir()).read_text().splitlines()
    assert [line.split(":")[0] for line in lines[1:-1]] == [
        '"format"', '"version"', '"data"', '"classes"', '"ids"', '"groups"', '"labels"',
    ]  # fmt: skip
    files = list((out / "runs").rglob("*.json"))
    assert max(file.stat().st_size for file in files) < 5000
    said = record(out, "colours", "majority")["predictions"]["test"]["log_ratios"]
    assert len(said) == 4 * math.ceil(32 * 3 * 4 / 3)


def test_texts_of_a_record_name_no_picture_and_no_place() -> None:
    pictures = ["/home/anna smith/set/benign/Anna Smith (1).png", "/home/anna smith/set/benign/11.png"]
    harmless = "openai/clip-vit at https://huggingface.co/x, 3 / 4"
    for text, expected in {
        f"{pictures[0]}: cut off": "[picture]: cut off",
        "benign/Anna Smith (1).png and Anna Smith (1).png": "[picture] and [picture]",
        "OSError: [Errno 2] No such file: '/data/x/y.txt'": "OSError: [Errno 2] No such file: '[path]'",
        r"no C:\Users\Anna\a.JPG there": "no [path] there",
        "other/1.jpeg (to mend it: see ~/notes)": "[picture] (to mend it: see [path])",
        f"{Path.home()}/models/clip has no file": "[path] has no file",
        harmless: harmless,
    }.items():
        assert private(text, pictures) == expected


def test_records_of_the_fixture_are_whole(done: tuple[Path, Path]) -> None:
    found = records(done[1])
    assert {one["status"] for one in found.values()} == {"done"}
