"""Plugins by name or by "module:attribute". The only place that imports a method or a suite.

`harness` never imports `methods`, `suites` or `reports` by an import statement: names are looked up
in a small table and loaded when asked for, so that a user's own plugin is loaded in exactly the
same way. The current folder is looked in last, whichever way the harness was started.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping

from harness.errors import UnknownName, UsageError


def load(kind: str, name: str, table: Mapping[str, str]) -> object:
    """The object behind `name`: a key of `table` or "module:attribute".

    Raises UnknownName (with did-you-mean) or UsageError (the module or attribute is not there).
    """
    target = table.get(name)
    if target is None:
        if ":" not in name:
            raise UnknownName(kind, name, table)
        target = name
        if os.getcwd() not in sys.path:  # a console script's path does not hold it
            sys.path.append(os.getcwd())
    module_name, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"Cannot load {kind} {name!r}: there is no module {error.name!r}. "
            "Write it as package.module:attribute, importable from the current folder."
        ) from error
    except AttributeError as error:
        raise UsageError(
            f"Cannot load {kind} {name!r}: module {module_name!r} has no {attribute!r}."
        ) from error
