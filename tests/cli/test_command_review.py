"""`medvip symptoms review`: typed and piped answers, interruptions, hostile text; where the review shows."""

# ruff: noqa: F401, F811 (fixtures are imported by name)
from __future__ import annotations

import io
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_answers import Answer, fit, medvip, symptom_file
from markdown_it import MarkdownIt

from medvip.symptoms import Decision, Generation, SymptomSet

MEDVIP = Path(sys.executable).with_name("medvip")
CLASSES = {"nevus": ["one even color", "smooth edge"], "melanoma": ["several colors", "jagged edge"]}
QUESTION = "[k]eep, [d]rop, [r]eword, [s]kip or [q]uit?"


@pytest.fixture
def file(tmp_path) -> Path:
    """Two classes of two symptoms, as a plain file; the classes are asked about in alphabetic order."""
    path = tmp_path / "my symptoms.json"
    path.write_text(json.dumps(CLASSES))
    return path


@pytest.fixture
def review(medvip, monkeypatch):
    """``review(file, "k\\nd\\n", more...)``: the command with these lines as its standard input."""

    def run(file: object, typed: str | io.StringIO, *more: object, by: object = "A. Doctor") -> Answer:
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed) if isinstance(typed, str) else typed)
        return medvip("symptoms", "review", file, *(("--by", by) if by is not None else ()), *more)

    return run


def verdicts(file: Path) -> dict[str, list[tuple[str, str, str]]]:
    """Class -> (symptom, verdict, by), read without medvip."""
    reviews = json.loads(file.read_text()).get("reviews", {})
    return {name: [(r["symptom"], r["verdict"], r["by"]) for r in each] for name, each in reviews.items()}


def left_of(answer: Answer) -> str:
    """What the command says is left to do."""
    (line,) = [line for line in answer.out.splitlines() if line.startswith("not reviewed yet: ")]
    return line.removeprefix("not reviewed yet: ")


# ------------------------------------------------------------------ a sitting


def test_keep_drop_and_reword_are_followed_and_written(review, file):
    answer = review(file, "k\nr\nuneven, ragged edge\nD\nkeep\n")
    out = answer.done()
    asked = [line for line in out.splitlines() if " of 4: " in line]
    assert asked == [
        "1 of 4: several colors",
        "2 of 4: jagged edge",
        "3 of 4: one even color",
        "4 of 4: smooth edge",
    ]
    document = json.loads(file.read_text())
    assert document["classes"] == {
        "melanoma": ["several colors", "uneven, ragged edge"],
        "nevus": ["smooth edge"],
    }
    assert verdicts(file) == {
        "melanoma": [
            ("several colors", "keep", "A. Doctor"),
            ("uneven, ragged edge", "reworded", "A. Doctor"),
        ],
        "nevus": [("one even color", "drop", "A. Doctor"), ("smooth edge", "keep", "A. Doctor")],
    }
    assert document["reviews"]["melanoma"][1]["was"] == "jagged edge"
    assert "symptoms: 3 of 3 symptoms reviewed and 1 dropped by A. Doctor (" in out
    assert left_of(answer).startswith("none")


def test_every_verdict_is_on_disk_before_the_next_question(review, file):
    """The file is read, as anyone might, each time an answer is wanted."""
    seen = []

    class Watching(io.StringIO):
        def readline(self, *_: object) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
            seen.append(sum(map(len, verdicts(file).values())))
            return super().readline()

    review(file, Watching("k\nk\ns\nd\n")).done()
    assert seen == [0, 1, 2, 2]
    assert sum(map(len, verdicts(file).values())) == 3
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_what_is_no_answer_is_asked_again(review, file):
    out = review(file, "\nyes\nkk\n\x1b[A\nk\nr\n\nr\njagged edge\nr\nSeveral colors.\nr\n...\nq\n").done()
    assert out.count("answer with k, d, r, s or q") == 4
    for problem in ("the new words are the old ones", "stands in this class already", "it is empty"):
        assert f"{problem}\nto mend it: " in out
    assert out.count("in which words?") == 4
    assert verdicts(file) == {"melanoma": [("several colors", "keep", "A. Doctor")]}


def test_the_last_symptom_of_a_class_is_not_dropped(review, tmp_path):
    file = tmp_path / "a.json"
    file.write_text('{"nevus": ["round"], "melanoma": ["jagged"]}')
    before = file.read_bytes()
    out = review(file, "d\n").done()
    assert "'jagged' is its last symptom and cannot be dropped\nto mend it: " in out
    assert file.read_bytes() == before


