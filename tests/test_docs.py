"""The documentation names what is there: pages in the table of contents, names in the reference, code that parses."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the documentation is not beside the tests")
PAGES = sorted(DOCS.glob("*.md"))
REFERENCE = DOCS / "api" / "index.md"


def listed(text: str) -> set[str]:
    """Return the pages that the tables of contents of a page name."""
    trees = re.findall(r"```\{toctree\}\n(.*?)```", text, re.S)
    return {line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")}


def test_every_page_stands_in_a_table_of_contents() -> None:
    contents = set().union(*(listed(page.read_text(encoding="utf-8")) for page in PAGES))
    assert {page.stem for page in PAGES} - contents == {"index"}


def test_every_public_name_stands_in_the_reference() -> None:
    sections = re.split(r"\.\. module:: (\S+)", REFERENCE.read_text(encoding="utf-8"))[1:]
    named = set()
    for module_name, text in zip(sections[::2], sections[1::2], strict=True):
        module = importlib.import_module(module_name)
        names = re.findall(r"^   (\w+)$", text, re.M)
        assert names, module_name
        named |= {id(getattr(module, name)) for name in names}
    for module_name in sections[::2]:
        module = importlib.import_module(module_name)
        public = {name: getattr(module, name) for name in module.__all__}
        classes = {
            name for name, value in public.items() if isinstance(value, type) and id(value) not in named
        }
        assert not classes, f"{module_name}: {classes} stand nowhere in {REFERENCE.name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_in_pages_parses_and_imports_names_that_exist(page: Path) -> None:
    for cell in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M):
        for node in ast.walk(ast.parse(cell)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("agegender"):
                module = importlib.import_module(node.module)
                missing = [name.name for name in node.names if not hasattr(module, name.name)]
                assert not missing, f"{page.name}: {node.module} has no {missing}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" in target or target.startswith(("mailto:", "examples/")):
            continue
        assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"
