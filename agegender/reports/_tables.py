"""From one row per picture to tables of metrics with counts and confidence intervals."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agegender._utils.figures import age_bands, band_name, calibration_bins, mean_interval, share_interval
from agegender.calibration import Calibration, age_interval, age_position

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FIGURES",
    "SHARE",
    "band_labels",
    "coverage_by_level",
    "cumulative_scores",
    "figures_by_group",
    "gender_bins",
    "genders",
    "largest_gaps",
    "overall_figures",
    "position_counts",
    "row_figures",
]

MAX_K = 20
CHECKED_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
# Gaps between smaller groups are mostly due to chance.
LEAST_FOR_GAP = 30
# Each metric: its column in `row_figures`, and whether it is a share.
FIGURES = {
    "age_mae": ("absolute", False),
    "age_bias": ("error", False),
    "age_cs5": ("within_5", True),
    "age_coverage": ("covered", True),
    "gender_accuracy": ("right", True),
}

SHARE = "share"
"""The share of a group among all pictures whose group is known."""


def row_figures(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the contribution of each picture to the metrics; NaN if a label or a prediction is missing.

    Parameters
    ----------
    predictions : DataFrame
        Columns true_age, age, age_low, age_high (years), true_gender, gender.

    Returns
    -------
    DataFrame
        Columns error, absolute (years), within_5, covered, right (0 or 1).
    """
    import pandas as pd

    truth = predictions["true_age"].to_numpy(dtype=np.float64)
    error = predictions["age"].to_numpy(dtype=np.float64) - truth
    known = ~np.isnan(error)
    inside = (predictions["age_low"] <= truth) & (truth <= predictions["age_high"])
    interval = known & predictions["age_low"].notna().to_numpy()
    told = (predictions["true_gender"].notna() & predictions["gender"].notna()).to_numpy()
    right = (predictions["true_gender"] == predictions["gender"]).to_numpy()
    columns = {
        "error": error,
        "absolute": np.abs(error),
        "within_5": np.where(known, np.abs(error) <= 5, np.nan),
        "covered": np.where(interval, inside, np.nan),
        "right": np.where(told, right, np.nan),
    }
    return pd.DataFrame(columns, index=predictions.index)


def overall_figures(rows: pd.DataFrame, **options: Any) -> pd.DataFrame:
    """Return each metric over all pictures, one row per metric: value, low, high and n."""
    import pandas as pd

    table = {name: _figure(rows[column], share, **options) for name, (column, share) in FIGURES.items()}
    return pd.DataFrame(table, index=["value", "low", "high", "n"]).T.astype({"n": np.int64})


def figures_by_group(rows: pd.DataFrame, labels: pd.DataFrame, **options: Any) -> pd.DataFrame:
    """Return each metric for each group, and for each combination of two groupings.

    Parameters
    ----------
    rows : DataFrame
        See `row_figures`.
    labels : DataFrame
        One text column per grouping; NaN belongs to no group.

    Returns
    -------
    DataFrame
        Columns grouping, group, n, and for each metric its value, ``…_low``, ``…_high``, ``…_n``.
    """
    import pandas as pd

    records = []
    for grouping, groups in _groupings(labels):
        for group in sorted(groups.dropna().unique(), key=_natural):
            part = rows[(groups == group).fillna(False).to_numpy(dtype=bool)]
            record: dict[str, Any] = {"grouping": grouping, "group": group, "n": len(part)}
            for name, (column, share) in FIGURES.items():
                value, low, high, n = _figure(part[column], share, **options)
                record |= {name: value, f"{name}_low": low, f"{name}_high": high, f"{name}_n": n}
            records.append(record)
    figures = [f"{name}{end}" for name in FIGURES for end in ("", "_low", "_high", "_n")]
    return pd.DataFrame(records, columns=["grouping", "group", "n", *figures])


def _groupings(labels: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    for name in labels:
        yield str(name), labels[name]
    for first, second in combinations(labels, 2):
        yield f"{first} × {second}", labels[first] + " · " + labels[second]


def _natural(text: str) -> tuple[Any, ...]:
    """Sort "5–9" before "10–19"."""
    parts = re.split(r"(\d+)", text)
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts if part)


def _figure(values: pd.Series, share: bool, **options: Any) -> tuple[float, float, float, int]:
    known = values.dropna().to_numpy()
    if not len(known):
        return np.nan, np.nan, np.nan, 0
    if share:
        low, high = share_interval(int(known.sum()), len(known))
    else:
        low, high = mean_interval(known, **options)
    return float(known.mean()), low, high, len(known)


