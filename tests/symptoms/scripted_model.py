"""A language model that follows a script: it reads which stage of the generator asks about which class.

    model = ScriptedModel({"melanoma": [...], "nevus": [...]})
    model.says["melanoma", "coarse"] = ["nonsense"]      # instead, the last of them for ever
    with scripted_server(model) as server:
        ...
    assert model.asked == [("melanoma", "coarse"), ...]

Also what the tests of the generator and of its command share: pictures of patients to hide, and how to
look at what was sent.
"""

from __future__ import annotations

import csv
import io
import json
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from scripted_server import Reply, pictures_in, texts_in

# What each class's eight candidates are; the numbers of those that the pictures support are in SEEN.
KNOWN = {
    "melanoma": [
        "jagged edge with notches",
        "several colors in one spot",
        "one half unlike the other",
        "blue and white haze",
        "wider than a pencil eraser",
        "dark dots near the border",
        "rough scaly surface",
        "pink ring around the spot",
    ],
    "nevus": [
        "smooth round outline",
        "one even brown color",
        "both halves look alike",
        "small flat spot",
        "clear border to the skin",
        "soft raised dome",
        "fine brown mesh of lines",
        "hair growing out of it",
    ],
}
SEEN = {
    "melanoma": {
        "color": ["brown, black and red patches", "a milky blue veil"],
        "shape": ["ragged outline", "lopsided shape"],
        "texture": ["flaking skin"],
    },
    "nevus": {
        "color": ["the same brown all over"],
        "shape": ["round with a smooth edge", "left and right are alike", "small and flat"],
        "texture": [],
    },
}
SUPPORTED_BY = {
    "jagged edge with notches": "ragged outline",
    "several colors in one spot": "brown, black and red patches",
    "one half unlike the other": "lopsided shape",
    "blue and white haze": "a milky blue veil",
    "rough scaly surface": "flaking skin",
    "smooth round outline": "round with a smooth edge",
    "one even brown color": "the same brown all over",
    "both halves look alike": "left and right are alike",
    "small flat spot": "small and flat",
}
"""Symptom -> the feature that speaks for it; no other symptom was seen in the pictures."""

PATIENT = "Annegret Zwiebelmann"
"""The name that must not leave the machine: it stands in file names, metadata and groups."""

_STAGES = {
    "out-of-domain": "food or cooking",
    "useless": "help nobody to tell one diagnosis from another",
    "opposite": "antonyms",
    "refine": "We are still looking for",
    "reconcile": "decide whether a feature supports it",
    "fine": "is a grid of",
    "contrastive": "and decide between",
    "coarse": "is going to look for",
}

Said = str | Reply | Callable[[dict[str, Any]], "str | Reply"]


class ScriptedModel:
    """Answers as the tables above say, or as `says` says; may be called by several threads.

    Attributes
    ----------
    says
        (class, stage) -> what is answered the first, second, ... time; the last for ever.
    asked
        (class, stage) of each request, in the order in which they came.
    """

    def __init__(
        self,
        known: Mapping[str, Sequence[str]] | None = None,
        *,
        says: Mapping[tuple[str, str], Sequence[Said]] | None = None,
    ) -> None:
        self.known = known or KNOWN
        self.says = dict(says or {})
        self.asked: list[tuple[str, str]] = []
        self.bodies: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        self._lock = threading.Lock()

    def __call__(self, body: dict[str, Any]) -> str | Reply:
        question = texts_in(body)[0]
        about = class_of(question, self.known), stage_of(question)
        with self._lock:
            number = len(self.bodies[about])
            self.asked.append(about)
            self.bodies[about].append(body)
        if scripted := self.says.get(about):
            said = scripted[min(number, len(scripted) - 1)]
            return said(body) if callable(said) else said
        return self._knows(about, question)

    def _knows(self, about: tuple[str, str], question: str) -> str:
        name, stage = about
        if stage == "fine":
            return json.dumps(SEEN[name])
        if stage == "reconcile":
            return decided(question)
        if stage in ("coarse", "contrastive"):
            return listed(self.known[name])
        if stage == "refine":
            return listed([f"{text} seen again" for text in self.known[name]])
        return listed(control_texts(question, stage))


def stage_of(question: str) -> str:
    """Which of the built-in questions it is."""
    (stage, *more) = [stage for stage, words in _STAGES.items() if words in _flat(question)]
    assert not more, question
    return stage


def class_of(question: str, classes: Iterable[str]) -> str:
    """The class that is named most often in it, the reasons of refusals aside; the first of equals."""
    question = question.partition("These could not be used")[0]
    places = {name: [m.start() for m in re.finditer(rf"\b{re.escape(name)}\b", question)] for name in classes}
    return max(places, key=lambda name: (len(places[name]), -min(places[name], default=0)))


def numbered(question: str) -> list[dict[int, str]]:
    """Every numbered list of a question: number -> text."""
    lists: list[dict[int, str]] = []
    for line in question.splitlines():
        if found := re.match(r"(\d+)\. (.*)", line):
            if found[1] == "1":
                lists.append({})
            lists[-1][int(found[1])] = found[2]
    return lists


