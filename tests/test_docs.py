"""What the pages say is so: names, links, examples and defaults in *.md are those of the code.

Covered: links, files and tests that a page names, docs/hacks.md against the zoo, the generated
header and the templates shown, defaults of `make compare`, targets of the Makefile, tables of
fields and options. Not covered: prose; docs/cli.md (test_cli.py); the README's tree
(test_structure.py).
"""

import ast
import dataclasses
import json
import re
from pathlib import Path

import pytest

from harness import prompt
from harness.arms import DEFAULT_METHODS
from harness.config import ComparisonRequest
from harness.evaluate.header import cpp_header
from harness.method import Method, load_method
from harness.suite import NumpyTask, Task, TorchTask, load_suite
from tests.zoo.scorecard import FOLDER as ZOO
from tests.zoo.scorecard import exhibits

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for page in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part == "runs" for part in page.relative_to(ROOT).parts)
)
HACKS = (ROOT / "docs/hacks.md").read_text(encoding="utf-8")
BASELINES = (ROOT / "docs/baselines.md").read_text(encoding="utf-8")
HACK_NUMBERS = range(1, 58)
_CODE = re.compile(r"`([^`\n]+)`")
_ROW = re.compile(r"^\| (\d+) \|(.*)\|$", re.MULTILINE)


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def rows() -> dict[int, list[str]]:
    """The cells of docs/hacks.md by number."""
    return {int(n): [c.strip() for c in cells.split(" | ")] for n, cells in _ROW.findall(HACKS)}


def zoo_files(folder: str) -> set[str]:
    suffixes = (".cpp", ".cu", ".py")
    return {path.name for path in (ZOO / folder).iterdir() if path.suffix in suffixes}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text(page), re.MULTILINE | re.DOTALL)


def names_of_tests(file: str) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(text(file)))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    assert not [target for target in local if not (page.parent / target).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_path_of_the_repository_that_a_page_names_exists(page: Path) -> None:
    top = "harness|methods|suites|reports|tests|benchmarks|docs"
    path = re.compile(
        rf"(?:{top})/[A-Za-z0-9_./-]+\.(?:py|md|toml|cpp)|(?:{top})(?:/[a-z0-9_]+)+/?"
    )
    named = {
        code.partition("::")[0]
        for code in _CODE.findall(page.read_text(encoding="utf-8"))
        if path.fullmatch(code.partition("::")[0])
    }
    assert not sorted(name for name in named if not (ROOT / name).exists())


def test_every_test_that_a_page_names_exists() -> None:
    named = {
        (file, test)
        for page in PAGES
        for file, test in re.findall(r"(tests/\w+\.py)::(\w+)", page.read_text(encoding="utf-8"))
    }
    assert len(named) > 10
    assert not sorted(f"{file}::{test}" for file, test in named if test not in names_of_tests(file))


def test_the_scorecard_has_a_row_for_each_of_the_57_hacks() -> None:
    assert [int(number) for number, _ in _ROW.findall(HACKS)] == list(HACK_NUMBERS)
    assert all(len(cells) == 3 and all(cells[:2]) for cells in rows().values())


def test_every_hack_has_evidence_or_says_why_not() -> None:
    known = zoo_files("kernels") | zoo_files("gpu")
    for number, (_, answer, evidence) in rows().items():
        kernels = set(_CODE.findall(evidence)) & known
        marked = re.findall(r"\*\*(protocol|GPU|not applicable yet)\*\*", answer + evidence)
        assert kernels or marked, number
        assert "::" in evidence or "**protocol**" not in evidence, number


def test_every_zoo_kernel_stands_in_the_row_of_each_of_its_hacks_and_in_no_other() -> None:
    wanted = {
        (int(number), exhibit.name)
        for exhibit in exhibits("kernels")
        for number in exhibit.hack.split(", ")
    }
    known = zoo_files("kernels")
    found = {
        (number, Path(code).stem)
        for number, (_, _, evidence) in rows().items()
        for code in _CODE.findall(evidence)
        if code in known
    }
    assert sorted(found ^ wanted) == []


def test_every_zoo_program_for_a_gpu_stands_in_the_row_of_each_of_its_hacks() -> None:
    shown = rows()
    for exhibit in exhibits("gpu"):
        for number in exhibit.hack.split(", "):
            on_a_gpu = shown[int(number)][2].partition("on a GPU")[2]
            assert exhibit.name in {Path(code).stem for code in _CODE.findall(on_a_gpu)}


@pytest.mark.parametrize("folder", ["kernels", "second", "honest", "gpu"])
def test_every_kernel_of_the_zoo_is_named_and_its_folder_is_counted(folder: str) -> None:
    files = zoo_files(folder)
    assert not files - set(_CODE.findall(HACKS))
    (total,) = re.findall(rf"^- `{folder}`.*\*\*(?:caught|passed) \d+ of (\d+)\*\*", HACKS, re.M)
    assert int(total) == len(files)


def test_every_kernel_that_the_scorecard_names_exists() -> None:
    folders = ("kernels", "second", "honest", "gpu", "gpu_honest")
    files: set[str] = set().union(*map(zoo_files, folders))
    named = {code for code in _CODE.findall(HACKS) if re.fullmatch(r"\w+\.(cpp|cu|py)", code)}
    assert not named - files


def test_the_second_zoos_passing_kernels_are_as_many_as_were_not_caught() -> None:
    section = HACKS.partition("## The second zoo")[2].partition("\n## ")[0]
    passing = re.findall(r"^\| `(\w+\.cpp)` \|", section, re.MULTILINE)
    caught = set(re.findall(r"`(\w+\.cpp)`", section.partition("Caught:")[2]))
    (count,) = re.findall(r"^- `second`.*\*\*caught (\d+) of", HACKS, re.MULTILINE)
    assert int(count) == len(caught)
    assert caught.isdisjoint(passing)
    assert caught | set(passing) == zoo_files("second")


def test_the_header_shown_is_the_one_that_is_generated() -> None:
    header = cpp_header(load_suite("cpu").task("gqa_paged_decode").signature)
    assert header in blocks("docs/tasks.md", "cpp")


def test_every_attribute_of_a_task_is_in_the_table() -> None:
    table = re.findall(r"^\| (`.*?) \|", text("docs/tasks.md"), re.MULTILINE)
    named = {name for cell in table for name in re.findall(r"`(\w+)", cell)}
    abstract: frozenset[str] = NumpyTask.__abstractmethods__ | TorchTask.__abstractmethods__
    assert {*Task.__annotations__, *abstract} <= named


def test_contributing_shows_the_template_as_it_is() -> None:
    (shown,) = [block for block in blocks("CONTRIBUTING.md", "python") if "def search" in block]
    source = ast.parse(text("methods/best_of_n/__init__.py"))
    kept = [
        node for node in source.body if not isinstance(node, ast.Import | ast.ImportFrom | ast.Expr)
    ]
    for node in kept:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:]
    assert ast.dump(ast.Module(kept, [])) == ast.dump(ast.Module(ast.parse(shown).body, []))


