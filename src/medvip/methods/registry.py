"""The one place where methods have their names."""

from __future__ import annotations

import difflib
from typing import Any

from medvip.backbones import Backbone
from medvip.errors import UsageError
from medvip.methods.method import Method
from medvip.methods.vip import ViP
from medvip.methods.zero_shot import ZeroShotNames, ZeroShotSymptoms, ZeroShotSymptomsMax
from medvip.symptoms import SymptomSet

METHODS: dict[str, type] = {
    method.name: method for method in (ViP, ZeroShotNames, ZeroShotSymptoms, ZeroShotSymptomsMax)
}


def create_method(name: str, backbone: Backbone, symptoms: SymptomSet | None, **options: Any) -> Method:
    """A method by its name, not yet fitted.

    Raises
    ------
    UsageError
        No such method, or it needs symptoms and has none, or an option it does not know.
    """
    if name not in METHODS:
        close = difflib.get_close_matches(name, METHODS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise UsageError(f"there is no method {name!r}{hint}", fix=f"use one of: {', '.join(METHODS)}")
    if METHODS[name].uses_symptoms and symptoms is None:
        raise UsageError(
            f"the method {name!r} needs symptoms",
            fix="pass --symptoms with a file or a ready-made set's name",
        )
    try:
        return METHODS[name](backbone, symptoms, **options)
    except TypeError as error:
        raise UsageError(f"{name}: {error}", fix="leave that option out for this method") from error
