"""One vector a class from text: its name in a template, or its symptoms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from medvip.backbones import Backbone
from medvip.backbones.protocol import encode_texts
from medvip.errors import UsageError
from medvip.methods.prompts import require_fitting
from medvip.methods.vectors import unit
from medvip.methods.zero_shot import TEMPLATE
from medvip.symptoms import SymptomSet, spoken

TextKind = Literal["names", "symptoms"]
"""Where a class's text comes from: its name, or its symptoms."""


def require_text(text: TextKind, symptoms: SymptomSet | None) -> None:
    """Raise `UsageError` where `text` is no `TextKind` or wants symptoms that are not there."""
    if text not in ("names", "symptoms"):
        raise UsageError(f"text is {text!r}", fix="use names or symptoms")
    if text == "symptoms" and symptoms is None:
        raise UsageError(
            "text is 'symptoms', but no symptoms are given",
            fix="pass --symptoms with a file or a ready-made set's name, or use text = names",
        )


def class_texts(
    backbone: Backbone, symptoms: SymptomSet | None, classes: Sequence[str], text: TextKind
) -> Float[Tensor, "class dim"]:
    """Text vector of each class, of length 1, in double precision.

    ``"names"``: "a photo of a <name>.", with the symptom set's plain names where it has some (as
    zero-shot-names does). ``"symptoms"``: the mean of the symptoms' vectors of length 1 (as CLIP
    averages several templates).

    Raises
    ------
    SymptomError
        With ``"symptoms"``, when they do not fit the classes or the text encoder.
    """
    if text == "names" or symptoms is None:
        names = [symptoms.plain_name(name) if symptoms else spoken(name) for name in classes]
        return unit(encode_texts(backbone, [TEMPLATE.format(name) for name in names]))
    require_fitting(symptoms, backbone, context=0)
    by_class = symptoms.for_classes(classes)
    vectors = unit(encode_texts(backbone, [line for lines in by_class for line in lines]))
    parts = vectors.split([len(lines) for lines in by_class])
    return unit(torch.stack([part.mean(0) for part in parts]))
