"""Which packages this interpreter lacks: `python -m harness.requirements [EXTRA]`.

Reads the requirements of pyproject.toml (or of the installed distribution) and prints one line for
each package that is missing or of a version out of range; exit status 1 if there is any. Used by
`make PYTHON=...`, which installs nothing, and by `harness doctor`.

Not covered: the dependencies of the dependencies, and environment markers but for the one that is
used here, `platform_system == 'NAME'`.
Standard library only, because it runs before anything is installed.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
import tomllib
from pathlib import Path

_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)\s*(.*)$")
_MARKER = re.compile(r"^platform_system\s*==\s*'([A-Za-z]+)'$")
_BOUND = re.compile(r"^(>=|<=|==|!=|<|>)\s*([0-9][0-9.]*)$")


def requirements(extra: str | None = None) -> list[str]:
    """The requirements as written ("torch>=2.8,<3"), with those of one extra.

    Raises FileNotFoundError outside a checkout, KeyError for an extra that there is not.
    """
    text = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    wanted: list[str] = list(project["dependencies"])
    if extra is not None:
        wanted += project["optional-dependencies"][extra]
    return wanted


def missing(wanted: list[str]) -> list[str]:
    """One line for each requirement that this interpreter does not meet."""
    lines = []
    for requirement in wanted:
        needed, _, marker = requirement.partition(";")
        if marker and not _applies(marker.strip()):
            continue
        match = _REQUIREMENT.match(needed.strip())
        if match is None:
            raise ValueError(f"not a requirement of this project's form: {requirement!r}")
        name, bounds = match.groups()
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            lines.append(f"{name}: not installed, {bounds.strip() or 'any version'} needed")
            continue
        if not all(_holds(version, bound.strip()) for bound in bounds.split(",") if bound.strip()):
            lines.append(f"{name}: version {version}, {bounds.strip()} needed")
    return lines


def _applies(marker: str) -> bool:
    match = _MARKER.match(marker)
    if match is None:
        raise ValueError(f"not a marker of this project's form: {marker!r}")
    return match.group(1) == platform.system()


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numeric release, without trailing zeros: "2.13.0+cpu" is (2, 13)."""
    match = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    numbers = [int(part) for part in match.group(0).split(".")] if match else [0]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _holds(version: str, bound: str) -> bool:
    match = _BOUND.match(bound)
    if match is None:
        raise ValueError(f"not a version bound of this project's form: {bound!r}")
    operator, text = match.groups()
    have, want = _numbers(version), _numbers(text)
    return {
        ">=": have >= want,
        "<=": have <= want,
        "==": have == want,
        "!=": have != want,
        "<": have < want,
        ">": have > want,
    }[operator]


def main() -> int:
    """Print what is missing; 0 if nothing is."""
    extra = sys.argv[1] if len(sys.argv) > 1 else None
    lines = missing(requirements(extra))
    if not lines:
        return 0
    print(f"{sys.executable} lacks:", *lines, sep="\n  ", file=sys.stderr)
    target = f".[{extra}]" if extra else "."
    print(
        f"Install them ({sys.executable} -m pip install '{target}'), or leave PYTHON= out: "
        "then make installs them into .venv.",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
