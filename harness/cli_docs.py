"""docs/cli.md from --help: `python -m harness.cli_docs` writes it, and a test holds it current.

Covered: every command, its text, arguments and options, as the command line itself shows them.
Not covered: prose of its own.
"""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
COLUMNS = 100

_HEAD = """# The command line

Generated from `--help` by `python -m harness.cli_docs`. Exit statuses: 0 done; 1 an error; 2 a
wrong request; 3 some runs of a comparison are paused or failed; 130 interrupted.
"""


def page() -> str:
    """The whole page as Markdown."""
    from typer.testing import CliRunner

    from harness.cli import app

    runner = CliRunner()
    names = [command.name or command.callback.__name__ for command in app.registered_commands
             if command.callback is not None]  # fmt: skip
    for group in app.registered_groups:
        inside = group.typer_instance.registered_commands if group.typer_instance else []
        names += [f"{group.name} {c.callback.__name__}" for c in inside if c.callback is not None]
    parts = [_HEAD]
    for name in ["", *names]:
        arguments = [*name.split(), "--help"]
        environment = {"COLUMNS": str(COLUMNS)}
        text = runner.invoke(app, arguments, prog_name="harness", env=environment).output
        lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
        parts.append(f"## {'harness ' + name if name else 'harness'}\n\n```text\n{lines}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
