"""The Python program around a built bundle: it loads the library and calls its entry.

A worker runs it as it runs any program in Python, in its sandbox; nothing here is trusted. The
library lies among the compiled kernels of the job folder. `program_text` writes the values of one
bundle in front of everything below the mark.

Covered: torch extensions and TVM-FFI modules; outputs that are passed or returned (a tensor, a
tuple, a list, a dictionary; TVM-FFI's arrays and maps become tuples and dictionaries).
Not covered: what the worker checks of results (`python_program.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.evaluate.bundle import Bundle
from harness.suite import Signature

LIBRARY = "candidate.so"  # the name under which the judge knows it as the candidate's own
MODULE = "imported_kernel"  # TORCH_EXTENSION_NAME

_MARK = "# --- from here on: what `program_text` writes into the program ---\n"


def program_text(bundle: Bundle, signature: Signature, folder: str) -> str:
    """The program for a signature. folder: where the library lies below the job folder."""
    arguments = bundle.arguments
    values: dict[str, object] = {
        "BINDING": bundle.binding,
        "PATH": f"./{folder}/{LIBRARY}",
        "NAME": MODULE,
        "ENTRY": bundle.entry,
        "ARGUMENTS": tuple(t.name for t in signature.inputs) if arguments is None else arguments,
        "OUTPUTS": tuple(t.name for t in signature.outputs) if bundle.destination_passing else (),
    }
    head = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    _, _, body = Path(__file__).read_text(encoding="utf-8").rpartition(_MARK)
    return head + body


BINDING, PATH, NAME, ENTRY = "", "", "", ""
ARGUMENTS: tuple[str | int | float, ...] = ()
OUTPUTS: tuple[str, ...] = ()
# --- from here on: what `program_text` writes into the program ---


def _entry() -> Any:
    if BINDING == "tvm-ffi":
        import tvm_ffi

        return getattr(tvm_ffi.load_module(PATH), ENTRY)
    import importlib.machinery
    import importlib.util

    loader = importlib.machinery.ExtensionFileLoader(NAME, PATH)
    spec = importlib.util.spec_from_file_location(NAME, PATH, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return getattr(module, ENTRY)


def _plain(result: Any) -> Any:
    """A result in the forms that the worker knows."""
    if BINDING == "tvm-ffi":
        import tvm_ffi
        from torch.utils.dlpack import from_dlpack

        if isinstance(result, tvm_ffi.Array):
            return tuple(_plain(value) for value in result)
        if isinstance(result, tvm_ffi.Map):
            return {str(name): _plain(value) for name, value in result.items()}
        if isinstance(result, tvm_ffi.Tensor):
            return from_dlpack(result)
    return result


if PATH:
    _call = _entry()


def run(inputs: Any, outputs: Any) -> Any:
    arguments = [getattr(inputs, a) if isinstance(a, str) else a for a in ARGUMENTS]
    if OUTPUTS:
        _call(*arguments, *[getattr(outputs, name) for name in OUTPUTS])
        return None
    return _plain(_call(*arguments))
