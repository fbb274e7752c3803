"""Progress bars."""

from __future__ import annotations

from typing import Any

__all__ = ["progress_bar"]


def progress_bar(total: int, label: str, verbose: int, unit: str = "picture") -> Any:
    """Return a tqdm bar on standard error; it shows nothing when `verbose` is 0."""
    from tqdm.auto import tqdm

    return tqdm(total=total, desc=label, unit=f" {unit}s", disable=not verbose, dynamic_ncols=True)
