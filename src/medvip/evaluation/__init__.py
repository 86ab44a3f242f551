"""Room 7: how good a classifier is, and how sure one can be of that.

`evaluate` turns class probabilities and true labels into `Metrics`: the figures that papers
report, each with an interval over patients. `audit_symptoms` asks the same of single symptoms,
before anything is learned, on training images.
"""

from medvip.evaluation.measure import evaluate
from medvip.evaluation.metrics import ClassMetrics, Estimate, Metrics
from medvip.evaluation.symptom_audit import Audit, AuditedSymptom, Neighbour, audit_symptoms
from medvip.evaluation.symptom_suggestions import Suggestion

__all__ = [
    "Audit",
    "AuditedSymptom",
    "ClassMetrics",
    "Estimate",
    "Metrics",
    "Neighbour",
    "Suggestion",
    "audit_symptoms",
    "evaluate",
]
