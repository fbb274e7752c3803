"""Groups of pictures that must stay together in a split."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from agegender import images
from agegender._machine.threads import resolve_threads
from agegender._utils.pictures import check_pictures
from agegender._utils.progress import progress_bar


def connected_groups(*labels: ArrayLike) -> NDArray[np.intp]:
    """Join several groupings: pictures that any of them links, directly or indirectly, are in one group.

    Parameters
    ----------
    *labels : array-like of shape (n_samples,)
        Groupings, such as copies and persons. A picture with a missing label (NaN, None) is not linked.

    Returns
    -------
    groups : ndarray of shape (n_samples,), int
        Group numbers from 0, in the order of first appearance.

    Raises
    ------
    ValueError
        If no grouping is given, or the lengths differ.

    See Also
    --------
    agegender.model_selection.duplicate_groups : Group equal pictures.
    agegender.model_selection.similar_face_groups : Group pictures with similar embeddings.

    Examples
    --------
    >>> from agegender.model_selection import connected_groups
    >>> connected_groups([0, 0, 1, 2], ["ann", "bob", "bob", None])
    array([0, 0, 0, 1])
    """
    import pandas as pd

    if not labels:
        raise ValueError("connected_groups needs at least one grouping.")
    codes = [pd.factorize(_one_dimensional(label))[0] for label in labels]
    lengths = [len(code) for code in codes]
    if len(set(lengths)) > 1:
        raise ValueError(f"The groupings have lengths {lengths}; each should have one label per picture.")
    pairs = [_first_of_same(code) for code in codes]
    return components(
        lengths[0], np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs])
    )


def components(n: int, first: NDArray[np.intp], second: NDArray[np.intp]) -> NDArray[np.intp]:
    """Number the connected components of a graph given by its edges, in the order of first appearance."""
    import pandas as pd

    graph = coo_array((np.ones(len(first), dtype=np.int8), (first, second)), shape=(n, n))
    return pd.factorize(connected_components(graph, directed=False)[1])[0].astype(np.intp)


def _one_dimensional(label: ArrayLike) -> NDArray[np.generic]:
    array = np.asarray(label, dtype=object) if isinstance(label, list | tuple) else np.asarray(label)
    if array.ndim != 1:
        raise ValueError(
            f"A grouping has shape {array.shape}; it should be (n_samples,), one label per picture."
        )
    return array


def _first_of_same(code: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Link each picture to the first one with its label."""
    rows = np.flatnonzero(code >= 0)
    firsts, inverse = np.unique(code[rows], return_index=True, return_inverse=True)[1:]
    return rows, rows[firsts][inverse]


def duplicate_groups(
    X: Sequence[images.Picture] | NDArray[np.generic],
    *,
    pixels: bool = False,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> NDArray[np.intp]:
    """Group equal pictures: those with the same bytes, or with the same pixels.

    Parameters
    ----------
    X : sequence of paths, bytes, PIL images or RGB uint8 arrays
        The pictures.
    pixels : bool, default=False
        Compare the decoded pictures (upright, RGB) instead of the bytes. This also finds pictures that were
        saved again as PNG or with other metadata, and takes as long as decoding all pictures.
    n_jobs : int or None, default=None
        Number of threads; if None, all cores.
    verbose : int, default=0
        If 1, a progress bar is shown.

    Returns
    -------
    groups : ndarray of shape (n_pictures,), int
        Group numbers from 0, in the order of first appearance.

    Raises
    ------
    PictureError
        If a picture cannot be read.

    See Also
    --------
    agegender.model_selection.similar_face_groups : Group pictures with similar embeddings.
    agegender.model_selection.connected_groups : Join several groupings.

    Examples
    --------
    >>> import numpy as np
    >>> from agegender.model_selection import duplicate_groups
    >>> black, white = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)
    >>> duplicate_groups([black, white, black])
    array([0, 1, 0])
    """
    import pandas as pd

    def digest(picture: images.Picture) -> bytes:
        return images.digest(images.load(picture) if pixels else images.read(picture))

    pictures, digests = check_pictures(X), []
    with (
        ThreadPoolExecutor(resolve_threads(n_jobs)) as pool,
        progress_bar(len(pictures), "reading", verbose) as bar,
    ):
        for found in pool.map(digest, pictures):
            digests.append(found)
            bar.update()
    return pd.factorize(np.array(digests, dtype=object))[0].astype(np.intp)
