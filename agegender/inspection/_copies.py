"""Copies, near-copies and persons, and whether their labels agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agegender.inspection._alike import cosine_pairs, directions, thumbnail_correlation
from agegender.inspection._inputs import LabelledFaces
from agegender.model_selection import connected_groups

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Copies", "content_groups", "find_copies", "find_persons"]

SAME_PHOTOGRAPH = 0.9
"""Correlation of grey copies from which two pictures are versions of the same photograph."""

MOST_ALIKE = 20
"""If a group of near-copies is larger, the network does not distinguish these faces."""

AGE_APART = 30


@dataclass(frozen=True, eq=False)
class Copies:
    """Pictures that are the same or nearly the same.

    Attributes
    ----------
    copies : DataFrame
        One row per group of pictures with the same content: rows, ages, genders, age_spread (years), disagree.
    near_copies : DataFrame
        One row per pair: row, other_row, similarity (cosine of the embeddings), correlation (of the grey copies),
        same_photograph, age, other_age, gender, other_gender, age_spread, disagree.
    groups : ndarray of shape (n_pictures,), int
        Pictures of one group must stay on the same side of a split.
    photographs : list of ndarray of int
        Rows that show the same photograph, two or more per array.
    note : str
        What could not be determined, or "".
    """

    copies: pd.DataFrame
    near_copies: pd.DataFrame
    groups: NDArray[np.intp]
    photographs: list[NDArray[np.intp]]
    note: str


def content_groups(digests: Sequence[bytes]) -> NDArray[np.intp]:
    """Number pictures by content; a picture that cannot be read is its own group."""
    import pandas as pd

    labels = np.empty(len(digests), dtype=object)
    labels[:] = [digest or None for digest in digests]
    return connected_groups(pd.Series(labels))


def find_copies(
    faces: LabelledFaces,
    digests: Sequence[bytes],
    embeddings: NDArray[np.floating],
    thumbnails: NDArray[np.float32],
    threshold: float,
) -> Copies:
    """Find copies by content, near-copies by embedding, and groups of pictures that belong together.

    Parameters
    ----------
    faces : LabelledFaces
    digests : sequence of bytes
    embeddings : ndarray of shape (n_pictures, n_features)
        Embeddings of a face-recognition network; NaN for a picture that cannot be read.
    thumbnails : ndarray of shape (n_pictures, side, side)
    threshold : float
        The cosine similarity from which two pictures are near-copies.

    Returns
    -------
    Copies
    """
    same = content_groups(digests)
    first, second, similarity = cosine_pairs(directions(embeddings), None, threshold)
    other = same[first] != same[second]
    first, second, similarity = first[other], second[other], similarity[other]
    centre = np.nan_to_num(np.nanmean(thumbnails, axis=0)) if len(thumbnails) else thumbnails
    correlation = thumbnail_correlation(thumbnails[first], thumbnails[second], centre)
    near = _pairs_frame(faces, first, second, similarity, correlation)
    near, linked, note = _believable(near, same, threshold)
    one = linked[linked["same_photograph"]]
    photographs = _joined(same, one["row"].to_numpy(), one["other_row"].to_numpy())
    together = _joined(same, linked["row"].to_numpy(), linked["other_row"].to_numpy())
    return Copies(
        copies=_groups_frame(faces, same),
        near_copies=near,
        groups=connected_groups(faces.groups, together),
        photographs=_several(photographs),
        note=note,
    )


def _believable(
    near: pd.DataFrame, same: NDArray[np.intp], threshold: float
) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Return near-copies to show and to keep together; if all faces are similar, only the certain ones."""
    groups = _joined(same, near["row"].to_numpy(), near["other_row"].to_numpy())
    largest = np.bincount(groups).max(initial=0) if len(near) else 0
    if largest <= MOST_ALIKE:
        return near, near, ""
    sure = near[near["same_photograph"]].reset_index(drop=True)
    groups = _joined(same, sure["row"].to_numpy(), sure["other_row"].to_numpy())
    note = (
        f"At a similarity of {threshold:g} the network takes {largest} pictures for near-copies of one another: it "
        "does not tell these faces apart. "
    )
    if np.bincount(groups).max(initial=0) > MOST_ALIKE:
        return near.iloc[:0], near.iloc[:0], note + "Near-copies were not looked for; raise near_copy."
    return sure, sure, note + "Only pairs whose pixels agree as well were taken for near-copies."


