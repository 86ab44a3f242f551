"""Whatever a model answers: a symptom set that can be used, or a `MedvipError`, and nothing else."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted_model import KNOWN, ScriptedModel, patients_pictures
from scripted_server import Reply, ScriptedServer, scripted_server

from medvip import load_dataset
from medvip.cli.main import main
from medvip.errors import MedvipError
from medvip.symptoms import SymptomSet, check_symptoms
from medvip.symptoms.checking import mentions
from medvip.symptoms.generator import generate_symptoms, variant_writer
from medvip.symptoms.generator.acceptance import Rules, safe, tidy
from medvip.symptoms.generator.reading import read_decisions, read_features, read_symptoms
from medvip.symptoms.language_model import Answer, BadAnswer, LanguageModel, Message, Server
from medvip.symptoms.variants import knowledge_variants
from medvip.types import ImageDataset

CLASSES = ("melanoma", "nevus")
MODALITY = "dermoscopic image"
Made = TypeVar("Made")
BEFORE_JSON = ["", "Sure:\n", "```json\n", "<think>hm {</think>", "{", "[", '{"symptoms": ', "\ufeff"]
NASTY = [
    "\x1b[31m", "\x1b]0;title\x07", "\u202e", "\u2066", "\ud800", "\0", "\r", "\n", "\u2028", "\u200d",
    "\x9b", "../../x", "/etc/passwd", "$category", "${x}", "%s", "{0}", "[red]", "'", '"', "\\", "\U0010ffff",
]  # fmt: skip

# Any text, half characters included, often with something that means something to somebody.
TEXT = st.lists(
    st.text(st.characters(), max_size=12) | st.sampled_from(NASTY + KNOWN["nevus"]), max_size=4
).map("".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
PHRASES = st.lists(st.sampled_from(KNOWN["nevus"] + KNOWN["melanoma"]) | TEXT, max_size=9)
DECISION = st.fixed_dictionaries(
    {
        "symptom": st.integers(-1, 9) | JSON,
        "supported": st.booleans() | JSON,
        "feature": st.integers(-1, 6) | JSON,
    }
)
DECISIONS = st.lists(DECISION, max_size=9) | st.integers(0, 8).map(
    lambda number: [{"symptom": n, "supported": n % 2 == 0, "feature": 1} for n in range(1, number + 1)]
)
ALMOST_RIGHT = st.fixed_dictionaries(
    {},
    optional={
        "symptoms": PHRASES | JSON,
        "color": PHRASES | JSON,
        "shape": PHRASES,
        "texture": PHRASES,
        "decisions": DECISIONS | JSON,
    },
)


@st.composite
def in_json(draw: st.DrawFn, value: st.SearchStrategy[object]) -> str:
    """The JSON of a value as models give it: in a code block, behind a sentence, cut off."""
    text = json.dumps(draw(value), ensure_ascii=draw(st.booleans()))
    whole = (
        draw(st.sampled_from(BEFORE_JSON)) + text + draw(st.sampled_from(["", "\n```", " Hope it helps!"]))
    )
    return whole if draw(st.booleans()) else whole[: draw(st.integers(0, len(whole)))]


ANSWER = TEXT | in_json(JSON) | in_json(ALMOST_RIGHT) | PHRASES.map(lambda each: "\n- ".join(["", *each]))
# None stands for the right answer, so that the later stages are reached.
ANSWERS = st.lists(st.none() | ANSWER, min_size=1, max_size=8)


class Says(LanguageModel):
    """Gives one answer after the other, over and over; no server is asked."""

    def __init__(self, answers: Sequence[str | None]) -> None:
        super().__init__(Server("http://127.0.0.1:9/v1", "scripted"))
        self._answers, self._right = answers, ScriptedModel()
        self._given = count()

    def ask(self, messages: Sequence[Message], schema: dict[str, Any], *, about: str) -> Answer:
        answer = self._answers[next(self._given) % len(self._answers)]
        if answer is None:
            answer = self._right({"messages": [{"role": m.role, "content": m.text} for m in messages]})
        assert isinstance(answer, str)
        return Answer(answer)


def made_or_refused(make: Callable[[], SymptomSet]) -> SymptomSet | None:
    made, refusal = outcome(make, MedvipError)
    assert refusal.isprintable()
    if made is not None:
        assert_usable(made)
    return made


def outcome(make: Callable[[], Made], kind: type[Exception]) -> tuple[Made | None, str]:
    """What `make` gives, or the text of its one allowed kind of error."""
    try:
        return make(), ""
    except kind as error:
        return None, str(error)


def assert_usable(made: SymptomSet) -> None:
    """By rules written down anew: not by those of the code under test."""
    assert not [finding for finding in check_symptoms(made) if finding.severity == "error"]
    for name, texts in made.classes.items():
        assert texts
        for text in texts:
            assert text.isprintable()
            assert text == text.strip() != ""
            assert len(text) <= 120
            assert not set(text) & set("<>{}[]|\\`*#_=~^@$")
            assert "//" not in text
            assert not mentions(text, name)
    assert SymptomSet.from_json(made.to_json()) == made


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> ImageDataset:
    folder = tmp_path_factory.mktemp("few")
    patients_pictures(folder, groups=1)
    return load_dataset(folder)


@given(answers=ANSWERS, pictures=st.booleans(), contrastive=st.booleans(), per_class=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_any_answers_make_a_set_or_an_error(dataset, answers, pictures, contrastive, per_class):
    made_or_refused(
        lambda: generate_symptoms(
            CLASSES,
            MODALITY,
            Says(answers),
            images=dataset if pictures else None,
            contrastive=contrastive,
            per_class=per_class,
            rounds=1,
            at_once=1,
        )
    )


def test_the_right_answers_make_a_set(dataset):
    # So that the test above is not all about errors.
    made = made_or_refused(
        lambda: generate_symptoms(CLASSES, MODALITY, Says([None]), images=dataset, per_class=4)
    )
    assert made is not None


NAME = TEXT | st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=9)


@given(first=NAME, second=NAME, modality=NAME, plain=st.none() | NAME)
@settings(max_examples=60, deadline=None)
def test_any_names_of_classes_make_a_set_or_an_error(first, second, modality, plain):
    names = {} if plain is None else {first: plain}
    good = json.dumps({"symptoms": KNOWN["nevus"]})
    made_or_refused(lambda: generate_symptoms([first, second], modality, Says([good]), names=names, rounds=0))


@given(answers=ANSWERS)
@settings(max_examples=25, deadline=None)
def test_any_answers_make_controls_or_an_error(answers):
    real = SymptomSet.from_mapping({name: texts[:2] for name, texts in KNOWN.items()}, modality=MODALITY)
    made, refusal = outcome(
        lambda: knowledge_variants(real, write=variant_writer(Says(answers))), MedvipError
    )
    assert refusal.isprintable()
    for variant in (made or {}).values():
        assert_usable(variant)


@given(text=ANSWER, symptoms=st.integers(0, 9), features=st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_reading_gives_values_of_the_right_kind_or_says_why_not(text, symptoms, features):
    readers: list[Callable[[str], list[Any]]] = [
        read_symptoms,
        read_features,
        lambda text: read_decisions(text, symptoms, features),
    ]
    for read in readers:
        values, reason = outcome(lambda read=read: read(text), BadAnswer)
        assert reason.isprintable()
        if values is None:
            continue
        if read is readers[2]:
            assert len(values) == symptoms
            assert all(each.feature is None or 0 <= each.feature < features for each in values)
        else:
            assert values
            assert all(isinstance(value, str) and value.strip() for value in values)
        if read is read_features:
            assert all(len(value) <= 120 and value.isprintable() for value in values)


@given(text=TEXT, others=st.lists(TEXT, max_size=3))
@settings(max_examples=100, deadline=None)
def test_every_text_is_accepted_or_has_a_fault(text, others):
    phrase = tidy(text)
    fault = Rules(["nevus"]).fault(phrase, others)
    assert fault is None or fault.isprintable()
    if fault is None:
        assert phrase.isprintable()
        assert not mentions(phrase, "nevus")
    assert "\n" not in safe(text)
    assert not any(character in safe(text) for character in "\x1b\x07\0\u202e\ud800\x9b")


# --- over a real socket, with the command


class Script:
    """What the one server of this file answers at the moment."""

    def __init__(self) -> None:
        self.answers: Sequence[str | None] = [None]
        self.right = ScriptedModel()
        self.number = count()

    def __call__(self, body: dict[str, Any]) -> Reply:
        answer = self.answers[next(self.number) % len(self.answers)]
        said = self.right(body) if answer is None else answer
        return said if isinstance(said, Reply) else Reply(said)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[ScriptedServer, Script]]:
    script = Script()
    with scripted_server(script) as server:
        yield server, script


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with one of the user's inside, deep enough for ``../..`` to stay in it."""
    top = tmp_path_factory.mktemp("place")
    (top / "a" / "b" / "here").mkdir(parents=True)
    (top / "a" / "mine.txt").write_text("mine")
    patients_pictures(top / "pictures", groups=1)
    return top


