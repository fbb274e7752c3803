"""What years, sun and fashion put on a face: wrinkles, spots, beards, glasses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agegender.datasets._portrait._canvas import Canvas, curve, loop, mirror, oval
from agegender.datasets._portrait._head import FRONT
from agegender.datasets._portrait._person import GREY_HAIR, Person, between, mix, pick, shade

RIMS = ((30, 28, 30), (92, 56, 36), (120, 118, 122), (70, 40, 60))
JEWELS = ((230, 190, 90), (225, 225, 232), (170, 60, 80))
Curves = list[NDArray[np.float64]]


def mark_wrinkles(canvas: Canvas, mask: NDArray[np.uint8], person: Person, rng: np.random.Generator) -> None:
    """Mark wrinkles and folds, each kind coming in at its own age."""
    depth = person.surface.wrinkles
    for lines, onset, strength in (
        (_folds_to_mouth(person), 0.0, 0.62),
        (_crows_feet(person, rng), 0.14, 0.6),
        (_forehead_lines(person, rng), 0.1, 0.6),
        (_under_eyes(person), 0.08, 0.55),
        (_frown(person), 0.22, 0.5),
        (_mouth_corners(person), 0.3, 0.6),
        (_cheek_lines(person, rng), 0.45, 0.45),
    ):
        share = between(0, 1, (depth - onset) / 0.75) * rng.uniform(0.6, 1.2)
        if share > 0.03:
            canvas.mark(mask, lines, strength * share**0.8, 0.022 + 0.012 * share, FRONT)


def _both(right: Curves) -> Curves:
    return right + [mirror(line) for line in right]


def _folds_to_mouth(person: Person) -> Curves:
    shape = person.shape
    nose, mouth = shape.eye_line + shape.nose_length, shape.eye_line + shape.mouth_drop
    half = shape.mouth_width + 0.1
    return _both(
        [
            curve(
                [
                    (shape.nose_width + 0.06, nose - 0.06),
                    (half * 0.92, nose + 0.12),
                    (half + 0.02, mouth - 0.04),
                ]
            )
        ]
    )


def _crows_feet(person: Person, rng: np.random.Generator) -> Curves:
    shape = person.shape
    x, y = shape.eye_gap + shape.eye_width + 0.045, shape.eye_line + shape.eye_droop
    lines = []
    for rise in (-0.1, -0.01, 0.09):
        end = 0.13 + rng.normal(0, 0.02)
        lines.append(
            curve([(x, y + 0.35 * rise), (x + 0.5 * end, y + 0.65 * rise), (x + end, y + 1.25 * rise)])
        )
    return _both(lines)


def _forehead_lines(person: Person, rng: np.random.Generator) -> Curves:
    base = person.shape.eye_line - person.shape.brow_height - 0.2
    lines = []
    for row in range(3):
        y, half = base - 0.15 * row + rng.normal(0, 0.015), 0.52 - 0.06 * row + rng.normal(0, 0.05)
        wave = rng.normal(0, 0.015, 5) + np.array([0.02, -0.015, 0.012, -0.015, 0.02])
        lines.append(curve(np.column_stack([np.linspace(-half, half, 5), y + wave])))
    return lines


def _under_eyes(person: Person) -> Curves:
    shape = person.shape
    x, y = shape.eye_gap, shape.eye_line + 0.75 * shape.eye_open
    bag = curve([(x - 0.2, y + 0.06), (x - 0.05, y + 0.15), (x + 0.12, y + 0.13), (x + 0.21, y + 0.06)])
    return _both([bag, bag * np.array([0.96, 1.0]) + np.array([0.03, 0.075])])


def _frown(person: Person) -> Curves:
    top = person.shape.eye_line - person.shape.brow_height - 0.06
    return _both([curve([(0.075, top), (0.06, top + 0.1), (0.075, top + 0.18)])])


def _mouth_corners(person: Person) -> Curves:
    x, y = person.shape.mouth_width + 0.05, person.shape.eye_line + person.shape.mouth_drop
    return _both([curve([(x, y + 0.03), (x + 0.04, y + 0.14), (x + 0.02, y + 0.27)])])


def _cheek_lines(person: Person, rng: np.random.Generator) -> Curves:
    y = person.shape.eye_line + person.shape.nose_length
    lines = [
        curve([(x, y + 0.1), (x + 0.03, y + 0.28), (x - 0.01, y + 0.44)])
        for x in np.array([0.6, 0.7]) + rng.normal(0, 0.02, 2)
    ]
    return _both(lines)


def mark_spots(canvas: Canvas, mask: NDArray[np.uint8], person: Person, rng: np.random.Generator) -> None:
    """Mark freckles around the nose and age spots anywhere."""
    shape, surface = person.shape, person.surface
    for _ in range(surface.freckles):
        x, y = rng.normal(0, 0.4), shape.eye_line + 0.45 + rng.normal(0, 0.15)
        canvas.mark_shape(mask, oval(x, y, 0.014, 0.014, 6), rng.uniform(0.15, 0.4), FRONT)
    for _ in range(surface.spots):
        x, y = rng.uniform(-0.8, 0.8), rng.choice([rng.uniform(-0.9, -0.35), rng.uniform(0.3, 0.7)])
        size = rng.uniform(0.02, 0.05)
        canvas.mark_shape(mask, oval(x, y, size, 0.8 * size, 10), rng.uniform(0.15, 0.4), FRONT)


def _beard_area(person: Person, style: str) -> NDArray[np.float64]:
    """Return half an outline of a beard, from the cheek to below the lip."""
    shape = person.shape
    nose, mouth = shape.eye_line + shape.nose_length, shape.eye_line + shape.mouth_drop
    w, low, wide = shape.width, shape.length, shape.mouth_width
    if style == "moustache":
        return np.array(
            [
                (0, nose + 0.12),
                (0.5 * wide, nose + 0.13),
                (wide * 1.12, mouth - 0.02),
                (wide * 1.1, mouth + 0.06),
                (0.5 * wide, mouth - shape.lips * 0.4),
                (0, mouth - shape.lips * 0.7),
            ]
        )
    if style == "goatee":
        return np.array(
            [
                (0, nose + 0.12),
                (0.6 * wide, nose + 0.14),
                (wide * 1.15, mouth - 0.05),
                (wide * 1.2, mouth + 0.2),
                (0.34, low * 0.97),
                (0.0, low + 0.05),
            ]
        )
    return np.array(
        [
            (0, nose + 0.13),
            (0.6 * wide, nose + 0.13),
            (wide + 0.18, mouth - 0.1),
            (0.8 * w, nose - 0.1),
            (0.95 * w, nose - 0.4),
            (0.99 * w, nose - 0.2),
            (shape.jaw * w + 0.07, 0.72 * low),
            (shape.chin * w + 0.18, 0.95 * low),
            (0, low + 0.06),
        ]
    )


def draw_beard(canvas: Canvas, person: Person, rng: np.random.Generator) -> None:
    """Draw what grows on a man's face, or the shadow of what was shaved."""
    style = person.hair.beard
    if style == "none" and person.hair.shadow < 0.05:
        return
    colour = mix(shade(person.hair.colour, 0.85), GREY_HAIR, person.hair.grey * 1.05)
    half = _beard_area(person, "full" if style in ("none", "stubble") else style)
    area = loop(np.concatenate([half, mirror(half)[-2:0:-1]]))
    mask = canvas.mask()
    thick = {"none": 0.42 * person.hair.shadow, "stubble": 0.5}.get(style, 0.85)
    canvas.mark_shape(mask, area, thick, 0.3)
    if style != "moustache":
        mouth = person.shape.eye_line + person.shape.mouth_drop
        canvas.mark_shape(
            mask,
            oval(0, mouth + 0.03, person.shape.mouth_width * 1.02, 1.7 * person.shape.lips),
            0.15 * thick,
            FRONT,
        )
    hairs = mask.copy()
    canvas.tint(
        mask,
        mix(colour, shade(person.surface.skin, 0.5), 0.4 if thick < 0.8 else 0.05),
        0.1 if thick < 0.8 else 0.05,
    )
    if style != "none":
        _beard_hairs(canvas, person, area, hairs, rng)


