"""Measurements of a picture: its size, its face, its sharpness, its colours."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agegender import images
from agegender._extraction.framing import FaceFinder
from agegender._machine.threads import resolve_threads
from agegender._pixels.sharpness import sharpness_of
from agegender._utils.progress import progress_bar
from agegender.cache import EmbeddingCache, Recipe
from agegender.exceptions import PictureError
from agegender.faces import Detector, Face

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MEASURES", "THUMBNAIL", "MeasuredPictures", "measure_pictures"]

VERSION = 1
"""Part of every cache key: increased whenever the same picture would give other numbers."""

LANDMARKS = tuple(f"landmark_{i}" for i in range(10))
MEASURES = (
    "width", "height", "n_faces", "face_score", "face_share", "face_x", "face_y", "face_roll", "sharpness",
    "colour", "brightness", "contrast", "border", "flatness",
)  # fmt: skip
THUMBNAIL = 16
"""Side, in pixels, of the grey copies with which photographs are compared."""

NORMAL_SIDE = 160
"""Longer side, in pixels, of the copy on which sharpness, colour and flatness are measured."""

PADDING = 0.3
BATCH = 64
DARK = 8


@dataclass(frozen=True, eq=False)
class MeasuredPictures:
    """Measurements of each picture.

    Attributes
    ----------
    digests : list of bytes
        Digests of the contents; empty for a picture that cannot be read.
    measures : DataFrame
        The columns `MEASURES`: sizes in pixels; how many faces there are, and of the largest the detector's
        score, its box's share of the picture, its centre (fractions of width and height) and how far it is
        turned (degrees); `sharpness` (variance of the Laplacian, grey values), `colour` (mean difference
        between channels), `brightness` and `contrast` (grey values), `border` (share of the picture in black
        rows and columns at its edges) and `flatness` (share of pixels that equal their neighbours). NaN if a
        picture cannot be read, or has no face, or was not searched for faces.
    landmarks : ndarray of shape (n_pictures, 5, 2)
        Landmarks of the largest face, in fractions of the picture's longer side, relative to the square
        around the picture.
    thumbnails : ndarray of shape (n_pictures, THUMBNAIL, THUMBNAIL), float32
        Grey copies; NaN for a picture that cannot be read.
    failures : DataFrame
        Pictures that cannot be read: row and reason.
    """

    digests: list[bytes]
    measures: pd.DataFrame
    landmarks: NDArray[np.float32]
    thumbnails: NDArray[np.float32]
    failures: pd.DataFrame


def measure_pictures(
    pictures: Sequence[Any],
    *,
    detector: Detector | None = None,
    cache: EmbeddingCache | None = None,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> MeasuredPictures:
    """Measure each picture; with a cache, each picture is measured only once.

    Parameters
    ----------
    pictures : sequence of pictures
    detector : Detector, default=None
        The face detector; if None, faces are not searched for.
    cache : EmbeddingCache, default=None
        The cache in which the numbers are stored, one batch of pictures at a time.
    n_jobs : int, default=None
        Number of threads; None means one per core.
    verbose : int, default=0
        If 1, show a progress bar.

    Returns
    -------
    MeasuredPictures
    """
    import pandas as pd

    finder = None if detector is None else FaceFinder(detector, cache)
    measure = _Measure(finder, cache)
    rows = np.full((len(pictures), measure.width), np.nan, np.float32)
    digests, failures = [], []
    with (
        ThreadPoolExecutor(resolve_threads(n_jobs)) as pool,
        progress_bar(len(pictures), "looking", verbose) as bar,
    ):
        for start in range(0, len(pictures), BATCH):
            block = [pictures[i] for i in range(start, min(start + BATCH, len(pictures)))]
            contents = list(pool.map(_read, block))
            for row, found in enumerate(measure(contents, pool), start):
                if isinstance(found, str):
                    failures.append((row, found))
                else:
                    rows[row] = found
            digests += [content[1] if isinstance(content, tuple) else b"" for content in contents]
            bar.update(len(block))
    n = len(MEASURES)
    return MeasuredPictures(
        digests=[b"" if np.isnan(row[0]) else digest for digest, row in zip(digests, rows, strict=True)],
        measures=pd.DataFrame(rows[:, :n].astype(np.float64), columns=list(MEASURES)),
        landmarks=rows[:, n : n + 10].reshape(-1, 5, 2),
        thumbnails=rows[:, n + 10 :].reshape(-1, THUMBNAIL, THUMBNAIL),
        failures=pd.DataFrame(failures, columns=["row", "reason"]).astype({"row": np.int64}),
    )


def _read(picture: Any) -> tuple[Any, bytes] | str:
    """Return a picture's content and its digest, or the reason why it cannot be read."""
    try:
        content = images.read(picture)
    except PictureError as error:
        return error.reason
    return content, images.digest(content)


