"""A record of weights files without a published digest: their sha256 at the first use."""

from __future__ import annotations

import json
import warnings
from contextlib import suppress
from pathlib import Path

from agegender._utils.digests import sha256_of
from agegender._utils.files import write_whole
from agegender._utils.validation import home
from agegender.exceptions import WeightsWarning

__all__ = ["notice_change", "record_path"]


def record_path() -> Path:
    """Return the path of the record: ``$AGEGENDER_HOME/networks/seen.json``."""
    return home() / "networks" / "seen.json"


def notice_change(path: Path) -> None:
    """Record the sha256 of a file, or warn once if it differs from the recorded one."""
    seen, found = _read(), sha256_of(path)
    before = seen.get(str(path))
    if before == found:
        return
    # If the home cannot be written to, there is no record; the weights can be used nevertheless.
    with suppress(OSError):
        text = json.dumps({**seen, str(path): found}, indent=1, sort_keys=True)
        write_whole(record_path(), lambda arriving: arriving.write_text(text, encoding="utf-8"))
    if before is not None:
        warnings.warn(
            f"{path} has changed since it was first used here: its sha256 was {before} and is {found}. Its numbers "
            "are others now, and models trained on the former ones will not take it. Put the former file back if you "
            "did not mean this; you are told once.",
            WeightsWarning,
            stacklevel=5,
        )


def _read() -> dict[str, str]:
    try:
        record = json.loads(record_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
