"""Where and how finely a detector searches a picture: copies of several sizes, tiles, and quarter turns.

Everything here works on rows of 16 numbers: a detector's 15 (box, landmarks, score) in pixels of the picture as
given, and by how many degrees, clockwise, the picture was turned to find the face.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agegender._detectors.quality import roll_of

__all__ = ["Search", "search"]

Rows = NDArray[np.float64]

FINDABLE = 24
"""The size, in pixels of the copy that is searched, from which both detectors find nearly every face."""

SMALL = 40
"""If a found face is smaller than this, in pixels of the copy, there may be smaller ones that a finer copy shows."""

FINER = 4
"""The finest copy is larger than the first one by at most this factor, unless a smallest face is given."""

TURNS = (0, 90, 180, 270)

# A doubtful face is turned in a copy of its surroundings of this many pixels, and taken as turned if its score is
# then higher by this much. After so many faces that were upright, the rest of the picture is taken to be so.
_AROUND, _BETTER, _CONFIRMED, _WHOLE = 192, 0.02, 4, 0.97
_LARGEST_TILE, _SHARED = 2560, 320
_LARGEST_ENLARGEMENT = 2.0
_SAME_FACE = 0.4


class Finder(Protocol):
    """The part of a detector that is used here."""

    def __call__(self, pixels: NDArray[np.uint8], min_score: float) -> Rows:
        """Return rows of 15 numbers."""
        ...


@dataclass(frozen=True)
class Search:
    """What is searched.

    Parameters
    ----------
    min_score : float
        The minimum score of a face.
    side : int
        The longer side of the first copy, in pixels.
    min_face_size : float, default=None
        The smallest face to find, in pixels of the picture; decides the size of the copy. If None, a finer copy is
        searched where the first one shows small faces only, or none.
    finer : bool, default=True
        Whether finer copies may be searched.
    turned : bool, default=True
        Whether the picture is turned by quarter turns if no face is found.
    sure_score : float, default=0.0
        Faces with a lower score are looked at in all four turns, because a detector may take a face that is upside
        down or lies on its side for an upright one, with landmarks in the wrong places.
    """

    min_score: float
    side: int
    min_face_size: float | None = None
    finer: bool = True
    turned: bool = True
    sure_score: float = 0.0


def search(pixels: NDArray[np.uint8], find: Finder, wanted: Search) -> Rows:
    """Find the faces of a picture.

    Parameters
    ----------
    pixels : ndarray of shape (h, w, 3), uint8
    find : Finder
    wanted : Search

    Returns
    -------
    ndarray of shape (n_faces, 16)
    """
    for turn in TURNS if wanted.turned else (0,):
        found = _in_one_turn(pixels, find, wanted, turn)
        if len(found):
            break
    # A face that does not stand upright in this turn tells of another one, in which there may be more.
    for other in sorted(_turns_of(found) - {turn}) if wanted.turned else ():
        more = _in_one_turn(pixels, find, wanted, other)
        found = np.concatenate([found, more[~_covered(more, found)]])
    return found


def _turns_of(rows: Rows) -> set[int]:
    """Return the turns in which faces stand upright, by their eyes."""
    upright = np.array([-roll_of(row[4:14].reshape(5, 2)) for row in rows])
    return set((np.rint(upright / 90).astype(int) * 90 % 360).tolist())


def _in_one_turn(pixels: NDArray[np.uint8], find: Finder, wanted: Search, turn: int) -> Rows:
    """Search the copies of a turned picture, the coarsest first, as long as a finer one may show more."""
    longest = max(pixels.shape[:2])
    side, *finer = _sides(wanted, longest)
    found = _upright(pixels, find, _tiled(pixels, find, wanted.min_score, side, turn), wanted)
    for finer_side in finer:
        if turn and not len(found):
            break  # small faces in a turned picture are too rare for a search that takes four times as long
        if wanted.min_face_size is None and not _may_hide_more(found, side / longest):
            break
        fine = _tiled(pixels, find, wanted.min_score, finer_side, turn)
        if wanted.min_face_size is None and not len(fine) and not len(found):
            break  # without a trace of a face, two sizes are enough
        found, side = _merged(_upright(pixels, find, fine, wanted), found, side / longest), finer_side
    return found


def _sides(wanted: Search, longest: int) -> list[int]:
    """Return the longer sides of the copies to search, the coarsest first."""
    if wanted.min_face_size is not None:
        factor = min(FINDABLE / wanted.min_face_size, _LARGEST_ENLARGEMENT)
        fine = max(32, round(longest * factor))
        return [fine] if fine <= wanted.side else [min(wanted.side, longest), fine]
    sides = [min(wanted.side, longest)]
    while wanted.finer and sides[-1] < min(longest, FINER * wanted.side):
        sides.append(min(2 * sides[-1], longest))
    return sides


def _may_hide_more(found: Rows, scale: float) -> bool:
    return not len(found) or float(_sizes(found).min()) * scale < SMALL


def _sizes(rows: Rows) -> Rows:
    return np.asarray(np.sqrt(rows[:, 2] * rows[:, 3]))


def _tiled(pixels: NDArray[np.uint8], find: Finder, min_score: float, side: int, turn: int) -> Rows:
    """Search a copy with this longer side, in parts if it is very large, so that memory stays small."""
    height, width = pixels.shape[:2]
    if side <= _LARGEST_TILE:
        return _copied(pixels, find, min_score, side, turn)
    factor = side / max(height, width)
    tile, shared = int(_LARGEST_TILE / factor), int(_SHARED / factor)
    found = np.empty((0, 16))
    for top in range(0, max(1, height - shared), tile - shared):
        for left in range(0, max(1, width - shared), tile - shared):
            part = np.ascontiguousarray(pixels[top : top + tile, left : left + tile])
            rows = _copied(part, find, min_score, round(max(part.shape[:2]) * factor), turn)
            rows[:, [0, *range(4, 14, 2)]] += left
            rows[:, [1, *range(5, 14, 2)]] += top
            found = np.concatenate([found, rows])
    best = found[np.argsort(-found[:, 14], kind="stable")]
    kept = best[:0]
    for row in best:
        if not _covered(row[np.newaxis], kept)[0]:
            kept = np.concatenate([kept, row[np.newaxis]])
    return kept


def _copied(pixels: NDArray[np.uint8], find: Finder, min_score: float, side: int, turn: int) -> Rows:
    """Search a turned copy with this longer side; return rows in pixels of what was given."""
    import cv2

    height, width = pixels.shape[:2]
    factor = side / max(height, width)
    copy, size = pixels, (width, height)
    if factor != 1:
        size = max(1, round(width * factor)), max(1, round(height * factor))
        kind = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        copy = np.asarray(cv2.resize(pixels, size, interpolation=kind))
    rows = find(np.ascontiguousarray(np.rot90(copy, -turn // 90)), min_score)
    for quarter in range(turn // 90, 0, -1):
        # The height of the copy before this quarter turn.
        rows = _back(rows, size[1] if quarter % 2 else size[0])
    scale = np.array([size[0] / width, size[1] / height])
    return np.column_stack([rows[:, :14] / np.tile(scale, 7), rows[:, 14], np.full(len(rows), float(turn))])


def _back(rows: Rows, height: int) -> Rows:
    """Undo one clockwise quarter turn of a picture that was `height` pixels high before it."""
    points = rows[:, 4:14].reshape(-1, 5, 2)
    moved = np.stack([points[..., 1], height - points[..., 0]], axis=-1).reshape(-1, 10)
    box = np.column_stack([rows[:, 1], height - rows[:, 0] - rows[:, 2], rows[:, 3], rows[:, 2]])
    return np.concatenate([box, moved, rows[:, 14:]], axis=1)


def _upright(pixels: NDArray[np.uint8], find: Finder, rows: Rows, wanted: Search) -> Rows:
    """Look at doubtful faces in all four turns, the largest first; replace those that another turn shows better.

    A face that is cut off by the picture's edge is left as it is, because the rest of it tells too little.
    """
    rows, confirmed = rows.copy(), 0
    edge = np.array([pixels.shape[1], pixels.shape[0]])
    inside = (np.minimum(rows[:, :2] + rows[:, 2:4], edge) - rows[:, :2].clip(0)).clip(0).prod(axis=1)
    doubtful = (rows[:, 14] < wanted.sure_score) & (inside > _WHOLE * rows[:, 2:4].prod(axis=1))
    for place in np.argsort(-_sizes(rows)).tolist():
        if not wanted.turned or not doubtful[place] or confirmed == _CONFIRMED:
            continue
        here, *others = _around(pixels, find, rows[place], wanted.min_score / 2)
        best = max(filter(_stands, others), key=lambda row: float(row[14]), default=here)
        if best[14] >= max(wanted.min_score, here[14] + _BETTER):
            rows[place] = best
        else:
            confirmed += 1
    return rows


def _stands(row: Rows) -> bool:
    """Return whether a face's eyes are level, to 60 degrees, in the turned picture in which it was found."""
    leans = roll_of(row[4:14].reshape(5, 2)) + row[15]
    return bool(abs((leans + 180) % 360 - 180) < 60)


