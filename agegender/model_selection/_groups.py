"""Groups of pictures that must stay together in a split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from agegender import images
from agegender._machine.threads import resolve_threads
from agegender._utils.pictures import check_pictures
from agegender._utils.progress import progress_bar

# Similarities in memory at a time: 16 MB of float32, and at most 64 MB of links.
BLOCK_CELLS = 4_000_000


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


def similar_face_groups(embeddings: ArrayLike, threshold: float = 0.9) -> NDArray[np.intp]:
    """Group pictures with similar face embeddings: near-copies, or the same person.

    Two pictures are linked if the cosine similarity of their embeddings is at least `threshold`. Pictures that
    are linked, directly or indirectly, are in one group.

    Parameters
    ----------
    embeddings : array-like of shape (n_pictures, n_features)
        Embeddings of a face-recognition network (``layer="embedding"``), of any norm. A row that contains NaN,
        or only zeros, is its own group.
    threshold : float, default=0.9
        Cosine similarity, between −1 and 1; see Notes.

    Returns
    -------
    groups : ndarray of shape (n_pictures,), int
        Group numbers from 0, in the order of first appearance.

    Raises
    ------
    ValueError
        If the embeddings are not a table of numbers, or the threshold is not between −1 and 1.

    See Also
    --------
    agegender.model_selection.duplicate_groups : Group equal pictures.
    agegender.model_selection.connected_groups : Join several groupings.

    Notes
    -----
    The right threshold depends on the network and on the alignment. With a MobileFaceNet trained with the
    ArcFace loss, on UTKFace's crops without detection: at 0.9 and above, pairs are nearly always the same
    photograph (scaled, rotated, recoloured or mirrored) or from the same photo session, and no group has more
    than five pictures. Between 0.85 and 0.9, adults are mostly the same person, but different babies are
    linked: the largest group has 170 pictures at 0.85, 948 at 0.8, and a third of all pictures at 0.7. With
    faces aligned to the network's template, pairs of one adult had a similarity of at least 0.78, and pairs of
    two adults of less than 0.3, so that a threshold of 0.6 to 0.7 finds persons. Check the size of the largest
    group before you use the groups: groups of one person are small.

    Similarities are computed in blocks: 20,000 embeddings of 512 numbers take a few seconds and about 200 MB.

    Examples
    --------
    >>> from agegender.model_selection import similar_face_groups
    >>> similar_face_groups([[1.0, 0.0], [0.0, 1.0], [2.0, 0.1]])
    array([0, 1, 0])
    """
    if not -1 <= threshold <= 1:
        raise ValueError(
            f"similar_face_groups: threshold={threshold!r}; a cosine similarity is between -1 and 1."
        )
    directions = _directions(embeddings)
    everyone = groups = np.arange(len(directions))
    for first, second in _links(directions, threshold):
        # Pictures that are already in one group need no more links.
        new = groups[first] != groups[second]
        if new.any():
            heads = np.unique(groups, return_index=True)[1][groups]
            links = np.concatenate([everyone, first[new]]), np.concatenate([heads, second[new]])
            groups = components(len(directions), *links)
    return groups


def _directions(embeddings: ArrayLike) -> NDArray[np.float32]:
    """Return the normalised embeddings, NaN for rows that cannot be normalised."""
    array = np.array(embeddings, dtype=np.float32)
    if array.ndim != 2:
        raise ValueError(
            f"Embeddings have shape {array.shape}; they should be (n_pictures, n_features), as from "
            'EmbeddingExtractor(layer="embedding").'
        )
    with np.errstate(invalid="ignore", over="ignore"):
        lengths = np.linalg.norm(array, axis=1, keepdims=True)
    # Comparisons with NaN are false, even with itself.
    lengths[~(np.isfinite(lengths) & (lengths > 0))] = np.nan
    return array / lengths


def _links(
    directions: NDArray[np.float32], threshold: float
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield the pairs of similar pictures, block by block."""
    n = len(directions)
    step = max(1, BLOCK_CELLS // max(n, 1))
    for start in range(0, n, step):
        # Each block is compared with itself and the following ones, so that each pair is compared once.
        alike = directions[start : start + step] @ directions[start:].T >= threshold
        first, second = np.nonzero(alike)
        yield first + start, second + start
