"""How much a found face shows: its size, sharpness, pose and visible share, and one score of these.

The score is that of the worst aspect. Each aspect is 1 where it does not matter, and 0.5 at the limit beyond which
the face should not be trusted. The limits were chosen on kept-out pictures of UTKFace (``docs/faces.md``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["LIMITS", "RELIABLE", "aspects", "roll_of", "yaw_of"]

RELIABLE = 0.5
"""The quality from which a face is reliable."""

LIMITS: dict[str, float] = {"small": 24.0, "blurred": 12.0, "turned away": 45.0, "cut off": 0.75}
"""The limit of each aspect: pixels, variance of the Laplacian, degrees, share of the box."""

# How far the tip of the nose stands before the eyes, in halves of the distance between the eyes.
_NOSE = 0.9


def roll_of(landmarks: NDArray[np.float64]) -> float:
    """Return how far the head leans, in degrees, clockwise in the picture; from −180 to 180."""
    right, left = landmarks[:2]
    return float(np.degrees(np.arctan2(left[1] - right[1], left[0] - right[0])))


def yaw_of(landmarks: NDArray[np.float64]) -> float:
    """Estimate how far the head is turned to the side, in degrees, from −90 to 90.

    Positive: to the right edge of an upright picture. A head turned by θ shows its eyes at ±cos θ and the tip of its
    nose, which stands 0.9 of half the distance between the eyes before them, at 0.9 · sin θ.
    """
    right, left, nose = landmarks[:3]
    along = (left - right) / 2
    spread = float(along @ along)
    if not spread > 0:
        return 90.0
    offset = float((nose - (right + left) / 2) @ along) / spread
    return float(np.degrees(np.arctan(offset / _NOSE)))


def aspects(size: float, sharpness: float, yaw: float, visible: float) -> dict[str, float]:
    """Return each aspect of a face as a number from 0 to 1, under the words for its lack.

    Parameters
    ----------
    size : float
        The side of a square as large as the box, in pixels of the picture.
    sharpness : float
        Variance of the Laplacian of the aligned face; NaN, if it is not known, is left out.
    yaw : float
        In degrees.
    visible : float
        The share of the box that is in the picture.
    """
    found = {
        "small": size / (2 * LIMITS["small"]),
        "blurred": sharpness / (2 * LIMITS["blurred"]),
        "turned away": 1 - abs(yaw) / (2 * LIMITS["turned away"]),
        "cut off": 1 - (1 - visible) / (2 * (1 - LIMITS["cut off"])),
    }
    return {name: min(max(value, 0.0), 1.0) for name, value in found.items() if not np.isnan(value)}
