"""The head itself: its outline, its skin with light and shade, ears, neck."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from agegender.datasets._portrait._canvas import Canvas, curve, loop, mirror, oval
from agegender.datasets._portrait._person import Person, Shape, shade

GRID = 56
FRONT = 0.5
EDGE = 0.12


def outline(shape: Shape) -> NDArray[np.float64]:
    """Return the head's closed outline, from the top of the skull clockwise."""
    right = _right_side(shape)
    left = [(-x, y) for x, y in reversed(right)]
    return loop([(0.0, -shape.top), *right, (0.0, shape.length), *left])


def _right_side(shape: Shape) -> list[tuple[float, float]]:
    w, length = shape.width, shape.length
    return [
        (0.46 * w, -0.9 * shape.top),
        (0.81 * w, -0.6 * shape.top),
        (0.97 * w, -0.2 * shape.top),
        (0.985 * w, 0.2 * length),
        (0.93 * w, 0.44 * length),
        (shape.jaw * w + 0.5 * shape.sag, 0.70 * length + 0.3 * shape.sag),
        (shape.chin * w + 0.16, 0.925 * length),
    ]


def draw_neck(canvas: Canvas, person: Person) -> None:
    """Draw the neck, in the shadow of the chin, down to the shoulders."""
    shape, skin = person.shape, person.surface.skin
    low = shape.length
    half = shape.neck
    side = curve([(half, 0.3 * low), (half * 0.97, low), (half * 1.06, low + 0.35), (half * 2.0, low + 0.75)])
    canvas.fill(np.concatenate([side, mirror(side)[::-1]]), shade(skin, 0.86), -0.3)
    mask = canvas.mask()
    canvas.mark_shape(mask, oval(0, low - 0.12, half * 1.1, 0.42), 0.42, -0.1)
    folds = person.surface.wrinkles
    if folds > 0.3:
        lines = [
            curve([(s * 0.12, low + 0.1), (s * 0.2, low + 0.35), (s * 0.16, low + 0.6)]) for s in (-1, 1)
        ]
        canvas.mark(mask, lines, 0.5 * folds + 0.1, 0.06, -0.3)
    canvas.tint(mask, shade(skin, 0.5), 0.12)


def draw_ears(canvas: Canvas, person: Person) -> None:
    """Draw both ears, level with eyes and nose."""
    shape, skin = person.shape, person.surface.skin
    middle = shape.eye_line + 0.24
    for side in (-1, 1):
        ear = loop(
            [
                (side * 0.93 * shape.width, middle - shape.ears),
                (side * (shape.width + 0.11), middle - shape.ears * 0.95),
                (side * (shape.width + 0.14), middle - shape.ears * 0.3),
                (side * (shape.width + 0.07), middle + shape.ears * 0.5),
                (side * 0.97 * shape.width, middle + shape.ears),
                (side * 0.9 * shape.width, middle),
            ]
        )
        canvas.fill(ear, shade(skin, 0.9), -EDGE)
        inner = curve(
            [
                (side * (shape.width + 0.01), middle - shape.ears * 0.6),
                (side * (shape.width + 0.085), middle - shape.ears * 0.55),
                (side * (shape.width + 0.06), middle + shape.ears * 0.25),
            ]
        )
        canvas.stroke([inner], shade(skin, 0.68), 0.03, -EDGE)


def paint_skin(canvas: Canvas, person: Person, side_light: float, rng: np.random.Generator) -> None:
    """Paint the face: its colour, the light that falls on it, and what age does to its evenness."""
    edge = outline(person.shape)
    mask = canvas.mask()
    canvas.mark_shape(mask, edge, 1.0)
    skin = _skin_map(canvas, person, side_light, rng)
    cv2.copyTo(
        cv2.resize(skin, (canvas.side, canvas.side), interpolation=cv2.INTER_LINEAR), mask, canvas.pixels
    )
    canvas.stroke([np.concatenate([edge, edge[:1]])], shade(person.surface.skin, 0.72), 0.018)


