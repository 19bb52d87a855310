"""Runs the Python that the documentation shows, a page at a time: its blocks share their names, as a reader would type them.

A block that cannot run here opens with ```python {.no-run}, which pages still show as Python.
"""

import re
from pathlib import Path

import pytest

import fedloom as fl

REPOSITORY = Path(__file__).parents[1]
NOT_RUN = {"design.md", "style.md"}  # they show plans and patterns
PAGES = [page for page in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))] if page.name not in NOT_RUN]
BLOCK = re.compile(r"^```python(?P<tag>[^\n]*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(markdown):
    """The Python to run: (number of its first line, text)."""
    for block in BLOCK.finditer(markdown):
        if block["tag"].strip() != "{.no-run}":
            assert not block["tag"], f"```python may be followed by {{.no-run}} only, got {block['tag']!r}"
            yield markdown.count("\n", 0, block.start("code")) + 1, block["code"]


def test_blocks_are_found_with_their_lines():
    page = "# A\n```python\nx = 1\n```\ntext\n```\nplain\n```\n```python {.no-run}\n1 / 0\n```\n```python\ny = x\nz = y\n```\n"
    assert list(blocks(page)) == [(3, "x = 1\n"), (13, "y = x\nz = y\n")]
    with pytest.raises(AssertionError, match="no-run"):
        list(blocks("```python no-run\n```\n"))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_the_documentation_shows_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for line, code in blocks(page.read_text(encoding="utf-8")):
        exec(compile("\n" * (line - 1) + code, page, "exec"), names)  # so that a traceback shows the page's line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_name_of_fedloom_on_a_page_exists(page):
    """`fl.algorithms.fedprox` in a sentence or a table, which no block runs."""
    for name in set(re.findall(r"\bfl\.([a-z_A-Z.\d]*[a-zA-Z_\d])", page.read_text(encoding="utf-8"))):
        part = fl
        for word in name.split("."):
            assert hasattr(part, word), f"{page.name} speaks of fl.{name}"
            part = getattr(part, word)
