"""How the face crops that a head was trained on are framed, and whether other pictures are framed alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from agegender import images
from agegender._extraction.framing import FaceFinder
from agegender._pixels.alignment import TEMPLATES, usual_framing
from agegender._safe.declaration import SafeState
from agegender._utils.callers import warn_user
from agegender.exceptions import FramingWarning, ModelFileError, PictureError, WeightsError

__all__ = ["SeenCrops", "measure_crops", "shipped_crops", "warn_of_other_pictures"]

# Number of crops searched to find out how a collection is framed. The error of their medians is less than one
# pixel in 200.
_SAMPLE = 32
# Number of pictures checked in a prediction, and the minimum number of pictures in a call at which a face is
# searched in them even if they are not suspicious.
_LOOKED_AT = 4
_MANY = 100
# A face that is larger or smaller than in training by this factor is framed differently.
_OTHER_SCALE = 1.6
# Sides and shapes of crops may differ from those in training by these factors before they are suspicious.
_OTHER_SIDE, _OTHER_ASPECT = 1.5, 1.15


@dataclass(frozen=True, eq=False)
class SeenCrops:
    """How the face crops of a training set are framed.

    Parameters
    ----------
    landmarks : ndarray of shape (5, 2) or None
        Medians of the landmarks' positions, as fractions of the square around a crop; None if the crops are
        not framed alike, or if faces were found in too few of them.
    sides : tuple of two floats or None
        The minimum and maximum of the longer side, in pixels; None in models of agegender 0.1.
    aspects : tuple of two floats or None
        The minimum and maximum ratio of width to height; None in models of agegender 0.1.
    """

    landmarks: NDArray[np.float64] | None
    sides: tuple[float, float] | None = None
    aspects: tuple[float, float] | None = None

    _safe: ClassVar[SafeState] = SafeState()

    def is_suspicious(self, shape: tuple[int, ...]) -> bool:
        """Tell whether a picture of this height and width differs in size or shape from the crops."""
        if self.sides is None or self.aspects is None:
            return False
        side, aspect = max(shape[:2]), shape[1] / shape[0]
        near_side = self.sides[0] / _OTHER_SIDE <= side <= self.sides[1] * _OTHER_SIDE
        near_shape = self.aspects[0] / _OTHER_ASPECT <= aspect <= self.aspects[1] * _OTHER_ASPECT
        return not (near_side and near_shape)

    def scale_of(self, landmarks: NDArray[np.float64], shape: tuple[int, ...]) -> float:
        """Return the size of a face in its picture, as a multiple of the size of faces in the crops."""
        if self.landmarks is None:
            return 1.0
        placed = landmarks / max(shape[:2])
        return _spread(placed) / _spread(self.landmarks)

    def _check_safe(self) -> None:
        points = self.landmarks
        if points is not None and (np.shape(points) != (5, 2) or not np.isfinite(points).all()):
            raise ModelFileError("the framing of its faces is not five points")
        for limits in (self.sides, self.aspects):
            if limits is not None and (len(limits) != 2 or not np.isfinite(limits).all() or min(limits) <= 0):
                raise ModelFileError("the sizes of its faces are not two numbers")


def measure_crops(pictures: Sequence[Any], finder: FaceFinder | None) -> SeenCrops:
    """Find out how a collection of face crops is framed, from 32 of them.

    Parameters
    ----------
    pictures : sequence of pictures
    finder : FaceFinder or None
        None if there is no detector; then only sizes and shapes are measured.
    """
    sample = _spread_out(len(pictures), _SAMPLE)
    found, shapes = [], []
    for index in sample:
        try:
            content = images.read(pictures[index])
            pixels = images.decode(content)
        except PictureError:
            continue  # reported when the pictures are embedded
        height, width = pixels.shape[:2]
        shapes.append((max(height, width), width / height))
        faces = [] if finder is None else finder(pixels, images.digest(content))
        found += [(np.asarray(face.landmarks), (height, width)) for face in faces[:1]]
    landmarks = usual_framing(found, len(sample))
    if not shapes:
        return SeenCrops(landmarks)
    sides, aspects = np.array(shapes, dtype=np.float64).T
    return SeenCrops(
        landmarks,
        (float(sides.min()), float(sides.max())),
        (round(float(aspects.min()), 4), round(float(aspects.max()), 4)),
    )


def shipped_crops() -> SeenCrops:
    """Return how the crops are framed that the model in the package was trained on: as measured on UTKFace."""
    side, points = TEMPLATES["utkface"]
    return SeenCrops(np.array(points) / side, (side, side), (1.0, 1.0))


def warn_of_other_pictures(pictures: Sequence[Any], crops: SeenCrops, finder_of: Any) -> None:
    """Warn if pictures that are used as face crops are framed differently from the training crops.

    A few pictures are checked. A face is searched in them only if their size or shape differs, or if there
    are so many pictures that the time for the search does not matter.

    Parameters
    ----------
    pictures : sequence of pictures
    crops : SeenCrops
    finder_of : callable
        Returns the FaceFinder; called only if faces are searched.
    """
    if crops.landmarks is None:
        return
    sample = _spread_out(len(pictures), _LOOKED_AT)
    looked = [looked for index in sample if (looked := _look(pictures[index])) is not None]
    suspicious = [crops.is_suspicious(pixels.shape) for pixels, _ in looked]
    if not looked or (len(pictures) < _MANY and 2 * sum(suspicious) < len(looked)):
        return
    try:
        finder = finder_of()
    except WeightsError:
        return
    scales = [
        crops.scale_of(np.asarray(faces[0].landmarks), pixels.shape)
        for pixels, digest in looked
        if (faces := finder(pixels, digest))
    ]
    other = [scale for scale in scales if not 1 / _OTHER_SCALE <= scale <= _OTHER_SCALE]
    if scales and 2 * len(other) > len(scales):
        times = float(np.median(other))
        told = f"{1 / times:.1f} times smaller" if times < 1 else f"{times:.1f} times larger"
        warn_user(
            f"This model was trained on face crops, and {len(other)} of {len(scales)} checked pictures show a face "
            f'{told} than those: ages and genders would be wrong. For photographs pass faces="auto", which '
            "detects each face and aligns it as in training; faces=None uses every picture unchanged, without this "
            "check.",
            FramingWarning,
        )


def _spread_out(n_pictures: int, n_wanted: int) -> list[int]:
    """Return the indices of some pictures, evenly spread."""
    return sorted(set(np.linspace(0, n_pictures - 1, n_wanted).round().astype(int).tolist()))


def _look(picture: Any) -> tuple[NDArray[np.uint8], bytes] | None:
    try:
        content = images.read(picture)
        return images.decode(content), images.digest(content)
    except PictureError:
        return None


def _spread(points: NDArray[np.float64]) -> float:
    """Return the root mean square distance of five points from their mean."""
    return float(np.sqrt(((points - points.mean(axis=0)) ** 2).sum(axis=1).mean()))
