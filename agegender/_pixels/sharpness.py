"""How sharp a picture is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["sharpness_of"]


def sharpness_of(pixels: NDArray[np.uint8]) -> float:
    """Return the variance of the Laplacian of a picture's grey values.

    It depends on the picture's size: compare pictures that were scaled to the same size.

    Parameters
    ----------
    pixels : ndarray of shape (h, w, 3), uint8
        An RGB picture.

    Returns
    -------
    float
        0 for a picture of one colour; grey values are from 0 to 255.

    References
    ----------
    Pech-Pacheco, Cristóbal, Chamorro-Martínez and Fernández-Valdivia, "Diatom autofocusing in brightfield
    microscopy: a comparative study", ICPR 2000.
    """
    import cv2

    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return float(np.asarray(cv2.Laplacian(grey, cv2.CV_32F)).var())
