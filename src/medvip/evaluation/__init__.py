"""Room 7: how good a classifier is, and how sure one can be of that.

`evaluate` turns class probabilities and true labels into `Metrics`: the figures that papers
report, each with an interval over patients. Needs numpy alone.
"""

from medvip.evaluation.measure import evaluate
from medvip.evaluation.metrics import ClassMetrics, Estimate, Metrics

__all__ = ["ClassMetrics", "Estimate", "Metrics", "evaluate"]