class _Measure:
    """Measures the pictures that are not in the cache, in batches."""

    width = len(MEASURES) + 10 + THUMBNAIL**2

    def __init__(self, finder: FaceFinder | None, cache: EmbeddingCache | None) -> None:
        self._finder = finder
        self._cache = cache
        self._recipe = Recipe(
            network="agegender.inspection",
            layer=f"measures {VERSION}",
            input_size=(NORMAL_SIDE, NORMAL_SIDE),
            color="rgb",
            mean=0.0,
            scale=1.0,
            crop=0.0,
            faces=None if finder is None else str(finder.recipe.faces),
            preprocessing=images.PREPROCESSING_VERSION,
        )

    def __call__(self, contents: list[Any], pool: ThreadPoolExecutor) -> list[NDArray[np.float32] | str]:
        results: list[Any] = [content if isinstance(content, str) else None for content in contents]
        places = [place for place, content in enumerate(contents) if not isinstance(content, str)]
        digests = [contents[place][1] for place in places]
        rows = np.empty((len(places), self.width), np.float32)
        known = np.zeros(len(places), dtype=bool)
        if self._cache is not None and places:
            known = self._cache.load(self._recipe, digests, rows)
        for place, row in zip(np.array(places, dtype=int)[known], rows[known], strict=True):
            results[place] = row
        new = [place for place, there in zip(places, known, strict=True) if not there]
        for place, found in zip(
            new, pool.map(self._measure, [contents[place] for place in new]), strict=True
        ):
            results[place] = found
        self._keep(
            {contents[place][1]: results[place] for place in new if not isinstance(results[place], str)}
        )
        return results

    def _keep(self, rows: dict[bytes, NDArray[np.float32]]) -> None:
        if self._cache is not None and rows:
            self._cache.store(self._recipe, list(rows), np.stack(list(rows.values())))

    def _measure(self, content: tuple[Any, bytes]) -> NDArray[np.float32] | str:
        try:
            pixels = images.decode(content[0])
        except PictureError as error:
            return error.reason
        measures, landmarks = dict.fromkeys(MEASURES, np.nan), np.full(10, np.nan)
        measures |= _look(pixels)
        if self._finder is not None:
            face, n_faces = self._find(pixels, content[1])
            measures["n_faces"] = n_faces
            if face is not None:
                measures |= _of_face(face, pixels.shape)
                landmarks = _framed(face, pixels.shape)
        numbers = [measures[name] for name in MEASURES]
        return np.concatenate([numbers, landmarks, _thumbnail(pixels).ravel()]).astype(np.float32)

    def _find(self, pixels: NDArray[np.uint8], digest: bytes) -> tuple[Face | None, int]:
        """Find faces; if none is found, search again with a border, because tight crops cut faces off."""
        assert self._finder is not None
        faces = self._finder(pixels, digest)
        if faces:
            return faces[0], len(faces)
        padded = images.trim(pixels, -PADDING)
        faces = self._finder(padded, images.digest(padded))
        if not faces:
            return None, 0
        corner = np.array(
            [(padded.shape[1] - pixels.shape[1]) // 2, (padded.shape[0] - pixels.shape[0]) // 2]
        )
        face = faces[0]
        moved = Face(
            face.x - corner[0],
            face.y - corner[1],
            face.width,
            face.height,
            face.landmarks - corner,
            face.score,
        )
        return moved, len(faces)


def _of_face(face: Face, shape: tuple[int, ...]) -> dict[str, float]:
    height, width = shape[:2]
    return {
        "face_score": face.score,
        "face_share": min(face.width * face.height / (width * height), 1.0),
        "face_x": (face.x + face.width / 2) / width,
        "face_y": (face.y + face.height / 2) / height,
        "face_roll": face.roll,
    }


def _framed(face: Face, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the landmarks in fractions of the square around a picture."""
    height, width = shape[:2]
    side = max(height, width)
    shift = np.array([(side - width) / 2, (side - height) / 2])
    return np.asarray((face.landmarks + shift) / side).ravel()


def _look(pixels: NDArray[np.uint8]) -> dict[str, float]:
    """Measure properties that do not depend on a face."""
    import cv2

    height, width = pixels.shape[:2]
    factor = NORMAL_SIDE / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    shrink = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    small = np.asarray(cv2.resize(pixels, size, interpolation=shrink))
    grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
    channels = small.astype(np.float32)
    return {
        "width": width,
        "height": height,
        "sharpness": sharpness_of(small),
        "colour": float((channels.max(axis=2) - channels.min(axis=2)).mean()),
        "brightness": float(grey.mean()),
        "contrast": float(grey.std()),
        "border": _border(grey),
        "flatness": _flatness(pixels),
    }


def _border(grey: NDArray[np.uint8]) -> float:
    """Return the share of a picture in black rows and columns at its edges."""
    rows, columns = (np.flatnonzero(grey.max(axis=axis) > DARK) for axis in (1, 0))
    if not len(rows) or not len(columns):
        return 1.0
    inside = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
    return 1 - inside / grey.size


def _flatness(pixels: NDArray[np.uint8]) -> float:
    """Return the share of pixels that equal their right and lower neighbours; black pixels are left out."""
    here = pixels[:-1, :-1].astype(np.int16)
    same = (np.abs(here - pixels[:-1, 1:]).max(axis=2) == 0) & (
        np.abs(here - pixels[1:, :-1]).max(axis=2) == 0
    )
    lit = here.max(axis=2) > DARK
    return float(same[lit].mean()) if lit.any() else 1.0


def _thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import cv2

    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA))