def largest_gaps(by_group: pd.DataFrame) -> pd.DataFrame:
    """Return the best and the worst group with at least 30 pictures per grouping and metric, largest gaps first.

    Returns
    -------
    DataFrame
        Columns grouping, figure, best, best_value, worst, worst_value, gap, clear: whether the two intervals do
        not overlap.
    """
    import pandas as pd

    records = []
    for grouping, table in by_group.groupby("grouping", sort=False):
        for figure in ("age_mae", "gender_accuracy", "age_coverage"):
            known = table[table[f"{figure}_n"] >= LEAST_FOR_GAP].set_index("group")
            if len(known) < 2:
                continue
            order = known[figure].sort_values(ascending=figure == "age_mae")
            best, worst = known.loc[order.index[0]], known.loc[order.index[-1]]
            above, below = (worst, best) if figure == "age_mae" else (best, worst)
            record = {"grouping": grouping, "figure": figure}
            record |= {"best": best.name, "best_value": best[figure]}
            record |= {"worst": worst.name, "worst_value": worst[figure]}
            record |= {"gap": abs(worst[figure] - best[figure])}
            records.append(record | {"clear": bool(above[f"{figure}_low"] > below[f"{figure}_high"])})
    names = ["grouping", "figure", "best", "best_value", "worst", "worst_value", "gap", "clear"]
    return pd.DataFrame(records, columns=names).astype({"clear": bool})


def cumulative_scores(rows: pd.DataFrame) -> pd.DataFrame:
    """Return CS@k for k = 0 … 20 years: columns k, share, low, high."""
    import pandas as pd

    errors = rows["absolute"].dropna().to_numpy()
    records = []
    for k in range(MAX_K + 1 if len(errors) else 0):
        hits = int((errors <= k).sum())
        low, high = share_interval(hits, len(errors))
        records.append({"k": k, "share": hits / len(errors), "low": low, "high": high})
    return pd.DataFrame(records, columns=["k", "share", "low", "high"])


def genders(predictions: pd.DataFrame, labels: NDArray[Any]) -> pd.DataFrame:
    """Return number, recall and precision of each gender, with Wilson's intervals."""
    import pandas as pd

    told = predictions[["true_gender", "gender"]].dropna()
    records = []
    for label in labels[pd.notna(labels)]:
        true, predicted = told["true_gender"] == label, told["gender"] == label
        record: dict[str, Any] = {"gender": label, "n": int(true.sum())}
        for name, among in (("recall", true), ("precision", predicted)):
            hits, n = int((true & predicted).sum()), int(among.sum())
            low, high = share_interval(hits, n)
            record |= {name: hits / n if n else np.nan, f"{name}_low": low, f"{name}_high": high}
        records.append(record)
    return pd.DataFrame(records)


def gender_bins(predictions: pd.DataFrame, labels: NDArray[Any]) -> pd.DataFrame:
    """Return predicted probability and observed share of the second gender, in bins."""
    told = predictions[["true_gender", "gender", "gender_proba"]].dropna()
    likelier = told["gender_proba"].to_numpy(dtype=np.float64)
    if labels[1] is None:
        told = told.iloc[:0]
        likelier = likelier[:0]
    proba = np.where(told["gender"] == labels[1], likelier, 1 - likelier)
    return calibration_bins((told["true_gender"] == labels[1]).to_numpy(), proba)


def coverage_by_level(
    truth: NDArray[np.float64], proba: NDArray[np.floating], calibration: Calibration
) -> pd.DataFrame:
    """Return the coverage of intervals at each level: level, covered, low, high, width (years)."""
    import pandas as pd

    known = ~np.isnan(truth) & ~np.isnan(proba).any(axis=1)
    records = []
    for level in CHECKED_LEVELS if known.any() else ():
        low, high = age_interval(proba[known], level, calibration)
        inside = (low <= truth[known]) & (truth[known] <= high)
        ends = share_interval(int(inside.sum()), len(inside))
        covered = {"level": level, "covered": inside.mean(), "low": ends[0], "high": ends[1]}
        records.append(covered | {"width": (high - low).mean()})
    return pd.DataFrame(records, columns=["level", "covered", "low", "high", "width"])


def position_counts(truth: NDArray[np.float64], proba: NDArray[np.floating]) -> pd.DataFrame:
    """Return how many true ages are in each tenth of their predicted distribution: position, n."""
    import pandas as pd

    known = ~np.isnan(truth) & ~np.isnan(proba).any(axis=1)
    counts, edges = np.histogram(age_position(proba[known], truth[known]), np.linspace(0, 1, 11))
    return pd.DataFrame({"position": edges[:-1], "n": counts})


def band_labels(ages: NDArray[np.float64]) -> NDArray[np.object_]:
    """Return the name of each age's decade; None if the age is missing."""
    names = np.full(len(ages), None, dtype=object)
    known = ~np.isnan(ages)
    names[known] = [band_name(first) for first in age_bands(ages[known])]
    return names
