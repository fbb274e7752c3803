"""Transformation of faces to the framing that a network was trained on, by rotation, scale and shift."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from agegender._utils.validation import check_choice

__all__ = [
    "FRAMINGS",
    "TEMPLATES",
    "Template",
    "cut_out",
    "oversampling",
    "reframe",
    "template_key",
    "usual_framing",
]

Matrix: TypeAlias = NDArray[np.float64]
Template: TypeAlias = str | Matrix

TEMPLATES: dict[str, tuple[float, tuple[tuple[float, float], ...]]] = {
    "arcface": (
        112.0,
        ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)),
    ),
    # Between the medians of the landmarks that YuNet and MTCNN find in hundreds of the crops; their scatter
    # is 3 to 8 pixels.
    "utkface": (200.0, ((59.5, 58.0), (138.0, 58.0), (98.0, 103.0), (63.5, 138.5), (133.0, 138.5))),
}
"""Positions of the five landmarks: a square's side in pixels, and points in the order of `Face.landmarks`."""


FRAMINGS = ("utkface",)
"""The framings of face crops that `reframe` knows."""

# Crops are framed alike if the median distance of their landmarks from the medians is at most this fraction
# of the side.
_SCATTER = 0.08
_FEWEST = 8


def cut_out(
    pixels: NDArray[np.uint8],
    landmarks: Matrix,
    input_size: tuple[int, int],
    template: Template,
    margin: float = 0.0,
) -> NDArray[np.uint8]:
    """Cut out the face with these five landmarks; see :func:`agegender.faces.align`."""
    return _warp(
        pixels, _similarity(landmarks, _place(_points(template), input_size, min, margin)), input_size
    )


def oversampling(
    landmarks: Matrix, input_size: tuple[int, int], template: Template, margin: float = 0.0
) -> float:
    """Return how many pixels of the picture `cut_out` combines into one pixel, along a side."""
    matrix = _similarity(landmarks, _place(_points(template), input_size, min, margin))
    return 1 / max(1e-9, float(np.hypot(*matrix[:, 0])))


def reframe(
    pixels: NDArray[np.uint8],
    input_size: tuple[int, int],
    framing: str = "utkface",
    *,
    margin: float = 0.0,
) -> NDArray[np.uint8]:
    """Bring a crop with a known framing into ArcFace's framing, without detection.

    UTKFace's crops are tighter than those of :func:`agegender.faces.align`. Training on one framing and
    predicting on the other reduces accuracy; this similarity transform, which is the same for all crops,
    removes the difference.

    Parameters
    ----------
    pixels : ndarray of shape (h, w, 3), uint8
        A crop framed as UTKFace's "aligned & cropped" faces are, of any size.
    input_size : tuple of int
        Height and width of the network's input, in pixels.
    framing : {"utkface"}, default="utkface"
        How the crop is framed.
    margin : float, default=0.0
        As in :func:`agegender.faces.align`.

    Returns
    -------
    ndarray of shape (input_size[0], input_size[1], 3), uint8
        Parts that are outside of the crop are black.

    Raises
    ------
    ValueError
        If the framing is not known.

    See Also
    --------
    agegender.faces.align : Align a face to a template.
    """
    check_choice("framing", framing, FRAMINGS, "reframe")
    height, width = pixels.shape[:2]
    here, there = (
        _place(_points(framing), (height, width), max),
        _place(_points("arcface"), input_size, min, margin),
    )
    return _warp(pixels, _similarity(here, there), input_size)


def usual_framing(found: Sequence[tuple[Matrix, tuple[int, int]]], n_crops: int) -> Matrix | None:
    """Return the positions of the landmarks in crops that are framed alike, or None if they are not.

    Parameters
    ----------
    found : sequence of (landmarks, (height, width))
        The five landmarks found in a crop, in pixels, and the crop's size.
    n_crops : int
        How many crops were searched.

    Returns
    -------
    ndarray of shape (5, 2) or None
        Medians, as fractions of the side of a square around the crop, rounded to three decimals. None if a
        face was found in less than half of the crops or in fewer than eight, or if the landmarks scatter
        widely.
    """
    if len(found) < max(_FEWEST, n_crops / 2):
        return None
    placed = np.array(
        [
            (landmarks - [width / 2, height / 2]) / max(height, width) + 0.5
            for landmarks, (height, width) in found
        ]
    )
    middle: Matrix = np.median(placed, axis=0).round(3)
    scatter = np.median(np.hypot(*np.moveaxis(placed - middle, -1, 0)))
    return middle if scatter <= _SCATTER else None


