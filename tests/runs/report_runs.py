"""Runs and pictures for the tests of reports: ordinary ones, and ones that mean harm."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ready_runs import clip_fit

__all__ = ["HOSTILE_CLASSES", "HOSTILE_FILES", "LONG", "clip_fit", "hostile_plain", "hostile_vip", "sites"]

LONG = "very" * 1000
HOSTILE_CLASSES = ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "ورم خبيث", LONG)
"""Class names that a symptom set takes: one clean line each."""
WORSE_CLASSES = (
    "new\nline </title><script>alert(3)</script>",
    "\u202egnp.\u2066evil",
    "😀 & 👩\u200d⚕️ 'quoted'",
)
"""Names that no symptom set takes, but a folder or a table may have."""
HOSTILE_FILES = (
    "<img src=x onerror=alert(4)>.png",
    "a\"b'c onload=alert(5).png",
    "{{ 7*7 }}{% raw %}.png",
    "صورة.png",
    "\u202egnp.exe.png",
    "line\nbreak.png",
    "😀👩\u200d⚕️.png",
    "x" * 240 + ".png",
    "javascript:alert(6).png",
    "&lt;b&gt;.png",
)


def paint(
    folder: Path, labels: tuple[str, ...], names: tuple[str, ...], further: dict[str, list[str]]
) -> Path:
    """A folder with a split.csv: coloured noise whose colours say nothing of its labels."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    rows = io.StringIO(newline="")
    table = csv.writer(rows)
    table.writerow(["path", "label", "split", "patient", *further])
    number = 0
    for split, copies in (("train", 3), ("val", 2), ("test", 3)):
        for copy in range(copies):
            for label in labels:
                name = names[number % len(names)] if split == "test" else f"{number}.png"
                (folder / split / str(copy)).mkdir(parents=True, exist_ok=True)
                path = f"{split}/{copy}/{name}"
                noise = random.integers(0, 256, (40, 48, 3), dtype=np.uint8)
                Image.fromarray(noise).save(folder / path, format="PNG")
                cells = [cell[number % len(cell)] for cell in further.values()]
                table.writerow([path, label, split, f"{split} {number // 2}", *cells])
                number += 1
    (folder / "split.csv").write_bytes(rows.getvalue().encode("utf-8"))
    return folder


def fitted(folder: Path, backbone: Path, symptoms: dict[str, list[str]] | None, method: str):
    """A run on such a folder; what it learns is of no account."""
    import json

    import medvip
    from medvip.training import get_recipe

    recipe = {"recipe": get_recipe("paper", epochs=1, learning_rate=0.02)} if method == "vip" else {}
    return medvip.fit(
        medvip.load_dataset(folder),
        medvip.load_backbone(str(backbone)),
        symptoms and medvip.SymptomSet.from_json(json.dumps(symptoms)),
        method=method,
        quiet=True,
        **recipe,
    )


@pytest.fixture(scope="session")
def hostile_vip(tiny_clip, tmp_path_factory):
    """(run, folder): ViP with hostile class names, symptoms, file names, columns and cells."""
    folder = paint(
        tmp_path_factory.mktemp("hostile") / "<b>set</b> & 'co'",
        HOSTILE_CLASSES,
        HOSTILE_FILES,
        {"<i>site</i>": ["<script>alert(7)</script>", "مستشفى"], "age\"'": ["1", "2", "3", "4", "5", "6"]},
    )
    symptoms = {
        name: [f"<svg onload=alert({c})> edge", "plain 'quoted' & \"double\" colour", "حافة ممزقة"]
        for c, name in enumerate(HOSTILE_CLASSES)
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDVIP_CACHE", str(tmp_path_factory.mktemp("hostile_cache")))
        return fitted(folder, tiny_clip, symptoms, "vip"), folder


@pytest.fixture(scope="session")
def hostile_plain(tiny_clip, tmp_path_factory):
    """(run, folder): a linear probe, whose class names may hold anything."""
    folder = paint(tmp_path_factory.mktemp("worse") / "set", WORSE_CLASSES, HOSTILE_FILES, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDVIP_CACHE", str(tmp_path_factory.mktemp("worse_cache")))
        return fitted(folder, tiny_clip, None, "linear-probe"), folder


@pytest.fixture(scope="session")
def sites(tmp_path_factory) -> Path:
    """The classes of `tiny_images` on noise, which has none of their colours; sex and age in the table."""
    return paint(
        tmp_path_factory.mktemp("sites") / "colours",
        ("blue", "green", "red"),
        tuple(f"{number}.png" for number in range(99)),
        {"sex": ["f", "m"], "age": [str(age) for age in range(20, 44)]},
    )
