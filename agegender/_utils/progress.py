"""Progress bars."""

from __future__ import annotations

from typing import Any, Self

__all__ = ["progress_bar"]


class _NoBar:
    """A bar that shows nothing, so that tqdm is imported only if something is shown."""

    n = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, n: int = 1) -> None:
        """Do nothing."""

    def set_postfix_str(self, text: str, refresh: bool = True) -> None:
        """Do nothing."""


def progress_bar(total: int, label: str, verbose: int, unit: str = "picture") -> Any:
    """Return a tqdm bar on standard error; it shows nothing when `verbose` is 0."""
    if not verbose:
        return _NoBar()
    from tqdm.auto import tqdm

    return tqdm(total=total, desc=label, unit=f" {unit}s", dynamic_ncols=True)
