"""Room 8: which symptom was seen, where, and how much of a decision that explains."""

from medvip.explanation.contributions import ClassContributions, Decision, Explanation, contributions
from medvip.explanation.explaining import explain_pictures, explain_vectors
from medvip.explanation.logit_parts import LogitParts, can_be_explained, parts_of
from medvip.explanation.maps import SymptomMaps
from medvip.explanation.percentiles import SimilarityQuantiles, similarity_quantiles
from medvip.explanation.reliance import Reliance, reliance
from medvip.explanation.what_if import Change, LeftOut, changed_method, leave_one_out

__all__ = [
    "Change",
    "ClassContributions",
    "Decision",
    "Explanation",
    "LeftOut",
    "LogitParts",
    "Reliance",
    "SimilarityQuantiles",
    "SymptomMaps",
    "can_be_explained",
    "changed_method",
    "contributions",
    "explain_pictures",
    "explain_vectors",
    "leave_one_out",
    "parts_of",
    "reliance",
    "similarity_quantiles",
]
