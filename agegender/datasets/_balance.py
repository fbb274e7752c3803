"""Summaries of data sets, and balancing of ages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from agegender._utils.genders import GENDERS

if TYPE_CHECKING:
    import pandas as pd

DECADE = 10
BAR = 40


@dataclass(frozen=True, eq=False)
class FacesSummary:
    """The result of :func:`describe`; ``print`` shows it as text.

    Attributes
    ----------
    n_pictures : int
        Rows of the frame.
    ages : dict of str to float
        ``mean``, ``sd``, ``min``, ``median``, ``max`` (years), and ``skew``: the third standardised moment,
        0 for a symmetric distribution, positive if there is a long tail of old ages.
    by_age : Series
        Number of pictures per year of age from the lowest to the highest, zeros included.
    by_decade : DataFrame
        Number of pictures per decade (rows, by its first year) and gender (columns).
    genders : Series
        Number of pictures per gender.
    races : Series or None
        Number of pictures per race label, if the frame has race labels.
    n_groups : int
        Number of groups of copies or persons; in a frame without groups, each row is a group.
    group_sizes : Series
        Number of groups per size.
    n_repeated : int
        Number of pictures without the first of each group.
    n_repeated_paths : int
        Number of rows with the path of an earlier row.

    See Also
    --------
    agegender.datasets.describe : Summarise a data set.
    """

    n_pictures: int
    ages: dict[str, float]
    by_age: pd.Series
    by_decade: pd.DataFrame
    genders: pd.Series
    races: pd.Series | None
    n_groups: int
    group_sizes: pd.Series
    n_repeated: int
    n_repeated_paths: int

    def __str__(self) -> str:
        ages = self.ages
        lines = [
            f"{self.n_pictures} pictures: {_listed(self.genders)}",
            f"ages {ages['min']:g} to {ages['max']:g} years, mean {ages['mean']:.1f}, sd {ages['sd']:.1f}, "
            f"median {ages['median']:g}, skew {ages['skew']:.2f}",
            f"{self.n_groups} groups, the largest of {self.group_sizes.index.max()}; pictures after the first of "
            f"their group: {self.n_repeated}; repeated paths: {self.n_repeated_paths}",
        ]
        if self.races is not None:
            lines.append(f"race labels: {_listed(self.races)}")
        return "\n".join([*lines, "", *_histogram(self.by_decade)])


def describe(frame: pd.DataFrame) -> FacesSummary:
    """Summarise a frame of faces: counts, ages, repeated pictures, groups.

    Parameters
    ----------
    frame : DataFrame
        With the columns ``age`` (years) and ``gender``; ``group``, ``path`` and ``race`` are used if they
        exist, as in the frames of the loaders.

    Returns
    -------
    summary : FacesSummary
        Its fields are numbers, Series and DataFrames; ``print`` shows them as text.

    Raises
    ------
    ValueError
        If a column or an age is missing, or the frame is empty.

    See Also
    --------
    agegender.datasets.balance_ages : Remove pictures of the most frequent ages.

    Examples
    --------
    >>> import pandas as pd
    >>> from agegender.datasets import describe
    >>> faces = pd.DataFrame({"age": [3, 21, 25, 29], "gender": [1, 0, 0, 1], "group": [0, 1, 1, 2]})
    >>> print(describe(faces))
    4 pictures: 2 male, 2 female
    ages 3 to 29 years, mean 19.5, sd 11.5, median 23, skew -0.88
    3 groups, the largest of 2; pictures after the first of their group: 1; repeated paths: 0
    <BLANKLINE>
        0–9 █████████████ 1
      10–19 0
      20–29 ████████████████████████████████████████ 3
    """
    import pandas as pd

    ages = _checked_ages(frame)
    groups = frame["group"] if "group" in frame else pd.Series(np.arange(len(frame)))
    sizes = groups.value_counts()
    # A row with a missing label is its own group.
    n_groups = len(sizes) + int(groups.isna().sum())
    genders = _column(frame, "gender")
    years = np.floor(ages).astype(np.int64)
    by_age = pd.Series(years).value_counts().reindex(range(years.min(), years.max() + 1), fill_value=0)
    group_sizes = (
        pd.concat([sizes, pd.Series(1, index=range(n_groups - len(sizes)))]).value_counts().sort_index()
    )
    return FacesSummary(
        n_pictures=len(frame),
        ages=_statistics(ages),
        by_age=by_age.rename_axis("age").rename("pictures"),
        by_decade=_by_decade(years, genders.to_numpy()),
        genders=genders.value_counts().sort_index(),
        races=frame["race"].value_counts() if "race" in frame else None,
        n_groups=n_groups,
        group_sizes=group_sizes.rename_axis("size").rename("groups"),
        n_repeated=len(frame) - n_groups,
        n_repeated_paths=int(frame["path"].duplicated().sum()) if "path" in frame else 0,
    )


def balance_ages(
    frame: pd.DataFrame,
    *,
    max_per_age: int | None = None,
    random_state: int | np.random.RandomState | None = 0,
) -> pd.DataFrame:
    """Randomly remove pictures of the most frequent ages.

    Data sets are skewed (one picture in twenty of UTKFace shows a person of 26), and predictions are drawn
    towards the frequent ages. Balance training data only: errors on a balanced test set are those of a
    population in which all ages are equally frequent. In cross-validation,
    ``AgeGenderClassifier(balance="age-drop")`` balances the training part only.

    Parameters
    ----------
    frame : DataFrame
        With the column ``age`` (years).
    max_per_age : int or None, default=None
        The largest number of pictures per year of age. If None, the average over the ages that occur.
    random_state : int, RandomState instance or None, default=0
        Seed of the random choice.

    Returns
    -------
    frame : DataFrame
        The remaining rows, in their order and with their index. Ages with at most `max_per_age` pictures keep
        them all.

    Raises
    ------
    ValueError
        If the column or an age is missing, or `max_per_age` is below 1.

    See Also
    --------
    agegender.datasets.describe : Summarise a data set.

    Examples
    --------
    >>> import pandas as pd
    >>> from agegender.datasets import balance_ages
    >>> faces = pd.DataFrame({"age": [26] * 8 + [60, 61]})
    >>> balance_ages(faces, max_per_age=3)["age"].value_counts().to_dict()
    {26: 3, 60: 1, 61: 1}
    """
    years = np.floor(_checked_ages(frame) + 0.5).astype(np.int64)
    if max_per_age is None:
        max_per_age = int(np.ceil(len(years) / len(np.unique(years))))
    elif max_per_age < 1:
        raise ValueError(f"balance_ages: max_per_age={max_per_age!r}; it should be at least 1.")
    shuffled = check_random_state(random_state).permutation(len(years))
    by_age = shuffled[np.argsort(years[shuffled], kind="stable")]
    counts = np.unique(years, return_counts=True)[1]
    rank = np.arange(len(years)) - np.repeat(np.cumsum(counts) - counts, counts)
    return frame.iloc[np.sort(by_age[rank < max_per_age])]


def _column(frame: pd.DataFrame, name: str) -> pd.Series:
    if name not in frame:
        raise ValueError(f"The frame has no column {name!r}; it has {list(map(str, frame.columns))}.")
    return frame[name]


def _checked_ages(frame: pd.DataFrame) -> NDArray[np.float64]:
    ages = _column(frame, "age").to_numpy(dtype=np.float64)
    if len(ages) == 0:
        raise ValueError("The frame has no rows.")
    if not np.isfinite(ages).all():
        raise ValueError(f"{int((~np.isfinite(ages)).sum())} ages are missing; drop these rows first.")
    return ages


def _statistics(ages: NDArray[np.float64]) -> dict[str, float]:
    from scipy.stats import skew

    return {
        "mean": float(ages.mean()),
        "sd": float(ages.std(ddof=1)) if len(ages) > 1 else 0.0,
        "min": float(ages.min()),
        "median": float(np.median(ages)),
        "max": float(ages.max()),
        "skew": float(skew(ages)) if np.ptp(ages) > 0 else 0.0,
    }


def _by_decade(years: NDArray[np.int64], genders: NDArray[Any]) -> pd.DataFrame:
    import pandas as pd

    decades = pd.Index(years // DECADE * DECADE, name="decade")
    table = pd.crosstab(decades, pd.Index(genders, name="gender"))
    return table.reindex(range(decades.min(), decades.max() + 1, DECADE), fill_value=0).rename_axis("decade")


def _listed(counts: pd.Series) -> str:
    return ", ".join(f"{count} {_name(label)}" for label, count in counts.items())


def _name(label: Any) -> str:
    return GENDERS[int(label)] if not isinstance(label, str) and label in (0, 1) else str(label)


def _histogram(by_decade: pd.DataFrame) -> list[str]:
    totals = by_decade.sum(axis=1).to_numpy()
    lines = []
    for first, count in zip(by_decade.index.to_numpy(), totals, strict=True):
        bar = "█" * round(BAR * count / totals.max())
        decade = f"{first}–{first + DECADE - 1}"
        lines.append(" ".join([f"{decade:>7}", *([bar] if bar else []), str(count)]))
    return lines
