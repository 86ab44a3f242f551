"""Both file forms, classes by name, and every way a file can be wrong."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from medvip.errors import SymptomError
from medvip.symptoms import Provenance, SymptomSet

NATIVE = {
    "format": "medvip-symptoms",
    "version": 1,
    "modality": "dermoscopic image",
    "classes": {"nevus": ["one even color", "smooth edge"], "melanoma": ["several colors", "jagged edge"]},
    "names": {"nevus": "mole"},
    "provenance": {"author": "A. Doctor", "method": "written by hand", "date": "2024-07-26"},
}


def written(folder: Path, content: object) -> Path:
    path = folder / "symptoms.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8")
    return path


# -- the two forms ---------------------------------------------------------------------------


def test_native_form_round_trips(tmp_path: Path):
    symptoms = SymptomSet.load(written(tmp_path, NATIVE))
    assert symptoms.modality == "dermoscopic image"
    assert symptoms.provenance == Provenance("A. Doctor", "written by hand", "2024-07-26")
    again = SymptomSet.load(symptoms.save(tmp_path / "again.json"))
    assert again == symptoms
    assert again.digest == symptoms.digest
    assert json.loads((tmp_path / "again.json").read_text()) == NATIVE


def test_plain_form_has_unknown_provenance_and_round_trips(tmp_path: Path):
    symptoms = SymptomSet.load(written(tmp_path, NATIVE["classes"]))
    assert symptoms.provenance == Provenance("unknown", "unknown", "unknown")
    assert symptoms.modality == "medical image"
    assert SymptomSet.load(symptoms.save(tmp_path / "native.json")) == symptoms


def test_a_byte_order_mark_and_other_scripts_are_read(tmp_path: Path):
    content = '{"nävus": ["eine einzige Farbe"], "黑色素瘤": ["多种颜色"]}'.encode("utf-8-sig")
    symptoms = SymptomSet.load(written(tmp_path, content))
    assert SymptomSet.load(symptoms.save(tmp_path / "again.json")) == symptoms


def test_a_set_is_immutable_hashable_and_travels_to_other_processes():
    symptoms = SymptomSet.from_json(json.dumps(NATIVE))
    with pytest.raises(TypeError):
        symptoms.classes["nevus"] = ()  # pyright: ignore[reportIndexIssue]
    for other in (pickle.loads(pickle.dumps(symptoms)), copy.deepcopy(symptoms)):
        assert other == symptoms
        assert hash(other) == hash(symptoms)


def test_what_from_mapping_is_given_can_change_afterwards():
    classes = {"nevus": ["one even color"], "melanoma": ["several colors"]}
    symptoms = SymptomSet.from_mapping(classes)
    classes["nevus"].append("a later thought")
    assert symptoms.classes["nevus"] == ("one even color",)


# -- classes by name -------------------------------------------------------------------------


def test_order_of_classes_in_a_file_does_not_matter(tmp_path: Path):
    """The reference took the class from its position in the file; a re-ordered file swapped them."""
    one = SymptomSet.load(written(tmp_path, {"nevus": ["even"], "melanoma": ["uneven"]}))
    other = SymptomSet.load(written(tmp_path, {"melanoma": ["uneven"], "nevus": ["even"]}))
    assert one == other
    assert one.digest == other.digest
    assert one.to_json() == other.to_json()
    assert one.for_classes(["melanoma", "nevus"]) == other.for_classes(["melanoma", "nevus"])
    assert one.for_classes(["nevus", "melanoma"]) == (("even",), ("uneven",))


def test_order_of_symptoms_and_modality_are_content():
    one = SymptomSet.from_mapping({"a": ["x", "y"]}, modality="photo")
    assert one.digest != SymptomSet.from_mapping({"a": ["y", "x"]}, modality="photo").digest
    assert one.digest != SymptomSet.from_mapping({"a": ["x", "y"]}, modality="drawing").digest
    assert one.digest == SymptomSet.from_mapping({"a": ["x", "y"]}, modality="photo", names={"a": "b"}).digest


def test_digest_is_the_same_on_every_machine():
    symptoms = SymptomSet.from_mapping({"b": ["blue"], "a": ["red"]}, modality="photo")
    assert symptoms.digest == "4ae3dae88272c4d6bdb357bb86183f22a5d95c338dfd2860619c23d8ff07da0a"


@pytest.mark.parametrize(
    "name", ["melanocytic nevus", "Melanocytic_Nevus", "MELANOCYTIC-NEVUS", " melanocytic  nevus"]
)
def test_names_match_without_regard_to_case_and_separators(name: str):
    symptoms = SymptomSet.from_mapping({"melanoma": ["m"], "melanocytic_nevus": ["n"]})
    assert symptoms.for_classes([name, "melanoma"]) == (("n",), ("m",))


def test_missing_extra_and_close_classes_are_named():
    symptoms = SymptomSet.from_mapping({"melanomma": ["m"], "nevus": ["n"], "wart": ["w"]})
    with pytest.raises(SymptomError) as caught:
        symptoms.for_classes(["melanoma", "melanocytic_nevus", "scar"])
    assert str(caught.value) == (
        "the symptoms: no symptoms for 'melanoma', 'melanocytic_nevus', 'scar'; "
        "symptoms for classes not asked for: 'melanomma', 'nevus', 'wart'; "
        "close: 'melanomma' ~ 'melanoma', 'nevus' ~ 'melanocytic_nevus' "
        "(to mend it: rename 'melanomma' to 'melanoma', 'nevus' to 'melanocytic_nevus'; "
        "add symptoms for 'scar'; remove 'wart' (or pass allow_extra=True))"
    )


def test_extra_classes_are_refused_unless_allowed(tmp_path: Path):
    path = written(tmp_path, {"nevus": ["n"], "melanoma": ["m"], "wart": ["w"]})
    symptoms = SymptomSet.load(path)
    with pytest.raises(SymptomError, match=r"symptoms\.json'?: symptoms for classes not asked for: 'wart'"):
        symptoms.for_classes(["melanoma", "nevus"])
    assert symptoms.for_classes(["melanoma", "nevus"], allow_extra=True) == (("m",), ("n",))
    with pytest.raises(SymptomError, match="no symptoms for 'scar'"):
        symptoms.for_classes(["scar"], allow_extra=True)


def test_two_asked_for_names_may_not_mean_one_class():
    symptoms = SymptomSet.from_mapping({"nevus": ["n"]})
    with pytest.raises(
        SymptomError, match="the classes asked for: the classes 'nevus' and 'Nevus' differ only"
    ):
        symptoms.for_classes(["nevus", "Nevus"])


def test_many_wrong_names_stay_readable():
    symptoms = SymptomSet.from_mapping({f"class {n}": ["x"] for n in range(100)})
    with pytest.raises(SymptomError, match="and 88 more") as caught:
        symptoms.for_classes([])
    assert len(str(caught.value)) < 1000


def test_plain_names():
    symptoms = SymptomSet.from_mapping({"basal_cell": ["b"], "nevus": ["n"]}, names={"Nevus": "mole"})
    assert symptoms.plain_name("nevus") == symptoms.plain_name("NEVUS") == "mole"
    assert symptoms.plain_name("basal_cell") == "basal cell"
    assert symptoms.plain_name("not-there") == "not there"


# -- files that are wrong --------------------------------------------------------------------

WRONG_CONTENT = {
    "not json": (b"nevus: even", "is not JSON: line 1, column 1"),
    "cut off": (b'{"nevus": ["ev', "is not JSON: line 1, column 12"),
    "empty file": (b"", "is not JSON: line 1, column 1"),
    "not utf-8": ('{"nävus": ["x"]}'.encode("utf-16"), "is not UTF-8 text (byte 0)"),
    "pickle": (pickle.dumps({"nevus": ["even"]}), "is not UTF-8 text"),
    "NaN": (b'{"nevus": NaN}', "NaN is not JSON"),
    "nested": (b"[" * 100_000, "nested too deeply"),
    "long number": (b"1" * 5000, "a number is too long"),
    "list": ([], "a list where an object is expected"),
    "text": ("3", "a number where an object is expected"),
    "no class": ({}, "there is no class in it"),
    "duplicate class": ('{"nevus": ["a"], "nevus": ["b"]}', "the key 'nevus' occurs twice"),
    "same but for case": ({"a b": ["x"], "A_B": ["y"]}, "the classes 'a b' and 'A_B' differ only in case"),
    "blank class": ({"_": ["x"]}, "the class name '_' is blank"),
    "space around class": ({"nevus\n": ["x"]}, r"the class name 'nevus\n' has space around it"),
    "no symptom": ({"nevus": []}, "class 'nevus': the list of symptoms is empty"),
    "symptom, no list": ({"nevus": "even"}, "class 'nevus': text where a list of symptoms is expected"),
    "object, no list": ({"nevus": {"a": 1}}, "class 'nevus': an object where a list of symptoms is expected"),
    "null, no list": ({"nevus": None}, "class 'nevus': null where a list of symptoms is expected"),
    "number": ({"nevus": ["even", 2]}, "class 'nevus', symptom 2: a number where text is expected"),
    "boolean": ({"nevus": [True]}, "class 'nevus', symptom 1: true or false where text is expected"),
    "list in list": ({"nevus": [["even"]]}, "class 'nevus', symptom 1: a list where text is expected"),
    "NUL": ({"nevus": ["ev\0en"]}, r"symptom 1: control character U+0000 at position 3 of 'ev\x00en'"),
    "escape": ({"nevus": ["\x1b[2Jeven"]}, r"control character U+001B at position 1 of '\x1b[2Jeven'"),
    "line break": ({"nevus": ["one\ntwo"]}, "control character U+000A at position 4"),
    "right to left": ({"nevus": ["even\u202ecolor"]}, "control character U+202E at position 5"),
    "half surrogate": ('{"nevus": ["\\ud800"]}', "control character U+D800 at position 1"),
    "escape in class": ({"a\x1bb": ["x"]}, "class name: control character U+001B at position 2"),
    "other format": ({**NATIVE, "format": "other"}, "the format 'other' is not known"),
    "version": (
        {**NATIVE, "version": 2},
        "version '2' of the format is not known (to mend it: use a newer medvip)",
    ),
    "true version": ({**NATIVE, "version": True}, "version 'True' of the format is not known"),
    "unknown field": (
        {**NATIVE, "clases": {}},
        "there is no field 'clases' (to mend it: did you mean 'classes'?)",
    ),
    "no format": ({"version": 1, "classes": {}}, 'the field "format" is missing'),
    "no modality": ({**NATIVE, "modality": None}, 'the field "modality" is missing'),
    "blank modality": ({**NATIVE, "modality": " "}, "the modality is blank"),
    "modality": ({**NATIVE, "modality": 3}, "modality: a number where text is expected"),
    "classes": ({**NATIVE, "classes": []}, "classes: a list where an object is expected"),
    "provenance": ({**NATIVE, "provenance": "me"}, "provenance: text where an object is expected"),
    "no author": (
        {**NATIVE, "provenance": {"method": "x", "date": "unknown"}},
        "provenance: author is missing",
    ),
    "blank author": (
        {**NATIVE, "provenance": {"author": "", "method": "x", "date": "unknown"}},
        "provenance: author is blank",
    ),
    "date": (
        {**NATIVE, "provenance": {"author": "a", "method": "x", "date": "yesterday"}},
        "provenance: 'yesterday' is not a date",
    ),
    "reviewer": (
        {**NATIVE, "provenance": {"author": "a", "method": "x", "date": "unknown", "reviewer": "b"}},
        "there is no field 'reviewer' (to mend it: did you mean 'reviewed_by'?)",
    ),
    "names": ({**NATIVE, "names": ["mole"]}, "names: a list where plain names are expected"),
    "name of no class": (
        {**NATIVE, "names": {"nevuss": "mole"}},
        "names: 'nevuss' is not a class of the set",
    ),
    "blank name": ({**NATIVE, "names": {"nevus": ""}}, "the plain name of 'nevus' is blank"),
}


@pytest.mark.parametrize(("content", "problem"), WRONG_CONTENT.values(), ids=WRONG_CONTENT.keys())
def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, content: object, problem: str):
    path = written(tmp_path, content)
    with pytest.raises(SymptomError) as caught:
        SymptomSet.load(path)
    assert problem in str(caught.value)
    assert str(path) in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_huge_file_is_refused(tmp_path: Path):
    path = written(tmp_path, b" " * 5_000_001)
    with pytest.raises(SymptomError, match="larger than 5 MB"):
        SymptomSet.load(path)
    with pytest.raises(SymptomError, match="larger than 5 MB"):
        SymptomSet.from_json(" " * 5_000_001)


def test_a_source_that_is_not_there(tmp_path: Path):
    with pytest.raises(SymptomError, match=r"there is no symptom file .*none\.json"):
        SymptomSet.load(tmp_path / "none.json")
    with pytest.raises(SymptomError, match="did you mean 'ham10000'"):
        SymptomSet.load("ham1000")
    with pytest.raises(SymptomError, match="choose one of breast-ultrasound, ham10000"):
        SymptomSet.load("zebra")
    with pytest.raises(SymptomError, match="is not a file"):
        SymptomSet.load(tmp_path)
    with pytest.raises(SymptomError, match=r"a\\x00b\.json"):
        SymptomSet.load("a\0b.json")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_no_file(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(SymptomError, match="is not a file"):
        SymptomSet.load(tmp_path / "pipe.json")


def test_a_file_may_have_the_name_of_a_ready_made_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("phantoms").write_text('{"mine": ["x"]}')
    assert "suspicious" in SymptomSet.load("phantoms").classes
    assert "mine" in SymptomSet.load("./phantoms").classes
    assert "mine" in SymptomSet.load(Path("phantoms")).classes


# -- writing ---------------------------------------------------------------------------------


def test_save_never_overwrites_unasked(tmp_path: Path):
    path = written(tmp_path, NATIVE)
    before = path.read_bytes()
    other = SymptomSet.from_mapping({"a": ["x"]})
    with pytest.raises(SymptomError, match="is there already"):
        other.save(path)
    assert path.read_bytes() == before
    other.save(path, force=True)
    assert SymptomSet.load(path) == other
    assert [entry.name for entry in tmp_path.iterdir()] == ["symptoms.json"]


def test_a_failed_save_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = written(tmp_path, NATIVE)
    before = path.read_bytes()

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(SymptomError, match="cannot be written: No space left on device"):
        SymptomSet.load("phantoms").save(path, force=True)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["symptoms.json"]


def test_an_interrupted_save_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        SymptomSet.load("phantoms").save(tmp_path / "a.json")
    assert list(tmp_path.iterdir()) == []


def test_save_makes_the_folder_and_refuses_what_is_none(tmp_path: Path):
    saved = SymptomSet.load("phantoms").save(tmp_path / "new" / "a.json")
    assert [path.name for path in saved.parent.iterdir()] == ["a.json"]
    with pytest.raises(SymptomError, match="cannot be written"):
        SymptomSet.load("phantoms").save(saved / "below a file.json")
    with pytest.raises(SymptomError, match="cannot be written"):
        SymptomSet.load("phantoms").save(tmp_path / "new", force=True)
    assert [path.name for path in saved.parent.iterdir()] == ["a.json"]


@pytest.mark.parametrize("classes", [{}, {"a": []}])
def test_save_refuses_what_load_would_refuse(tmp_path: Path, classes: dict[str, list[str]]):
    with pytest.raises(SymptomError, match=r"no class|is empty"):
        SymptomSet.from_mapping(classes).save(tmp_path / "a.json")
    assert list(tmp_path.iterdir()) == []


def test_the_room_needs_no_torch():
    code = "import sys, medvip.symptoms; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