def decided(question: str) -> str:
    """The reconcile stage's answer, by `SUPPORTED_BY`."""
    symptoms, features = numbered(question)
    number_of = {text: number for number, text in features.items()}
    decisions = [
        {
            "symptom": number,
            "supported": SUPPORTED_BY.get(text) in number_of,
            "feature": number_of.get(SUPPORTED_BY.get(text, ""), 0),
        }
        for number, text in symptoms.items()
    ]
    return json.dumps({"decisions": decisions})


def listed(symptoms: Sequence[object]) -> str:
    """The answer with these symptoms."""
    return json.dumps({"symptoms": list(symptoms)})


def control_texts(question: str, kind: str) -> list[str]:
    """As many phrases as a question for a control has; no two alike in any class."""
    words = {
        "out-of-domain": "a bowl of warm soup",
        "useless": "skin with small openings",
        "opposite": "quite another look",
    }
    (given,) = numbered(question)
    return [f"{words[kind]} beside {text.split()[0]} {text.split()[-1]}" for text in given.values()]


def _flat(text: str) -> str:
    return " ".join(text.split())


# --- pictures of patients


def colours(number: int) -> Iterator[tuple[int, int, int]]:
    """Colours that survive JPEG as different, none of them near the gray of an empty cell."""
    levels = (0, 62, 190, 252)
    mixed = [(r, g, b) for r in levels for g in levels for b in levels]
    assert number <= len(mixed)
    yield from mixed[:number]


def patients_pictures(
    folder: Path, *, groups: Mapping[str, int] | int = 18, names: Callable[[int], str] | None = None
) -> dict[tuple[int, int, int], dict[str, str]]:
    """Write a data set of two classes with ``split.csv``; give what each colour stands for.

    Of every class `groups` patients are in train (the first two with a second picture), two in val
    and two in test. The patient's name stands in the file name, the group and the file's metadata.
    `names` makes other file names out of a picture's number.
    """
    counts = groups if isinstance(groups, Mapping) else dict.fromkeys(KNOWN, groups)
    wanted = [
        (label, split, f"{split} {number}")
        for label, count in counts.items()
        for split, patients in (("train", count), ("val", 2), ("test", 2))
        for number in [*range(patients), *(range(min(2, patients)) if split == "train" else ())]
    ]
    told: dict[tuple[int, int, int], dict[str, str]] = {}
    (folder / "pictures").mkdir(parents=True)
    rows = []
    for number, ((label, split, group), colour) in enumerate(zip(wanted, colours(len(wanted)), strict=True)):
        stem = names(number) if names else f"{PATIENT.replace(' ', '_')}_{number}"
        path = folder / "pictures" / f"{stem}.{'jpg' if number % 3 == 0 else 'png'}"
        save_with_name(path, colour, size=[(60, 40), (40, 60), (50, 50)][number % 3])
        patient = f"{PATIENT} {label} {group}"
        rows.append((f"pictures/{path.name}", label, split, patient))
        told[colour] = {"label": label, "split": split, "patient": patient, "path": str(path)}
    if names:
        rows.sort()  # another order of the files, too
    with (folder / "split.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split", "patient"), *rows])
    return told


def save_with_name(path: Path, colour: tuple[int, int, int], size: tuple[int, int]) -> None:
    """A picture of one colour with the patient's name in its metadata."""
    picture = Image.new("RGB", size, colour)
    if path.suffix == ".jpg":
        exif = Image.Exif()
        exif[0x010E] = exif[0x9286] = PATIENT  # ImageDescription, UserComment
        picture.save(path, exif=exif, comment=PATIENT.encode(), quality=95, subsampling=0)
    else:
        text = PngInfo()
        text.add_text("PatientName", PATIENT)
        picture.save(path, pnginfo=text)


def grids_in(bodies: Iterable[dict[str, Any]]) -> list[bytes]:
    """The content of every picture sent."""
    return [content for body in bodies for content in pictures_in(body)]


def cell_colours(content: bytes, known: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int] | None]:
    """The colour in the middle of each of the 16 cells, as the one of `known` that it is; gray is None."""
    grid = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    assert grid.shape == (1024, 1024, 3)
    found: list[tuple[int, int, int] | None] = []
    for row in range(4):
        for column in range(4):
            seen = grid[row * 256 + 128, column * 256 + 128]
            near = [colour for colour in [*known, (127, 127, 127)] if abs(seen - colour).max() <= 12]
            assert len(near) == 1, (seen, near)
            found.append(None if near[0] == (127, 127, 127) else near[0])
    return found


def jpeg_markers(content: bytes) -> list[int]:
    """The markers of a JPEG file, one by one, up to the end of the image."""
    assert content[:2] == b"\xff\xd8"
    markers, position = [0xD8], 2
    while markers[-1] != 0xD9:
        assert content[position] == 0xFF, position
        marker = content[position + 1]
        markers.append(marker)
        position += 2
        if marker == 0xD9:
            break
        position += int.from_bytes(content[position : position + 2], "big")
        if marker == 0xDA:  # the coded pixels: up to the next marker that is no stuffing or restart
            while content[position] != 0xFF or content[position + 1] in (0, *range(0xD0, 0xD8)):
                position += 1
    assert position == len(content)  # nothing behind the end
    return markers
