"""Benchmark studies: a TOML file says what is compared, every run is one JSON file, tables come from these.

A study can be ended at any time and goes on where it was; the same study gives the same numbers.
"""

from medvip.evaluation.benchmark.plan import Plan, plan_study
from medvip.evaluation.benchmark.running import StudyResult, run_study
from medvip.evaluation.benchmark.study import Study, load_study
from medvip.evaluation.benchmark.tables import Report, write_tables

__all__ = [
    "Plan",
    "Report",
    "Study",
    "StudyResult",
    "load_study",
    "plan_study",
    "run_study",
    "write_tables",
]
