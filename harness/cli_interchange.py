"""The commands that take kernels from other systems and give candidates to them.

Covered: arguments, and what is printed. Not covered: what is done (`interchange/files.py`), which
is imported when a command runs, so that --help stays quick.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer


def import_kernels(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH",
            help="Solution JSON files of FlashInfer-Bench, or folders of K-Search's results.",
        ),
    ],
    suite: Annotated[
        str, typer.Option(help="The suite whose tasks they are for: a name, or module:attribute.")
    ],
    out: Annotated[Path, typer.Option(help="The folder for the programs.")] = Path("runs/imported"),
) -> None:
    """Import published kernels as programs that `harness evaluate` judges.

    A kernel belongs to the task that is named like its definition. C++ and CUDA with the bindings
    torch and tvm-ffi, Triton and Python, one file or several; outputs returned or passed. Prints
    for each kernel its file and the command that judges it, or why it was left out. Exit status 1
    if all were.

    Examples:

    \b
    harness import solution.json --suite flashinfer
    harness import K-Search/results --suite flashinfer --out runs/published
    """
    from harness.interchange.files import import_paths

    rows = import_paths(paths, suite, out)
    for row in rows:
        what = f"{row.name} ({', '.join(filter(None, (row.author, row.binding)))})"
        if row.file is None:
            typer.echo(f"{what}\n  left out: {row.problem}")
            continue
        command = ["harness", "evaluate", str(row.file), "--task", row.task, "--suite", suite]
        typer.echo(f"{what}\n  {shlex.join([*command, '--language', str(row.language)])}")
    raise typer.Exit(0 if any(row.file is not None for row in rows) else 1)


def export(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run's folder: RUNS/runs/TASK/ARM/seed-N.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The Solution JSON to write.")],
    charge: Annotated[
        int | None,
        typer.Option(help="The candidate of this charge (0: the starting program). Default: best."),
    ] = None,
    name: Annotated[str, typer.Option(help="Default: from method, task and program.")] = "",
    author: Annotated[str, typer.Option(help="Default: the run's arm.")] = "",
    hardware: Annotated[
        str, typer.Option(help="What it was made for, as FlashInfer-Bench names it.")
    ] = "cuda",
) -> None:
    """Write a candidate of a run as a Solution JSON of FlashInfer-Bench.

    The program is carried as it is, with an adapter beside it (docs/interchange.md).

    Examples:

    \b
    harness export "runs/comparison/runs/softmax/best_of_n/seed-0" --out solution.json
    harness export "runs/comparison/runs/softmax/best_of_n/seed-0" --charge 3 --out solution.json
    """
    from harness.interchange.files import export_candidate

    solution = export_candidate(run, charge, out, name=name, author=author, hardware=hardware)
    typer.echo(f"Solution {solution.name} of {solution.definition}: {out}")


def register(app: typer.Typer) -> None:
    """Add this module's commands to the application."""
    app.command("import")(import_kernels)
    app.command()(export)