def _joined(groups: NDArray[np.intp], first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.intp]:
    """Merge the groups of the two rows of each pair."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = int(groups.max(initial=-1)) + 1
    links = groups[first.astype(np.intp)], groups[second.astype(np.intp)]
    graph = coo_array((np.ones(len(first), dtype=np.int8), links), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1])[groups].astype(np.intp)


def _several(groups: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Return the rows of each group with two or more rows."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    return [rows for rows in np.split(order, starts[1:]) if len(rows) > 1] if len(order) else []


def _groups_frame(faces: LabelledFaces, groups: NDArray[np.intp]) -> pd.DataFrame:
    import pandas as pd

    records = []
    for rows in _several(groups):
        ages, genders = faces.ages[rows], faces.genders[rows]
        record: dict[str, Any] = {"rows": rows.tolist(), "n": len(rows)}
        record |= {"ages": ages.tolist(), "genders": [faces.gender_names[code] for code in genders]}
        record |= {"age_spread": float(np.ptp(ages))}
        records.append(record | {"disagree": bool(np.ptp(ages) > 0 or np.ptp(genders) > 0)})
    columns = ["rows", "n", "ages", "genders", "age_spread", "disagree"]
    frame = pd.DataFrame(records, columns=columns).astype({"disagree": bool})
    return frame.sort_values("age_spread", ascending=False, kind="stable", ignore_index=True)


def _pairs_frame(
    faces: LabelledFaces,
    first: NDArray[np.intp],
    second: NDArray[np.intp],
    similarity: NDArray[np.float64],
    correlation: NDArray[np.float64],
) -> pd.DataFrame:
    import pandas as pd

    names = np.array(faces.gender_names, dtype=object)
    spread = np.abs(faces.ages[first] - faces.ages[second])
    frame = pd.DataFrame(
        {
            "row": first,
            "other_row": second,
            "similarity": similarity,
            "correlation": correlation,
            "same_photograph": correlation >= SAME_PHOTOGRAPH,
            "age": faces.ages[first],
            "other_age": faces.ages[second],
            "gender": names[faces.genders[first]],
            "other_gender": names[faces.genders[second]],
            "age_spread": spread,
            "disagree": (spread > 0) | (faces.genders[first] != faces.genders[second]),
        }
    )
    return frame.sort_values("age_spread", ascending=False, kind="stable", ignore_index=True)


def find_persons(faces: LabelledFaces, persons: NDArray[Any] | None) -> pd.DataFrame:
    """Return persons whose labels cannot all be right.

    Parameters
    ----------
    faces : LabelledFaces
    persons : ndarray of shape (n_pictures,) or None
        The person in each picture; rows with a missing label are ignored.

    Returns
    -------
    DataFrame
        person, n (pictures), age_low, age_high, age_spread (years), genders, rows; only persons whose ages
        differ by 30 years or more, or who have both genders. Pictures of a person may be years apart: such
        persons should be looked at, but need not be errors.
    """
    import pandas as pd

    columns = ["person", "n", "age_low", "age_high", "age_spread", "genders", "rows"]
    if persons is None:
        return pd.DataFrame(columns=columns)
    known = pd.DataFrame({"person": persons, "age": faces.ages, "gender": faces.genders}).dropna()
    records = []
    for person, part in known.groupby("person", sort=False):
        low, high = part["age"].min(), part["age"].max()
        if high - low >= AGE_APART or np.ptp(part["gender"]) > 0:
            genders = [faces.gender_names[code] for code in sorted(part["gender"].unique())]
            records.append((person, len(part), low, high, high - low, genders, part.index.tolist()))
    frame = pd.DataFrame(records, columns=columns)
    return frame.sort_values("age_spread", ascending=False, kind="stable", ignore_index=True)
