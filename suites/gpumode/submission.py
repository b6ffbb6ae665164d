"""Submissions in GPUMode's format as programs of the harness.

A submission is a Python file with `custom_kernel(data)`, data = (input, mask, weights, config). It
imports `input_t` and `output_t` from a module `task`. `wrap` makes a Triton program of it: the
submission as it is, character by character, with `submission_shim.py` put in after its docstring
and its __future__ imports (the only lines that must come first), so that inspect.getsource, which
@triton.jit calls, finds its functions.

Covered: any names in the submission (`run` and `plan` too: the shim adds none without the prefix
`_harness_`), several statements on a line, comments and docstrings at the top.
Not covered: other modules of GPUMode's (`utils`, `reference`); submissions that compile C++ or CUDA
when they are loaded, which the sandbox does not let them; whether `custom_kernel` is right.
"""

from __future__ import annotations

import ast
from pathlib import Path

from harness.errors import UsageError

ENTRY = "custom_kernel"
_SHIM = Path(__file__).with_name("submission_shim.py")
_MARK = "# --- from here on: what `wrap` puts into a submission ---\n"


def wrap(source: str) -> str:
    """The program around a submission. Raises UsageError for a file that is no Python or defines
    no `custom_kernel`."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"The submission is no Python: {error}.") from error
    if not _binds(tree, ENTRY):
        raise UsageError(
            f"The submission defines no {ENTRY}(data). Expected a file in GPUMode's format: "
            "data is (input, mask, weights, config), and the output is returned."
        )
    text = source.encode()
    place = _after_the_head(tree, text)
    head, rest = text[:place].decode(), text[place:].decode()
    _, _, shim = _SHIM.read_text(encoding="utf-8").partition(_MARK)
    if head and not head.endswith("\n"):
        head += "\n"
    return f"{head}{shim}\n{rest}"


def _binds(tree: ast.Module, name: str) -> bool:
    """Whether a statement outside of functions and classes binds the name."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        match node:
            case ast.FunctionDef(name=bound) | ast.ClassDef(name=bound):
                if bound == name:
                    return True
                continue
            case ast.Lambda():
                continue
            case ast.Name(id=bound, ctx=ast.Store()) if bound == name:
                return True
            case ast.alias() if (node.asname or node.name) == name:
                return True
        waiting += ast.iter_child_nodes(node)
    return False


def _after_the_head(tree: ast.Module, text: bytes) -> int:
    """The byte at which the first statement begins that is neither the docstring nor an import from
    __future__."""
    body = tree.body
    first = 1 if ast.get_docstring(tree, clean=False) is not None else 0
    while first < len(body):
        node = body[first]
        if not (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
            break
        first += 1
    lines = text.splitlines(keepends=True)
    node = body[first]  # there is one: `custom_kernel` is bound somewhere
    line = node.lineno
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.decorator_list:
        line = node.decorator_list[0].lineno
        return sum(map(len, lines[: line - 1]))  # the @ comes before the decorator's expression
    return sum(map(len, lines[: line - 1])) + node.col_offset
