"""A picture with its faces: what is written at each box, in which colour, and in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agegender.plots._axes import BLUE

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MarkedFace", "MarkedPicture", "marked_faces"]

Box = tuple[float, float, float, float]

# White can be read on each of them.
_COLORS = (BLUE, "#b84e00", "#00805d", "#9a3d78", "#7a5c00")
_BOX = ("x", "y", "width", "height")
_NEEDED = ("age", "age_low", "age_high", "gender", "gender_proba")
_UNSURE = "not sure"


@dataclass(frozen=True)
class MarkedFace:
    """One face: its box (left, top, width, height in pixels; None: the whole picture), numbers and colour."""

    box: Box | None
    age: float
    low: float
    high: float
    gender: str | None
    proba: float
    color: str

    @property
    def label(self) -> str:
        """What stands at the box: age and gender."""
        age = _UNSURE if np.isnan(self.age) else f"{self.age:.0f}"
        return age if self.gender is None else f"{age} · {self.gender}"

    @property
    def words(self) -> str:
        """All that is known of the face, in words."""
        age = f"age: {_UNSURE}" if np.isnan(self.age) else f"{self.age:.0f} years"
        age += f" ({self.low:.0f} to {self.high:.0f})"
        gender = f"gender: {_UNSURE}" if self.gender is None else f"{self.gender}, {100 * self.proba:.0f} %"
        return f"{age}, {gender}"

    def box_in(self, shape: tuple[int, ...]) -> Box:
        """Return the box within a picture of this shape."""
        return self.box or (0.0, 0.0, float(shape[1]), float(shape[0]))


@dataclass(frozen=True)
class MarkedPicture:
    """A picture's name, its pixels or why there are none, and its faces, the largest first."""

    name: str
    pixels: NDArray[np.uint8] | None
    faces: tuple[MarkedFace, ...]
    problem: str = ""

    @property
    def short_name(self) -> str:
        """The last part of a path."""
        return PurePath(self.name).name or self.name

    @property
    def words(self) -> str:
        """What is in the picture, for who cannot see it."""
        if self.problem:
            return self.problem
        return "; ".join(face.words for face in self.faces) or "no face found"


def marked_faces(
    table: pd.DataFrame, n_pictures: int, names: Mapping[Any, str]
) -> dict[int, list[MarkedFace]]:
    """Return the faces of each picture that has any; a row of NaN is none.

    Raises
    ------
    ValueError
        If the table does not go with so many pictures, or lacks a column.
    """
    missing = [name for name in _NEEDED if name not in table]
    boxed = [name for name in _BOX if name in table]
    missing += [name for name in _BOX if boxed and name not in boxed]
    if missing:
        raise ValueError(
            f"The table lacks the columns {', '.join(missing)}; pass what predict_faces or predict_frame returned."
        )
    found: dict[int, list[MarkedFace]] = {}
    for index, row in zip(_pictures(table, n_pictures), table.to_dict("records"), strict=True):
        if row["age_low"] != row["age_low"]:
            continue  # nothing was predicted: no face, or a picture that could not be read
        faces = found.setdefault(index, [])
        faces.append(_face(row, bool(boxed), names, _COLORS[len(faces) % len(_COLORS)]))
    return found


def _pictures(table: pd.DataFrame, n_pictures: int) -> list[int]:
    """Return the picture of each row."""
    if "picture" not in table:
        if len(table) != n_pictures:
            raise ValueError(
                f"The table has {len(table)} rows for {n_pictures} pictures and no column 'picture' that tells which "
                "is whose; pass what predict_faces returned, or a row for each picture."
            )
        return list(range(n_pictures))
    indices = table["picture"].to_numpy()
    if indices.dtype.kind not in "iu" or (
        len(indices) and not 0 <= indices.min() <= indices.max() < n_pictures
    ):
        raise ValueError(
            f"The column 'picture' has {indices[:3].tolist()}…; it should tell the place among the {n_pictures} "
            f"pictures, 0 to {n_pictures - 1}: pass the same pictures that were predicted."
        )
    return [int(index) for index in indices]


def _face(row: Mapping[Any, Any], boxed: bool, names: Mapping[Any, str], color: str) -> MarkedFace:
    label = row["gender"]
    unknown = label is None or label != label
    return MarkedFace(
        box=tuple(float(row[name]) for name in _BOX) if boxed else None,  # type: ignore[arg-type]
        age=float(row["age"]),
        low=float(row["age_low"]),
        high=float(row["age_high"]),
        gender=None if unknown else names.get(label, _plain(label)),
        proba=float(row["gender_proba"]),
        color=color,
    )


def _plain(label: Any) -> str:
    """Return a label as text; a whole number that NaN beside it made a float, as the whole number."""
    return f"{label:.0f}" if isinstance(label, float) and label.is_integer() else str(label)
