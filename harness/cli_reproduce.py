"""The command that makes the paper's page.

Covered: arguments, and what is printed. Not covered: what is done (`reproduce.py`), which is
imported when the command runs, so that --help stays quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def reproduce(
    runs: Annotated[
        Path | None,
        typer.Option(help="The folder of a comparison, to lay beside the paper's figures."),
    ] = None,
    kernels: Annotated[
        Path | None,
        typer.Option(help="A folder of published kernels, to measure here, or a record of it."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder for the page, tables and figures.")] = Path(
        "runs/reproduce"
    ),
) -> None:
    """Make the paper's tables and curves from the published figures, and lay ours beside them.

    Needs no key, and a GPU only to measure --kernels: K-Search's folder results, or Solution JSON
    files of FlashInfer-Bench. Says which of the paper's claims hold under which mean, and where its
    kernels come from. Ends with the page's path.

    Examples:

    \b
    harness reproduce
    harness reproduce --runs runs/comparison
    harness reproduce --kernels K-Search/results --out runs/paper
    """
    from harness.reproduce import reproduce as make_page

    typer.echo(f"\nPage: {make_page(out, runs, kernels, typer.echo)}")


def register(app: typer.Typer) -> None:
    """Add this module's command to the application."""
    app.command()(reproduce)
