"""``medvip benchmark``: compare methods on data sets, as a study file says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medvip.cli import options as o
from medvip.cli.console import complain, say, say_table

if TYPE_CHECKING:
    from medvip.evaluation.benchmark import Plan, Report

NAMED = 5
"""Failed runs that are named; the others are in the tables' notes."""


def benchmark(
    study: Annotated[Path, typer.Argument(help="A study in TOML (docs/benchmark.md).", show_default=False)],
    out: Annotated[
        Path, typer.Option(help="Folder for runs, tables and plots; runs in it are kept.", show_default=False)
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the study's data sets, when not where the study is.", show_default=False
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything but weights, show the plan, write nothing.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes; one a processor when not given.", min=0, show_default=False),
    ] = None,
    tables_only: Annotated[
        bool, typer.Option("--tables-only", help="Make tables and plots from the runs that are there.")
    ] = False,
    device: o.Device = "auto",
    quiet: o.Quiet = False,
) -> None:
    """Run what a study asks for and is not there yet; write tables with intervals and tests.

    Example: medvip benchmark benchmarks/studies/ours.toml --data images/ --out results
    """
    from medvip.errors import UsageError

    if dry_run and tables_only:
        raise UsageError("--dry-run and --tables-only exclude each other", fix="leave one of them out")
    if dry_run:
        _show_plan(study, out, data)
        return
    if tables_only:
        from medvip.evaluation.benchmark import load_study, write_tables

        unused = {"--data": data, "--workers": workers, "--device": None if device == "auto" else device}
        if given := [name for name, value in unused.items() if value is not None]:
            complain(f"note: --tables-only does not use {', '.join(given)}")
        _show_report(write_tables(load_study(study), out))
        return
    from medvip.errors import RunError
    from medvip.evaluation.benchmark import run_study

    try:
        result = run_study(study, out, data=data, workers=workers, device=device, quiet=quiet)
    except KeyboardInterrupt:
        complain("runs that are done are kept: the same command goes on")
        raise
    if quiet:  # else they were shown before the work started
        for note in result.plan.notes:
            complain(f"note: {note}")
    _show_report(result.report)
    if result.failures:
        named = "; ".join(f"{words}: {reason}" for words, reason in result.failures[:NAMED])
        more = len(result.failures) - NAMED
        raise RunError(
            f"{len(result.failures)} of {len(result.plan.runs)} runs failed: {named}"
            + (f"; and {more} more" if more > 0 else ""),
            fix="mend the cause and run the same command again: only failed and missing runs are done",
        )


def _show_report(report: Report) -> None:
    for table in report.shown:
        say_table(table.title, table.columns, table.rows)
    for note in report.notes:
        complain(f"note: {note}")
    say(f"{len(report.files)} files written, first {report.files[0]}")


def _show_plan(study: Path, out: Path, data: Path | None) -> None:
    from medvip.errors import UsageError
    from medvip.evaluation.benchmark import load_study, plan_study

    read = load_study(study)
    plan = plan_study(read, study.expanduser().resolve().parent, data and data.expanduser().resolve())
    for note in plan.notes:
        complain(f"note: {note}")
    say_table(
        f"{read.name}: data",
        ["data", "train", "val", "test", "classes", "groups", "runs"],
        [
            [
                label,
                *(str(len(one.dataset.only(split))) for split in ("train", "val", "test")),
                str(len(one.dataset.classes)),
                str(len({sample.group or sample.path for sample in one.dataset})),
                str(sum(run.cell.data == label for run in plan.runs)),
            ]
            for label, one in plan.sets.items()
        ],
    )
    say_table(f"{read.name}: runs of each method", ["method", "runs", "not possible"], _by_method(plan))
    states = plan.states(out)
    counted = ", ".join(f"{states[state]} {state}" for state in ("to do", "done", "failed", "not possible"))
    say(f"{len(plan.runs)} runs: {counted} (in {out}; weights were not looked at)")
    if plan.problems:
        for problem, fix in plan.problems[1:]:
            complain(f"missing: {problem} (to mend it: {fix})")
        problem, fix = plan.problems[0]
        more = f"; {len(plan.problems) - 1} more above" if len(plan.problems) > 1 else ""
        raise UsageError(f"the study cannot start: {problem}{more}", fix=fix)


def _by_method(plan: Plan) -> list[list[str]]:
    all_runs = Counter(run.cell.row for run in plan.runs)
    impossible = Counter(run.cell.row for run in plan.runs if run.impossible is not None)
    return [
        [entry.title, str(all_runs[entry.title]), str(impossible[entry.title] or "")]
        for entry in plan.study.method
    ]
