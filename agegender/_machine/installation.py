"""Checks for known problems of an installation."""

from __future__ import annotations

import functools
import warnings
from importlib import metadata

from agegender.exceptions import EnvironmentWarning

__all__ = ["check_opencv", "opencv_wheels"]

OPENCV_WHEELS = (
    "opencv-contrib-python-headless",
    "opencv-contrib-python",
    "opencv-python-headless",
    "opencv-python",
)


def opencv_wheels() -> list[str]:
    """Return the OpenCV wheels that are installed, the one that deepface requires first."""
    found = []
    for name in OPENCV_WHEELS:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        found.append(name)
    return found


@functools.cache
def check_opencv() -> None:
    """Warn once per process if several OpenCV wheels have overwritten each other's ``cv2``."""
    found = opencv_wheels()
    if len(found) < 2:
        return
    warnings.warn(
        f"{len(found)} OpenCV wheels are installed together ({', '.join(found)}) and overwrite each other's "
        "cv2. Keep the one that deepface requires:\n"
        f"    pip uninstall -y {' '.join(found)}\n"
        f"    pip install --no-cache-dir {OPENCV_WHEELS[0]}",
        EnvironmentWarning,
        stacklevel=3,
    )
