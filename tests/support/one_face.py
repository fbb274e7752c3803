"""A detector of the tests' own, in a module that worker processes can import."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path

import numpy as np


class OneFace:
    """A detector of the tests' own: a face in every picture but black ones; may kill the process it runs in."""

    name, min_score, max_side = "one", 0.5, 640

    def __init__(self, deadly: Path | None = None) -> None:
        self.deadly = deadly
        self.sha256 = hashlib.sha256(b"one").hexdigest()

    def __call__(self, pixels: np.ndarray, min_score: float) -> np.ndarray:
        if self.deadly is not None and pixels.mean() > 150:
            try:
                os.close(os.open(self.deadly, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        if pixels.max() < 30:
            return np.empty((0, 15))
        return np.array([[4, 4, 24, 24, 11, 12, 21, 12, 16, 18, 12, 23, 20, 23, 0.9]], dtype=float)
