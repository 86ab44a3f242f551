"""medvip: classify medical images with visual symptoms in plain words (ViP, arXiv 2409.00341).

The public names, in the order of the flow. Importing this module is cheap: what needs torch is
imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "load_dataset": "medvip.images",
    "few_shot": "medvip.images",
    "SymptomSet": "medvip.symptoms",
    "LanguageModel": "medvip.symptoms.language_model",
    "Server": "medvip.symptoms.language_model",
    "find_key": "medvip.symptoms.language_model",
    "generate_symptoms": "medvip.symptoms.generator",
    "knowledge_variants": "medvip.symptoms",
    "load_backbone": "medvip.backbones",
    "Augmentation": "medvip.features",
    "compute_features": "medvip.features",
    "Recipe": "medvip.training",
    "ViP": "medvip.methods",
    "create_method": "medvip.methods",
    "audit_symptoms": "medvip.evaluation",
    "fit": "medvip.runs",
    "fit_seeds": "medvip.runs",
    "Run": "medvip.runs",
    "load_run": "medvip.runs",
    "write_report": "medvip.runs",
    "MedvipError": "medvip.errors",
}

__all__ = [
    "Augmentation",
    "LanguageModel",
    "MedvipError",
    "Recipe",
    "Run",
    "Server",
    "SymptomSet",
    "ViP",
    "audit_symptoms",
    "compute_features",
    "create_method",
    "few_shot",
    "find_key",
    "fit",
    "fit_seeds",
    "generate_symptoms",
    "knowledge_variants",
    "load_backbone",
    "load_dataset",
    "load_run",
    "write_report",
]

if TYPE_CHECKING:
    from medvip.backbones import load_backbone
    from medvip.errors import MedvipError
    from medvip.evaluation import audit_symptoms
    from medvip.features import Augmentation, compute_features
    from medvip.images import few_shot, load_dataset
    from medvip.methods import ViP, create_method
    from medvip.runs import Run, fit, fit_seeds, load_run, write_report
    from medvip.symptoms import SymptomSet, knowledge_variants
    from medvip.symptoms.generator import generate_symptoms
    from medvip.symptoms.language_model import LanguageModel, Server, find_key
    from medvip.training import Recipe


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'medvip' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*_HOMES, *globals()])
