"""The command ``agegender``: one file per command, shared parts in ``_options`` and ``_output``."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

import typer
from typer.core import TyperGroup

from agegender.cli import (
    cache,
    demo,
    download,
    embed,
    evaluate,
    export,
    inspect,
    networks,
    predict,
    quantize,
    serve,
    train,
    versions,
    video,
)
from agegender.cli._output import complain, say
from agegender.exceptions import AgeGenderError, PictureWarning

__all__ = ["app", "main"]


class _Commands(TyperGroup):
    """Commands that explain after Ctrl-C how to continue; typer itself drops the notes of an interrupt."""

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
app.command()(demo.demo)
app.command()(train.train)
app.command()(predict.predict)
app.command()(evaluate.evaluate)
app.command()(inspect.inspect)
app.command()(video.video)
app.command()(serve.serve)
app.command()(embed.embed)
app.command()(networks.networks)
app.command()(download.download)
app.command()(quantize.quantize)
app.command()(export.export)
app.command()(versions.versions)
app.add_typer(cache.app, name="cache")


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
