"""Shapes on pixels: placing by pose, smooth curves, and colours laid on softly."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from agegender.datasets._portrait._person import Colour

SHIFT = 4


@dataclass(frozen=True)
class Pose:
    """Where a head is and how it is turned.

    Parameters
    ----------
    scale : float
        Half the width of a face, as a fraction of the picture's side.
    roll : float
        In radians.
    yaw, pitch : float
        How far what lies in front moves sideways and down, in half widths of a face for a unit of depth.
    shift : tuple of float
        From the picture's middle, in fractions of its side.
    """

    scale: float
    roll: float
    yaw: float
    pitch: float
    shift: tuple[float, float]


class Canvas:
    """A square picture on which everything is placed in the head's own coordinates.

    The unit is half the width of a grown-up's face; x runs to the right, y down, from the middle of the head.
    """

    def __init__(self, side: int, pose: Pose) -> None:
        self.side = side
        self.pose = pose
        self.unit = pose.scale * side
        self.pixels = np.empty((side, side, 3), np.uint8)
        cosine, sine = np.cos(pose.roll), np.sin(pose.roll)
        self._turn = np.array([[cosine, sine], [-sine, cosine]]) * self.unit
        self._nearer = np.array([pose.yaw, pose.pitch]) @ self._turn
        self._middle = (0.5 + np.array(pose.shift)) * side

    def place(self, points: NDArray[np.float64], depth: float = 0.0) -> NDArray[np.float64]:
        """Return pixel coordinates of points (…, 2) of the head that lie so far in front of its middle."""
        placed: NDArray[np.float64] = points @ self._turn + (self._middle + depth * self._nearer)
        return placed

    def head_grid(self, n: int) -> NDArray[np.float64]:
        """Return the head's coordinates of an n × n grid over the picture, of shape (n, n, 2)."""
        steps = (np.arange(n) + 0.5) * (self.side / n)
        places = np.stack(np.meshgrid(steps, steps), axis=-1)
        grid: NDArray[np.float64] = (places - self._middle) @ self._turn.T / self.unit**2
        return grid

    def fill(self, points: NDArray[np.float64], colour: Colour, depth: float = 0.0) -> None:
        """Fill a closed shape."""
        cv2.fillPoly(self.pixels, [self._fixed(points, depth)], colour, cv2.LINE_AA, SHIFT)

    def stroke(
        self,
        curves: Sequence[NDArray[np.float64]] | NDArray[np.float64],
        colour: Colour,
        width: float,
        depth: float = 0.0,
    ) -> None:
        """Draw open curves with a pen so many units wide."""
        fixed = self._fixed_all(curves, depth)
        cv2.polylines(self.pixels, fixed, False, colour, self._pen(width), cv2.LINE_AA, SHIFT)

    def strands(
        self, curves: NDArray[np.float64], tones: Sequence[Colour], width: float, depth: float = 0.0
    ) -> None:
        """Draw many curves of equal length (n, k, 2), their colours taken in turn."""
        fixed = self._fixed(curves, depth)
        for first, tone in enumerate(tones):
            lot = list(fixed[first :: len(tones)])
            if lot:
                cv2.polylines(self.pixels, lot, False, tone, self._pen(width), cv2.LINE_8, SHIFT)

    def mask(self) -> NDArray[np.uint8]:
        """Return an empty mask of the picture's size, for `mark` and `tint`."""
        return np.zeros((self.side, self.side), np.uint8)

    def mark(
        self,
        mask: NDArray[np.uint8],
        curves: Sequence[NDArray[np.float64]],
        strength: float,
        width: float,
        depth: float = 0.0,
    ) -> None:
        """Draw open curves into a mask, 0…1."""
        fixed = self._fixed_all(curves, depth)
        cv2.polylines(mask, fixed, False, _level(strength), self._pen(width), cv2.LINE_AA, SHIFT)

    def mark_shape(
        self, mask: NDArray[np.uint8], points: NDArray[np.float64], strength: float, depth: float = 0.0
    ) -> None:
        """Fill a closed shape in a mask, 0…1."""
        cv2.fillPoly(mask, [self._fixed(points, depth)], _level(strength), cv2.LINE_AA, SHIFT)

    def tint(self, mask: NDArray[np.uint8], colour: Colour, softness: float = 0.0) -> None:
        """Lay a colour over the picture as thickly as a mask says, its edges softened by so many units."""
        left, top, width, height = cv2.boundingRect(mask)
        if width == 0:
            return
        reach = int(softness * self.unit) | 1
        rows = slice(max(0, top - reach), top + height + reach)
        columns = slice(max(0, left - reach), left + width + reach)
        share, below = mask[rows, columns], self.pixels[rows, columns]
        if reach > 1:
            share = cv2.blur(cv2.blur(share, (reach, reach)), (reach, reach))
        weight = share.astype(np.float32) * np.float32(1 / 255)
        above = np.empty_like(below)
        above[:] = np.asarray(colour)
        self.pixels[rows, columns] = cv2.blendLinear(below, above, 1 - weight, weight)

    def _fixed(self, points: NDArray[np.float64], depth: float) -> NDArray[np.int32]:
        return np.rint(self.place(points, depth) * 2**SHIFT).astype(np.int32)

    def _fixed_all(
        self, curves: Sequence[NDArray[np.float64]] | NDArray[np.float64], depth: float
    ) -> list[NDArray[np.int32]]:
        ends = np.cumsum([len(curve) for curve in curves])[:-1]
        return np.split(self._fixed(np.concatenate(list(curves)), depth), ends)

    def _pen(self, width: float) -> int:
        return max(1, round(width * self.unit))


def _level(strength: float) -> int:
    return round(255 * min(1.0, max(0.0, strength)))


def _spline(n: int) -> NDArray[np.float64]:
    t = np.linspace(0, 1, n, endpoint=False)[:, np.newaxis]
    return 0.5 * np.hstack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3]
    )


_STEPS = 6
_WEIGHTS = _spline(_STEPS)


def loop(points: Sequence[tuple[float, float]] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a closed smooth curve (Catmull-Rom) through the points."""
    array = np.asarray(points, dtype=np.float64)
    around = np.concatenate([array[-1:], array, array[:2]])
    return _through(around)


def curve(points: Sequence[tuple[float, float]] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an open smooth curve (Catmull-Rom) through the points."""
    array = np.asarray(points, dtype=np.float64)
    ends = np.concatenate([2 * array[:1] - array[1:2], array, 2 * array[-1:] - array[-2:-1]])
    return np.concatenate([_through(ends), array[-1:]])


def _through(points: NDArray[np.float64]) -> NDArray[np.float64]:
    sets = np.stack([points[:-3], points[1:-2], points[2:-1], points[3:]], axis=1)
    return np.einsum("sk,nkd->nsd", _WEIGHTS, sets).reshape(-1, 2)


def oval(x: float, y: float, half_width: float, half_height: float, n: int = 28) -> NDArray[np.float64]:
    """Return a closed ellipse."""
    return _circle(n) * np.array([half_width, half_height]) + np.array([x, y])


@functools.cache
def _circle(n: int) -> NDArray[np.float64]:
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.column_stack([np.cos(angle), np.sin(angle)])


def mirror(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Swap left and right."""
    return points * np.array([-1.0, 1.0])