def test_quitting_and_going_on(review, file):
    answer = review(file, "k\ns\nq\n")
    command = left_of(answer).split("go on with: ")[1]
    assert left_of(answer).startswith("3; ")
    assert shlex.split(command) == ["medvip", "symptoms", "review", str(file), "--by", "A. Doctor"]
    out = review(file, "k\nk\n", by="B. Nurse").done()
    assert "several colors" not in out, "it was judged before"
    assert "2 of 4: jagged edge" in out, "the numbers are those of the whole set"
    assert "symptoms: 3 of 4 symptoms reviewed by A. Doctor, B. Nurse (" in out
    answer = review(file, "k\n")
    assert left_of(answer).startswith("none")
    out = review(file, "").done()
    assert QUESTION not in out


def test_the_end_of_the_input_is_quitting(review, file):
    answer = review(file, "k\nr\n")
    answer.done()
    assert left_of(answer).startswith("3; go on with: ")
    assert verdicts(file) == {"melanoma": [("several colors", "keep", "A. Doctor")]}


def test_again_asks_about_all_and_gives_back_what_was_dropped(review, file):
    review(file, "k\nr\nragged edge\nd\nk\n").done()
    out = review(file, "s\nk\ns\nk\n", "--again", by="B. Nurse").done()
    assert "so far: reworded by A. Doctor, 20" in out
    assert "; at first: jagged edge\n" in out
    assert "4 of 4: one even color\n    so far: drop by A. Doctor" in out
    assert verdicts(file) == {
        "melanoma": [("several colors", "keep", "A. Doctor"), ("ragged edge", "keep", "B. Nurse")],
        "nevus": [("smooth edge", "keep", "A. Doctor"), ("one even color", "keep", "B. Nurse")],
    }
    assert json.loads(file.read_text())["classes"]["nevus"] == ["smooth edge", "one even color"]
    assert json.loads(file.read_text())["reviews"]["melanoma"][1]["was"] == "jagged edge"


def test_an_interruption_keeps_what_was_said(review, file):
    class Interrupted(io.StringIO):
        def readline(self, *_: object) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
            line = super().readline()
            if not line:
                raise KeyboardInterrupt
            return line

    answer = review(file, Interrupted("k\nr\n"))
    assert answer.code == 130
    assert left_of(answer).startswith("3; ")
    assert verdicts(file) == {"melanoma": [("several colors", "keep", "A. Doctor")]}
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_what_someone_else_wrote_meanwhile_is_not_undone(review, file):
    class Meddled(io.StringIO):
        def readline(self, *_: object) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
            line = super().readline()
            if line == "d\n":
                document = json.loads(file.read_text())
                document["classes"]["nevus"].append("a later thought")
                file.write_text(json.dumps(document))
            return line

    answer = review(file, Meddled("k\nd\n"))
    assert "changed by someone else" in answer.failed()
    document = json.loads(file.read_text())
    assert document["classes"]["nevus"][-1] == "a later thought"
    assert document["classes"]["melanoma"] == CLASSES["melanoma"]
    assert verdicts(file) == {"melanoma": [("several colors", "keep", "A. Doctor")]}


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_stays_a_link(review, file, tmp_path):
    link = tmp_path / "link.json"
    link.symlink_to(file)
    review(link, "k\n").done()
    assert link.is_symlink()
    assert verdicts(file)


# ------------------------------------------------------------------ where it reads and writes


def test_without_a_name_it_is_wrong_usage(review, file):
    before = file.read_bytes()
    for by in (None, "", "  ", "A\x1b[31m", "A\nB"):
        answer = review(file, "k\n", by=by)
        assert "--by" in answer.failed(2)
        assert QUESTION not in answer.out
    assert file.read_bytes() == before


def test_a_ready_made_set_needs_out(review, tmp_path):
    assert "--out FILE.json" in review("phantoms", "k\n").failed(2)
    out = tmp_path / "mine.json"
    review("phantoms", "k\n", "--out", out).done()
    loaded = SymptomSet.load(out)
    assert loaded.classes == SymptomSet.load("phantoms").classes
    assert loaded.digest == SymptomSet.load("phantoms").digest
    assert [len(each) for each in loaded.reviews.values()] == [1]
    assert SymptomSet.load("phantoms").reviews == {}


