"""The distribution of ages and genders in a set, and the smallest difference that the set can show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agegender._utils.figures import age_bands, band_name

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["age_table", "empty_ages", "fold_table", "heaping", "power_table", "skewness"]

WHIPPLE = (23, 62)
"""The ages over which Whipple's index is counted."""

POWERED = 0.8
LEVEL = 0.05
MOST_LABELS = 20


def age_table(ages: NDArray[np.float64], genders: NDArray[np.intp], names: tuple[str, str]) -> pd.DataFrame:
    """Return counts per year of age: age, one column per gender, n; empty years are included."""
    import pandas as pd

    years = np.floor(ages).astype(np.int64)
    index = pd.RangeIndex(years.min(), years.max() + 1, name="age")
    counts = {
        name: pd.Series(years[genders == code]).value_counts().reindex(index, fill_value=0)
        for code, name in enumerate(names)
    }
    table = pd.DataFrame(counts, index=index)
    return table.assign(n=table.sum(axis=1)).reset_index()


def empty_ages(table: pd.DataFrame) -> list[int]:
    """Return the years between the lowest and the highest age that no picture has."""
    return [int(age) for age in table.loc[table["n"] == 0, "age"]]


def skewness(ages: NDArray[np.float64]) -> float:
    """Return the third standardised moment: positive if most ages are young, with a long tail of old ages."""
    from scipy.stats import skew

    return float(skew(ages)) if np.ptp(ages) > 0 else 0.0


def heaping(ages: NDArray[np.float64]) -> dict[str, Any]:
    """Measure how much more often ages end in 0 or 5 than expected.

    Parameters
    ----------
    ages : ndarray of shape (n_pictures,)
        Years.

    Returns
    -------
    dict
        whipple: Whipple's index over the ages 23 to 62, which is 100 if no digit is preferred, 500 if all
        ages end in 0 or 5, and None if nobody is in this range; p_value of the hypothesis of no preference;
        n; ends: the share of each last digit over all ages; judgement, in the United Nations' words (U.N.,
        Demographic Yearbook 1990).

    Examples
    --------
    >>> heaping(np.arange(23, 63))["whipple"], heaping(np.array([30, 40, 45]))["judgement"]
    (100.0, 'very rough')
    """
    from scipy.stats import binomtest

    years = np.floor(ages).astype(np.int64)
    within = years[(years >= WHIPPLE[0]) & (years <= WHIPPLE[1])]
    ends = np.bincount(years % 10, minlength=10) / max(len(years), 1)
    found: dict[str, Any] = {"n": len(within), "ends": ends.tolist()}
    if not len(within):
        return found | {"whipple": None, "p_value": None, "judgement": "nobody is between 23 and 62"}
    hits = int((within % 5 == 0).sum())
    index = 500.0 * hits / len(within)
    limits = {
        105: "highly accurate",
        110: "fairly accurate",
        125: "approximate",
        175: "rough",
        1000: "very rough",
    }
    judgement = next(words for limit, words in limits.items() if index < limit)
    p_value = float(binomtest(hits, len(within), 0.2, alternative="greater").pvalue)
    return found | {"whipple": index, "p_value": p_value, "judgement": judgement}


def fold_table(
    ages: NDArray[np.float64], genders: NDArray[np.intp], fold: NDArray[np.intp], names: tuple[str, str]
) -> pd.DataFrame:
    """Return per test part: n, the mean age (years), the share of the second gender, and n per decade."""
    import pandas as pd

    bands = age_bands(ages)
    columns = sorted(np.unique(bands))
    records = []
    for number in np.unique(fold[fold >= 0]).tolist():
        of = fold == number
        record: dict[str, Any] = {"fold": number, "n": int(of.sum()), "mean_age": float(ages[of].mean())}
        record |= {f"share_{names[1]}": float((genders[of] == 1).mean())}
        records.append(record | {band_name(int(b)): int((bands[of] == b).sum()) for b in columns})
    return pd.DataFrame(records)


def power_table(
    ages: NDArray[np.float64],
    genders: NDArray[np.intp],
    names: tuple[str, str],
    frame: pd.DataFrame,
    error: NDArray[np.float64],
    right: NDArray[np.float64],
) -> pd.DataFrame:
    """Return the smallest difference between a group and all others that this set can show.

    Parameters
    ----------
    ages, genders : ndarray of shape (n_pictures,)
    names : tuple of str
        Of the genders.
    frame : DataFrame
        Further columns; those of text or categories with two to twenty labels are groupings.
    error : ndarray of shape (n_pictures,)
        Absolute out-of-fold error of the age, in years; NaN if there is none.
    right : ndarray of shape (n_pictures,)
        1 if the predicted gender equals the label, else 0; NaN if there is no prediction.

    Returns
    -------
    DataFrame
        grouping, group, n, age_mae (years) and gender_accuracy out of fold, and age_mae_difference (years)
        and gender_difference (fraction): the smallest true difference to all others that a two-sided test at
        5 % detects with a probability of 80 %. Rows of one grouping are consecutive.
    """
    import pandas as pd

    read = np.isfinite(error)
    groupings = {
        "gender": np.array(names, dtype=object)[genders],
        "age band": np.array([band_name(int(b)) for b in age_bands(ages)], dtype=object),
    }
    groupings |= {str(name): frame[name].to_numpy(dtype=object) for name in _labelled(frame)}
    records = []
    for grouping, labels in groupings.items():
        known = read & pd.notna(labels)
        for label in sorted(set(labels[known].tolist()), key=_natural):
            inside = labels[known] == label
            records.append(
                {"grouping": grouping, "group": str(label)} | _differences(error[known], right[known], inside)
            )
    columns = [
        "grouping",
        "group",
        "n",
        "age_mae",
        "gender_accuracy",
        "age_mae_difference",
        "gender_difference",
    ]
    return pd.DataFrame(records, columns=columns)


def _labelled(frame: pd.DataFrame) -> list[Any]:
    import pandas as pd

    text = [
        name
        for name in frame
        if pd.api.types.is_string_dtype(frame[name]) or isinstance(frame[name].dtype, pd.CategoricalDtype)
    ]
    own = ("path", "gender", "age", "group", "person")
    return [name for name in text if name not in own and 2 <= frame[name].nunique() <= MOST_LABELS]


def _natural(label: Any) -> tuple[int, str]:
    digits = str(label).split("–")[0].rstrip("+")
    return (int(digits), "") if digits.isdigit() else (10**6, str(label))


def _differences(
    error: NDArray[np.float64], right: NDArray[np.float64], inside: NDArray[np.bool_]
) -> dict[str, Any]:
    n, others = int(inside.sum()), int((~inside).sum())
    found: dict[str, Any] = {"n": n, "age_mae": float(error[inside].mean())}
    found |= {"gender_accuracy": float(right[inside].mean())}
    if n < 2 or others < 2:
        return found | {"age_mae_difference": np.nan, "gender_difference": np.nan}
    spread = np.sqrt(error[inside].var(ddof=1) / n + error[~inside].var(ddof=1) / others)
    share = right.mean()
    of_share = np.sqrt(share * (1 - share) * (1 / n + 1 / others))
    return found | {
        "age_mae_difference": float(_detectable() * spread),
        "gender_difference": float(_detectable() * of_share),
    }


def _detectable() -> float:
    """Return how many standard errors a true difference must have to be detected with this power."""
    from scipy.stats import norm

    return float(norm.ppf(1 - LEVEL / 2) + norm.ppf(POWERED))
