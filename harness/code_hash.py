"""Which code a run was made with: the sources of a method's package as one text, and its hash.

Covered: every file of the package (templates and tables too), or the one file of a plain module, in
sorted order; and a sentence on the first difference between two such texts.
Not covered: what the package imports. The harness's own version and git commit are in the manifest.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.journal import first_difference
from harness.types import content_hash

_HEADER = "=== "


@dataclass(frozen=True)
class MethodCode:
    """hash: of the text. text: every file under a header line "=== path", sorted by path."""

    hash: str
    text: str


def method_code(package: str) -> MethodCode:
    """The code of a package or module, by its dotted name. Raises UsageError if it has no files."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    origin = spec.origin if spec is not None else None
    if spec is None or origin is None or not Path(origin).is_file():
        raise UsageError(
            f"Cannot read the code of a method: there is no importable package {package!r}. "
            "Set Method.package to the dotted name of the module or package that holds the method."
        )
    name = package.replace(".", "/")
    if spec.submodule_search_locations is None:
        files = {f"{name}.py": Path(origin)}
    else:
        root = Path(origin).parent
        files = {
            f"{name}/{path.relative_to(root).as_posix()}": path
            for path in root.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
    text = "".join(f"{_HEADER}{title}\n{_read(files[title])}\n" for title in sorted(files))
    return MethodCode(content_hash(text), text)


def code_difference(recorded: str, now: str) -> str:
    """Where two code texts first differ: file, line, and both lines. Empty if they are equal."""
    before, after = _files(recorded), _files(now)
    for title in sorted(before.keys() | after.keys()):
        if title not in after:
            return f"{title} was there and is gone"
        if title not in before:
            return f"{title} is new"
        difference = first_difference(before[title], after[title])
        if difference is not None:
            return f"{title}, {difference}"
    return ""


def _read(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return f"binary, {content_hash(data)}"


def _files(text: str) -> dict[str, str]:
    files: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.split("\n"):
        if line.startswith(_HEADER):
            lines = files.setdefault(line.removeprefix(_HEADER), [])
        else:
            lines.append(line)
    return {title: "\n".join(content) for title, content in files.items()}