def test_out_is_never_overwritten_unasked(review, file, tmp_path):
    before, out = file.read_bytes(), tmp_path / "out.json"
    out.write_text("mine")
    answer = review(file, "k\n", "--out", out)
    assert "--force" in answer.failed()
    assert QUESTION not in answer.out, "said before the work, not after it"
    assert out.read_text() == "mine"
    review(file, "k\nk\nq\n", "--out", out, "--force").done()
    assert sum(map(len, verdicts(out).values())) == 2
    assert file.read_bytes() == before


def test_without_a_verdict_nothing_is_written(review, file, tmp_path):
    before = file.read_bytes()
    assert "no verdict was given" in review(file, "s\nq\n", "--out", tmp_path / "out.json").done()
    review(file, "s\nq\n").done()
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_file_that_is_not_there_or_wrong(review, file, tmp_path):
    assert "there is no symptom file" in review(tmp_path / "none.json", "k\n").failed()
    file.write_text('{"nevus": []}')
    assert "the list of symptoms is empty" in review(file, "k\n").failed()


def test_the_list(review, medvip, file):
    review(file, "k\nr\nragged edge\nd\n").done()
    before = file.read_bytes()
    out = medvip("symptoms", "review", file, "--list").done()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if "│" in line]
    assert [row[:4] for row in rows] == [
        ["melanoma", "several colors", "keep", "A. Doctor"],
        ["melanoma", "ragged edge", "reworded", "A. Doctor"],
        ["nevus", "smooth edge", "-", "-"],
        ["nevus", "one even color", "drop", "A. Doctor"],
    ]
    assert "2 of 3 symptoms reviewed and 1 dropped by A. Doctor" in out
    assert file.read_bytes() == before
    assert "not reviewed by anyone" in medvip("symptoms", "review", "phantoms", "--list").done()


def test_help_has_an_example(medvip):
    text = " ".join(medvip("symptoms", "review", "--help").done().split())
    assert 'Example: medvip symptoms review symptoms.json --by "A. Doctor"' in text


# ------------------------------------------------------------------ the record of generation


@pytest.fixture
def generated(tmp_path) -> Path:
    record = Generation(
        server="localhost:8000",
        model="a-model",
        questions={"coarse": "0" * 64},
        seed=1,
        stages=("coarse", "fine"),
        calls=3,
        answers=4,
        prompt_tokens=120,
        pictures={"nevus": ("0123abcd", "89ef0123")},
        decisions={
            "nevus": (
                Decision("one even color", True, feature="[red]evenly brown[/red]"),
                Decision("smooth edge", True, reason="nothing in the pictures speaks against it"),
            )
        },
    )
    return SymptomSet.from_mapping(CLASSES, generation=record).save(tmp_path / "generated.json")


def test_what_was_seen_in_the_pictures_is_shown(review, generated):
    out = review(generated, "k\nk\nr\none color throughout\nk\n").done()
    assert "3 of 4: one even color\n    seen in the pictures as: [red]evenly brown[/red]\n" in out
    assert "4 of 4: smooth edge\n    reason: nothing in the pictures speaks against it\n" in out
    out = review(generated, "q\n", "--again").done()
    assert "seen in the pictures" not in out
    out = review(generated, "s\ns\nq\n", "--again").done()
    assert "one color throughout\n    seen in the pictures as: " in out, "found by the words it had"
    assert SymptomSet.load(generated).generation is not None


def test_show_has_verdicts_and_the_record(review, medvip, generated):
    review(generated, "k\nd\n").done()
    out = medvip("symptoms", "show", generated).done()
    assert "review: 1 of 3 symptoms reviewed and 1 dropped by A. Doctor (" in out
    assert "generated by: a-model at localhost:8000; stages coarse, fine; 3 requests for 4 answers; " in out
    assert "120 tokens asked; seed 1; 2 pictures shown" in out
    assert "  - several colors\n      keep by A. Doctor, 20" in out
    assert "  dropped: jagged edge\n      drop by A. Doctor, 20" in out
    assert "  - smooth edge\n" in out


# ------------------------------------------------------------------ text is data


