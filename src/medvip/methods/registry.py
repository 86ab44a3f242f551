"""The one place where methods have their names."""

from __future__ import annotations

import difflib
import inspect
from typing import Any, get_type_hints

from medvip.backbones import Backbone
from medvip.errors import UsageError
from medvip.methods.biomedcoop import BiomedCoOp
from medvip.methods.clip_adapter import ClipAdapter
from medvip.methods.cocoop import CoCoOp
from medvip.methods.concept_bottleneck import ConceptBottleneck
from medvip.methods.coop import CoOp
from medvip.methods.gda import GDA
from medvip.methods.kgcoop import KgCoOp
from medvip.methods.linear_probe import LinearProbe
from medvip.methods.lp_plus_plus import LPPlusPlus
from medvip.methods.majority import Majority
from medvip.methods.maple import MaPLe
from medvip.methods.method import Method
from medvip.methods.nearest_class_mean import NearestClassMean
from medvip.methods.prograd import ProGrad
from medvip.methods.prompts import require_symptoms
from medvip.methods.ss_text import SSText
from medvip.methods.supervised import FineTuned, FromScratch
from medvip.methods.tip_adapter import TipAdapter, TipAdapterF
from medvip.methods.vip import ViP
from medvip.methods.vip_ablations import ViPContextMax, ViPContextMean, ViPMerge
from medvip.methods.vip_whitened import ViPWhitened
from medvip.methods.vpt import VariationalPrompts
from medvip.methods.zero_shot import ZeroShotNames, ZeroShotSymptoms, ZeroShotSymptomsMax
from medvip.symptoms import SymptomSet

METHODS: dict[str, type] = {
    method.name: method
    for method in (
        ViP,
        ViPWhitened,
        ZeroShotNames,
        ZeroShotSymptoms,
        ZeroShotSymptomsMax,
        Majority,
        NearestClassMean,
        LinearProbe,
        GDA,
        LPPlusPlus,
        SSText,
        TipAdapter,
        TipAdapterF,
        ClipAdapter,
        ConceptBottleneck,
        ViPMerge,
        ViPContextMean,
        ViPContextMax,
        CoOp,
        CoCoOp,
        KgCoOp,
        ProGrad,
        BiomedCoOp,
        VariationalPrompts,
        MaPLe,
        FineTuned,
        FromScratch,
    )
}


def find_method(name: str) -> type:
    """The class of a method.

    Raises
    ------
    UsageError
        No such method.
    """
    if name not in METHODS:
        close = difflib.get_close_matches(name, METHODS, n=2)
        meant = " or ".join(repr(known) for known in METHODS if known in close)
        hint = f"; did you mean {meant}?" if close else ""
        raise UsageError(f"there is no method {name!r}{hint}", fix=f"use one of: {', '.join(METHODS)}")
    return METHODS[name]


def describe_options(name: str) -> dict[str, inspect.Parameter]:
    """The options that a method takes: what kind each is (`annotation`), and its default.

    Raises
    ------
    UsageError
        No such method.

    Examples
    --------
    >>> describe_options("clip-adapter")["ratio"].default
    0.2
    """
    create = find_method(name).__init__
    kinds = get_type_hints(create)
    return {
        option: parameter.replace(annotation=kinds.get(option, Any))
        for option, parameter in inspect.signature(create).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def options_of(name: str) -> frozenset[str]:
    """The names of the options that a method takes.

    Raises
    ------
    UsageError
        No such method.

    Examples
    --------
    >>> sorted(options_of("vip")), sorted(options_of("linear-probe"))
    (['context', 'full_stop', 'recipe', 'seed'], [])
    """
    return frozenset(describe_options(name))


def create_method(name: str, backbone: Backbone, symptoms: SymptomSet | None, **options: Any) -> Method:
    """A method by its name, not yet fitted.

    Raises
    ------
    UsageError
        No such method, or it needs symptoms and has none, or an option it does not know.
    """
    method = find_method(name)
    if method.uses_symptoms:
        require_symptoms(name, symptoms)
    try:
        return method(backbone, symptoms, **options)
    except TypeError as error:
        raise UsageError(f"{name}: {error}", fix="leave that option out for this method") from error
