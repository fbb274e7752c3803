"""Data leakage: pictures of one set that are also in another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agegender.inspection._alike import cosine_pairs, directions, thumbnail_correlation
from agegender.inspection._copies import MOST_ALIKE, SAME_PHOTOGRAPH
from agegender.inspection._pictures import MeasuredPictures

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LEAK_COLUMNS", "find_leaks"]

LEAK_COLUMNS = ["row", "picture", "other_row", "other_picture", "kind", "similarity", "correlation"]


def find_leaks(
    here: MeasuredPictures,
    there: MeasuredPictures,
    embeddings: NDArray[np.floating],
    other_embeddings: NDArray[np.floating],
    names: Sequence[str],
    other_names: Sequence[str],
    threshold: float,
) -> tuple[pd.DataFrame, str]:
    """Return the pairs of pictures, one of each set, that are the same or nearly so.

    Parameters
    ----------
    here, there : MeasuredPictures
        The inspected set, and the other one.
    embeddings, other_embeddings : ndarray of shape (n_pictures, n_features)
    names, other_names : sequence of str
    threshold : float
        The cosine similarity from which two pictures are near-copies.

    Returns
    -------
    leaks : DataFrame
        row, picture, other_row, other_picture, kind ("copy": equal content; "same photograph"; "near-copy"),
        similarity, correlation; the most certain first.
    note : str
        What could not be determined, or "".
    """
    import pandas as pd

    centre = np.nanmean(np.concatenate([embeddings, other_embeddings]), axis=0)
    pairs = cosine_pairs(directions(embeddings, centre), directions(other_embeddings, centre), threshold)
    first, second, similarity = _with_copies(here.digests, there.digests, pairs)
    thumbnails = np.concatenate([here.thumbnails, there.thumbnails])
    middle = np.nan_to_num(np.nanmean(thumbnails, axis=0))
    correlation = thumbnail_correlation(here.thumbnails[first], there.thumbnails[second], middle)
    equal = np.array(
        [here.digests[a] == there.digests[b] for a, b in zip(first, second, strict=True)], dtype=bool
    )
    photograph = correlation >= SAME_PHOTOGRAPH
    kind = np.where(equal, "copy", np.where(photograph, "same photograph", "near-copy"))
    note, kept = "", np.ones(len(first), dtype=bool)
    if np.bincount(first).max(initial=0) > MOST_ALIKE and not equal.all():
        kept = equal | photograph
        note = (
            "The network does not tell these faces apart; only pairs whose pixels agree as well are listed."
        )
    order = np.lexsort((-similarity, np.select([equal, photograph], [0, 1], 2)))
    order = order[kept[order]]
    columns: dict[str, Any] = {"row": first, "picture": np.array(names, dtype=object)[first]}
    columns |= {"other_row": second, "other_picture": np.array(other_names, dtype=object)[second]}
    columns |= {"kind": kind, "similarity": similarity, "correlation": correlation}
    return pd.DataFrame(columns).iloc[order].reset_index(drop=True)[LEAK_COLUMNS], note


def _with_copies(
    digests: Sequence[bytes],
    other_digests: Sequence[bytes],
    pairs: tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]],
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Return the pairs together with those of equal content, which need no network."""
    known: dict[bytes, list[int]] = {}
    for row, digest in enumerate(other_digests):
        if digest:
            known.setdefault(digest, []).append(row)
    found = dict(
        zip(zip(*(part.tolist() for part in pairs[:2]), strict=True), pairs[2].tolist(), strict=True)
    )
    for row, digest in enumerate(digests):
        for other in known.get(digest, ()):
            found[row, other] = 1.0
    keys = np.array(list(found), dtype=np.intp).reshape(-1, 2)
    return keys[:, 0], keys[:, 1], np.array(list(found.values()), dtype=np.float64)
