"""``agegender versions``."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer


def versions(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Print what a bug report needs: versions, engines, devices, detectors, networks and the cache.

    Nothing is downloaded or written.

    Example: `agegender versions`
    """
    from agegender.versions import installation, show_versions

    if as_json:
        sys.stdout.write(json.dumps(installation(), indent=2, ensure_ascii=False) + "\n")
    else:
        show_versions()
