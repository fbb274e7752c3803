"""The examples, without running them: that is the documentation's build and .ci/run."""

import ast
import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))


def parsed(example):
    return ast.parse(example.read_text(encoding="utf-8"), filename=str(example))


def test_the_gallery_takes_every_script_of_the_folder():
    assert EXAMPLES
    # What needs more than the documentation's extra is shown, and not run.
    assert [example.name for example in EXAMPLES if not example.name.startswith("plot_")] == ["ray_data.py"]
    assert (FOLDER / "GALLERY_HEADER.rst").is_file()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_an_example_begins_with_a_title_and_says_what_it_is_about(example):
    title, underline, empty, *text = ast.get_docstring(parsed(example)).splitlines()
    assert underline == "=" * len(title)
    assert empty == ""
    assert len(" ".join(text)) > 100


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_an_example_uses_public_names_only(example):
    imports = [node for node in ast.walk(parsed(example)) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if node.module.split(".")[0] == "agegender"]
    assert ours
    for node in ours:
        public = importlib.import_module(node.module).__all__
        assert {alias.name for alias in node.names} <= set(public), f"from {node.module}, line {node.lineno}"
