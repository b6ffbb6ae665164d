"""The command line: `harness COMMAND`. A thin shell; every command calls one function elsewhere.

Commands that make or read comparisons are in `cli_compare.py`, those that look at one thing in
`cli_inspect.py`, the one about submissions in `cli_leaderboard.py`, the paper's page in
`cli_reproduce.py`, those about kernels of other systems in `cli_interchange.py`, those about Modal
in `cli_modal.py`; `docs/cli.md` is generated from their --help by `cli_docs.py`.

Exit status: 0 done; 1 an error (one message on standard error, never a traceback); 2 the request
is wrong; 3 a comparison ended with paused or failed runs; 130 interrupted. An unexpected error is
ours: its traceback goes to a file whose path is printed.
"""

from __future__ import annotations

import sys
import tempfile
import traceback

import typer

from harness import (
    cli_compare,
    cli_inspect,
    cli_interchange,
    cli_leaderboard,
    cli_modal,
    cli_reproduce,
)
from harness.errors import HarnessError, UsageError

app = typer.Typer(
    name="harness",
    help="Compare LLM-driven kernel-search methods: the same tasks, evaluator, model and budget.",
    epilog="Start with `harness doctor`, then `harness compare` (it needs no GPU and no key).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
cli_compare.register(app)
cli_inspect.register(app)
cli_leaderboard.register(app)
cli_reproduce.register(app)
cli_interchange.register(app)
cli_modal.register(app)


def main() -> None:
    """The console script. Ends the process with the exit status of the module's docstring."""
    try:
        app()
    except UsageError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    except HarnessError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - the outermost frame: a user sees no traceback
        print(
            f"Error: {type(error).__name__}: {error}\nThis is a defect of the harness, not of your "
            f"request. The traceback is in {_save_traceback()}; please report it.",
            file=sys.stderr,
        )
        sys.exit(1)


def _save_traceback() -> str:
    """The path of a new file with the traceback of the error at hand."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="harness-traceback-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            traceback.print_exc(file=file)
            return file.name
    except OSError:
        return f"no file, since none could be written; it is:\n{traceback.format_exc()}"


if __name__ == "__main__":
    main()
