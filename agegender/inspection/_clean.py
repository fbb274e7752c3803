"""From an inspection to a table of actions, which users edit and pass to loaders."""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agegender._utils.validation import check_choice

if TYPE_CHECKING:
    import pandas as pd

    from agegender.inspection._tables import InspectionTables

__all__ = ["FAR_APART", "actions"]

FAR_APART = 5
"""Difference of copies' labels, in years, from which they are reviewed."""


def actions(
    found: InspectionTables, suspicious: str, min_suspicion: float, no_face: str, leaks: str
) -> pd.DataFrame:
    """Return an action per picture; see `FacesInspection.clean`."""
    for name, value in {"suspicious": suspicious, "no_face": no_face, "leaks": leaks}.items():
        allowed = ("review", "drop", "keep", *(("relabel",) if name == "suspicious" else ()))
        check_choice(name, value, allowed, "FacesInspection.clean")
    if not isinstance(min_suspicion, numbers.Real) or not 0 < min_suspicion <= 1:
        raise ValueError(
            f"FacesInspection.clean: min_suspicion={min_suspicion!r} should be above 0 and at most 1: the "
            "probability that a label is wrong, from which it is acted on."
        )
    table = _labels(found, suspicious, min_suspicion)
    _raise(table, found.pictures["no face"].to_numpy(), no_face, "the detector finds no face in it")
    _raise(table, _conflicting(found), "review", "copies of it have another label")
    leaked = np.isin(np.arange(len(table)), found.leaks["row"].to_numpy())
    _raise(table, leaked, leaks, "it is in the other set too")
    _raise(table, ~found.pictures["readable"].to_numpy(), "drop", "it cannot be read")
    order = found.labels["rank"].fillna(len(table) + 1).to_numpy(dtype=np.int64)
    acted = table["action"].map({"drop": 0, "relabel": 1, "review": 2, "keep": 3}).to_numpy() == 3
    return table.iloc[np.lexsort((order, acted))].reset_index(drop=True)


def _labels(found: InspectionTables, suspicious: str, min_suspicion: float) -> pd.DataFrame:
    """Return one row per picture, with suggested labels if the given ones are suspicious."""
    import pandas as pd

    labels = found.labels
    doubted = (labels["suspicion"] >= min_suspicion).fillna(False).to_numpy(dtype=bool)
    age, gender = labels["age_suspicion"].to_numpy(), labels["gender_suspicion"].to_numpy()
    # If only both labels together are suspicious, the more suspicious one is corrected.
    of_age = doubted & ((age >= min_suspicion) | (age >= gender))
    of_gender = doubted & ((gender >= min_suspicion) | (gender > age))
    new_age = labels["suggested_age"].round().where(of_age).astype("Int64")
    new_gender = labels["suggested_gender"].where(of_gender, None)
    return pd.DataFrame(
        {
            "path": labels["picture"],
            "action": np.where(doubted, suspicious, "keep"),
            "new_age": new_age,
            "new_gender": new_gender,
            "age": labels["age"],
            "gender": labels["gender"],
            "suspicion": labels["suspicion"].round(4),
            "age_low": labels["age_low"].round(1),
            "age_high": labels["age_high"].round(1),
            "reason": np.where(doubted, labels["reason"], ""),
            "row": labels["row"],
        }
    )


def _conflicting(found: InspectionTables) -> NDArray[np.bool_]:
    """Return which pictures have a copy or near-copy whose label differs by more than some years, or in gender."""
    conflicting = np.zeros(len(found.labels), dtype=bool)
    for record in found.copies.to_dict("records"):
        if record["age_spread"] > FAR_APART or len(set(record["genders"])) > 1:
            conflicting[record["rows"]] = True
    near = found.near_copies[found.near_copies["same_photograph"].astype(bool)]
    far = (near["age_spread"] > FAR_APART) | (near["gender"] != near["other_gender"])
    for side in ("row", "other_row"):
        conflicting[near.loc[far, side].to_numpy(dtype=np.intp)] = True
    return conflicting


def _raise(table: pd.DataFrame, mask: NDArray[np.bool_], action: str, reason: str) -> None:
    """Set an action for pictures if it is stronger than their present one, and add its reason."""
    strength: dict[Any, int] = {"keep": 0, "review": 1, "relabel": 2, "drop": 3}
    if action == "keep":
        return
    weaker = table["action"].map(strength).to_numpy() < strength[action]
    table.loc[mask & weaker, "action"] = action
    told = table.loc[mask, "reason"]
    table.loc[mask, "reason"] = [f"{text}; {reason}" if text else reason for text in told]