def _beard_hairs(
    canvas: Canvas,
    person: Person,
    area: NDArray[np.float64],
    mask: NDArray[np.uint8],
    rng: np.random.Generator,
) -> None:
    low, high = area.min(axis=0), area.max(axis=0)
    long = {"stubble": 0.02, "moustache": 0.05}.get(person.hair.beard, 0.11)
    n = int(1000 * float(np.prod(high - low)))
    root = rng.uniform(low, high, (n, 2))
    spots = np.clip(canvas.place(root, 0.3).astype(int), 0, canvas.side - 1)
    root = root[mask[spots[:, 1], spots[:, 0]] > 100]
    fall = np.column_stack([0.35 * root[:, 0], np.full(len(root), 1.0)]) + rng.normal(0, 0.3, (len(root), 2))
    hairs = np.stack([root, root + long * fall], axis=1)
    greys = (0.6, 0.85, 1.1, 1.25)
    tones = [shade(mix(person.hair.colour, GREY_HAIR, person.hair.grey * f), 0.65 + 0.3 * f) for f in greys]
    canvas.strands(hairs, tones, 0.012, 0.3)


def draw_glasses(canvas: Canvas, person: Person, rng: np.random.Generator) -> None:
    """Draw glasses with thin or thick rims."""
    if person.glasses == "none":
        return
    shape = person.shape
    y, x = shape.eye_line + 0.05, shape.eye_gap
    rim = pick(RIMS, rng)
    width = float(rng.choice([0.03, 0.05]))
    if person.glasses == "round":
        lens = oval(x, y, 0.3, 0.28)
    else:
        lens = loop(
            [
                (x - 0.31, y - 0.2),
                (x, y - 0.23),
                (x + 0.33, y - 0.2),
                (x + 0.31, y + 0.12),
                (x + 0.2, y + 0.22),
                (x - 0.18, y + 0.22),
                (x - 0.29, y + 0.1),
            ]
        )
    lenses = [lens, mirror(lens)]
    mask = canvas.mask()
    for glass in lenses:
        canvas.mark_shape(mask, glass, 0.1, FRONT)
    canvas.tint(mask, (235, 245, 255))
    temple = np.array([(x + 0.31, y - 0.1), (shape.width + 0.02, y - 0.12)])
    bridge = curve([(-(x - 0.3), y - 0.03), (0, y - 0.09), (x - 0.3, y - 0.03)])
    rims = [np.concatenate([glass, glass[:1]]) for glass in lenses]
    canvas.stroke([*rims, bridge, temple, mirror(temple)], rim, width, FRONT)


def draw_earrings(canvas: Canvas, person: Person, rng: np.random.Generator) -> None:
    """Draw a pair of earrings below the ears."""
    if not person.earrings:
        return
    shape, y = person.shape, person.shape.eye_line + 0.24 + person.shape.ears
    colour = pick(JEWELS, rng)
    size = rng.uniform(0.03, 0.06)
    for side in (-1, 1):
        canvas.fill(oval(side * (shape.width + 0.03), y + size, size, 1.3 * size, 14), colour, -0.1)
