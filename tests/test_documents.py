"""The documents hold no gaps, and what they point to is there."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *(ROOT / "docs").glob("*.md"),
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_gap_is_left_and_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert not re.findall(r"@[A-Z]+@", text)
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (document.parent / target).exists(), target


def test_the_readme_shows_the_table_of_the_committed_results() -> None:
    table = (ROOT / "benchmarks/results/five_sets_paper/table.md").read_text(encoding="utf-8")
    assert table.strip() in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("image_set", "least"),
    [
        ("kermany_cxr_pneumonia", {"accuracy": 0.945, "macro_f1": 0.94, "auroc": 0.985}),
        ("isic_uda1_melanoma_nevus", {"auroc": 0.74}),
    ],
)
def test_the_committed_results_reach_what_is_promised(image_set: str, least: dict[str, float]) -> None:
    file = ROOT / f"benchmarks/results/five_sets_paper/{image_set}.json"
    runs = [run for run in json.loads(file.read_text())["runs"] if run["method"] == "vip"]
    assert [run["seed"] for run in runs] == [1, 2, 3]
    for figure, bound in least.items():
        assert statistics.mean(run["test"][figure]["value"] for run in runs) >= bound
