"""Carried wheels: for a machine without a package index, where each package of a lock can come
from, a wheel or the packages of this Python.

Covered: matching wheels and installed packages to a lock, what may be absent, what is lacking, the
check that a new environment can import what its program does. Not covered: making the environment
(environments.py).
"""

from __future__ import annotations

import ast
import importlib.metadata
import os
import platform
import re
import site
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import EnvironmentMissing
from harness.types import JsonObject

PIN = re.compile(r"^[A-Za-z0-9]")  # a line of a lock that names a package
# ShinkaEvolve imports and runs without these: pillow draws its videos, the others are for service
# accounts of Google's. Moviepy and the like are not in its lock to begin with.
DISPENSABLE = frozenset(["pillow", "cryptography", "cffi", "pycparser"])
# Run in a new environment: writes down which packages it sees, imports the program and the modules.
IMPORT_CHECK = """\
import importlib, importlib.metadata, json, sys
path, program, names, modules = sys.argv[1], sys.argv[2], *map(json.loads, sys.argv[3:])
found = {}
for name in names:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
json.dump(found, open(path, "w"))
for file in importlib.metadata.files(program) or ():
    if len(file.parts) == 1 and file.suffix == ".py":
        modules.append(file.stem)
    elif len(file.parts) == 2 and file.name == "__init__.py":
        modules.append(file.parts[0])
for module in sorted(modules):
    importlib.import_module(module)
"""


@dataclass(frozen=True)
class Package:
    """A package of a lock where it is made from carried wheels. version: what is there, None if
    absent. wheel: its file, if that is its origin."""

    name: str
    locked: str
    version: str | None
    origin: Literal["wheel", "system", "absent"]
    wheel: Path | None = None


def sites() -> list[str]:
    """Where this interpreter has its packages. More than one folder if it is a virtual environment
    that sees those of the interpreter below it."""
    return [folder for folder in site.getsitepackages() if os.path.isdir(folder)]


def resolve(lock: str, wheels: Path, sites: Sequence[str]) -> list[Package]:
    """Where each package of a lock comes from on this machine. Raises EnvironmentMissing."""
    try:
        # pip's own copy: pip is needed anyway, and packaging is no dependency of this package.
        from pip._vendor.packaging import requirements, tags, utils
    except ImportError as error:
        raise EnvironmentMissing(
            f"{sys.executable} has no pip, which installs carried wheels: python3 -m ensurepip"
        ) from error
    usable = set(tags.sys_tags())
    carried: dict[tuple[str, str], Path] = {}
    for path in sorted(wheels.rglob("*.whl")):
        try:
            name, version, _, marks = utils.parse_wheel_filename(path.name)
        except ValueError:
            continue  # not named as a wheel is
        if usable & marks:
            carried.setdefault((name, str(version)), path)
    packages = []
    for line in lock.splitlines():
        if not PIN.match(line):
            continue
        pin = requirements.Requirement(line.rstrip(" \\"))
        if pin.marker is not None and not pin.marker.evaluate():
            continue
        name = utils.canonicalize_name(pin.name)
        (locked,) = (specifier.version for specifier in pin.specifier)
        wheel = carried.get((name, locked))
        if wheel is not None:
            packages.append(Package(name, locked, locked, "wheel", wheel))
            continue
        there = importlib.metadata.distributions(name=name, path=list(sites))
        found = next((distribution.version for distribution in there), None)
        packages.append(Package(name, locked, found, "absent" if found is None else "system"))
    return packages


def program_of(name: str) -> str:
    """The package of an environment, by the environment's name: without its version."""
    return name.rpartition("-")[0]


def check_complete(
    name: str, packages: Sequence[Package], wheels: Path, sites: Sequence[str]
) -> None:
    """Raises EnvironmentMissing if, for the environment of that name, something is neither carried
    nor there, or if the program itself is not there as locked."""
    if not wheels.is_dir():
        raise EnvironmentMissing(f"HARNESS_WHEELS names {wheels}, which is no folder.")
    lacking = [
        f"{package.name}=={package.locked}"
        for package in packages
        if (package.origin == "absent" and package.name not in DISPENSABLE)
        or (package.name == program_of(name) and package.version != package.locked)
    ]
    if lacking:
        files = len(list(wheels.rglob("*.whl")))
        version = ".".join(map(str, sys.version_info[:2]))
        raise EnvironmentMissing(
            f"The environment of {name} cannot be made from carried wheels. Neither among "
            f"the {files} wheels in {wheels} (of these versions, for Python {version} on "
            f"{platform.machine()}) nor in {', '.join(sites)}: {' '.join(lacking)}\nWhere "
            "the package index can be reached: python3 -m pip download --no-deps "
            f"--only-binary=:all: --python-version {version} -d FOLDER NAME==VERSION ..., with "
            f"--platform manylinux_2_28_{platform.machine()} and its like. Then: harness "
            f"prepare --wheels {wheels}"
        )


def imported_beside(folder: Path) -> list[str]:
    """What the files beside a lock import, but for each other and the standard library."""
    paths = [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
    known = sys.stdlib_module_names | {"bridge"} | {path.stem for path in paths}
    found: set[str] = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module)
    return sorted(module for module in found if module.partition(".")[0] not in known)


def deviation(row: JsonObject) -> str:
    """A row of packages.json in words."""
    name, locked, version = row["name"], row["locked"], row["version"]
    if version is None:
        return f"{name} is absent"
    if version != locked:
        return f"{name} {version} for {locked}"
    return f"{name} {version} from a wheel whose hash the lock does not have"