def test_every_prompt_block_is_described() -> None:
    defined = {name for name in vars(prompt) if name.endswith("_block")}
    assert defined == set(re.findall(r"`(\w+_block)\(", text("docs/methods.md")))


def test_the_default_arms_are_the_same_everywhere() -> None:
    (made,) = re.findall(r"^METHODS \?= (.+)$", text("Makefile"), re.MULTILINE)
    (shown,) = re.findall(r"^\| `METHODS` .*\| `(.+)` \|$", text("README.md"), re.MULTILINE)
    assert made == shown == DEFAULT_METHODS


def test_the_readme_lists_every_variable_with_the_makefiles_default() -> None:
    defaults = dict(re.findall(r"^([A-Z_]+) \?= ?(.*)$", text("Makefile"), re.MULTILINE))
    table = dict(re.findall(r"^\| `([A-Z_]+)` \|.*\| (.*?) ?\|$", text("README.md"), re.MULTILINE))
    assert set(table) == {*defaults, "PYTHON"}
    for name, default in defaults.items():
        if default:
            assert table[name] == f"`{default}`"


def test_every_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))
    named = {
        target
        for page in PAGES
        for target in re.findall(
            r"(?:^|`|\$ )make ([a-z]+)\b", page.read_text(encoding="utf-8"), re.M
        )
    }
    assert {"compare", "test", "check", "zoo"} <= named
    assert not named - targets


def test_the_table_of_k_searchs_options_is_complete_and_shows_the_defaults() -> None:
    method: Method = load_method("ksearch")
    options = {f.name: f.default for f in dataclasses.fields(method.options)}
    table = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", text("docs/ksearch.md"), re.MULTILINE))
    assert table == {name: str(default) for name, default in options.items()}


def test_the_fields_of_a_request_and_of_its_resolution_are_documented() -> None:
    page = text("docs/architecture.md")
    for name in ComparisonRequest.model_fields:
        if name not in ("methods", "model", "llm", "evaluator", "models_file"):
            assert f"`{name}`" in page, name


def test_json_shown_in_the_architecture_is_json() -> None:
    section = text("docs/architecture.md").partition("### World-model edits")[2]
    shown = re.findall(r"^    (\{\"edits\".*?\]\})$", section, re.MULTILINE | re.DOTALL)
    assert [sorted(json.loads(block)) for block in shown] == [
        ["edits", "kernel_summary", "open_questions"]
    ]


def test_the_table_of_the_baselines_variants_is_complete() -> None:
    shown = set(re.findall(r"^\| `((?:openevolve|shinkaevolve)(?:@[\w-]+)?)` \|", BASELINES, re.M))
    methods = [load_method(name) for name in ("openevolve", "shinkaevolve")]
    assert shown == {m.name for m in methods} | {
        f"{m.name}@{v}" for m in methods for v in m.variants
    }


@pytest.mark.parametrize("name", ["openevolve", "shinkaevolve"])
def test_the_baselines_page_names_the_locked_version(name: str) -> None:
    package, _, version = load_method(name).needs.name.rpartition("-")
    assert f"{package} {version} (Apache-2.0)" in BASELINES


def test_the_page_on_foreign_methods_lists_what_is_served_and_given() -> None:
    page = text("docs/foreign-methods.md")
    served = set(re.findall(r"`(?:GET|POST) (/\w+)", page))
    endpoint = text("harness/foreign/endpoint.py")
    assert served == set(re.findall(r'"(/[a-z_]+)"', endpoint)) - {"/v1"}
    given = re.findall(r'^ +"((?:HARNESS|OPENAI)_\w+)":', text("harness/foreign/drive.py"), re.M)
    assert len(given) >= 6
    assert not [name for name in given if f"`{name}`" not in page]


def test_the_shell_lines_shown_are_those_of_the_example() -> None:
    (shown,) = blocks("docs/foreign-methods.md", "sh")
    script = text("examples/curl_search/search.sh")
    lines = [line for line in shown.splitlines() if line.strip() not in ("", "...")]
    assert len(lines) >= 4
    assert not [line for line in lines if line not in script]
