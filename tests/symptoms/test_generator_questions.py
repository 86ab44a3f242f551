"""The questions: text files that a user may replace, and what is wrong with those that cannot be asked."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvip.errors import MedvipError, SymptomError
from medvip.symptoms.generator import Questions
from medvip.symptoms.generator.questions import SLOTS

COARSE = "Describe $category in a $modality: $count signs."


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "questions"
    made.mkdir()
    return made


def test_the_built_in_ones_use_their_words_and_no_other():
    questions = Questions.load()
    assert set(questions.texts) == set(SLOTS)
    for name, slots in SLOTS.items():
        # Each word is filled in by something that nothing else in the text is.
        filled = {slot: f"<{slot} here>" for slot in slots}
        asked = questions.ask(name, **filled)
        assert "$" not in asked
        assert all(text in asked for text in filled.values()), name


PHRASES_LINE = 'Give only JSON, in this form: {"symptoms": ["...", "..."]}'


def test_digests_are_of_all_that_is_sent():
    built_in = resources.files("medvip.symptoms.generator") / "questions"
    names = tuple(SLOTS)
    digests = Questions.load().digests(names)
    for name in names:
        words = (built_in / f"{name}.md").read_text().strip()
        # The words that are filled in stand for themselves here; an answer's form is part of it.
        sent = Questions.load().ask(name, **{slot: f"${slot}" for slot in SLOTS[name]})
        assert sent.startswith(words)
        assert digests[name] == hashlib.sha256(sent.encode()).hexdigest()
        assert ("Give only JSON" in sent.removeprefix(words)) == (name != "again")
    assert {file.name for file in built_in.iterdir()} == {f"{name}.md" for name in names}


def test_what_is_filled_in_is_not_filled_in_again():
    asked = Questions.load().ask("coarse", category="$modality", modality="${count}", count="$$")
    assert "diagnosing $modality?" in asked
    assert "of this kind:\n${count}." in asked
    assert "Give $$ of them" in asked


def test_one_of_one_s_own_takes_the_place_of_the_built_in(folder):
    text = "Ein Préfix für $$5: $category, ${modality} und $count!\r\n"
    (folder / "coarse.md").write_bytes(text.encode())
    questions = Questions.load(folder)
    asked = questions.ask("coarse", category="a", modality="b", count=3)
    assert asked == f"Ein Préfix für $5: a, b und 3!\n\n{PHRASES_LINE}"
    whole = f"{text.strip()}\n\n{PHRASES_LINE}"
    assert questions.digests(("coarse",)) == {"coarse": hashlib.sha256(whole.encode()).hexdigest()}
    assert questions.texts["fine"] == Questions.load().texts["fine"]


def test_count_and_modality_may_be_left_out(folder):
    (folder / "coarse.md").write_text("Describe $category.")
    asked = Questions.load(folder).ask("coarse", category="a", modality="b", count=3)
    assert asked == f"Describe a.\n\n{PHRASES_LINE}"


@pytest.mark.parametrize(
    ("name", "text", "problem", "fix"),
    [
        ("coarse", "Describe it.", "does not use $category", "medvip symptoms questions"),
        ("coarse", "", "does not use $category", "medvip symptoms questions"),
        ("contrastive", "Describe $category.", "does not use $others", "medvip symptoms questions"),
        ("reconcile", "$category: $symptoms", "does not use $features", "medvip symptoms questions"),
        ("refine", "$category $kept", "does not use $reasons", "medvip symptoms questions"),
        ("again", "Once more!", "does not use $reason", "medvip symptoms questions"),
        ("coarse", COARSE + " $patient", "asks for $patient, which is not known", "$category, $count"),
        ("coarse", COARSE + " $Category", "asks for $Category, which is not known", "$modality"),
        ("fine", "$category $count", "asks for $count, which is not known", "$pictures"),
        ("coarse", COARSE + " for 5 $", "a $ that stands before no word", "$$"),
        ("coarse", COARSE + " $5", "a $ that stands before no word", "$$"),
        ("coarse", COARSE + " ${category", "a $ that stands before no word", "$$"),
        ("coarse", COARSE + " ${category.__class__}", "a $ that stands before no word", "$$"),
        ("draft", COARSE, "'draft.md', which is no question that is asked", "coarse.md, contrastive.md"),
        ("Coarse", COARSE, "'Coarse.md', which is no question that is asked", "coarse.md"),
        ("a\x1b[31m", COARSE, r"'a\x1b[31m.md', which is no question", "coarse.md"),
    ],
)
def test_wrong_ones_are_refused(folder, name, text, problem, fix):
    (folder / f"{name}.md").write_text(text)
    with pytest.raises(SymptomError) as caught:
        Questions.load(folder)
    assert problem in caught.value.problem
    assert fix in caught.value.fix
    assert str(caught.value).isprintable()


def test_a_folder_without_questions_is_refused(folder):
    with pytest.raises(SymptomError, match="holds no question") as caught:
        Questions.load(folder)
    assert "coarse.md" in caught.value.fix
    (folder / "coarse.txt").write_text(COARSE)
    with pytest.raises(SymptomError, match="holds no question"):
        Questions.load(folder)


def test_no_folder_is_refused(tmp_path):
    with pytest.raises(SymptomError, match="there is no folder"):
        Questions.load(tmp_path / "none")
    (tmp_path / "file").write_text(COARSE)
    with pytest.raises(SymptomError, match="there is no folder"):
        Questions.load(tmp_path / "file")


def test_what_is_no_text_is_refused(folder):
    (folder / "coarse.md").write_bytes(b"$category \xff\xfe")
    with pytest.raises(SymptomError, match="is not UTF-8 text") as caught:
        Questions.load(folder)
    assert caught.value.fix == "save it as plain text in UTF-8"
    (folder / "coarse.md").unlink()
    (folder / "coarse.md").mkdir()
    with pytest.raises(SymptomError, match="is not a file"):
        Questions.load(folder)


@given(
    text=st.text(max_size=60)
    | st.lists(st.sampled_from(["$category", "$", "{", "}", "$$", " x"])).map("".join)
)
@settings(max_examples=80, deadline=None)
def test_any_text_can_be_asked_or_is_refused(tmp_path_factory, text):
    folder = tmp_path_factory.getbasetemp() / "any question"
    folder.mkdir(exist_ok=True)
    (folder / "coarse.md").write_bytes(text.encode("utf-8", "replace"))
    try:
        questions = Questions.load(folder)
    except MedvipError:
        return
    asked = questions.ask("coarse", category="melanoma", modality="photo", count=8)
    assert "melanoma" in asked


@pytest.mark.parametrize("modality", ["ultrasound image", "OCT scan", "dermoscopic images"])
def test_any_modality_reads_well(modality):
    questions = Questions.load()
    for name, slots in SLOTS.items():
        if "modality" in slots:
            asked = " ".join(
                questions.ask(name, **dict.fromkeys(slots, "some") | {"modality": modality}).split()
            )
            assert f"of this kind: {modality}." in asked, name
            assert asked.count(modality) == 1
