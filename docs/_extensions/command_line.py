"""``.. command-line-help::``: the --help text of every command."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from typer.main import get_command
from typer.testing import CliRunner

from agegender.cli import app


class CommandLineHelp(Directive):
    """The directive: one section per command."""

    def run(self) -> list[nodes.Node]:
        return [_section(command) for command in _commands(get_command(app))]


def _commands(command: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the names of all commands, those inside groups too."""
    inner = getattr(command, "commands", None)
    if inner is None:
        return [path]
    return [found for name, part in inner.items() for found in _commands(part, (*path, name))]


def _section(command: tuple[str, ...]) -> nodes.Node:
    name = " ".join(("agegender", *command))
    said = CliRunner().invoke(
        app, [*command, "--help"], env={"COLUMNS": "92", "TERM": "dumb"}, prog_name="agegender"
    )
    if said.exit_code:
        raise RuntimeError(f"{name} --help ended with {said.exit_code}: {said.output}")
    section = nodes.section(ids=[nodes.make_id(name)], names=[name])
    section += nodes.title(text=name)
    text = "\n".join(line.rstrip() for line in said.output.strip().splitlines())
    section += nodes.literal_block(text, text, language="text")
    return section


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("command-line-help", CommandLineHelp)
    return {"parallel_read_safe": True}
