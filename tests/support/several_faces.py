"""A detector of the tests' own: none, one, several or very many faces, as a picture's pixels have it."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

# Eyes, nose and corners of the mouth in a face's box.
_LANDMARKS = np.array([[0.3, 0.35], [0.7, 0.35], [0.5, 0.55], [0.35, 0.75], [0.65, 0.75]])


class SeveralFaces:
    """As many faces as the upper left pixel's red says, of drawn sizes: no face below 40, 40 faces above 215."""

    name, min_score, max_side = "several", 0.5, 640
    sha256 = hashlib.sha256(b"several faces").hexdigest()

    def __call__(self, pixels: NDArray[np.uint8], min_score: float) -> NDArray[np.float64]:
        red = int(pixels[0, 0, 0])
        n = 0 if red < 40 else 40 if red > 215 else 1 + red % 3
        rng = np.random.default_rng(red)
        side = min(pixels.shape[:2])
        rows = []
        for _ in range(n):
            size = rng.uniform(0.3, 0.8) * side
            corner = rng.uniform(0, side - size, 2)
            landmarks = corner + size * _LANDMARKS
            rows.append(np.concatenate([corner, [size, size], landmarks.ravel(), [0.9]]))
        return np.reshape(rows, (-1, 15))