def _around(pixels: NDArray[np.uint8], find: Finder, face: Rows, min_score: float) -> list[Rows]:
    """Return what the surroundings of a face show in its own turn and in the others; a score of 0 for nothing."""
    middle, reach = face[:2] + face[2:4] / 2, max(float(face[2:4].max()), 2.0)
    left, top = np.maximum(middle - reach, 0).astype(int).tolist()
    right, bottom = np.ceil(middle + reach).astype(int).tolist()
    part = np.ascontiguousarray(pixels[top:bottom, left:right])
    shown = []
    for turn in sorted(TURNS, key=lambda turn: turn != face[15]):
        rows = _copied(part, find, min_score, _AROUND, turn)
        rows[:, [0, *range(4, 14, 2)]] += left
        rows[:, [1, *range(5, 14, 2)]] += top
        rows = rows[_covered(rows, face[np.newaxis])]
        nothing = np.zeros((1, 16))
        shown.append(max([*nothing, *rows], key=lambda row: float(row[14])))
    return shown


def _merged(fine: Rows, coarse: Rows, scale: float) -> Rows:
    """Join the faces of two copies: the finer one decides about the faces that are small in the coarser one."""
    small = _sizes(coarse) * scale < SMALL
    kept = np.concatenate([coarse[~small], coarse[small & ~_covered(coarse, fine)]])
    return np.concatenate([kept, fine[~_covered(fine, kept)]])


def _covered(rows: Rows, others: Rows) -> NDArray[np.bool_]:
    """Return which boxes share much with another one: more than 0.4 of the smaller box."""
    low = np.maximum(rows[:, np.newaxis, :2], others[:, :2])
    ends, other_ends = rows[:, :2] + rows[:, 2:4], others[:, :2] + others[:, 2:4]
    shared = (np.minimum(ends[:, np.newaxis], other_ends) - low).clip(0).prod(axis=2)
    smaller = np.minimum(rows[:, 2:4].prod(axis=1)[:, np.newaxis], others[:, 2:4].prod(axis=1))
    return np.asarray((shared > _SAME_FACE * smaller).any(axis=1))
