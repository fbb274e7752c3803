"""The documentation names what is there: pages in the table of contents, names in the reference, code that parses."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

import agegender

DOCS = Path(__file__).parents[2] / "docs"
pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the documentation is not beside the tests")
PAGES = sorted(DOCS.glob("*.md"))
REFERENCE = sorted(DOCS.glob("api/*.md"))


def listed(page: Path) -> set[Path]:
    """Return the pages that the tables of contents of a page name."""
    trees = re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    lines = [line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")]
    return {page.parent / f"{line}.md" for line in lines}


def documented() -> dict[str, set[str]]:
    """Return the names that the reference lists, by module."""
    names: dict[str, set[str]] = {}
    for page in REFERENCE:
        text = page.read_text(encoding="utf-8")
        for module in re.findall(r"\.\. module:: (\S+)", text):
            found = re.findall(r"^(?:   |\.\. (?:auto)?data:: )(\w+)$", text, re.M)
            names.setdefault(module, set()).update(found)
    return names


def public_modules() -> list[str]:
    found = [module.name for module in pkgutil.walk_packages(agegender.__path__, "agegender.")]
    return ["agegender", *(name for name in found if "._" not in name and ".cli" not in name)]


def test_every_page_stands_in_a_table_of_contents() -> None:
    pages = {*PAGES, *REFERENCE}
    assert pages - set().union(*map(listed, pages)) == {DOCS / "index.md"}


def test_every_public_name_stands_in_the_reference() -> None:
    written = documented()
    objects = {
        id(getattr(importlib.import_module(module), name)) for module in written for name in written[module]
    }
    missing = [
        f"{module}.{name}"
        for module in public_modules()
        for name in importlib.import_module(module).__all__
        if name not in written.get(module, ())
        and name != "__version__"
        # What several modules offer is written about once, constants under each of their names.
        and not (callable(thing := getattr(importlib.import_module(module), name)) and id(thing) in objects)
    ]
    assert not missing, "add them to docs/api/"


def documented_objects() -> list[Any]:
    """Return the public classes and functions, without errors and warnings."""
    names = {
        getattr(importlib.import_module(module), name)
        for module in public_modules()
        for name in importlib.import_module(module).__all__
        if callable(getattr(importlib.import_module(module), name))
    }
    ours = [thing for thing in names if getattr(thing, "__module__", "").startswith("agegender")]
    return sorted(
        (thing for thing in ours if not (isinstance(thing, type) and issubclass(thing, BaseException))),
        key=lambda thing: (thing.__module__, thing.__name__),
    )


@pytest.mark.parametrize("thing", documented_objects(), ids=lambda thing: thing.__name__)
def test_a_public_docstring_names_its_siblings_and_they_exist(thing: Any) -> None:
    found = re.search(r"^ *See Also\n *-+\n((?: *\S.*\n?)+)", thing.__doc__ or "", re.M)
    assert found, f"{thing.__module__}.{thing.__name__} has no section See Also"
    siblings = re.findall(r"^ *([\w.]+) :", found[1], re.M)
    assert siblings
    for sibling in siblings:
        if sibling.startswith("agegender."):
            assert pkgutil.resolve_name(sibling) is not None


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
