"""Which symptom was seen: a class's logit as an exact sum over its symptoms."""

from medvip.explanation.contributions import ClassContributions, Explanation, contributions

__all__ = ["ClassContributions", "Explanation", "contributions"]
