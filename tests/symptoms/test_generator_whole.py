"""The generator from class names and pictures to a symptom set, with a scripted model behind real HTTP."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from scripted_model import (
    KNOWN,
    PATIENT,
    SEEN,
    SUPPORTED_BY,
    ScriptedModel,
    cell_colours,
    decided,
    grids_in,
    jpeg_markers,
    listed,
    numbered,
    patients_pictures,
)
from scripted_server import PICTURE_TOKENS, Reply, scripted_server, texts_in

from medvip import load_dataset
from medvip.errors import DataError, LanguageModelError, SymptomError, UsageError
from medvip.symptoms import SymptomSet, check_symptoms
from medvip.symptoms.generator import Questions, first_questions, generate_symptoms
from medvip.symptoms.generator.generate import tell
from medvip.symptoms.language_model import LanguageModel, Server, Transcripts
from medvip.types import ImageDataset

CLASSES = ("melanoma", "nevus")
MODALITY = "dermoscopic image"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("patients")


@pytest.fixture(scope="module")
def told(folder) -> dict[tuple[int, int, int], dict[str, str]]:
    """What each colour stands for."""
    return patients_pictures(folder)


@pytest.fixture(scope="module")
def dataset(folder, told) -> ImageDataset:
    return load_dataset(folder)


@pytest.fixture
def model(tmp_path) -> Callable[..., LanguageModel]:
    """``model(server)``: what is asked there; answers are kept from one to the next."""

    def make(server, **options: object) -> LanguageModel:
        kept = Transcripts(tmp_path / "transcripts")
        return LanguageModel(Server(server.base_url, "scripted"), transcripts=kept, retries=0, **options)

    return make


# --- with pictures


def test_the_paper_s_stages_end_to_end(dataset, told, model):
    scripted = ScriptedModel()
    with scripted_server(scripted) as server:
        asked = model(server, seed=3)
        made = generate_symptoms(CLASSES, MODALITY, asked, images=dataset, seed=3)
    # What a class keeps is what it knows and the pictures support, in the model's order.
    wanted = {
        name: tuple(text for text in texts if text in SUPPORTED_BY)[:4] for name, texts in KNOWN.items()
    }
    assert made.classes == wanted
    assert check_symptoms(made) == []
    assert sorted(scripted.asked) == sorted((c, s) for c in CLASSES for s in ("coarse", "fine", "reconcile"))

    # One grid a class, of 16 training patients of that class; the server decodes what it got.
    record = made.generation
    assert record is not None
    for name in CLASSES:
        (grid,) = grids_in(scripted.bodies[name, "fine"])
        cells = [told[colour] for colour in cell_colours(grid, told)]
        assert {(cell["label"], cell["split"]) for cell in cells} == {(name, "train")}
        assert len({cell["patient"] for cell in cells}) == 16
        assert set(jpeg_markers(grid)) <= {0xD8, 0xE0, 0xDB, 0xC0, 0xC4, 0xDA, 0xD9}
        digests = [hashlib.sha256(Path(cell["path"]).read_bytes()).hexdigest() for cell in cells]
        assert record.pictures[name] == tuple(digest[:16] for digest in digests)
        assert "a grid of 16 smaller pictures" in texts_in(scripted.bodies[name, "fine"][0])[0]
    assert all(not grids_in(bodies) for (_, stage), bodies in scripted.bodies.items() if stage != "fine")

    # Each decision has its reason: the feature that speaks for it, or that none was seen.
    for name in CLASSES:
        decisions = {each.symptom: each for each in record.decisions[name]}
        assert set(decisions) == set(KNOWN[name])
        for text, each in decisions.items():
            assert each.kept == (text in wanted[name])
            if text in SUPPORTED_BY:
                assert each.feature == SUPPORTED_BY[text]
                assert each.reason == (None if each.kept else "there are 4 already")
            else:
                assert (each.feature, each.reason) == (None, "it was not seen in the pictures")

    # The record and the provenance say how it was made.
    assert record.server == f"127.0.0.1:{server.port}"
    assert (record.model, record.seed, record.stages) == ("scripted", 3, ("coarse", "fine", "reconcile"))
    assert (record.calls, record.answers) == (6, 6)
    assert (record.prompt_tokens, record.completion_tokens) == (6 * 11 + 2 * PICTURE_TOKENS, 6 * 7)
    assert record.questions == Questions.load().digests(record.stages)
    assert "from its knowledge and from training pictures" in made.provenance.method
    assert made.provenance.model == "scripted"
    assert made.provenance.note is None
    assert made.review_state() == "not reviewed by anyone"


def test_the_seed_chooses_the_pictures_and_nothing_else_does(dataset, model, tmp_path):
    renamed = tmp_path / "renamed"
    patients_pictures(renamed, names=lambda number: f"{(number * 37) % 101:03d}")
    again = load_dataset(renamed)
    turned = replace(dataset, samples=dataset.samples[::-1])

    def sent(images: ImageDataset, seed: int) -> list[bytes]:
        scripted = ScriptedModel()
        with scripted_server(scripted) as server:
            generate_symptoms(CLASSES, MODALITY, model(server), images=images, seed=seed)
        return [grids_in(scripted.bodies[name, "fine"])[0] for name in CLASSES]

    first = sent(dataset, 1)
    assert sent(again, 1) == sent(turned, 1) == sent(dataset, 1) == first
    assert all(one != other for one, other in zip(sent(dataset, 2), first, strict=True))


@pytest.mark.parametrize("patients", [1, 7])
def test_with_few_patients_the_question_says_how_many(tmp_path, model, patients):
    told = patients_pictures(tmp_path / "few", groups={"melanoma": patients, "nevus": 17})
    scripted = ScriptedModel()
    said: list[str] = []
    with scripted_server(scripted) as server:
        images = load_dataset(tmp_path / "few")
        made = generate_symptoms(CLASSES, MODALITY, model(server), images=images, say=said.append)
    (grid,) = grids_in(scripted.bodies["melanoma", "fine"])
    cells = cell_colours(grid, told)
    assert [cell is None for cell in cells] == [False] * patients + [True] * (16 - patients)
    (question,) = texts_in(scripted.bodies["melanoma", "fine"][0])
    assert f"a grid of {patients} smaller pictures" in question
    assert made.generation is not None
    assert {name: len(ids) for name, ids in made.generation.pictures.items()} == {
        "melanoma": patients,
        "nevus": 16,
    }
    assert f"{patients} of 'melanoma', 16 of 'nevus'" in said[0]


def test_what_fell_is_sent_back_with_the_reason(dataset, model):
    scripted = ScriptedModel()
    bad = ["smooth round outline", "looks like a nevus", "acanthotic parakeratosis", *KNOWN["nevus"][4:8]]
    scripted.says["nevus", "coarse"] = [listed(bad)]
    scripted.says["nevus", "refine"] = [listed([*KNOWN["nevus"][:4], "soft raised dome"])]
    with scripted_server(scripted) as server:
        made = generate_symptoms(CLASSES, MODALITY, model(server), images=dataset)
    assert made.classes["nevus"] == (
        "smooth round outline", "one even brown color", "both halves look alike", "small flat spot",
    )  # fmt: skip
    assert [stage for name, stage in scripted.asked if name == "nevus"] == [
        "coarse", "fine", "reconcile", "refine", "reconcile",
    ]  # fmt: skip
    (question,) = texts_in(scripted.bodies["nevus", "refine"][0])
    assert (
        "We have these already; say none of them again in other words:\n1. smooth round outline" in question
    )
    assert "- looks like a nevus: it names 'nevus'" in question
    assert "- acanthotic parakeratosis: it is not in plain English" in question
    assert "- hair growing out of it: it was not seen in the pictures" in question
    assert "6 more are needed" in question
    assert numbered(question)[1] == dict(enumerate([f for fs in SEEN["nevus"].values() for f in fs], start=1))
    # Only what is new is decided on the second time.
    second = texts_in(scripted.bodies["nevus", "reconcile"][1])[0]
    assert list(numbered(second)[0].values()) == KNOWN["nevus"][1:4]  # what fell is not taken again
    assert made.generation is not None
    assert made.generation.stages == ("coarse", "fine", "reconcile", "refine")
    reasons = [(each.symptom, each.reason) for each in made.generation.decisions["nevus"]]
    assert len(reasons) == len(set(reasons))
    assert ("soft raised dome", "it was not seen in the pictures") in reasons
    assert ("smooth round outline", "it is there already") in reasons
    assert ("looks like a nevus", "it names 'nevus'") in reasons


def test_a_model_that_sees_nothing_of_what_it_knows_is_an_error_that_says_so(dataset, model):
    none = [lambda body: decided(texts_in(body)[0]).replace("true", "false")]
    scripted = ScriptedModel(says={("nevus", "reconcile"): none})
    with scripted_server(scripted) as server:
        with pytest.raises(LanguageModelError) as caught:
            generate_symptoms(CLASSES, MODALITY, model(server), images=dataset, rounds=1)
        assert caught.value.problem.startswith("class 'nevus': 0 of 4 symptoms are left after 2 rounds")
        assert "it was not seen in the pictures" in caught.value.problem
        assert all(
            option in caught.value.fix for option in ("--per-class", "--ask-again", "--seed", "--rounds")
        )
        # Whatever may have led to it is asked anew; the coarse answer was good.
        del scripted.says["nevus", "reconcile"]
        before = len(scripted.asked)
        generate_symptoms(CLASSES, MODALITY, model(server), images=dataset, rounds=1)
    assert scripted.asked[before:] == [("nevus", "fine"), ("nevus", "reconcile")]


def test_a_model_without_eyes_is_asked_for_what_it_knows(dataset, model):
    scripted, said = ScriptedModel(), []
    with scripted_server(scripted, "blind") as server:
        asked = model(server)
        made = generate_symptoms(CLASSES, MODALITY, asked, images=dataset, say=said.append)
    assert made.classes == {name: tuple(texts[:4]) for name, texts in KNOWN.items()}
    assert sorted(scripted.asked) == [("melanoma", "coarse"), ("nevus", "coarse")]  # each once
    (pictures, note) = said
    assert "16 of 'melanoma', 16 of 'nevus'" in pictures
    assert note.startswith("note: the model takes no pictures, so this is from its knowledge alone")
    assert "not a multimodal model" in note
    assert "from its knowledge alone, in the stages coarse" in made.provenance.method
    assert made.provenance.note is not None
    assert "takes no pictures" in made.provenance.note
    assert made.generation is not None
    assert (made.generation.stages, made.generation.pictures) == (("coarse",), {})
    assert made.generation.note == made.provenance.note
    assert SymptomSet.from_json(made.to_json()) == made


@pytest.mark.parametrize("counts", ["the text alone", "the pictures too", "nothing"])
def test_a_server_that_drops_the_pictures_in_silence_is_noticed(dataset, model, counts):
    scripted, said = ScriptedModel(), []

    def answer(body: dict) -> Reply:
        # The scripted server adds what pictures cost; one that drops them would not.
        dropped = PICTURE_TOKENS * len(grids_in([body])) if counts == "the text alone" else 0
        tokens = {"prompt_tokens": len(texts_in(body)[0]) // 4 - dropped, "completion_tokens": 5}
        return Reply(scripted(body), usage=None if counts == "nothing" else tokens)

    with scripted_server(answer) as server:
        made = generate_symptoms(CLASSES, MODALITY, model(server), images=dataset, say=said.append)
    noticed = any("the model may not have seen them" in line for line in said)
    assert noticed == (counts == "the text alone")
    assert ("may not have seen" in (made.provenance.note or "")) == noticed
    assert made.generation is not None
    assert (made.generation.prompt_tokens is None) == (counts == "nothing")


# --- from knowledge alone


def test_without_pictures_only_what_is_known_is_asked(model):
    scripted = ScriptedModel()
    with scripted_server(scripted) as server:
        made = generate_symptoms(("nevus", "melanoma"), MODALITY, model(server))
    assert sorted(scripted.asked) == [("melanoma", "coarse"), ("nevus", "coarse")]
    assert list(made.classes) == sorted(made.classes)
    assert made.classes["nevus"] == tuple(KNOWN["nevus"][:4])
    assert "from its knowledge alone" in made.provenance.method
    assert made.generation is not None
    assert made.generation.stages == ("coarse",)
    question = texts_in(scripted.bodies["nevus", "coarse"][0])[0]
    assert MODALITY in question
    assert "Give 8 of them" in question  # twice as many as wanted
    assert "melanoma" not in question  # the paper's question does not know the other classes
    decisions = made.generation.decisions["nevus"]
    assert [each.kept for each in decisions] == [True] * 4 + [False] * 4
    assert all(each.reason == "there are 4 already" for each in decisions[4:])


def test_the_contrastive_question_names_the_other_classes(model):
    scripted = ScriptedModel()
    classes, names = ("melanoma", "nevus"), {"nevus": "harmless nevus"}
    with scripted_server(scripted) as server:
        made = generate_symptoms(classes, MODALITY, model(server), names=names, contrastive=True)
    assert sorted(scripted.asked) == [("melanoma", "contrastive"), ("nevus", "contrastive")]
    question = texts_in(scripted.bodies["melanoma", "contrastive"][0])[0]
    assert "decide between melanoma\nand: harmless nevus." in question
    assert made.generation is not None
    assert list(made.generation.questions) == ["contrastive"]


@pytest.mark.parametrize("per_class", [1, 2, 8])
def test_as_many_are_left_as_wanted(model, per_class):
    scripted = ScriptedModel()
    with scripted_server(scripted) as server:
        made = generate_symptoms(CLASSES, MODALITY, model(server), per_class=per_class)
    assert {len(texts) for texts in made.classes.values()} == {per_class}
    assert f"Give {2 * per_class} of them" in texts_in(scripted.bodies["nevus", "coarse"][0])[0]


def test_what_is_too_long_for_the_text_encoder_is_sent_back(model):
    scripted = ScriptedModel()
    with scripted_server(scripted) as server:
        made = generate_symptoms(
            CLASSES, MODALITY, model(server), per_class=3, tokens_over=lambda text: len(text.split()) - 4
        )
    assert all(len(text.split()) <= 4 for texts in made.classes.values() for text in texts)
    assert made.generation is not None
    reasons = {each.reason for each in made.generation.decisions["nevus"] if not each.kept}
    assert "it is 1 tokens too long for the text encoder" in reasons


# --- never twice


def test_the_same_again_makes_no_request(dataset, model):
    with scripted_server(ScriptedModel()) as server:
        first = generate_symptoms(CLASSES, MODALITY, model(server), images=dataset)
        assert len(server.requests) == 6
        second = generate_symptoms(CLASSES, MODALITY, model(server), images=dataset)
        assert len(server.requests) == 6
        assert second.digest == first.digest
        assert first.generation is not None
        assert second.generation == replace(first.generation, calls=0)
        # Another first question is asked; its candidates happen to be the same, so the rest is known.
        generate_symptoms(CLASSES, MODALITY, model(server), images=dataset, contrastive=True)
        assert len(server.requests) == 8
        generate_symptoms(CLASSES, "photo of the skin", model(server))
        assert len(server.requests) == 10
        generate_symptoms(CLASSES, MODALITY, model(server, seed=2))
        assert len(server.requests) == 12
        generate_symptoms(CLASSES, MODALITY, model(server, ask_again=True))
        assert len(server.requests) == 14


def test_another_choice_of_pictures_asks_for_what_is_seen_only(dataset, model):
    with scripted_server(ScriptedModel()) as server:
        generate_symptoms(CLASSES, MODALITY, model(server), images=dataset, seed=1)
        generate_symptoms(CLASSES, MODALITY, model(server), images=dataset, seed=2)
        assert len(server.requests) == 6 + 2


def test_what_failed_is_asked_anew_and_only_that(dataset, model):
    scripted = ScriptedModel(says={("nevus", "fine"): ["no idea"] * 3 + [json.dumps(SEEN["nevus"])]})
    with scripted_server(scripted) as server:
        with pytest.raises(LanguageModelError) as caught:
            generate_symptoms(CLASSES, MODALITY, model(server), images=dataset)
        assert caught.value.problem == (
            "class 'nevus', question fine: no usable answer in 3 tries: there is no JSON object in it"
        )
        made = 3 + 1 + 3  # all of melanoma; coarse of nevus; fine of nevus three times
        assert len(server.requests) == made
        generate_symptoms(CLASSES, MODALITY, model(server), images=dataset)
        assert len(server.requests) == made + 2  # fine and reconcile of nevus


def test_too_few_calls_say_so_and_more_go_on_from_there(dataset, model):
    with scripted_server(ScriptedModel()) as server:
        for calls in (0, 2, 3):
            before = len(server.requests)
            with pytest.raises(LanguageModelError) as caught:
                generate_symptoms(CLASSES, MODALITY, model(server, max_calls=calls), images=dataset)
            assert caught.value.problem == f"the limit of {calls} calls is reached"
            assert "--max-calls" in caught.value.fix
            assert len(server.requests) == before + calls
        generate_symptoms(CLASSES, MODALITY, model(server, max_calls=1), images=dataset)
        assert len(server.requests) == 6


# --- privacy


def test_no_picture_goes_to_another_machine_unasked(dataset, tmp_path, monkeypatch):
    elsewhere = LanguageModel(
        Server("https://no-such-host.invalid/v1", "scripted"), transcripts=Transcripts(tmp_path), retries=0
    )

    def read(*_: object, **__: object) -> None:
        raise AssertionError("a picture was read")

    monkeypatch.setattr(Image, "open", read)
    monkeypatch.setattr("medvip.symptoms.generator.grid.content_hash", read)
    said: list[str] = []
    with pytest.raises(UsageError) as caught:
        generate_symptoms(CLASSES, MODALITY, elsewhere, images=dataset, say=said.append)
    assert "would be sent to no-such-host.invalid, which is not this machine" in caught.value.problem
    assert "--i-may-send-these-images" in caught.value.fix
    assert elsewhere.calls == 0
    assert said == []
    assert list(tmp_path.iterdir()) == []


def test_a_model_in_a_cloud_is_elsewhere_wherever_it_is_asked(dataset, model):
    # Ollama hands what its ...-cloud models are asked on to its maker's machines.
    with scripted_server(ScriptedModel()) as server:
        cloudy = model(server)
        cloudy.server = Server(server.base_url, "qwen3-vl:235b-cloud")
        with pytest.raises(UsageError, match="to a cloud, which is not this machine"):
            generate_symptoms(CLASSES, MODALITY, cloudy, images=dataset)
        assert server.requests == []
        generate_symptoms(CLASSES, MODALITY, cloudy, images=dataset, may_send_images=True)
        assert len(server.requests) == 6


def test_with_leave_it_is_said_before_anything_goes(dataset, model, monkeypatch):
    # An address of this machine that is not spelled as loopback counts as another machine's.
    monkeypatch.setenv("NO_PROXY", "*")
    scripted = ScriptedModel()
    when: list[tuple[str, int]] = []
    with scripted_server(scripted) as server:
        elsewhere = model(server)
        elsewhere.server = Server(f"http://127.1:{server.port}/v1", "scripted")
        assert not elsewhere.server.is_loopback
        generate_symptoms(
            CLASSES,
            MODALITY,
            elsewhere,
            images=dataset,
            may_send_images=True,
            say=lambda line: when.append((line, len(server.requests))),
        )
        assert len(server.requests) == 6
    ((line, requests_before),) = when
    assert requests_before == 0
    assert line.startswith(f"note: training pictures go to 127.1:{server.port}: ")
    assert "16 of 'melanoma', 16 of 'nevus'" in line


def test_words_alone_need_no_leave(model, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with scripted_server(ScriptedModel()) as server:
        elsewhere = model(server)
        elsewhere.server = Server(f"http://127.1:{server.port}/v1", "scripted")
        made = generate_symptoms(CLASSES, MODALITY, elsewhere)
    assert made.classes["nevus"] == tuple(KNOWN["nevus"][:4])


def test_nothing_of_a_patient_is_sent_kept_or_logged(dataset, folder, told, model, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    scripted = ScriptedModel(says={("nevus", "coarse"): ["no JSON", listed(KNOWN["nevus"])]})
    said: list[str] = []
    with scripted_server(scripted) as server:
        asked = model(server)
        made = generate_symptoms(CLASSES, MODALITY, asked, images=dataset, say=said.append, quiet=False)
    kept = "".join(path.read_text() for path in (tmp_path / "transcripts").iterdir())
    everything = {
        "requests": "".join(
            json.dumps(request.headers) + request.path + request.raw.decode() for request in server.requests
        ),
        "pictures": b"".join(grids_in(r.body for r in server.requests)).decode("latin-1"),
        "transcripts": kept,
        "file": made.to_json(),
        "exchange": json.dumps(asked.record),
        "log": caplog.text,
        "said": "\n".join(said),
        "terminal": "".join(capfd.readouterr()),
    }
    assert caplog.text  # the libraries did log something
    secrets = [*PATIENT.split(), str(folder), folder.name, "split.csv", "pictures/", "train 0"]
    for what, text in everything.items():
        for secret in secrets:
            assert secret not in text, (what, secret)
    for what in ("transcripts", "file", "exchange", "log", "said", "terminal"):
        assert "data:image" not in everything[what], what
        assert "base64," not in everything[what], what
        assert "/9j/" not in everything[what], what  # how the JPEG begins in base64


def test_an_unreadable_picture_stops_it_before_anything_is_sent(tmp_path, model):
    told = patients_pictures(tmp_path / "data", groups=3)
    images = load_dataset(tmp_path / "data")
    for of in told.values():
        Path(of["path"]).write_bytes(b"no picture")
    with scripted_server(ScriptedModel()) as server, pytest.raises(DataError) as caught:
        generate_symptoms(CLASSES, MODALITY, model(server), images=images)
    assert server.requests == []
    assert not any(word in str(caught.value) for word in (*PATIENT.split(), str(tmp_path), ".png", ".jpg"))


# --- what is asked for has to make sense


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"classes": ["nevus"]}, UsageError, "there are 1 classes"),
        ({"classes": []}, UsageError, "there are 0 classes"),
        ({"classes": ["nevus", " nevus "]}, SymptomError, "named twice"),
        ({"classes": "nevus"}, UsageError, "the classes are given as one text, 'nevus'"),
        ({"classes": ["nevus", "melanoma", "nevus"]}, SymptomError, "named twice"),
        ({"classes": ["nevus", "Nevus"]}, SymptomError, "differ only in case"),
        ({"classes": ["nevus", "a\x1b[31m"]}, SymptomError, "control character"),
        ({"classes": ["nevus", "\ud800"]}, SymptomError, "control character"),
        ({"classes": ["nevus", " "]}, SymptomError, "blank"),
        ({"modality": " "}, SymptomError, "modality is blank"),
        ({"names": {"wart": "a wart"}}, SymptomError, "is not a class"),
        ({"per_class": 0}, UsageError, "per_class is 0"),
        ({"per_class": 13}, UsageError, "per_class is 13"),
        ({"rounds": -1}, UsageError, "rounds is -1"),
        ({"at_once": 0}, UsageError, "at_once is 0"),
        ({"seed": -1}, UsageError, "seed is -1"),
    ],
)
def test_nonsense_is_refused_before_anything_is_asked(model, change, kind, words):
    given = {"classes": CLASSES, "modality": MODALITY} | change
    with scripted_server(ScriptedModel()) as server, pytest.raises(kind, match=words) as caught:
        generate_symptoms(given.pop("classes"), given.pop("modality"), model(server), **given)
    assert server.requests == []
    assert str(caught.value).isprintable()


def test_a_class_that_the_pictures_do_not_have_is_refused(dataset, model):
    with scripted_server(ScriptedModel()) as server, pytest.raises(SymptomError) as caught:
        generate_symptoms(["melanomma", "7"], MODALITY, model(server), images=dataset)
    assert server.requests == []
    assert caught.value.problem == "the data has no class '7', 'melanomma'; it has: 'melanoma', 'nevus'"
    assert caught.value.fix == "write 'melanoma' for 'melanomma'"


def test_classes_are_found_in_the_data_however_they_are_spelled(dataset, told, model):
    known = {name.capitalize(): texts for name, texts in KNOWN.items()}
    scripted = ScriptedModel(known, says={(name, "fine"): [json.dumps(SEEN[name.lower()])] for name in known})
    with scripted_server(scripted) as server:
        made = generate_symptoms(list(known), MODALITY, model(server), images=dataset)
    assert set(made.classes) == {"Melanoma", "Nevus"}
    (grid,) = grids_in(scripted.bodies["Nevus", "fine"])
    assert {told[colour]["label"] for colour in cell_colours(grid, told)} == {"nevus"}


def test_questions_of_one_s_own_are_asked(tmp_path, model):
    own = tmp_path / "own"
    own.mkdir()
    (own / "coarse.md").write_text(
        "It is going to look for $category in a ${modality}. A hint is worth $$5: $count please."
    )
    scripted = ScriptedModel()
    with scripted_server(scripted) as server:
        made = generate_symptoms(CLASSES, MODALITY, model(server), questions=Questions.load(own))
        assert len(server.requests) == 2
        generate_symptoms(CLASSES, MODALITY, model(server))  # another question: asked
        assert len(server.requests) == 4
    question = texts_in(scripted.bodies["nevus", "coarse"][0])[0]
    assert question.startswith(
        "It is going to look for nevus in a dermoscopic image. A hint is worth $5: 8 please."
    )
    assert made.generation is not None
    assert made.generation.questions == Questions.load(own).digests(("coarse",))
    assert made.generation.questions != Questions.load().digests(("coarse",))


def test_classes_are_asked_about_side_by_side(model):
    spots = ("round", "long", "dark", "pale", "rough", "flat")
    known = {f"kind {text}": [f"{text} {each}" for each in KNOWN["nevus"]] for text in spots}
    classes, scripted = list(known), ScriptedModel(known)

    def slow(body: dict) -> Reply:
        return Reply(scripted(body), delay=0.1)

    at_once = {}
    for limit in (1, 3):
        with scripted_server(slow) as server:
            generate_symptoms(classes, MODALITY, model(server), at_once=limit)
        assert len(server.requests) == 6
        at_once[limit] = server.most_at_once
    assert at_once[1] == 1
    assert 1 < at_once[3] <= 3


# --- symptoms that classes share


def test_what_stands_in_two_classes_is_replaced_in_the_second(model):
    # nevus is asked about once more, and has four others among the eight it gave at first.
    alike = {**KNOWN, "nevus": [KNOWN["melanoma"][1].capitalize(), *KNOWN["nevus"]]}
    scripted = ScriptedModel(alike)
    with scripted_server(scripted) as server:
        made = generate_symptoms(CLASSES, MODALITY, model(server))
    assert made.classes["melanoma"] == tuple(KNOWN["melanoma"][:4])
    assert made.classes["nevus"] == tuple(KNOWN["nevus"][:4])
    assert len(scripted.asked) == 2
    assert made.generation is not None
    first = made.generation.decisions["nevus"][0]
    assert (first.symptom, first.reason) == (
        "Several colors in one spot",
        "it also stands in class 'melanoma'",
    )


def test_what_is_shared_is_sent_back_with_the_reason(model):
    four = [KNOWN["melanoma"][0], *KNOWN["nevus"][:3]]
    scripted = ScriptedModel(
        says={("nevus", "coarse"): [listed(four)], ("nevus", "refine"): [listed(["small flat spot"])]}
    )
    with scripted_server(scripted) as server:
        made = generate_symptoms(CLASSES, MODALITY, model(server))
    assert made.classes["nevus"] == (*KNOWN["nevus"][:3], "small flat spot")
    (body,) = scripted.bodies["nevus", "refine"]
    assert f"- {four[0]}: it also stands in class 'melanoma'" in texts_in(body)[0]


@pytest.mark.parametrize("contrastive", [False, True])
def test_what_stays_shared_is_kept_and_said(model, contrastive):
    four = [KNOWN["melanoma"][0], *KNOWN["nevus"][:3]]
    says = {("nevus", stage): [listed(four)] for stage in ("coarse", "contrastive", "refine")}
    scripted, said = ScriptedModel(says=says), []
    with scripted_server(scripted) as server:
        made = generate_symptoms(
            CLASSES, MODALITY, model(server), rounds=1, contrastive=contrastive, say=said.append
        )
        assert len(server.requests) == 2 + 1
    assert made.classes["nevus"] == tuple(four)
    assert said == [f"note: these symptoms stand in more than one class: {four[0]!r}"]


def test_words_of_an_everyday_class_may_describe_another(model):
    known = {"normal": KNOWN["nevus"], "melanoma": ["normal skin around it", *KNOWN["melanoma"]]}
    with scripted_server(ScriptedModel(known)) as server:
        made = generate_symptoms(list(known), MODALITY, model(server))
    assert made.classes["melanoma"][0] == "normal skin around it"


# --- what is said of how it was made


def test_more_is_asked_for_with_the_other_classes_in_mind(model):
    scripted = ScriptedModel(says={("nevus", "contrastive"): [listed(KNOWN["nevus"][:3])]})
    with scripted_server(scripted) as server:
        generate_symptoms(CLASSES, MODALITY, model(server), contrastive=True)
        scripted.says["nevus", "coarse"] = scripted.says["nevus", "contrastive"]
        generate_symptoms(CLASSES, MODALITY, model(server))
    contrastive, plain = (texts_in(body)[0] for body in scripted.bodies["nevus", "refine"])
    assert "They have to tell it from: melanoma." in contrastive
    assert "melanoma" not in plain


def test_the_first_questions_are_those_that_are_sent(dataset, model):
    scripted, names = ScriptedModel(), {"nevus": "harmless nevus"}
    for contrastive in (False, True):
        with scripted_server(scripted) as server:
            generate_symptoms(
                CLASSES, MODALITY, model(server, ask_again=True), images=dataset, names=names,
                per_class=2, contrastive=contrastive,
            )  # fmt: skip
            sent = {texts_in(r.body)[0] for r in server.requests}
        asked = first_questions(
            CLASSES, MODALITY, names=names, per_class=2, contrastive=contrastive,
            images=dataset,
        )  # fmt: skip
        first = "contrastive" if contrastive else "coarse"
        assert [(stage, name) for stage, name, _ in asked] == [
            (s, c) for c in CLASSES for s in (first, "fine")
        ]
        assert {text for _, _, text in asked} == {text for text in sent if "decide whether" not in text}
    with pytest.raises(UsageError, match="there are 1 classes"):
        first_questions(["nevus"], MODALITY)
    with pytest.raises(UsageError, match="per_class is 13"):
        first_questions(CLASSES, MODALITY, per_class=13)


def test_two_generations_with_one_model_are_counted_apart(model):
    with scripted_server(ScriptedModel()) as server:
        asked = model(server)
        first = generate_symptoms(CLASSES, MODALITY, asked)
        second = generate_symptoms(CLASSES, "photo of the skin", asked)
    for made in (first, second):
        assert made.generation is not None
        assert (made.generation.calls, made.generation.answers) == (2, 2)
        assert made.generation.completion_tokens == 2 * 7
    assert asked.calls == 4


def test_it_is_dated_by_its_answers_and_tells_the_other_seed(model, tmp_path):
    with scripted_server(ScriptedModel()) as server:
        generate_symptoms(CLASSES, MODALITY, model(server, seed=7), seed=2)
        for number, file in enumerate(sorted((tmp_path / "transcripts").glob("*.json"))):
            kept = json.loads(file.read_text())
            file.write_text(json.dumps(kept | {"date": f"2020-01-0{number + 1}T00:00:00+00:00"}))
        made = generate_symptoms(CLASSES, MODALITY, model(server, seed=7), seed=2)
        assert len(server.requests) == 2
    assert made.provenance.date == "2020-01-02T00:00:00+00:00"
    assert made.generation is not None
    assert made.generation.seed == 2
    assert made.generation.note == made.provenance.note == "the server was given seed 7"


def test_what_goes_where_is_said_on_standard_error(dataset, model, capsys):
    with scripted_server(ScriptedModel()) as server:
        generate_symptoms(CLASSES, MODALITY, model(server), images=dataset)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"note: training pictures go to 127.0.0.1:{server.port}: ")
    tell("a\x1b[31m\nb")
    assert capsys.readouterr().err == "a\\x1b[31m\\nb\n"


def test_without_the_word_list_nothing_is_asked(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    with scripted_server(ScriptedModel()) as server:
        with pytest.raises(SymptomError, match="wordfreq"):
            generate_symptoms(CLASSES, MODALITY, model(server))
        assert server.requests == []
