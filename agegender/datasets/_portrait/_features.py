"""What stands in a face: eyes, brows, nose, mouth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agegender.datasets._portrait._canvas import Canvas, curve, loop, mirror, oval
from agegender.datasets._portrait._head import FRONT
from agegender.datasets._portrait._person import Colour, Person, between, mix, shade

NOSE_TIP = 0.8
WHITE = (242, 240, 238)


def draw_eyes(canvas: Canvas, person: Person, gaze: float) -> None:
    """Draw both eyes, looking to the side by a share of the iris."""
    for side in (-1, 1):
        _draw_eye(canvas, person, side, gaze)


def _lids(person: Person, side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the upper and the lower lid as curves from the inner corner to the outer."""
    shape = person.shape
    middle, level, half, opening = shape.eye_gap, shape.eye_line, shape.eye_width, shape.eye_open
    low = level + shape.eye_droop
    smile = 0.15 * opening * max(0.0, person.smile)
    upper = curve(
        [
            (middle - half, level + 0.03),
            (middle - 0.45 * half, level - 0.8 * opening),
            (middle + 0.15 * half, level - opening + 0.3 * shape.eye_droop),
            (middle + 0.68 * half, level - 0.55 * opening + shape.eye_droop),
            (middle + half, low - 0.01),
        ]
    )
    lower = curve(
        [
            (middle - half, level + 0.03),
            (middle - 0.3 * half, level + 0.72 * opening - smile),
            (middle + 0.3 * half, level + 0.82 * opening - smile),
            (middle + half, low - 0.01),
        ]
    )
    turn = np.array([float(side), 1.0])
    return upper * turn, lower * turn


def _draw_eye(canvas: Canvas, person: Person, side: int, gaze: float) -> None:
    shape, surface = person.shape, person.surface
    upper, lower = _lids(person, side)
    _eye_shadow(canvas, person, upper, side)
    canvas.fill(
        np.concatenate([upper, lower[::-1]]), mix(WHITE, surface.skin, 0.12 + 0.12 * surface.wrinkles), FRONT
    )
    size = 0.115 + 0.02 * person.childhood
    x, y = side * shape.eye_gap + gaze * 0.06, shape.eye_line - 0.12 * shape.eye_open
    for radius, colour in (
        (size, shade(surface.iris, 0.55)),
        (0.84 * size, shade(surface.iris, 1.15)),
        (0.45 * size, (18, 14, 14)),
    ):
        canvas.fill(_between_lids(oval(x, y, radius, radius), upper, lower), colour, FRONT)
    glint = oval(x - 0.035, y - 0.04, 0.028, 0.028, 10)
    canvas.fill(_between_lids(glint, upper, lower), (250, 250, 250), FRONT)
    _draw_lids(canvas, person, upper, lower, side)


def _between_lids(
    points: NDArray[np.float64], upper: NDArray[np.float64], lower: NDArray[np.float64]
) -> NDArray[np.float64]:
    up, down = (lid[np.argsort(lid[:, 0], kind="stable")] for lid in (upper, lower))
    x = points[:, 0]
    high, low = np.interp(x, up[:, 0], up[:, 1]), np.interp(x, down[:, 0], down[:, 1])
    return np.column_stack([x, np.clip(points[:, 1], np.minimum(high, low), low)])


def _eye_shadow(canvas: Canvas, person: Person, upper: NDArray[np.float64], side: int) -> None:
    if person.surface.eye_shadow < 0.2:
        return
    mask = canvas.mask()
    lid = upper + np.array([0.02 * side, -0.045])
    canvas.mark(mask, [lid], 0.5 * person.surface.eye_shadow, 0.1, FRONT)
    canvas.tint(mask, mix(shade(person.surface.skin, 0.5), (120, 70, 110), 0.5), 0.05)