def test_markup_is_printed_as_it_is(review, medvip, tmp_path):
    file = tmp_path / "markup.json"
    file.write_text('{"[bold]a[/bold]": ["[red]hot[/red]", "x"], "b": ["{y}", "%s"]}')
    out = review(file, "k\nr\n[link=file:///etc]cold[/link]\n", by="[blink]me[/blink]").done()
    assert "1 of 4: [red]hot[/red]" in out
    for text in (
        medvip("symptoms", "show", file).done(),
        medvip("symptoms", "review", file, "--list").done(),
    ):
        for literal in ("[bold]a[/bold]", "[red]hot[/red]", "[link=file:///etc]cold[/link]", "[blink]me["):
            assert literal in text


def test_escape_sequences_can_neither_get_in_nor_out(review, file):
    hostile = ["\x1b[31mred", "a\x9b31m", "a\u202eb", "a\x00b", "a\u200bb", "a\udcffb"]
    out = review(file, "".join(f"r\n{line}\n" for line in hostile) + "q\n").done()
    assert out.count("not noted: ") == len(hostile)
    assert all(character.isprintable() or character == "\n" for character in out)
    assert verdicts(file) == {}


def piped(file: Path, typed: bytes, *more: str, **settings: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [MEDVIP, "symptoms", "review", file, "--by", "Ä. Doctor", *more],
        input=typed,
        capture_output=True,
        check=False,
        env=os.environ | settings,
    )


def test_answers_out_of_a_pipe(file):
    done = piped(file, "k\nr\nunregelmäßiger Rand\n".encode(), PYTHONUTF8="1")
    assert (done.returncode, done.stderr) == (0, b"")
    assert SymptomSet.load(file).classes["melanoma"] == ("several colors", "unregelmäßiger Rand")
    assert verdicts(file)["melanoma"][0] == ("several colors", "keep", "Ä. Doctor")


def test_bytes_that_are_no_text_are_refused(file):
    done = piped(file, b"r\nsharp \xff edge\nk\n", PYTHONIOENCODING="utf-8:strict")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"not noted: " in done.stdout
    assert verdicts(file) == {"melanoma": [("several colors", "keep", "Ä. Doctor")]}


@pytest.mark.skipif(os.name == "nt", reason="signals differ there")
def test_ctrl_c_at_the_second_question_and_going_on(file):
    command = [MEDVIP, "symptoms", "review", file, "--by", "A"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write(b"k\n")
        running.stdin.flush()
        said = b""
        while said.count(QUESTION.encode()) < 2:
            chunk = os.read(running.stdout.fileno(), 4096)
            assert chunk, said
            said += chunk
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert b"not reviewed yet: 3" in out
    assert b"Traceback" not in err
    assert verdicts(file) == {"melanoma": [("several colors", "keep", "A")]}
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    done = piped(file, b"k\nk\nk\n", PYTHONUTF8="1")
    assert b"4 of 4 symptoms reviewed by A, \xc3\x84. Doctor" in done.stdout


# ------------------------------------------------------------------ fit, config and card


def test_fit_says_who_reviewed_the_symptoms(fit, review, symptom_file, tiny_images, tmp_path):
    answer = fit(tiny_images, tmp_path / "before", "--method", "zero-shot-symptoms")
    assert "note: symptoms: not reviewed by anyone\n" in answer.err
    assert "**Not reviewed.**" in (tmp_path / "before" / "README.md").read_text()
    review(symptom_file, "k\nd\nk\n", by="A <b>Doctor</b> [x](http://y)").done()
    answer = fit(tiny_images, tmp_path / "after", "--method", "zero-shot-symptoms")
    answer.done()
    state = SymptomSet.load(symptom_file).review_state()
    assert state.startswith("2 of 7 symptoms reviewed and 1 dropped by A <b>Doctor</b> [x](http://y) (")
    assert f"note: symptoms: {state}\n" in answer.err
    assert json.loads((tmp_path / "after" / "config.json").read_text())["symptoms"]["review"] == state
    card = (tmp_path / "after" / "README.md").read_text()
    assert "Not reviewed" not in card
    tokens = MarkdownIt("commonmark", {"html": True}).parse(card.split("## Symptoms")[1])
    inner = [child for token in tokens for child in token.children or []]
    assert state in "".join(child.content for child in inner)
    assert not [t for t in tokens + inner if t.type in ("html_block", "html_inline", "link_open")]
    # The run keeps the reviews, and loads with them.
    assert SymptomSet.load(tmp_path / "after" / "symptoms.json").review_state() == state
