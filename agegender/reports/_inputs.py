"""The input of a report, checked and converted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agegender.reports._tables import band_labels

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["complete_frame", "gender_labels", "group_labels", "years"]

MOST_GROUPS = 50
OWN_GROUPINGS = ("gender", "age band")
NEEDED = ("true_age", "true_gender", "age", "gender")


def years(ages: NDArray[Any]) -> NDArray[np.float64]:
    """Return ages as numbers; missing ages are NaN."""
    import pandas as pd

    return pd.to_numeric(pd.Series(ages)).to_numpy(dtype=np.float64)


def complete_frame(frame: pd.DataFrame, gender_names: Mapping[Any, str] | None) -> pd.DataFrame:
    """Return the frame with all columns that the report uses, missing ones as NaN, and genders by name."""
    lacking = [name for name in NEEDED if name not in frame]
    if lacking:
        raise ValueError(
            f"The frame has no column {lacking[0]!r}; it has {list(map(str, frame.columns))}. "
            "cross_val_predict_frame returns a frame with all columns."
        )
    if not frame["age"].notna().any():
        raise ValueError(f"Nothing was predicted for any of the {len(frame)} pictures.")
    columns = [*NEEDED, "age_low", "age_high", "gender_proba"]
    complete = frame.reindex(columns=columns).reset_index(drop=True)
    numbers = [name for name in columns if "gender" not in name or name == "gender_proba"]
    complete = complete.astype(dict.fromkeys(numbers, np.float64))
    for name in ("true_gender", "gender"):
        complete[name] = [_plain(label, gender_names or {}) for label in complete[name]]
    return complete


def _plain(label: Any, names: Mapping[Any, str]) -> Any:
    """Return the name of a label, or the label itself: integers as int, missing labels as None."""
    import pandas as pd

    if pd.isna(label):
        return None
    label = label.item() if isinstance(label, np.generic) else label
    whole = int(label) if isinstance(label, float) and label.is_integer() else label
    return names.get(whole, whole)


def group_labels(groups: Any, predictions: pd.DataFrame) -> pd.DataFrame:
    """Return one text column per grouping: the given ones, then gender and age band."""
    import pandas as pd

    n = len(predictions)
    if groups is None:
        given = pd.DataFrame(index=range(n))
    elif isinstance(groups, pd.DataFrame | Mapping):
        given = pd.DataFrame({str(name): np.asarray(groups[name], dtype=object) for name in groups})
    else:
        given = pd.DataFrame(
            {str(getattr(groups, "name", None) or "group"): np.asarray(groups, dtype=object)}
        )
    if len(given) != n:
        raise ValueError(f"groups has {len(given)} rows; it should have {n}, one row per picture.")
    for name in given:
        _check_grouping(str(name), given[name])
    own = pd.DataFrame(
        {
            "gender": predictions["true_gender"].to_numpy(dtype=object),
            "age band": band_labels(predictions["true_age"].to_numpy()),
        }
    )
    texts = {
        name: [None if pd.isna(label) else str(_plain(label, {})) for label in column]
        for name, column in given.join(own).items()
    }
    return pd.DataFrame(texts, dtype="string")


def _check_grouping(name: str, labels: pd.Series) -> None:
    if name in OWN_GROUPINGS:
        raise ValueError(
            f"groups has a column {name!r}, which every report contains already; remove or rename it."
        )
    if labels.nunique() > MOST_GROUPS:
        raise ValueError(
            f"groups[{name!r}] has {labels.nunique()} different labels; at most {MOST_GROUPS} are allowed. "
            "Groups are kinds of people, not single persons; put numbers into bands."
        )


def gender_labels(predictions: pd.DataFrame) -> NDArray[Any]:
    """Return the two sorted labels; None for a label that does not occur."""
    import pandas as pd

    found = pd.concat([predictions["true_gender"], predictions["gender"]]).dropna().unique().tolist()
    labels = sorted(found, key=lambda label: (isinstance(label, str), label))
    if len(labels) > 2 or len({isinstance(label, str) for label in labels}) > 1:
        raise ValueError(
            f"True and predicted genders have the labels {labels}; use the same two labels for both."
        )
    # If all pictures have one gender, the other has no name and its values are empty.
    return np.array([*labels, *[None] * (2 - len(labels))], dtype=object)
