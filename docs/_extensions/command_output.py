"""``.. command-output:: agegender …``: a command and what it printed when this page was built.

It runs in an empty folder that contains ``astronaut.png``, scikit-image's photograph of Eileen Collins (NASA, public
domain).
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import skimage.data
from docutils import nodes
from docutils.parsers.rst import Directive
from PIL import Image


class CommandOutput(Directive):
    """The directive: its argument is the command."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        text = f"$ {self.arguments[0]}\n{output_of(self.arguments[0])}"
        return [nodes.literal_block(text, text, language="console")]


def output_of(command: str) -> str:
    """Return what a command of agegender prints; a command that fails is an error of the build."""
    program, *arguments = shlex.split(command)
    if program != "agegender":
        raise RuntimeError(f"command-output runs agegender only, not {program!r}.")
    with tempfile.TemporaryDirectory() as folder:
        Image.fromarray(skimage.data.astronaut()).save(Path(folder) / "astronaut.png")
        done = subprocess.run(
            [sys.executable, "-m", "agegender", *arguments],
            capture_output=True, text=True, encoding="utf-8", cwd=folder, check=False,
            env=os.environ | {"COLUMNS": "84", "NO_COLOR": "1", "PYTHONUTF8": "1", "TERM": "dumb"},
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr}")
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("command-output", CommandOutput)
    return {"parallel_read_safe": True}
