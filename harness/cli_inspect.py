"""The commands that look at one thing or make it ready: evaluate, list, show, doctor, prepare.

Covered: arguments, and what is printed. Not covered: what is looked up (`showing.py`, `doctor.py`,
the evaluator), which is imported when a command runs, so that --help stays quick.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Listing(StrEnum):
    """What `harness list` can list."""

    SUITES = "suites"
    TASKS = "tasks"
    METHODS = "methods"
    MODELS = "models"


def evaluate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A program, e.g. kernel.cpp.")],
    task: Annotated[str, typer.Option(help="The task that the program is for.")],
    suite: Annotated[str, typer.Option(help="A suite's name, or module:attribute.")] = "cpu",
    language: Annotated[
        str, typer.Option(help="Default: by the file's name: .py is python, .cu is cuda, else cpp.")
    ] = "",
    trust_candidates: Annotated[
        bool,
        typer.Option(
            "--trust-candidates",
            help="Run the program although this machine cannot hide keys from it.",
        ),
    ] = False,
) -> None:
    """Evaluate one program on one task: build, check, time; with a verdict to read.

    Exit status 1 if the program did not pass.

    Examples:

    \b
    harness evaluate kernel.cpp --task matmul
    harness evaluate kernel.py --task softmax --language python
    """
    from harness.showing import evaluate_file

    raise typer.Exit(0 if evaluate_file(file, suite, task, language, trust_candidates) else 1)


def list_names(
    what: Annotated[Listing | None, typer.Argument(help="Which names; all if left out.")] = None,
    suite: Annotated[str, typer.Option(help="Of which suite, for tasks.")] = "cpu",
    models: Annotated[
        str, typer.Option(metavar="FILE", help="A further models.toml (docs/models.md).")
    ] = "",
) -> None:
    """List what there is: suites, tasks, methods (with variants and options) or models.

    Examples:

    \b
    harness list
    harness list methods
    harness list tasks --suite cpu
    """
    from harness import showing

    listings: dict[Listing, Callable[[], None]] = {
        Listing.SUITES: showing.list_suites,
        Listing.TASKS: lambda: showing.list_tasks(suite),
        Listing.METHODS: showing.list_methods,
        Listing.MODELS: lambda: showing.list_models(Path(models) if models else None),
    }
    for name, listing in listings.items():
        if what in (None, name):
            listing()


def show(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run's folder: RUNS/runs/TASK/ARM/seed-N.")
    ],
    charge: Annotated[
        int | None,
        typer.Option(help="The candidate of this charge (0: the starting program)."),
    ] = None,
    best: Annotated[bool, typer.Option("--best", help="The best candidate.")] = False,
    call: Annotated[int | None, typer.Option(help="The prompt and reply of this LLM call.")] = None,
) -> None:
    """Show a run, one of its candidates, or one of its prompts.

    Examples:

    \b
    harness show "runs/comparison/runs/matmul/best_of_n/seed-0"
    harness show "runs/comparison/runs/matmul/best_of_n/seed-0" --best
    harness show "runs/comparison/runs/matmul/best_of_n/seed-0" --call 1
    """
    from harness import showing
    from harness.errors import UsageError

    if (charge is not None) + best + (call is not None) > 1:
        raise UsageError("Give one of --charge, --best and --call, or none to see the whole run.")
    if (run / "comparison.json").exists():
        folders = sorted(path.parent for path in run.glob("runs/*/*/seed-*/events.jsonl"))
        raise UsageError(
            f"{run} is a comparison; show one of its runs:\n"
            + "\n".join(f"  harness show '{folder}'" for folder in folders)
        )
    if call is not None:
        showing.show_call(run, call)
    elif best or charge is not None:
        showing.show_candidate(run, charge)
    else:
        showing.show_run(run)


def doctor(
    runs: Annotated[Path, typer.Option(help="Where runs would be written.")] = Path("runs"),
) -> None:
    """Say what this machine can run, how well it isolates candidates, and what is missing.

    Measures the machine's peaks, which takes about a second. Exit status 1 if something is missing.

    Examples:

    \b
    harness doctor
    """
    from rich.console import Console

    from harness import doctor as examination

    complete = examination.show(examination.examine(runs), Console())
    raise typer.Exit(0 if complete else 1)


def prepare(
    methods: Annotated[
        list[str] | None,
        typer.Argument(metavar="[METHOD]...", help="Names, or module:attribute. Default: all."),
    ] = None,
    wheels: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            envvar="HARNESS_WHEELS",
            exists=True,
            file_okay=False,
            help="Take wheels of this folder and packages of this Python, not the package index.",
        ),
    ] = None,
) -> None:
    """Install what methods need besides the harness, ahead of the first comparison.

    OpenEvolve and ShinkaEvolve run in environments of their own, which a comparison makes when it
    first needs them. Once made they need no network. Exit status 1 if one could not be made.

    On a machine without a package index, --wheels names a folder of wheels (those in folders below
    it count). What it lacks must be among the packages of this Python. A comparison finds such an
    environment if the variable HARNESS_WHEELS names the same folder; one made as locked is
    preferred.

    Examples:

    \b
    harness prepare
    harness prepare openevolve
    harness prepare --wheels wheels
    """
    from harness.prepare import prepare_named

    raise typer.Exit(0 if prepare_named(methods or [], typer.echo, wheels) else 1)


def register(app: typer.Typer) -> None:
    """Add this module's commands to the application."""
    app.command()(evaluate)
    app.command("list")(list_names)
    app.command()(show)
    app.command()(doctor)
    app.command()(prepare)
