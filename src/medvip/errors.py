"""What can go wrong, said in one line, with a second line that says how to mend it.

Every error that medvip raises on purpose is a `MedvipError`. Its text is what the command
line prints; a traceback appears only with ``--debug``.
"""

from __future__ import annotations


class MedvipError(Exception):
    """Base of all errors raised on purpose.

    Parameters
    ----------
    problem
        What is wrong and where: one sentence that names the file, class or value.
    fix
        How to mend it: one sentence that can be acted on.

    Examples
    --------
    >>> str(MedvipError("no class folder in data/", fix="put the images of each class in a folder"))
    'no class folder in data/ (to mend it: put the images of each class in a folder)'
    """

    def __init__(self, problem: str, *, fix: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.problem} (to mend it: {self.fix})"


class DataError(MedvipError):
    """The images, their labels or their splits cannot be used as they are."""


class UnreadableImages(DataError):  # noqa: N818 - it says what is wrong
    """Some image files cannot be read; `reasons` maps each path to why."""

    def __init__(self, reasons: dict[str, str], *, fix: str) -> None:
        listed = "; ".join(f"{path}: {reason}" for path, reason in reasons.items())
        noun = "image" if len(reasons) == 1 else "images"
        super().__init__(f"{len(reasons)} {noun} cannot be read: {listed}", fix=fix)
        self.reasons = reasons


class UnreadKind(DataError):  # noqa: N818 - it says what is wrong
    """A file is whole, but of a kind that is not read here."""


class LeakageError(DataError):
    """The same picture or the same group (patient) stands in two splits."""


class SymptomError(MedvipError):
    """A symptom file is malformed, or does not fit the classes or the backbone."""


class LanguageModelError(MedvipError):
    """A language model cannot be reached, refuses, or does not answer in a usable way."""


class BackboneError(MedvipError):
    """A backbone cannot be loaded, or is not the one that a run was trained with."""


class FeatureError(MedvipError):
    """Features are missing, or do not fit what they are used for."""


class TrainingError(MedvipError):
    """Training cannot start or cannot go on (a loss that is not finite, for example)."""


class NotFittedError(MedvipError):
    """A method was asked to predict before it was fitted."""


class RunError(MedvipError):
    """A run folder cannot be written or read."""


class UsageError(MedvipError):
    """An argument has a value that makes no sense (exit code 2 on the command line)."""


class UnsuitableBackbone(UsageError):  # noqa: N818 - it says what is wrong
    """A method cannot work on that backbone, which lacks the encoders or layers it needs."""
