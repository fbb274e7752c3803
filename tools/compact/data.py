"""The pictures: who is kept out, who watches, and all of them in memory at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from agegender import images
from agegender.model_selection import AgeGenderKFold, similar_face_groups

STORED = 144
"""Side in pixels of the crops held in memory: what the network sees is warped out of them."""

KEPT_OUT_FOLDS, WATCHED_FOLDS = 10, 16
"""One in so many is kept out of everything; one in so many of the others only watches the training."""

NEAR_COPY = 0.95
"""Cosine of two of the teacher's embeddings from which on they are taken for one photograph."""


@dataclass(frozen=True)
class Parts:
    """Rows of the pictures: learnt from, watched while learning, and kept out of both."""

    learnt: NDArray[np.intp]
    watched: NDArray[np.intp]
    kept_out: NDArray[np.intp]


def split(target: NDArray[np.float64], copies: NDArray[np.intp]) -> Parts:
    """Deal whole groups of copies to the three parts, alike in age and gender."""
    rest, kept_out = next(AgeGenderKFold(KEPT_OUT_FOLDS).split(None, target, copies))
    learnt, watched = next(AgeGenderKFold(WATCHED_FOLDS).split(None, target[rest], copies[rest]))
    return Parts(rest[learnt], rest[watched], kept_out)


def without_near_copies(parts: Parts, embeddings: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the kept-out rows of which no near-copy is in another part: those that may be scored on."""
    groups = similar_face_groups(embeddings, NEAR_COPY)
    elsewhere = groups[np.concatenate([parts.learnt, parts.watched])]
    return parts.kept_out[~np.isin(groups[parts.kept_out], elsewhere)]


def read_pictures(paths: NDArray[np.object_], kept: Path, n_threads: int) -> NDArray[np.uint8]:
    """Return every picture at `STORED` pixels, of shape (n_pictures, side, side, 3), read once and kept."""
    if kept.is_file():
        return np.asarray(np.load(kept))
    with ThreadPoolExecutor(n_threads) as pool:
        pictures = np.stack(list(pool.map(_read, paths)))
    np.save(kept, pictures)
    return pictures


def _read(path: str) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(images.load(path), (STORED, STORED), interpolation=cv2.INTER_AREA))
