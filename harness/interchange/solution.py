"""FlashInfer-Bench's Solution: one implementation of one definition, as a JSON file.

    {"name", "definition", "author", "description"?, "sources": [{"path", "content"}...], "spec":
     {"language", "target_hardware", "entry_point": "FILE::FUNCTION", "dependencies",
      "destination_passing_style", "binding"}}

The form is that of flashinfer-bench 0.1.2. Files of earlier versions lack `binding` and
`destination_passing_style`; what they left to be known is taken from the sources, see `settled`.

Covered: reading with errors that name the field, writing. Not covered: what `dependencies` name;
`build_commands` of the first version, which nothing ran.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.errors import UsageError
from harness.evaluate.bundle import Binding

SolutionLanguage = Literal["python", "triton", "cpp", "cuda", "tilelang"]


class Source(BaseModel):
    """A file. path: relative to the solution's folder."""

    path: str = Field(min_length=1)
    content: str


class Specification(BaseModel):
    """How a solution is built and called. Fields that are None were not in the file."""

    model_config = ConfigDict(extra="ignore")

    language: SolutionLanguage
    target_hardware: list[str]
    entry_point: str
    dependencies: list[str] | None = None
    destination_passing_style: bool | None = None
    binding: Binding | None = None

    @property
    def entry_file(self) -> str:
        return self.entry_point.rpartition("::")[0]

    @property
    def entry_function(self) -> str:
        return self.entry_point.rpartition("::")[2]


class Solution(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(min_length=1)
    definition: str = Field(min_length=1)
    author: str
    spec: Specification
    sources: list[Source] = Field(min_length=1)
    description: str | None = None

    @model_validator(mode="after")
    def _entry_is_a_source(self) -> Solution:
        entry = self.spec.entry_file
        if entry not in [source.path for source in self.sources]:
            raise ValueError(f"the entry point's file {entry!r} is none of the sources")
        return self

    def entry_source(self) -> str:
        return next(s.content for s in self.sources if s.path == self.spec.entry_file)

    def json_text(self) -> str:
        """The file's text; fields that are None are left out."""
        return json.dumps(self.model_dump(exclude_none=True), indent=2) + "\n"


def read_solution(path: Path) -> Solution:
    """A Solution from its JSON file. Raises UsageError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"Cannot read {path}: {error}.") from error
    try:
        return Solution.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UsageError(
            f"{path} is no Solution of FlashInfer-Bench: {where}: {first['msg']}. Expected name, "
            "definition, author, spec and sources (docs/interchange.md)."
        ) from error


def settled(solution: Solution, inputs: int, outputs: int) -> tuple[Binding | None, bool]:
    """Binding (None for Python) and whether outputs are passed, also where the file does not say.

    inputs, outputs: how many the definition has. A file with neither field is of an earlier
    version: the binding is the one whose macro the sources use; torch extensions returned their
    outputs; a Python function takes as many parameters as it needs. Else flashinfer-bench's own
    defaults hold: tvm-ffi, and outputs passed.
    """
    spec = solution.spec
    passed = spec.destination_passing_style
    if spec.language in ("python", "triton", "tilelang"):
        if passed is None:
            count = _parameters(solution.entry_source(), spec.entry_function)
            passed = count != inputs or outputs == 0
        return None, passed
    binding = spec.binding
    if binding is None:
        text = "".join(source.content for source in solution.sources)
        extension = "PYBIND11_MODULE" in text or "TORCH_LIBRARY" in text
        binding = "torch" if extension and "TVM_FFI_DLL_EXPORT" not in text else "tvm-ffi"
        if passed is None:
            passed = binding == "tvm-ffi"
    return binding, True if passed is None else passed


def _parameters(source: str, function: str) -> int | None:
    """How many parameters a function of a Python source has; None where that is not to be seen."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            arguments = node.args
            if arguments.vararg or arguments.kwarg:
                return None
            return len([*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs])
    return None
