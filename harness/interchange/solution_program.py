"""Python sources of a Solution as one program of the harness.

`program_text` writes the sources, as texts, in front of everything below the mark. The program
makes modules of a package `solution` of them, as FlashInfer-Bench does, so that relative imports
work, and inspect.getsource, which @triton.jit calls, finds their lines. It defines `run(inputs,
outputs)`, which calls the entry with the definition's inputs in their order, and with the outputs
after them if the solution takes them: by name where its parameters have these names (earlier
versions of FlashInfer-Bench passed names, later ones positions), else by position.

Covered: packages in folders, with or without __init__.py. Not covered: files other than .py, which
are carried along and not found by `open`.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.util
import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.types import JsonObject

PROGRAM_MARK = "# harness solution: "
_MARK = "# --- from here on: what `program_text` writes into the program ---\n"
_IMPORTS = "import importlib.abc\nimport importlib.util\nimport inspect\nimport sys\n" + (
    "from typing import Any\n\n"
)


def program_text(
    sources: Mapping[str, str],
    entry: str,
    arguments: tuple[str | int | float, ...],
    outputs: tuple[str, ...],
    names: tuple[str, ...],
    origin: JsonObject,
) -> str:
    """The program. entry: FILE::FUNCTION. arguments: names of inputs and axes, and numbers; names:
    what the definition calls them. outputs: () if they are returned. origin: kept in its first
    line."""
    rows = "".join(f"    {path!r}: {content!r},\n" for path, content in sources.items())
    values = {"ENTRY": entry, "ARGUMENTS": arguments, "OUTPUTS": outputs, "NAMES": names}
    head = PROGRAM_MARK + json.dumps(origin) + "\n" + _IMPORTS + f"SOURCES = {{\n{rows}}}\n"
    head += "".join(f"{name} = {value!r}\n" for name, value in values.items())
    _, _, body = Path(__file__).read_text(encoding="utf-8").rpartition(_MARK)
    return head + body


def read_program(text: str) -> tuple[dict[str, str], str, bool, JsonObject] | None:
    """Sources, entry, whether outputs are passed, and origin of a program that `program_text`
    wrote; None for any other."""
    if not text.startswith(PROGRAM_MARK):
        return None
    found: dict[str, Any] = {}
    try:
        origin = json.loads(text.partition("\n")[0].removeprefix(PROGRAM_MARK))
        for node in ast.parse(text).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                found.setdefault(node.targets[0].id, node.value)
        values = [ast.literal_eval(found[name]) for name in ("SOURCES", "ENTRY", "OUTPUTS")]
    except (KeyError, SyntaxError, ValueError):
        return None
    return values[0], values[1], bool(values[2]), origin


SOURCES: dict[str, str] = {}
ENTRY = ""
ARGUMENTS: tuple[str | int | float, ...] = ()
OUTPUTS: tuple[str, ...] = ()
NAMES: tuple[str, ...] = ()
# --- from here on: what `program_text` writes into the program ---


class _Sources(importlib.abc.SourceLoader):
    """Finds and loads the modules of the package `solution`."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname.partition(".")[0] != "solution":
            return None
        file = self.get_filename(fullname)
        folder = file.endswith("/__init__.py")
        inside = file.removeprefix("solution/")
        within = inside.removesuffix("__init__.py")
        if inside not in SOURCES and not (folder and any(p.startswith(within) for p in SOURCES)):
            return None
        return importlib.util.spec_from_loader(fullname, self, is_package=folder)

    def get_filename(self, fullname: str) -> str:
        file = fullname.replace(".", "/")
        return (
            f"{file}.py"
            if f"{file}.py".removeprefix("solution/") in SOURCES
            else (f"{file}/__init__.py")
        )

    def get_data(self, path: Any) -> bytes:
        return SOURCES.get(str(path).removeprefix("solution/"), "").encode()


def _entry() -> Any:
    sys.meta_path.append(_Sources())
    file, _, function = ENTRY.partition("::")
    module = importlib.import_module("solution." + file.removesuffix(".py").replace("/", "."))
    return getattr(module, function)


def _takes_names(function: Any) -> bool:
    """Whether every input, and every output that is passed, is a parameter of its own name."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    known = {name for name, parameter in parameters.items() if parameter.kind in by_name}
    return {*NAMES, *OUTPUTS} <= known


if ENTRY:
    _call = _entry()
    _named = _takes_names(_call)


def run(inputs: Any, outputs: Any) -> Any:
    values = [getattr(inputs, a) if isinstance(a, str) else a for a in ARGUMENTS]
    values += [getattr(outputs, name) for name in OUTPUTS]
    if _named:
        result = _call(**dict(zip((*NAMES, *OUTPUTS), values, strict=True)))
    else:
        result = _call(*values)
    return None if OUTPUTS else result
