"""The columns of a table of predictions, the same for every kind of model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from agegender.calibration import Calibration, check_coverage, prediction_columns
from agegender.faces import Face, face_columns

__all__ = ["Columns", "Wanted", "joined", "of_every_face"]

Columns: TypeAlias = dict[str, NDArray[Any]]
_BOX = ("x", "y", "width", "height", "score")


@dataclass(frozen=True)
class Wanted:
    """What a table of predictions is asked for.

    Parameters
    ----------
    coverage, max_age_range, min_gender_proba, distribution
        As in :meth:`agegender.AgeGenderPipeline.predict_frame`.
    """

    coverage: float
    max_age_range: float | None
    min_gender_proba: float | None
    distribution: bool

    def __post_init__(self) -> None:
        check_coverage(self.coverage)

    def columns(
        self,
        ages: NDArray[np.float32],
        genders: NDArray[np.float32],
        labels: NDArray[Any],
        calibration: Calibration,
    ) -> Columns:
        """Return the columns of distributions, of shape (n_samples, n_ages) and (n_samples, 2)."""
        columns = prediction_columns(
            ages,
            genders,
            labels,
            calibration=calibration,
            coverage=self.coverage,
            max_age_range=self.max_age_range,
            min_gender_proba=self.min_gender_proba,
        )
        return columns | ({"age_proba": ages} if self.distribution else {})

    def no_columns(self, classes: Sequence[NDArray[Any]], calibration: Calibration) -> Columns:
        """Return the columns of no rows, with their types."""
        ages, genders = (np.full((1, len(labels)), 1 / len(labels), np.float32) for labels in classes)
        return {name: each[:0] for name, each in self.columns(ages, genders, classes[1], calibration).items()}


def joined(parts: Sequence[Columns]) -> Columns:
    """Return the columns of several blocks as one."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def of_every_face(blocks: Iterable[tuple[Sequence[tuple[int, Face]], Columns]], of_none: Columns) -> Columns:
    """Return the columns of a table with one row per face.

    Parameters
    ----------
    blocks : iterable of tuples of places and columns
        The index of the picture and the face of each row, and what was predicted of them.
    of_none : dict of str to ndarray
        The predicted columns if there is no block.

    Returns
    -------
    dict of str to ndarray of shape (n_faces,)
        picture, x, y, width, height, score, the predicted columns, and those of :func:`agegender.faces.face_columns`.
    """
    places: list[tuple[int, Face]] = []
    found: list[Columns] = []
    for more, columns in blocks:
        places += more
        found.append(columns)
    boxes = [[getattr(face, side) for side in _BOX] for _, face in places]
    sides = np.array(boxes, np.float64).reshape(-1, len(_BOX)).T
    where = {"picture": np.array([picture for picture, _ in places], np.int64)}
    where |= dict(zip(_BOX, sides, strict=True))
    return where | (joined(found) if found else of_none) | face_columns([face for _, face in places])
