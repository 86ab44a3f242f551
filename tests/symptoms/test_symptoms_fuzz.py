"""Whatever a file holds, loading it gives a set or a `SymptomError`, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvip.errors import SymptomError
from medvip.symptoms import Provenance, SymptomSet, check_symptoms

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
# Near misses of both forms: right keys with any value, and right shapes with any text.
NATIVE_LIKE = st.fixed_dictionaries(
    {"format": st.just("medvip-symptoms") | ANYTHING, "version": st.just(1) | ANYTHING},
    optional={
        "modality": st.text(max_size=8) | ANYTHING,
        "classes": st.dictionaries(st.text(max_size=8), st.lists(st.text(max_size=8), max_size=3), max_size=3)
        | ANYTHING,
        "names": ANYTHING,
        "provenance": st.dictionaries(
            st.sampled_from(["author", "method", "date", "model", "note"]), st.just("unknown") | ANYTHING
        )
        | ANYTHING,
    },
)
PLAIN_LIKE = st.dictionaries(
    st.text(max_size=8), st.lists(st.text(max_size=8), max_size=3) | ANYTHING, max_size=4
)

LINE = st.text(
    st.characters(exclude_categories=("Cc", "Cf", "Cs", "Zl", "Zp", "Cn")), min_size=1, max_size=20
).filter(lambda text: text.strip() == text)
NAME = LINE.filter(lambda text: text.strip(" _-") != "")
OPTIONAL = st.none() | LINE
PROVENANCE = st.builds(
    Provenance,
    author=LINE,
    method=LINE,
    date=st.just("unknown") | st.dates().map(lambda day: day.isoformat()),
    model=OPTIONAL,
    questions=OPTIONAL,
    reviewed_by=OPTIONAL,
    note=OPTIONAL,
    source=OPTIONAL,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "symptoms.json"


def set_or_refusal(make: Callable[[], SymptomSet]) -> SymptomSet | str:
    try:
        return make()
    except SymptomError as error:
        return str(error)


def loads_or_refuses(file: Path) -> None:
    symptoms = set_or_refusal(lambda: SymptomSet.load(file))
    if isinstance(symptoms, str):
        assert symptoms.isprintable()
        return
    assert SymptomSet.from_json(symptoms.to_json()) == symptoms
    for finding in check_symptoms(symptoms):
        assert str(finding).isprintable()


@given(value=ANYTHING | NATIVE_LIKE | PLAIN_LIKE)
@settings(max_examples=150, deadline=None)
def test_any_json_loads_or_is_refused(file: Path, value: object):
    file.write_text(json.dumps(value), encoding="utf-8")
    loads_or_refuses(file)


@given(
    content=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))
)
@settings(max_examples=100, deadline=None)
def test_any_bytes_load_or_are_refused(file: Path, content: bytes):
    file.write_bytes(content)
    loads_or_refuses(file)


@given(source=st.text(max_size=30))
@settings(max_examples=50, deadline=None)
def test_any_source_is_found_or_refused(source: str):
    refusal = set_or_refusal(lambda: SymptomSet.load(source))
    assert isinstance(refusal, SymptomSet) or refusal.isprintable()


@given(
    classes=st.dictionaries(NAME, st.lists(LINE, min_size=1, max_size=4), min_size=1, max_size=4),
    modality=LINE,
    provenance=PROVENANCE,
    data=st.data(),
)
@settings(max_examples=100, deadline=None)
def test_random_sets_survive_save_and_load(file: Path, classes, modality, provenance, data):
    named = data.draw(st.dictionaries(st.sampled_from(sorted(classes)), LINE))
    symptoms = set_or_refusal(
        lambda: SymptomSet.from_mapping(classes, modality=modality, provenance=provenance, names=named)
    )
    if isinstance(symptoms, str):
        assert "differ only" in symptoms
        return
    again = SymptomSet.load(symptoms.save(file, force=True))
    assert again == symptoms
    assert again.digest == symptoms.digest
    order = data.draw(st.permutations(sorted(classes)))
    assert again.for_classes(order) == tuple(tuple(classes[name]) for name in order)
