"""Commands that are imported when they are asked for: `agegender predict` pays for no other command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

import typer

__all__ = ["ImportedWhenAsked"]


class ImportedWhenAsked(Mapping[str, Any]):
    """The commands of the package by name; reading one imports its module.

    Parameters
    ----------
    names : sequence of str
        The names of the modules, in the order of the help. A module holds either a function of its name, or a group
        of commands, ``app``.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._made: dict[str, Any] = dict.fromkeys(names)

    def __getitem__(self, name: str) -> Any:
        if self._made[name] is None:
            self._made[name] = _imported(name)
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._made

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


def _imported(name: str) -> Any:
    """Return the command of a module as typer makes it."""
    module = import_module(f"agegender.cli.{name}")
    alone = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
    if hasattr(module, "app"):
        alone.add_typer(module.app, name=name)
        return typer.main.get_group(alone).commands[name]
    alone.command(name)(getattr(module, name))
    return typer.main.get_command(alone)