def _draw_lids(
    canvas: Canvas, person: Person, upper: NDArray[np.float64], lower: NDArray[np.float64], side: int
) -> None:
    skin, lashes = person.surface.skin, person.surface.lashes
    dark = mix(shade(skin, 0.42), (22, 16, 16), min(1.0, 0.35 + 0.6 * lashes))
    canvas.stroke([lower[2:]], mix(shade(skin, 0.66), (40, 26, 26), 0.25 * lashes), 0.018, FRONT)
    canvas.stroke([upper], dark, 0.026 + 0.024 * lashes, FRONT)
    if lashes > 0.5:
        tips = upper[len(upper) // 3 :: 3]
        away = np.linspace(0.1, 1, len(tips))[:, np.newaxis] * np.array([0.07 * side, -0.01]) + np.array(
            [0, -0.055]
        )
        canvas.stroke(np.stack([tips, tips + away * lashes], axis=1), dark, 0.016, FRONT)
    gap = between(0.065, 0.03, person.shape.eye_droop * 12)
    canvas.stroke([upper[1:-2] + np.array([0.01 * side, -gap])], shade(skin, 0.66), 0.017, FRONT)


def draw_brows(canvas: Canvas, person: Person, rng: np.random.Generator) -> None:
    """Draw the brows, hair by hair."""
    shape = person.shape
    inner, arch = shape.eye_line - shape.brow_height, 0.05 + 0.03 * (1 - person.childhood)
    x = np.array([shape.eye_gap - 0.24, shape.eye_gap - 0.02, shape.eye_gap + 0.17, shape.eye_gap + 0.34])
    y = (
        inner
        + np.array([0.0, -0.5 * arch, -0.8 * arch, 0.03 + 0.6 * shape.eye_droop])
        + rng.normal(0, 0.008, 4)
    )
    ridge = curve(np.column_stack([x, y]))
    thick = shape.brow * np.interp(np.linspace(0, 1, len(ridge)), [0, 0.3, 0.7, 1], [0.75, 1, 0.7, 0.15])
    above, below = (
        ridge - np.column_stack([0 * thick, thick]) / 2,
        ridge + np.column_stack([0 * thick, thick]) / 2,
    )
    shape_of_brow = np.concatenate([above, below[::-1]])
    mask = canvas.mask()
    for flip in (1.0, -1.0):
        canvas.mark_shape(mask, shape_of_brow * np.array([flip, 1.0]), 0.8, FRONT)
    canvas.tint(mask, person.hair.brow_colour, 0.03)
    _brow_hairs(canvas, person, ridge, thick, rng)


def _brow_hairs(
    canvas: Canvas,
    person: Person,
    ridge: NDArray[np.float64],
    thick: NDArray[np.float64],
    rng: np.random.Generator,
) -> None:
    n = int(16 + 200 * person.shape.brow)
    at = rng.integers(0, len(ridge) - 2, n)
    root = ridge[at] + np.column_stack([np.zeros(n), thick[at] * rng.uniform(-0.1, 0.6, n)])
    tip = root + np.column_stack(
        [rng.uniform(0.03, 0.07, n), -thick[at] * rng.uniform(0.4, 0.9, n) * (1 - at / len(ridge))]
    )
    hairs = np.stack([root, tip], axis=1)
    tones = [shade(person.hair.brow_colour, f) for f in (0.8, 1.12)]
    canvas.strands(np.concatenate([hairs, mirror(hairs)]), tones, 0.008, FRONT)


def mark_nose(canvas: Canvas, mask: NDArray[np.uint8], person: Person, side_light: float) -> None:
    """Mark the nose's wings, the shaded side of its bridge, and the groove below it."""
    shape = person.shape
    tip, half = shape.eye_line + shape.nose_length, shape.nose_width
    low = shape.eye_line + shape.mouth_drop - shape.lips
    canvas.mark_shape(
        mask, loop([(-0.02, tip + 0.12), (0.02, tip + 0.12), (0.035, low), (-0.035, low)]), 0.13, FRONT
    )
    dark = -1.0 if side_light > 0 else 1.0
    bridge = curve(
        [
            (dark * 0.13, shape.eye_line - 0.08),
            (dark * 0.085, shape.eye_line + 0.12),
            (dark * 0.11, tip - 0.2),
        ]
    )
    canvas.mark(mask, [bridge], 0.2 * (1 - 0.7 * person.childhood), 0.05, 0.65)
    for side in (-1, 1):
        wing = curve(
            [
                (side * half * 0.82, tip - 0.13),
                (side * half * 1.05, tip - 0.03),
                (side * half * 0.85, tip + 0.05),
                (side * half * 0.62, tip + 0.03),
            ]
        )
        canvas.mark(mask, [wing], 0.42, 0.026, 0.65)
    under = curve([(-0.35 * half, tip + 0.06), (0, tip + 0.085), (0.35 * half, tip + 0.06)])
    canvas.mark(mask, [under], 0.4, 0.03, 0.65)


def draw_nostrils(canvas: Canvas, person: Person) -> None:
    """Draw the nostrils."""
    tip, half = person.shape.eye_line + person.shape.nose_length, person.shape.nose_width
    for side in (-1, 1):
        nostril = oval(side * half * 0.45, tip + 0.045, half * 0.24, 0.028, 12)
        canvas.fill(nostril, shade(person.surface.skin, 0.38), 0.65)


def draw_mouth(canvas: Canvas, person: Person) -> None:
    """Draw the lips; a broad smile may show the teeth."""
    shape, lips = person.shape, person.surface.lips
    y, half, full = shape.eye_line + shape.mouth_drop, shape.mouth_width, shape.lips
    half *= 1 + 0.14 * max(0.0, person.smile)
    lift = 0.02 + 0.09 * person.smile * (1 - 0.4 * person.childhood)
    corner = (half, y - lift)
    parted = 0.085 * person.smile if person.teeth and person.smile > 0.3 else 0.0
    top = _mirrored(
        [(0.0, y - 0.72 * full), (0.11, y - 0.95 * full), (0.6 * half, y - 0.4 * full - 0.35 * lift), corner]
    )
    bottom = _mirrored(
        [(0.0, y + parted + 1.15 * full), (0.55 * half, y + 0.8 * parted + 0.85 * full - 0.3 * lift), corner]
    )
    line = _mirrored([(0.0, y + 0.012), (0.45 * half, y - 0.15 * lift), corner])
    canvas.fill(np.concatenate([top, bottom[::-1]]), lips, FRONT)
    canvas.fill(np.concatenate([top, line[::-1]]), shade(lips, 0.85), FRONT)
    if parted:
        low = _mirrored([(0.0, y + parted + 0.012), (0.5 * half, y + 0.75 * parted - 0.1 * lift), corner])
        canvas.fill(
            np.concatenate([line, low[::-1]]),
            mix((244, 240, 232), (214, 196, 160), person.surface.wrinkles),
            FRONT,
        )
        canvas.stroke([low], shade(lips, 0.6), 0.014, FRONT)
    canvas.stroke([line], shade(lips, 0.45), 0.022, FRONT)
    _lip_light(canvas, lips, y + parted + 0.6 * full, half, full)


def _mirrored(right: list[tuple[float, float]]) -> NDArray[np.float64]:
    """Return a smooth curve from the left corner over the middle to the right one."""
    left = [(-x, y) for x, y in reversed(right[1:])]
    return curve([*left, *right])


def _lip_light(canvas: Canvas, lips: Colour, y: float, half: float, full: float) -> None:
    mask = canvas.mask()
    canvas.mark_shape(mask, oval(0, y, 0.32 * half, 0.22 * full, 14), 0.45, FRONT)
    canvas.tint(mask, mix(lips, (255, 244, 240), 0.7), 0.05)
