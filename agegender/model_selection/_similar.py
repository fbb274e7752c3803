"""Groups of faces that look alike, by the cosine similarity of their embeddings."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agegender._utils.progress import progress_bar
from agegender._utils.rows import release, take
from agegender._utils.validation import check_choice, optional_import
from agegender.model_selection._groups import components

Links: TypeAlias = tuple[NDArray[np.intp], NDArray[np.intp]]

# Rows normalised or indexed at a time, and of them compared at a time: 16 MB of similarities, and in the worst case
# 64 MB of links.
BLOCK_ROWS = 16_384
COMPARED_ROWS = 256
HELD_ROWS = 65_536
# Links that are held before groups are made of them.
MOST_LINKS = 4_000_000

# Of the approximate search: cells for n rows, sampled rows a cell, cells searched for each row.
CELLS_A_ROOT = 3
SAMPLED_A_CELL = 40
SEARCHED_CELLS = 8
# Half precision rounds a similarity by less than this.
_ROUNDING = 2e-3


def similar_face_groups(
    embeddings: ArrayLike, threshold: float = 0.9, *, method: str = "exact", verbose: int = 0
) -> NDArray[np.intp]:
    """Group pictures whose face embeddings point nearly the same way: near-copies, or the same person.

    Two pictures are linked where the cosine similarity of their embeddings is at least `threshold`, and linked
    pictures share a group, directly or through others.

    Parameters
    ----------
    embeddings : array-like of shape (n_pictures, n_features)
        Of a face-recognition network (``layer="embedding"``), of any length; in memory or a memory map, which is read
        in parts. A row with a NaN, or of zeros, stands alone.
    threshold : float, default=0.9
        Cosine similarity, between −1 and 1; see Notes.
    method : {"exact", "approximate"}, default="exact"
        "exact" compares every two pictures: twice as many take four times as long. "approximate" looks for neighbours
        among the nearest cells of an index (FAISS; ``pip install 'agegender[similar]'``): a million in minutes, and a
        few links in a thousand may be missed at a threshold of 0.9, more at lower ones. What is linked is as similar
        as it should be.
    verbose : int, default=0
        1 shows a progress bar.

    Returns
    -------
    groups : ndarray of shape (n_pictures,), int
        Numbers from 0 in the order of first appearance.

    Raises
    ------
    ValueError
        If the embeddings are not a table of numbers, or the threshold is not between −1 and 1.
    ModuleNotFoundError
        If `method` is "approximate" and FAISS is not installed.

    See Also
    --------
    agegender.model_selection.duplicate_groups : Group equal pictures.
    agegender.model_selection.connected_groups : Join several groupings.

    Notes
    -----
    What a threshold means depends on the network and on the alignment. With a MobileFaceNet trained with the
    ArcFace loss, on UTKFace's crops taken as they are: from 0.9 on, pairs are nearly always the same photograph
    (scaled, rotated, recoloured or mirrored) or one of the same shoot, and no group has more than five
    pictures. Between 0.85 and 0.9, adults are mostly the same person, but babies begin to look alike to the
    network and chain together: at 0.85 the largest group has 170 pictures, at 0.8, 948, at 0.7 a third of
    all. With faces aligned to the network's template, pairs of one adult reached 0.78 and more, and pairs of
    two stayed below 0.3: a threshold of 0.6 to 0.7 finds persons there. Look at the size of the largest group
    before you use the groups: one that is a person's is small.

    Similarities are computed block by block and never held together: 20,000 embeddings of 512 numbers take a
    few seconds and some 200 MB. ``docs/many_machines.md`` has the figures of a million.

    Examples
    --------
    >>> from agegender.model_selection import similar_face_groups
    >>> similar_face_groups([[1.0, 0.0], [0.0, 1.0], [2.0, 0.1]])
    array([0, 1, 0])
    """
    if not -1 <= threshold <= 1:
        raise ValueError(
            f"similar_face_groups: threshold={threshold!r}; a cosine similarity lies between -1 and 1."
        )
    check_choice("method", method, ("exact", "approximate"), "similar_face_groups")
    directions = _Directions(embeddings)
    links = _exact_links if method == "exact" else _near_links
    with progress_bar(len(directions), "comparing", verbose) as bar:
        return _grouped(len(directions), links(directions, threshold, bar))


class _Directions:
    """Embeddings at unit length, a part at a time; NaN where they have none."""

    def __init__(self, embeddings: ArrayLike) -> None:
        rows: NDArray[Any] = embeddings if isinstance(embeddings, np.ndarray) else np.asarray(embeddings)
        if rows.ndim != 2 or rows.dtype.kind not in "biuf":
            raise ValueError(
                f"Embeddings have shape {rows.shape} and type {rows.dtype}; they should be numbers of shape "
                '(n_pictures, n_features), as from EmbeddingExtractor(layer="embedding").'
            )
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return consecutive rows."""
        directions = _unit(self.rows[start:stop])
        release(self.rows)
        return directions

    def of(self, indices: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return rows by their numbers, ascending."""
        return _unit(take(self.rows, indices.astype(np.int64)))


def _unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    array = rows.astype(np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        lengths = np.linalg.norm(array, axis=1, keepdims=True)
    # A NaN compares as unlike anything, itself included.
    lengths[~(np.isfinite(lengths) & (lengths > 0))] = np.nan
    array /= lengths
    return array


def _grouped(n: int, links: Iterator[Links]) -> NDArray[np.intp]:
    """Number the groups that links make, a few million of which are held at once."""
    everyone = groups = np.arange(n)
    held: list[Links] = []

    def joined() -> NDArray[np.intp]:
        heads = np.unique(groups, return_index=True)[1][groups]
        first = np.concatenate([everyone, *(pair[0] for pair in held)])
        second = np.concatenate([heads, *(pair[1] for pair in held)])
        return components(n, first, second)

    for first, second in links:
        # What is one group already needs no more links.
        new = groups[first] != groups[second]
        if new.any():
            held.append((first[new], second[new]))
        if sum(len(pair[0]) for pair in held) >= MOST_LINKS:
            groups, held = joined(), []
    return joined() if held else groups


def _exact_links(directions: _Directions, threshold: float, bar: Any) -> Iterator[Links]:
    """Yield the pairs of pictures that are alike, a block of rows against a block of those from it on."""
    n = len(directions)
    # Of many rows, each block is read again for every block before it.
    whole = directions.part(0, n) if n <= HELD_ROWS else None

    def block(start: int) -> NDArray[np.float32]:
        stop = min(n, start + BLOCK_ROWS)
        return directions.part(start, stop) if whole is None else whole[start:stop]

    for start in range(0, n, BLOCK_ROWS):
        here = block(start)
        for other in range(start, n, BLOCK_ROWS):
            there = block(other)
            for row in range(0, len(here), COMPARED_ROWS):
                first, second = np.nonzero(here[row : row + COMPARED_ROWS] @ there.T >= threshold)
                yield first + start + row, second + other
        bar.update(len(here))


def _near_links(directions: _Directions, threshold: float, bar: Any) -> Iterator[Links]:
    """Yield pairs that are alike, looked for in the cells of an index that are nearest to each picture."""
    faiss = optional_import("faiss", "similar")
    n = len(directions)
    index = _index(faiss, directions)
    for start in range(0, n, BLOCK_ROWS // 4):
        here = directions.part(start, min(n, start + BLOCK_ROWS // 4))
        present = np.flatnonzero(~np.isnan(here[:, 0]))
        limits, similar, found = index.range_search(here[present], threshold - _ROUNDING)
        first = np.repeat(present + start, np.diff(limits).astype(np.int64))
        # A cell may be searched for one of two neighbours alone.
        other = found != first
        yield _verified(directions, first[other], found[other], similar[other], threshold)
        bar.update(len(here))


def _verified(
    directions: _Directions,
    first: NDArray[np.intp],
    second: NDArray[np.intp],
    similar: NDArray[np.float32],
    threshold: float,
) -> Links:
    """Keep the pairs that are alike in full precision; those far above the threshold need no second look."""
    doubtful = np.flatnonzero(similar < threshold + _ROUNDING)
    kept = np.ones(len(first), dtype=bool)
    for start in range(0, len(doubtful), BLOCK_ROWS):
        part = doubtful[start : start + BLOCK_ROWS]
        rows, places = np.unique(np.concatenate([first[part], second[part]]), return_inverse=True)
        there = directions.of(rows)
        exact = np.einsum("ij,ij->i", there[places[: len(part)]], there[places[len(part) :]])
        kept[part] = exact >= threshold
    return first[kept], second[kept]


def _index(faiss: Any, directions: _Directions) -> Any:
    """Return an index of all rows that have a direction: cells around means, rows in half precision."""
    n, n_features = directions.rows.shape
    n_cells = max(1, min(n // SAMPLED_A_CELL, round(CELLS_A_ROOT * math.sqrt(n))))
    index = faiss.index_factory(n_features, f"IVF{n_cells},SQfp16", faiss.METRIC_INNER_PRODUCT)
    index.nprobe = SEARCHED_CELLS
    chosen = np.random.default_rng(0).permutation(n)[: max(n_cells, SAMPLED_A_CELL * n_cells)]
    sample = directions.of(np.sort(chosen))
    index.train(sample[~np.isnan(sample[:, 0])])
    del sample
    for start in range(0, n, BLOCK_ROWS):
        part = directions.part(start, min(n, start + BLOCK_ROWS))
        present = np.flatnonzero(~np.isnan(part[:, 0]))
        index.add_with_ids(part[present], present + start)
    return index
