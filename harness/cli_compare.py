"""The commands that make, continue and report comparisons: compare, resume, report, replay.

Covered: arguments and exit statuses. Not covered: the work itself (`compare.py`, `search.py`,
`reports/`), which is imported when a command runs, so that --help stays quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Runs = Annotated[Path, typer.Argument(metavar="RUNS", help="The folder of a comparison.")]
Jobs = Annotated[
    int, typer.Option(min=0, metavar="N", help="Runs side by side; 0: chosen for this machine.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before a live run that costs money.")]


def compare(
    suite: Annotated[str, typer.Option(help="A suite's name, or module:attribute.")] = "cpu",
    tasks: Annotated[
        str, typer.Option(help="Names of tasks, or all. Default: the suite's choice.")
    ] = "",
    methods: Annotated[
        str,
        typer.Option(
            help="Arms, separated by spaces: METHOD[@VARIANT][[OPTION=VALUE,...]][+MODEL]."
        ),
    ] = "best_of_n ksearch[k=3,cycle_limit=2] openevolve shinkaevolve",
    seeds: Annotated[str, typer.Option(help="A count (3) or a list (0,1,2; one seed: 7,).")] = "3",
    budget: Annotated[
        str,
        typer.Option(
            help="Per run: charges, or charges=20,llm_calls=100,tokens=N,dollars=5,seconds=N."
        ),
    ] = "20",
    model: Annotated[
        str, typer.Option(help="A name of models.toml, or a schedule by charges: A:150,B.")
    ] = "",
    llm: Annotated[
        str,
        typer.Option(
            help="live, simulated, replay:PATH, record:PATH or replay-or-record:PATH. Default: "
            "simulated for the suite cpu unless a live model is named, else live."
        ),
    ] = "",
    evaluator: Annotated[
        str,
        typer.Option(
            help="local (measure on this machine), local:FOLDER (the same; evaluations are kept in "
            "FOLDER, which several comparisons may share), or modal[:containers=N,dollars=N,...] "
            "(docs/modal.md). Default: local."
        ),
    ] = "",
    language: Annotated[
        str, typer.Option(help="What candidates are written in. Default: the suite's.")
    ] = "",
    models: Annotated[
        str, typer.Option(metavar="FILE", help="A further models.toml (docs/models.md).")
    ] = "",
    confirm_seconds: Annotated[
        float | None, typer.Option(help="Device seconds for the confirmation of one task.")
    ] = None,
    trust_candidates: Annotated[
        bool,
        typer.Option(
            "--trust-candidates",
            help="Run candidates although this machine cannot hide keys from them.",
        ),
    ] = False,
    runs: Annotated[Path, typer.Option(help="The comparison's folder.")] = Path("runs/comparison"),
    jobs: Jobs = 0,
    yes: Yes = False,
) -> None:
    """Compare methods on tasks over seeds, confirm the best, and write a report.

    Ends with the report's path. Run again with the same arguments, it continues where it stopped;
    in a folder that holds another comparison it stops and names what differs.

    Examples:

    \b
    harness compare
    harness compare --tasks matmul --seeds 1 --budget 10 --runs runs/quick
    harness compare --methods "best_of_n ksearch[k=5]" --model gpt-5.2 --llm live --budget 120
    """
    from harness.compare import compare as run_comparison
    from harness.config import request_from_json

    request = request_from_json(
        {
            "suite": suite,
            "tasks": tasks,
            "methods": methods,
            "seeds": seeds,
            "budget": budget,
            "model": model,
            "llm": llm,
            "evaluator": evaluator,
            "language": language,
            "models_file": models,
            "confirm_seconds": confirm_seconds,
            "trust_candidates": trust_candidates,
        }
    )
    raise typer.Exit(run_comparison(request, runs, jobs=jobs, yes=yes))


def resume(
    runs: Runs,
    jobs: Jobs = 0,
    yes: Yes = False,
    restart: Annotated[
        bool,
        typer.Option(
            "--restart",
            help="Begin runs anew whose method's code changed; the old attempts and their cost "
            "are kept.",
        ),
    ] = False,
) -> None:
    """Continue a comparison that was stopped, killed or paused.

    Every run goes on as if it had not been interrupted; finished runs are left as they are.

    Examples:

    \b
    harness resume runs/comparison
    harness resume runs/comparison --restart
    """
    from harness.compare import resume as resume_comparison

    raise typer.Exit(resume_comparison(runs, jobs=jobs, yes=yes, restart=restart))


def report(runs: Runs) -> None:
    """Build the report of a comparison again, from its folder alone (no GPU, no key).

    Examples:

    \b
    harness report runs/comparison
    """
    from harness.compare import build_report

    typer.echo(f"Report: {build_report(runs)}")


def replay(
    runs: Annotated[
        Path, typer.Argument(metavar="RUNS", help="A comparison's folder, or one run's.")
    ],
) -> None:
    """Re-execute runs offline and say whether their logs explain them.

    Each method runs again; its logged completions and evaluations are served to it. Exit status 1
    if a run asks for anything that its log does not hold.

    Examples:

    \b
    harness replay runs/comparison
    harness replay "runs/comparison/runs/matmul/best_of_n/seed-0"
    """
    from harness.replays import replay_runs

    raise typer.Exit(0 if replay_runs(runs) else 1)


def register(app: typer.Typer) -> None:
    """Add this module's commands to the application."""
    for command in (compare, resume, report, replay):
        app.command()(command)
