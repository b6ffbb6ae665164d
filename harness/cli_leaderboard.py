"""The command that holds submissions against a published leaderboard.

Covered: arguments, and what is printed. Not covered: what is done (`leaderboard.py`), which is
imported when the command runs, so that --help stays quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def leaderboard(
    task: Annotated[str, typer.Argument(metavar="TASK", help="The leaderboard: trimul.")],
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="Submissions in GPUMode's format, as they are."),
    ],
    out: Annotated[
        Path, typer.Option(help="The folder for leaderboard.json, the page and the tables.")
    ] = Path("runs/leaderboard"),
    trust_candidates: Annotated[
        bool,
        typer.Option(
            "--trust-candidates",
            help="Run the submissions although this machine cannot hide keys from them.",
        ),
    ] = False,
) -> None:
    """Hold submissions against a published leaderboard: right or wrong, how fast, what they keep.

    Says for each file whether it is right on upstream's cases, on the specified ones and on
    held-out shapes; its time with fresh and with reused inputs; and what state it keeps between
    calls. Ranks by the time with fresh inputs. Needs an NVIDIA GPU. Ends with the page's path.

    Examples:

    \b
    harness leaderboard trimul examples/trimul/honest.py examples/trimul/caching.py
    harness leaderboard trimul submissions/*.py --out runs/trimul
    """
    from rich.console import Console

    from harness.leaderboard import build_page, named_board, run_leaderboard
    from harness.leaderboard_words import print_leaderboard
    from harness.showing import PIPE_COLUMNS

    record = run_leaderboard(
        named_board(task), files, out, trust_candidates=trust_candidates, say=typer.echo
    )
    console = Console()
    print_leaderboard(record, console if console.is_terminal else Console(width=PIPE_COLUMNS))
    typer.echo(f"\nPage: {build_page(out)}")


def register(app: typer.Typer) -> None:
    """Add this module's command to the application."""
    app.command()(leaderboard)
