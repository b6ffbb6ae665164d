"""A published kernel as one text: its files, the binding it is built with, how it is called.

    // harness bundle: {"binding": "torch", "entry": "kernel.cpp::run"}
    // harness file: kernel.h
    ...
    // harness file: kernel.cpp
    ...

A candidate in cpp or cuda whose first line is such a mark is built as a torch extension
(PYBIND11_MODULE) or a TVM-FFI library (TVM_FFI_DLL_EXPORT_TYPED_FUNC) instead of behind the plain C
ABI, and is called from Python with torch tensors. Keys of the mark:

    binding              "torch" or "tvm-ffi"
    entry                FILE::FUNCTION, or FUNCTION; default "run"
    destination_passing  true: the outputs follow the inputs; false (the default): it returns them
    arguments            in place of the inputs: names of inputs and axes, and numbers
    origin               where it was published; read by people only

A text, so that run logs, caches and `harness evaluate` hold it like any other program. Without a
mark of a file, all of the text is one file.

Covered: reading, writing, and which names of files are accepted.
Not covered: building (`bindings.py`, `build.py`) and calling (`bundle_shim.py`).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, cast

from harness.suite import Signature
from harness.types import JsonObject, Language

Binding = Literal["torch", "tvm-ffi"]
BINDINGS: tuple[Binding, ...] = ("torch", "tvm-ffi")

MARK = "// harness bundle: "
FILE_MARK = "// harness file: "
COMPILED = (".cu", ".cpp", ".cc", ".cxx", ".c")
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*")
_LONGEST_PATH = 200  # a file system's names end at 255 bytes
_FUNCTION = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_KEYS = ("binding", "entry", "destination_passing", "arguments", "origin")


class BundleError(ValueError):
    """The text says that it is a bundle, and is none. The message says what was expected."""


@dataclass(frozen=True)
class SourceFile:
    """One file of a program. path: relative, in ASCII, with forward slashes."""

    path: str
    content: str

    def __post_init__(self) -> None:
        fits = len(self.path) <= _LONGEST_PATH
        if not fits or not _PATH.fullmatch(self.path) or ".." in self.path:
            raise BundleError(
                f"a source file is called {self.path[:100]!r}; expected a relative path of at most "
                f"{_LONGEST_PATH} letters, digits and _ . + - /"
            )

    @property
    def compiled(self) -> bool:
        return PurePosixPath(self.path).suffix in COMPILED


@dataclass(frozen=True)
class Bundle:
    """The record behind the text. entry_file: "" where the text does not say it. arguments: None
    stands for the inputs in the signature's order."""

    binding: Binding
    files: tuple[SourceFile, ...]
    entry: str = "run"
    entry_file: str = ""
    destination_passing: bool = False
    arguments: tuple[str | int | float, ...] | None = None
    origin: str = ""

    def __post_init__(self) -> None:
        paths = [file.path for file in self.files]
        if len(set(paths)) != len(paths):
            raise BundleError(f"two source files have the same path: {sorted(paths)}")
        folders = {str(folder) for path in paths for folder in PurePosixPath(path).parents}
        both = sorted(folders & set(paths))
        if both:
            raise BundleError(f"these are source files and folders of others: {both}")
        if not any(file.compiled for file in self.files):
            raise BundleError(f"no source file ends in one of {', '.join(COMPILED)}: {paths}")
        if not _FUNCTION.fullmatch(self.entry):
            raise BundleError(f"the entry {self.entry[:100]!r} is no name of a function")
        for file in self.files:
            if any(line.startswith((MARK, FILE_MARK)) for line in file.content.splitlines()):
                raise BundleError(f"{file.path} itself holds a line that begins with a mark")

    def text(self) -> str:
        """The candidate's source. Files get a line end at their end where they have none."""
        entry = f"{self.entry_file}::{self.entry}" if self.entry_file else self.entry
        head: JsonObject = {
            "binding": self.binding,
            "entry": entry,
            "destination_passing": self.destination_passing,
        }
        if self.arguments is not None:
            head["arguments"] = list(self.arguments)
        if self.origin:
            head["origin"] = self.origin
        parts = [MARK + json.dumps(head, allow_nan=False) + "\n"]
        for file in self.files:
            end = "" if file.content.endswith("\n") else "\n"
            parts.append(f"{FILE_MARK}{file.path}\n{file.content}{end}")
        return "".join(parts)

    def unknown_arguments(self, signature: Signature) -> list[str]:
        """Names among the arguments that are neither an input nor an axis of the signature."""
        known = {t.name for t in signature.inputs} | {axis.name for axis in signature.axes}
        names = [a for a in self.arguments or () if isinstance(a, str)]
        return [name for name in names if name not in known]


def read_bundle(source: str, language: Language) -> Bundle | None:
    """The bundle that a candidate's source is; None for any other source. Raises BundleError."""
    if language not in ("cpp", "cuda") or not source.startswith(MARK):
        return None
    first, _, rest = source.partition("\n")
    head = _head(first.removeprefix(MARK))
    entry_file, _, entry = str(head.get("entry", "run")).rpartition("::")
    arguments = head.get("arguments")
    return Bundle(
        cast(Binding, head["binding"]),
        _files(rest, "candidate.cu" if language == "cuda" else "candidate.cpp"),
        entry,
        entry_file,
        head.get("destination_passing", False),
        None if arguments is None else tuple(arguments),
        str(head.get("origin", "")),
    )


def _head(text: str) -> JsonObject:
    try:
        head = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"the bundle's first line is no JSON after its mark: {error}") from error
    if not isinstance(head, dict) or head.get("binding") not in BINDINGS:
        raise BundleError(
            'the bundle\'s first line names no binding; expected {"binding": "torch", ...} or '
            '{"binding": "tvm-ffi", ...}'
        )
    surplus = sorted(set(head) - set(_KEYS))
    if surplus:
        raise BundleError(f"the bundle has unknown keys {surplus}; known: {', '.join(_KEYS)}")
    if not isinstance(head.get("destination_passing", False), bool):
        raise BundleError("the bundle's destination_passing is neither true nor false")
    arguments = head.get("arguments")
    if arguments is not None and not (
        isinstance(arguments, list)
        and all(isinstance(a, str | int | float) and not isinstance(a, bool) for a in arguments)
    ):
        raise BundleError("the bundle's arguments are no list of names and numbers")
    return head


def _files(text: str, alone: str) -> tuple[SourceFile, ...]:
    """The files of a bundle's text below its first line; `alone`: the name of a single one."""
    lines = text.splitlines(keepends=True)
    starts = [i for i, line in enumerate(lines) if line.startswith(FILE_MARK)]
    if not starts:
        return (SourceFile(alone, text),)
    if any(line.strip() for line in lines[: starts[0]]):
        raise BundleError(f"the bundle has text before its first '{FILE_MARK.strip()}' line")
    ends = [*starts[1:], len(lines)]
    return tuple(
        SourceFile(lines[start].removeprefix(FILE_MARK).strip(), "".join(lines[start + 1 : end]))
        for start, end in zip(starts, ends, strict=True)
    )
