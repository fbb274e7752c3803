"""The command ``agegender``: one file per command, shared parts in ``_options`` and ``_output``."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

import typer
from typer.core import TyperGroup

from agegender.cli._commands import ImportedWhenAsked
from agegender.cli._output import complain, say
from agegender.exceptions import AgeGenderError, PictureWarning

__all__ = ["app", "main"]

# In the order of the help. Each is a module of this package.
_NAMES = (
    *("demo", "train", "predict", "evaluate", "inspect", "video", "serve", "embed", "networks", "download"),
    *("quantize", "export", "versions", "cache"),
)


class _Commands(TyperGroup):
    """Commands that are imported when they are asked for, and explain after Ctrl-C how to continue.

    Typer itself drops the notes of an interrupt.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands: Any = ImportedWhenAsked(_NAMES)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return their names without importing them."""
        return list(self.commands)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            notes = " ".join(getattr(stop, "__notes__", []))
            say(f"Stopped. {notes}".rstrip())
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Commands,
    name="agegender",
    help="Age and gender from photographs of faces. They are estimates about appearance, not facts about people.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@app.callback()
def _whole() -> None:
    """Stand for the command without a subcommand, which typer requires of an app without commands of its own."""


def main() -> None:
    """Run the command; errors of the user are printed as one line, not as a traceback."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Skipped pictures are reported by name at the end.
    warnings.simplefilter("ignore", PictureWarning)
    try:
        app()
    except (AgeGenderError, ValueError, TypeError, OSError) as error:
        complain("Error", str(error))
        sys.exit(2)
