"""Each thing that a check finds, and that it finds nothing else."""

from __future__ import annotations

import pytest

from medvip.errors import SymptomError, UsageError
from medvip.symptoms import Finding, SymptomSet, check_symptoms, require_usable


def found(classes: dict[str, list[str]], **options) -> list[tuple[str, str | None, str | None, str]]:
    findings = check_symptoms(SymptomSet.from_mapping(classes), **options)
    return [(f.severity, f.class_name, f.symptom, f.problem) for f in findings]


def count_words(text: str) -> int:
    return len(text.split()) + 2  # start and end token


def test_nothing_is_found_in_good_symptoms():
    assert found({"nevus": ["one even color"], "melanoma": ["several colors"]}) == []


@pytest.mark.parametrize("blank", ["", "  ", "...", "-"])
def test_an_empty_symptom(blank: str):
    assert found({"a1": [blank], "b1": ["x"]}) == [("error", "a1", blank.strip(), "it is empty")]


def test_a_class_without_symptoms_and_a_set_of_one_class():
    assert found({"nevus": []}) == [
        ("error", None, None, "it has one class; there is nothing to tell apart"),
        ("error", "nevus", None, "it has no symptom"),
    ]
    assert found({}) == [("error", None, None, "it has no class; there is nothing to tell apart")]


def test_too_long_with_the_learned_vectors():
    classes = {"nevus": ["one two three four"], "melanoma": ["one"]}
    assert found(classes, count_tokens=count_words, context_length=10, context=4) == []
    assert found(classes, count_tokens=count_words, context_length=9, context=4) == [
        (
            "error",
            "nevus",
            "one two three four",
            "it is too long: 6 tokens and 4 learned context vectors, where the text encoder takes 9",
        )
    ]
    assert found(classes, count_tokens=count_words, context_length=6, context=0) == []


def test_length_needs_both_values():
    with pytest.raises(UsageError, match="only one of count_tokens and context_length"):
        found({"a": ["x"], "b": ["y"]}, context_length=77)


def test_doubled_within_a_class():
    classes = {"nevus": ["even color", "Even  Color.", "smooth edge"], "melanoma": ["several colors"]}
    assert found(classes) == [("error", "nevus", "Even  Color.", "it stands in this class already")]


def test_shared_between_classes_is_said_once():
    classes = {"nevus": ["Smooth edge"], "melanoma": ["smooth edge", "dark"], "wart": ["smooth-edge"]}
    assert found(classes) == [
        ("warning", "melanoma", "smooth edge", "it also stands in class 'nevus', 'wart'")
    ]


@pytest.mark.parametrize(
    ("name", "symptom"),
    [
        ("nevus", "a nevus of one color"),
        ("nevus", "several Nevi together"),
        ("melanoma", "looks like melanomas do"),
        ("melanocytic_nevus", "typical melanocytic nevus"),
        ("biopsy", "dots as in biopsies"),
        ("metastases", "a metastasis"),
        ("melanoma", "the melanoma's edge"),
    ],
)
def test_the_class_named_in_its_own_symptom(name: str, symptom: str):
    assert found({name: [symptom], "other": ["x"]}) == [("warning", name, symptom, "it names its own class")]


@pytest.mark.parametrize(
    ("name", "symptom"),
    [("normal", "abnormal shape"), ("vascular_lesion", "a red lesion"), ("a", "a red spot"), ("0", "0 dots")],
)
def test_part_of_a_word_or_of_a_name_is_not_the_name(name: str, symptom: str):
    assert found({name: [symptom], "other": ["x"]}) == []


def test_the_plain_name_counts_as_the_name():
    symptoms = SymptomSet.from_mapping({"nv": ["a brown mole"], "mel": ["dark"]}, names={"nv": "mole"})
    assert [f.problem for f in check_symptoms(symptoms)] == ["it names its own class"]


def test_errors_come_first():
    severities = [f[0] for f in found({"a1": ["a1 red", "blue", "blue"], "b1": ["x"]})]
    assert severities == ["error", "warning"]


def test_require_usable_names_all_errors_and_lets_warnings_pass():
    require_usable([Finding("warning", "a", "x", "odd", "look")])
    findings = check_symptoms(SymptomSet.from_mapping({"a1": [""], "b1": []}))
    with pytest.raises(SymptomError) as caught:
        require_usable(findings)
    assert caught.value.problem == (
        "the symptoms cannot be used: class 'a1', symptom '': it is empty; class 'b1': it has no symptom"
    )
    assert caught.value.fix == "write what can be seen, or remove it; write at least one symptom"
