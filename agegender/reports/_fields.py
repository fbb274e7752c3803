"""What a report holds, for whoever writes it on a page, in a chart or in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agegender.reports._beside import no_baselines
from agegender.reports._reference import no_reference

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ReportTables"]


@dataclass(frozen=True, eq=False)
class ReportTables:
    """The fields of an `agegender.reports.EvaluationReport`, which documents them."""

    title: str
    coverage: float
    counts: dict[str, int]
    overall: pd.DataFrame
    unseen: pd.DataFrame
    by_group: pd.DataFrame
    gaps: pd.DataFrame
    cumulative_score: pd.DataFrame
    genders: pd.DataFrame
    gender_calibration: pd.DataFrame
    age_calibration: pd.DataFrame
    age_positions: pd.DataFrame
    worst: pd.DataFrame
    predictions: pd.DataFrame
    baselines: pd.DataFrame = field(default_factory=no_baselines)
    reference: pd.DataFrame = field(default_factory=no_reference)
    reference_title: str = ""
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    worst_pictures: Sequence[Any] = field(default=(), repr=False)
