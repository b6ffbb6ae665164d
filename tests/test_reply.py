"""The one reply parser: which block is the program, and that nothing in it is edited."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.reply import MAX_SOURCE_BYTES, candidate_from, unusable_source
from harness.types import Candidate, NoCode


def source(text, language="cpp"):
    proposal = candidate_from(text, language)
    assert isinstance(proposal, Candidate), proposal
    return proposal.source


def reason(text, language="cpp"):
    proposal = candidate_from(text, language)
    assert isinstance(proposal, NoCode), proposal
    return proposal.reason


def test_the_last_complete_block_is_the_program():
    assert source("```cpp\nold\n```\ntext\n```cpp\nnew\n```\n") == "new\n"


def test_an_unclosed_last_block_leaves_the_one_before():
    assert source("```cpp\nwhole\n```\n```cpp\ncut off") == "whole\n"


@pytest.mark.parametrize("tag", ["cpp", "C++", "cxx", "c", "cpp title=kernel.cpp", "{.cpp}", ""])
def test_tags_of_the_language_and_no_tag_are_accepted(tag):
    assert source(f"```{tag}\nint x;\n```") == "int x;\n"


def test_a_block_of_another_language_is_not_the_program():
    text = "```cpp\nint x;\n```\nBuild it:\n```bash\ng++ x.cpp\n```\n"
    assert source(text) == "int x;\n"
    assert reason("```json\n{}\n```") == "the reply has no cpp code block, only: json"


def test_a_tagged_block_wins_over_a_later_block_without_a_tag():
    assert source("```cpp\nint x;\n```\nIt prints\n```\n42\n```\n") == "int x;\n"


@pytest.mark.parametrize(
    ("language", "tag"), [("python", "py"), ("triton", "python"), ("cuda", "cu"), ("cuda", "cpp")]
)
def test_every_language_has_its_tags(language, tag):
    assert source(f"```{tag}\nx\n```", language) == "x\n"


def test_windows_line_ends_outside_and_inside_the_block_are_kept_as_they_are():
    assert source("Hi\r\n```cpp\r\nint x;\r\n```\r\n") == "int x;\r\n"


def test_tilde_fences_and_longer_fences_hold_shorter_ones():
    assert source("~~~cpp\n```\n~~~\n") == "```\n"
    assert source("````cpp\n// a\n```\nb\n```\n````\n") == "// a\n```\nb\n```\n"


def test_an_indented_fence_gives_back_its_own_indentation_only():
    assert (
        source("1. Here\n   ```python\n   if x:\n     y\n\n   ```\n", "python") == "if x:\n  y\n\n"
    )
    assert source("  ```cpp\nint x;\n    int y;\n  ```\n") == "int x;\n    int y;\n"


@pytest.mark.parametrize(
    "code",
    [
        "// ```\n// example\n// ```\nint x;\n",
        "/*\n```\nexample\n```\n*/\nint x;\n",
        "/*\n```text\nexample\n```\n*/\nint x;\n",
        'const char* s = "/*";\nint x;\n',
        "char c = '\"'; /* ' */\nint x = 1'000;\n",
    ],
)
def test_fences_and_quotes_inside_a_cpp_program_do_not_end_it(code):
    assert source(f"```cpp\n{code}```\nDone.\n") == code


@pytest.mark.parametrize(
    "code",
    [
        '"""\n```\nexample\n```\n"""\nx = 1\n',
        "x = '''\n```\n'''\n",
        "# don't\nx = \"it's\"\n",
    ],
)
def test_fences_inside_a_python_docstring_do_not_end_it(code):
    assert source(f"```python\n{code}```\n", "python") == code


def test_a_comment_that_never_ends_does_not_hide_the_closing_fence():
    assert source("```cpp\nint x; /* oops\n```\nbye\n") == "int x; /* oops\n"


def test_a_block_begun_again_without_closing_the_first_is_read_from_the_second():
    assert source("```cpp\nint a\nSorry, again:\n```cpp\nint b;\n```\n") == "int b;\n"


def test_a_program_inside_a_markdown_block_is_found():
    assert source("```markdown\n# Answer\n```cpp\nint x;\n```\n```\n") == "int x;\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the reply is empty"),
        ("  \n", "the reply is empty"),
        ("int main() {}", "no code block"),
        ("`x` ```int x;``` inline", "no code block"),
        ("```cpp\nint x;", "not closed"),
        ("```cpp\n  \n```", "program is empty"),
        ("```cpp\na\0b\n```", "NUL"),
        ("```cpp\n\ud800\n```", "Unicode"),
        ("```cpp\n" + "x" * MAX_SOURCE_BYTES + "\n```", "bytes"),
    ],
)
def test_what_is_no_program_says_why(text, words):
    assert words in reason(text)


def test_constants_are_never_rewritten():
    code = "float a = 0x1.fp-3f, b = 1'0.0e-5F; // \\x41 &lt; \t trailing  \n\n\n"
    assert source(f"```cpp\n{code}```") == code


def test_parent_and_note_are_carried_over():
    proposal = candidate_from("```cpp\nx\n```", "cpp", "abc", "tile it")
    assert (proposal.parent, proposal.note) == ("abc", "tile it")


LINES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\0`~'\"*"))


@given(st.lists(LINES, min_size=1), LINES, LINES)
def test_any_fenced_text_comes_back_unchanged(lines, before, after):
    code = "".join(f"{line}\n" for line in lines)
    proposal = candidate_from(f"{before}\n```cpp\n{code}```\n{after}", "cpp")
    if code.strip():
        assert proposal.source == code
    else:
        assert isinstance(proposal, NoCode)


PIECES = st.sampled_from(
    ["```", "~~~", "```cpp", "````", "\n", "\r\n", "/*", "*/", '"', '"""', "'", "\\", "//", "#",
     " ", "x", "\0", "\ud800", "```json", "\u2028", "int x;"]
)  # fmt: skip


@settings(max_examples=400)
@given(st.lists(PIECES).map("".join), st.sampled_from(["cpp", "python", "triton", "cuda"]))
def test_no_reply_crashes_the_parser_and_every_program_is_usable(text, language):
    proposal = candidate_from(text, language)
    if isinstance(proposal, Candidate):
        assert unusable_source(proposal.source) is None
        assert all(line in text for line in proposal.source.splitlines())
    else:
        assert proposal.reason


@pytest.mark.parametrize(
    "piece",
    [
        "`",
        "```cpp\n",
        "```\n",
        '"',
        '\\"',
        "/*",
        "'",
        "'''",
        " ",
        "\n",
        "~~~ `",
        "/*\n```\n",
        "\t`",
    ],
)
@pytest.mark.parametrize("language", ["cpp", "python"])
def test_adversarial_replies_are_read_in_linear_time(piece, language):
    text = f"```{language}\n" + piece * (400_000 // len(piece))
    began = time.process_time()
    candidate_from(text, language)
    assert time.process_time() - began < 3.0  # quadratic work would take minutes
