"""Statistics for plots and reports: age bands, and confidence intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "LEAST_FOR_INTERVAL",
    "age_bands",
    "band_name",
    "calibration_bins",
    "mean_interval",
    "share_interval",
]

BAND_YEARS = 10
LEAST_FOR_INTERVAL = 10
RESAMPLED_VALUES = 4_000_000


def age_bands(ages: ArrayLike, years: int = BAND_YEARS) -> NDArray[np.int64]:
    """Return the first year of each age's band; ages from 100 are in the last band.

    Examples
    --------
    >>> age_bands([0, 9.9, 34, 100])
    array([ 0,  0, 30, 90])
    """
    ages = np.asarray(ages, dtype=np.float64)
    return np.minimum(np.floor(ages / years) * years, 100 - years).astype(np.int64)


def band_name(first: int, years: int = BAND_YEARS) -> str:
    """Return a band's name, such as "30–39", or "90+" for the last."""
    return f"{first}+" if first + years >= 100 else f"{first}–{first + years - 1}"


def mean_interval(
    values: ArrayLike, *, level: float = 0.95, n_resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return a bootstrap interval (percentiles) of a mean; NaN for fewer than 10 values.

    Examples
    --------
    >>> low, high = mean_interval(np.arange(100))
    >>> round(low), round(high)
    (44, 55)
    """
    from scipy.stats import bootstrap

    values = np.asarray(values, dtype=np.float64)
    if len(values) < LEAST_FOR_INTERVAL:
        return np.nan, np.nan
    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=n_resamples,
        batch=max(1, RESAMPLED_VALUES // len(values)),
        vectorized=True,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def share_interval(n_hits: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's confidence interval of a share, which is also valid for few pictures; NaN for none.

    Examples
    --------
    >>> low, high = share_interval(9, 10)
    >>> round(low, 2), round(high, 2)
    (0.6, 0.98)
    """
    from scipy.stats import binomtest

    if n == 0:
        return np.nan, np.nan
    interval = binomtest(int(n_hits), int(n)).proportion_ci(confidence_level=level, method="wilson")
    return float(interval.low), float(interval.high)


def calibration_bins(
    is_label: NDArray[np.bool_], proba: NDArray[np.float64], n_bins: int = 10
) -> pd.DataFrame:
    """Return the mean predicted probability and the true share per non-empty bin of probability.

    Returns
    -------
    DataFrame
        Columns n, mean_proba, share, low and high.
    """
    import pandas as pd

    places = np.minimum((proba * n_bins).astype(np.int64), n_bins - 1)
    rows = []
    for place in np.unique(places):
        hits = is_label[places == place]
        low, high = share_interval(int(hits.sum()), len(hits))
        mean = float(proba[places == place].mean())
        rows.append({"n": len(hits), "mean_proba": mean, "share": hits.mean(), "low": low, "high": high})
    return pd.DataFrame(rows, columns=["n", "mean_proba", "share", "low", "high"])
