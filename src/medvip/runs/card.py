"""The run's model card: what it is, what it was measured on, what it must not be used for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from medvip.runs.run import Run


def model_card(run: Run) -> str:
    """Markdown (the form of Mitchell et al. 2019, shortened); names from files are escaped."""
    config = run.config
    data, backbone = config["data"], config["backbone"]
    lines = [
        f"# {_text(config['method'])} on {_text(data['name'])}",
        "",
        f"Made {config['made']['date']} with medvip {config['made']['medvip']}. "
        "**A research tool, not a medical device: not for diagnosis.** "
        "It knows only the classes below and will name one of them for any picture.",
        "",
        "## Trained on",
        "",
        f"- backbone: {_text(backbone['name'])} (fingerprint {backbone['fingerprint'][:12]})",
        f"- options: {_text(str(config['options']))}",
        f"- kept in prompts.safetensors: {_size(run.method.state())}",
        "",
        "| class | train | val | test |",
        "|---|---|---|---|",
        *(
            f"| {_text(name)} | " + " | ".join(str(data["images"][s][name]) for s in data["images"]) + " |"
            for name in config["classes"]
        ),
        "",
        *(f"- {_text(note)}" for note in data["notes"]),
    ]
    if config.get("changed_after_training"):
        lines += [
            "",
            f"**Symptoms were changed after training** ({len(config['changed_after_training'])} of them, see "
            "config.json): context, class vectors and merge prompt were learned with others.",
        ]
    if config["stopped"]:
        lines += ["", f"**Training stopped early:** {_text(config['stopped'])}"]
    for split, figures in run.metrics.items():
        lines += ["", f"## Measured on {split}", "", *_figures(figures)]
    if run.symptoms is not None:
        origin = run.symptoms.provenance
        reviewed = run.symptoms.reviews or origin.reviewed_by
        lines += [
            "",
            "## Symptoms",
            "",
            f"Written by: {_text(origin.author)} ({_text(origin.method)}). "
            + (f"Review: {_text(run.symptoms.review_state())}." if reviewed else "**Not reviewed.**"),
            "",
        ]
        for name, texts in zip(run.classes, run.symptoms.for_classes(run.classes), strict=True):
            lines += [f"- {_text(name)}: " + "; ".join(_text(text) for text in texts)]
    return "\n".join(
        [*lines, "", "## Use", "", "    medvip predict THIS_FOLDER pictures/ --out predictions.csv", ""]
    )


def _size(state: Mapping[str, Tensor]) -> str:
    numbers = sum(tensor.numel() for tensor in state.values())
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    return f"{numbers:,} numbers, {size / 1e6:,.1f} MB"


def _figures(figures: dict) -> list[str]:
    rows = ["| figure | value | 95 % interval |", "|---|---|---|"]
    for name in ("accuracy", "macro_f1", "balanced_accuracy", "auroc", "ece"):
        value, low, high = (figures[name][key] for key in ("value", "low", "high"))
        rows.append(f"| {name} | {_number(value)} | {_number(low)} to {_number(high)} |")
    return [*rows, "", f"{figures['images']} images, {figures['groups']} groups; {figures['interval']}."]


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _text(text: str) -> str:
    """Text from a file as text: Markdown's and HTML's signs escaped, one line, nothing invisible."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.split()))
    return re.sub(r"([\\`*_{}\[\]<>()#+!|&~])", r"\\\1", line)