def files_below(folder: Path) -> dict[str, str]:
    """Every file, with the hash of its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


CACHES = count()


@given(
    answers=ANSWERS,
    other=st.sampled_from(["../../x", "/etc/passwd", "a\x1b[31mb", "x\u202ey", "$category", "[red]x", "x y"]),
    pictures=st.booleans(),
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_command_writes_nothing_else_and_shows_nothing_raw(served, place, answers, other, pictures):
    server, script = served
    here, cache = place / "a" / "b" / "here", f"cache {next(CACHES)}"
    script.answers = [each and each.replace("/etc/passwd", str(place / "evil")) for each in answers]
    given_ = ["--images", str(place / "pictures")] if pictures else ["--class", "nevus", "--class", other]
    for old in here.iterdir():
        old.unlink()
    before = files_below(place)
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(here)
        patch.setenv("MEDVIP_CACHE", str(place / cache))
        code = main(
            [
                *("symptoms", "generate", *given_, "--modality", MODALITY, "--out", "made.json", "--force"),
                *("--base-url", server.base_url, "--model", "scripted", "--rounds", "1", "--quiet"),
                *("--per-class", "2", "--at-once", "1"),
            ]
        )
    for text in (out.getvalue(), err.getvalue()):
        assert all(character.isprintable() or character == "\n" for character in text)
    assert "defect" not in err.getvalue()
    after = files_below(place)
    new = {name for name in after if after[name] != before.get(name)}
    assert set(before) <= set(after)
    ours = {name for name in new if name.startswith(f"{cache}{os.sep}transcripts{os.sep}")}
    outputs = {f"a{os.sep}b{os.sep}here{os.sep}{name}" for name in ("made.json", "made.exchange.json")}
    assert code in (0, 1), err.getvalue()
    assert new - ours == (outputs if code == 0 else set())
    assert sum(line.startswith("error: ") for line in err.getvalue().splitlines()) == code
    if code == 0:
        assert_usable(SymptomSet.load(here / "made.json"))
