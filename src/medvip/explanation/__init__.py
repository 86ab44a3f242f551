"""Room 8: which symptom was seen, where, and how much of a decision that explains."""

from medvip.explanation.contributions import ClassContributions, Decision, Explanation, contributions
from medvip.explanation.explaining import explain_pictures, explain_vectors
from medvip.explanation.logit_parts import LogitParts, can_be_explained, parts_of
from medvip.explanation.maps import SymptomMaps
from medvip.explanation.percentiles import SimilarityQuantiles, similarity_quantiles
from medvip.explanation.reliance import Reliance, reliance

__all__ = [
    "ClassContributions",
    "Decision",
    "Explanation",
    "LogitParts",
    "Reliance",
    "SimilarityQuantiles",
    "SymptomMaps",
    "can_be_explained",
    "contributions",
    "explain_pictures",
    "explain_vectors",
    "parts_of",
    "reliance",
    "similarity_quantiles",
]
