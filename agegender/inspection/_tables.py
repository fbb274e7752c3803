"""The findings of an inspection as tables, from which page, terminal output and actions are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agegender.inspection._labels import Noise

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["InspectionTables"]


@dataclass(frozen=True, eq=False, kw_only=True)
class InspectionTables:
    """The attributes of `FacesInspection`, which adds the methods."""

    title: str
    coverage: float
    gender_names: tuple[str, str]
    counts: dict[str, int]
    noise: Noise
    labels: pd.DataFrame
    pictures: pd.DataFrame
    copies: pd.DataFrame
    near_copies: pd.DataFrame
    persons: pd.DataFrame
    leaks: pd.DataFrame
    unreadable: pd.DataFrame
    excluded: pd.DataFrame
    framing: dict[str, Any]
    ages: pd.DataFrame
    skew: float
    empty_ages: list[int]
    heaping: dict[str, Any]
    folds: pd.DataFrame
    power: pd.DataFrame
    groups: NDArray[np.intp] = field(repr=False)
    notes: list[str] = field(default_factory=list)
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    sources: Sequence[Any] = field(default=(), repr=False)

    def suspicious(self, n: int | None = None) -> pd.DataFrame:
        """Return the labels in decreasing order of suspicion.

        Parameters
        ----------
        n : int, default=None
            The number of labels; None means all labels of pictures that could be read.

        Returns
        -------
        DataFrame
        """
        read = self.labels[self.labels["rank"].notna()]
        ordered = read.sort_values("rank")
        return ordered if n is None else ordered.head(n)
