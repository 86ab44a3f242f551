"""The command ``medvip``: its commands, its exit codes, and how it says what went wrong.

Exit codes: 0 done; 1 it could not be done (one line why, one line how to mend it); 2 wrong
usage; 130 interrupted. A traceback appears only with ``--debug``.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence

import typer

import medvip
from medvip.cli import (
    benchmark,
    demo,
    doctor,
    evaluate,
    explain,
    features,
    fit,
    predict,
    report,
    symptoms,
    what_if,
)
from medvip.cli.console import complain, say
from medvip.errors import MedvipError, UsageError

app = typer.Typer(
    name="medvip",
    help="Classify medical images with visual symptoms in plain words (ViP, arXiv 2409.00341).",
    epilog="Start with: medvip demo. Every command takes --debug, for a traceback when something fails.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.command("fit")(fit.fit)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("explain")(explain.explain)
app.command("what-if")(what_if.what_if)
app.command("report")(report.report)
app.command("features")(features.features)
app.add_typer(symptoms.app, name="symptoms")
app.command("benchmark")(benchmark.benchmark)
app.command("doctor")(doctor.doctor)


# What typer raises on wrong usage. Its home moves between typer's versions; its child's does not.
WrongUsage: type[Exception] = typer.BadParameter.__bases__[0]


INTERRUPTED = 130
_INTERRUPTED = "interrupted; nothing half-written is left, and what was encoded or answered so far is kept"


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    if version:
        say(f"medvip {medvip.__version__}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is returned."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    warnings.showwarning = lambda message, *_, **__: complain(f"warning: {message}")
    try:
        code = int(app(args=given, prog_name="medvip", standalone_mode=False) or 0)
        if code == INTERRUPTED:  # newer versions of typer turn the interrupt into this code
            complain(_INTERRUPTED)
        return code
    except MedvipError as error:
        if debug:
            raise
        complain(f"error: {error.problem}")
        complain(f"to mend it: {error.fix}")
        return 2 if isinstance(error, UsageError) else 1
    except WrongUsage as error:
        if debug:
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            say(str(error))
            return 2
        context = getattr(error, "ctx", None)
        # WrongUsage is found at run time (above), so its method is not known to pyright.
        complain(f"error: {error.format_message()}")  # type: ignore[attr-defined]
        complain(f"to mend it: see {context.command_path if context else 'medvip'} --help")
        return 2
    except (KeyboardInterrupt, typer.Abort):
        complain(_INTERRUPTED)
        return INTERRUPTED
    except OSError as error:
        if debug:
            raise
        complain(f"error: {error}")
        complain("to mend it: check the path, its rights and the disk")
        return 1
    except Exception as error:
        if debug:
            raise
        complain(f"error: {type(error).__name__}: {error}")
        complain("to mend it: this is a defect of medvip; run again with --debug and report what it prints")
        return 1