def _skin_map(
    canvas: Canvas, person: Person, side_light: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return the skin's colours everywhere on a coarse grid; only the face is cut out of it."""
    shape, surface = person.shape, person.surface
    grid = canvas.head_grid(GRID).astype(np.float32)
    grid -= np.array([canvas.pose.yaw * 0.6 * FRONT, canvas.pose.pitch * 0.6 * FRONT], np.float32)
    x, y = grid[..., 0], grid[..., 1]
    round_off = (x / shape.width) ** 2 + (y / (1.25 * shape.length)) ** 2
    light = 0.99 - 0.17 * round_off**2 + side_light * np.clip(x, -1.2, 1.2)
    light += surface.mottle * _mottle(rng)
    colours = light[..., np.newaxis] + _patches(person, x.ravel(), y.ravel()).reshape(GRID, GRID, 3)
    return np.clip(colours * np.array(surface.skin, np.float32), 0, 255).astype(np.uint8)


def _mottle(rng: np.random.Generator) -> NDArray[np.float32]:
    coarse = rng.standard_normal((12, 12), dtype=np.float32)
    fine = rng.standard_normal((GRID, GRID), dtype=np.float32)
    return cv2.resize(coarse, (GRID, GRID), interpolation=cv2.INTER_CUBIC) + 0.6 * fine


def _patches(person: Person, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum the soft patches of light, shadow and blood under the skin: a Gaussian each."""
    table = np.array(_patch_table(person), dtype=np.float32)
    px, py, rx, ry = table[:, :4].T[:, :, np.newaxis]
    bumps = np.exp(-(((x - px) / rx) ** 2) - ((y - py) / ry) ** 2)
    return bumps.T @ table[:, 4:]


def _patch_table(person: Person) -> list[tuple[float, ...]]:
    """List patches: x, y, width, height, and what they add to red, green and blue as fractions of the skin."""
    shape, surface = person.shape, person.surface
    eye, nose = shape.eye_line, shape.eye_line + shape.nose_length
    mouth = shape.eye_line + shape.mouth_drop
    old, blush = surface.wrinkles, 0.07 * surface.blush
    rows: list[tuple[float, ...]] = [
        (0, -0.55, 0.6, 0.35, 0.06, 0.06, 0.06),
        (0, nose - 0.1, 0.09, 0.1, 0.1, 0.08, 0.08),
        (0, eye + 0.5 * shape.nose_length, 0.06, 0.25, 0.06, 0.06, 0.06),
        (0, nose + 0.1, 0.22, 0.06, -0.12, -0.14, -0.14),
        (0, mouth + 0.19, 0.24, 0.06, -0.1, -0.12, -0.12),
        (0, mouth + 0.34, 0.18, 0.12, 0.06, 0.05, 0.05),
    ]
    for side in (-1, 1):
        rows += [
            (side * shape.eye_gap, eye - 0.05, 0.27, 0.17, -0.11, -0.13, -0.12),
            (side * 0.17, eye + 0.02, 0.09, 0.14, -0.1, -0.12, -0.12),
            (side * 0.58, nose - 0.03, 0.25, 0.19, blush, -blush, -0.7 * blush),
            (side * 0.6, eye + 0.36, 0.2, 0.12, 0.07, 0.06, 0.06),
            (side * shape.nose_width * 1.15, nose, 0.07, 0.1, -0.09, -0.11, -0.11),
            (side * shape.eye_gap, eye + 0.19, 0.2, 0.06, -0.15 * old, -0.17 * old, -0.13 * old),
            (side * shape.eye_gap, eye + 0.3, 0.2, 0.05, 0.07 * old, 0.06 * old, 0.06 * old),
            (side * 0.62, mouth - 0.03, 0.13, 0.24, -0.16 * old, -0.17 * old, -0.17 * old),
            (side * 0.85, -0.35, 0.14, 0.3, -0.1 * old, -0.11 * old, -0.11 * old),
            (side * 0.42, mouth + 0.3, 0.1, 0.16, -0.1 * old, -0.11 * old, -0.11 * old),
        ]
    return rows
