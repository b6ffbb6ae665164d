"""The rules that hold the code base together, read from its syntax trees."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("harness", "methods", "suites", "reports")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted(
    path
    for folder in ("tests", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
    if not {"kernels", "second", "honest", "gpu", "gpu_honest"}
    & set(path.parts)  # the zoo's candidates: no modules
)
LIMIT = 400
BROAD = ("Exception", "BaseException")

# The worker's outermost frame, the command line's, and the boundary of one run.
BROAD_PLACES = ("harness/evaluate/worker.py", "harness/cli.py", "harness/compare.py")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> set[str]:
    """Top-level packages that a module imports by a statement."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


def catches_everything(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(isinstance(kind, ast.Name) and kind.id in BROAD for kind in types)


def reraises(handler: ast.ExceptHandler) -> bool:
    """It only cleans up: its last statement raises again."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def test_there_are_modules_to_check() -> None:
    assert len(MODULES) > 40


def test_the_harness_imports_no_method_suite_or_report() -> None:
    wrong = {
        name(path): sorted(imported(path) & {"methods", "suites", "reports"})
        for path in MODULES
        if name(path).startswith("harness/")
    }
    assert not {module: packages for module, packages in wrong.items() if packages}


@pytest.mark.parametrize("package", ["methods", "suites", "reports"])
def test_a_plugin_package_imports_no_other_one(package: str) -> None:
    others = {"methods", "suites", "reports"} - {package}
    paths = [path for path in MODULES if name(path).startswith(f"{package}/")]
    assert not {name(p): imported(p) & others for p in paths if imported(p) & others}


def test_the_vocabulary_is_standard_library_only() -> None:
    assert imported(ROOT / "harness/types.py") <= {
        "__future__", "hashlib", "json", "math", "collections", "dataclasses", "enum", "typing",
    }  # fmt: skip


def test_every_module_has_a_docstring() -> None:
    assert not [name(path) for path in (*MODULES, *TESTS) if not ast.get_docstring(tree(path))]


def test_no_module_is_longer_than_the_limit() -> None:
    lengths = {name(p): len(p.read_text(encoding="utf-8").splitlines()) for p in MODULES}
    assert not {m: n for m, n in lengths.items() if n > LIMIT}


def test_everything_is_caught_in_three_places_only() -> None:
    found = set()
    for path in MODULES:
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.ExceptHandler) or reraises(node):
                continue
            if catches_everything(node):
                found.add(name(path))
    assert found <= set(BROAD_PLACES)


def test_no_module_has_a_name_that_says_nothing() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
    assert not [name(path) for path in MODULES if path.stem in vague]


def test_the_readmes_tree_names_only_what_exists() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"```text\n(harness/.*?)```", readme, re.DOTALL)
    assert block is not None
    folders: list[str] = []
    missing = []
    for line in block.group(1).splitlines():
        indent = (len(line) - len(line.lstrip())) // 2
        entry = line.split()[0]
        folders = [*folders[:indent], entry.rstrip("/")]
        if not (ROOT / "/".join(folders)).exists():
            missing.append("/".join(folders))
    assert not missing
    assert len(block.group(1).splitlines()) > 10


def test_every_file_that_the_documents_link_to_exists() -> None:
    broken = []
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert not broken
