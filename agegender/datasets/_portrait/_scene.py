"""What is around a head: a background, clothes, light, and the camera."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from agegender.datasets._portrait._canvas import Canvas, curve, mirror
from agegender.datasets._portrait._person import Colour, Person, pick, shade

BACKGROUNDS = (
    (176, 190, 200),
    (206, 196, 180),
    (140, 160, 140),
    (98, 112, 130),
    (214, 206, 204),
    (150, 124, 110),
    (190, 204, 186),
    (120, 104, 128),
)
COARSE = 48


def paint_background(canvas: Canvas, rng: np.random.Generator) -> None:
    """Fill the picture with a wall, a gradient, or something out of focus."""
    first, second = (np.array(pick(BACKGROUNDS, rng), np.float32) * rng.uniform(0.75, 1.15) for _ in range(2))
    slope = np.linspace(0, rng.uniform(0.2, 1), COARSE, dtype=np.float32)
    share = np.tile(slope[:, np.newaxis, np.newaxis], (1, COARSE, 1))
    if rng.random() < 0.4:
        share = np.ascontiguousarray(share.transpose(1, 0, 2))
    coarse = first * (1 - share) + second * share
    kind = rng.integers(3)
    if kind == 1:
        _blobs(coarse, rng)
    elif kind == 2:
        _furniture(coarse, rng)
    coarse = np.clip(coarse, 0, 255).astype(np.uint8)
    cv2.resize(coarse, (canvas.side, canvas.side), dst=canvas.pixels, interpolation=cv2.INTER_LINEAR)


def _blobs(coarse: NDArray[np.float32], rng: np.random.Generator) -> None:
    for _ in range(10):
        colour = np.array(pick(BACKGROUNDS, rng), np.float32) * rng.uniform(0.7, 1.25)
        middle = tuple(int(v) for v in rng.integers(0, COARSE, 2))
        cv2.circle(coarse, middle, int(rng.integers(3, 8)), colour.tolist(), -1)
    cv2.GaussianBlur(coarse, (0, 0), 1.6, dst=coarse)


def _furniture(coarse: NDArray[np.float32], rng: np.random.Generator) -> None:
    for _ in range(5):
        colour = np.array(pick(BACKGROUNDS, rng), np.float32) * rng.uniform(0.7, 1.2)
        left, top = (int(v) for v in rng.integers(-6, COARSE, 2))
        width, height = (int(v) for v in rng.integers(5, 22, 2))
        cv2.rectangle(coarse, (left, top), (left + width, top + height), colour.tolist(), -1)
    cv2.GaussianBlur(coarse, (0, 0), 1.2, dst=coarse)


def draw_clothes(canvas: Canvas, person: Person) -> None:
    """Draw shoulders and what is worn on them."""
    shape, colour = person.shape, person.clothes
    y, neck = shape.length + 0.26, shape.neck
    deep = {"crew": 0.28, "shirt": 0.42}.get(person.collar, 0.62)
    half = curve(
        [
            (0.0, y + deep),
            (0.6 * neck, y + 0.72 * deep),
            (neck * 1.02, y + 0.08),
            (neck * 1.25, y),
            (0.75 * shape.shoulders, y + 0.3),
            (shape.shoulders, y + 0.75),
            (shape.shoulders + 0.15, y + 2.0),
            (0.0, y + 2.0),
        ]
    )
    canvas.fill(np.concatenate([half, mirror(half)[::-1]]), colour, -0.4)
    edge = half[: len(half) * 3 // 7]
    canvas.stroke([edge, mirror(edge)], shade(colour, 0.72), 0.05, -0.4)
    if person.collar == "shirt":
        _draw_shirt_collar(canvas, colour, y, neck)
    elif person.collar == "necklace":
        chain = curve([(-0.92 * neck, y + 0.05), (0.0, y + 0.5), (0.92 * neck, y + 0.05)])
        canvas.stroke([chain], (224, 188, 96), 0.03, -0.35)


def _draw_shirt_collar(canvas: Canvas, colour: Colour, y: float, neck: float) -> None:
    flap = np.array([(neck * 1.0, y - 0.1), (0.06, y + 0.42), (0.42, y + 0.62), (neck * 1.38, y + 0.06)])
    for side in (flap, mirror(flap)):
        canvas.fill(side, shade(colour, 1.18), -0.35)
        canvas.stroke([np.concatenate([side, side[:1]])], shade(colour, 0.7), 0.025, -0.35)


def photograph(canvas: Canvas, size: int, side_light: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Take the picture: scale it down, light it, and add the camera's softness and noise."""
    picture = cv2.resize(canvas.pixels, (size, size), interpolation=cv2.INTER_AREA)
    warmth = rng.normal(0, 0.035)
    colour = rng.normal(1.01, 0.075) * np.array([1 + warmth, 1.0, 1 - warmth])
    across = 1 + 0.6 * side_light * np.linspace(-1, 1, 8)
    down = 1 + rng.normal(-0.03, 0.05) * np.linspace(-1, 1, 8)
    light = (down[:, np.newaxis] * across)[..., np.newaxis] * colour
    light = cv2.resize(light.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
    lit = cv2.multiply(picture, light, dtype=cv2.CV_8U)
    if rng.random() < 0.3:
        lit = cv2.GaussianBlur(lit, (0, 0), rng.uniform(0.4, 1.0) * size / 200)
    noise = rng.integers(0, int(rng.integers(2, 12)), lit.shape, dtype=np.uint8)
    return cv2.subtract(cv2.add(lit, noise), np.full_like(lit, noise.max() // 2))