def template_key(template: Template) -> str:
    """Return a template's name in cache keys.

    See Also
    --------
    agegender.faces.detector_key : The cache key of a detector.
    """
    if isinstance(template, str):
        return template
    return f"points-{zlib.crc32(_points(template).round(6).astype('<f8').tobytes()):08x}"


def _points(template: Template) -> Matrix:
    """Return a template's points as fractions of a square's side."""
    if isinstance(template, str):
        check_choice("template", template, tuple(TEMPLATES), "align")
        side, points = TEMPLATES[template]
        return np.array(points) / side
    given = np.asarray(template, dtype=np.float64)
    if given.shape != (5, 2) or not np.isfinite(given).all():
        raise ValueError(
            f"align: template has shape {given.shape}; pass one of {', '.join(map(repr, TEMPLATES))}, or five points "
            "(5, 2) in fractions of the side."
        )
    return given


def _place(
    points: Matrix, size: tuple[int, int], fit: Callable[[int, int], int], margin: float = 0.0
) -> Matrix:
    """Return a template's points, centred in a picture, scaled to its shorter (min) or longer (max) side."""
    height, width = size
    placed: Matrix = (points - 0.5) * (fit(height, width) / (1 + 2 * margin)) + np.array([width, height]) / 2
    return placed


def _similarity(source: Matrix, target: Matrix) -> Matrix:
    """Return the 2 × 3 similarity transform that maps points to others with the least squared error."""
    # With complex numbers, a similarity without mirroring is z → a·z + b, and the best a is a regression
    # slope.
    start, end = source @ np.array([1, 1j]), target @ np.array([1, 1j])
    around = start - start.mean()
    spread = np.vdot(around, around).real
    if not spread > 1e-6:
        raise ValueError("align: the face's landmarks all lie in one point; it cannot be aligned.")
    a = np.vdot(around, end - end.mean()) / spread
    b = end.mean() - a * start.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def _warp(pixels: NDArray[np.uint8], matrix: Matrix, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Apply a similarity; only the visible part is processed, and averaged first if it is scaled down."""
    import cv2

    height, width = size
    left, top, right, bottom = _shown(matrix, size, pixels.shape)
    if left >= right or top >= bottom:
        return np.zeros((height, width, 3), np.uint8)
    part, matrix = pixels[top:bottom, left:right], matrix.copy()
    matrix[:, 2] += matrix[:, :2] @ np.array([left, top])
    scale = float(np.hypot(*matrix[:, 0]))
    if scale < 1:
        smaller = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
        factors = np.array([smaller[0] / (right - left), smaller[1] / (bottom - top)])
        part = cv2.resize(part, smaller, interpolation=cv2.INTER_AREA)
        # The centre of pixel i of the smaller part was at (i + ½) / factor − ½.
        matrix[:, 2] += matrix[:, :2] @ (0.5 / factors - 0.5)
        matrix[:, :2] = matrix[:, :2] / factors
    warped = cv2.warpAffine(part, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=(0, 0, 0))
    return np.asarray(warped)


def _shown(matrix: Matrix, size: tuple[int, int], shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return the part of a picture that a transform maps into an input: left, top, right, bottom."""
    height, width = size
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], dtype=np.float64)
    places = np.linalg.solve(matrix[:, :2], (corners - matrix[:, 2]).T)
    margin = 2 + int(2 / max(1e-6, float(np.hypot(*matrix[:, 0]))))
    low = np.clip(np.floor(places.min(axis=1)) - margin, 0, [shape[1], shape[0]]).astype(int)
    high = np.clip(np.ceil(places.max(axis=1)) + margin, 0, [shape[1], shape[0]]).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])
