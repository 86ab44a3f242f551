"""A trained classifier: made by `fit`, kept in a folder, loaded by `load_run`."""

from medvip.runs.fitting import fit, fit_seeds
from medvip.runs.folder import load_run
from medvip.runs.report import write_report
from medvip.runs.run import Run

__all__ = ["Run", "fit", "fit_seeds", "load_run", "write_report"]
