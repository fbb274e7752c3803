"""One portrait from beginning to end."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agegender.datasets._portrait import _features, _hair, _head, _marks, _scene
from agegender.datasets._portrait._canvas import Canvas, Pose
from agegender.datasets._portrait._person import imagine, shade

SUPERSAMPLED = 2


def draw_portrait(age: int, gender: int, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw somebody of an age (years) and a gender (0 male, 1 female), on a square RGB picture."""
    person = imagine(age, gender, rng)
    light = float(rng.normal(0, 0.09))
    canvas = Canvas(size * SUPERSAMPLED, _pose(rng))
    _scene.paint_background(canvas, rng)
    _hair.draw_hair_behind(canvas, person, rng)
    _head.draw_neck(canvas, person)
    _scene.draw_clothes(canvas, person)
    _head.draw_ears(canvas, person)
    _head.paint_skin(canvas, person, light, rng)
    marks = canvas.mask()
    _features.mark_nose(canvas, marks, person, light)
    _marks.mark_spots(canvas, marks, person, rng)
    _marks.mark_wrinkles(canvas, marks, person, rng)
    canvas.tint(marks, shade(person.surface.skin, 0.46), 0.03)
    _features.draw_nostrils(canvas, person)
    _marks.draw_beard(canvas, person, rng)
    _features.draw_mouth(canvas, person)
    _features.draw_eyes(canvas, person, float(rng.normal(0, 0.35)))
    _features.draw_brows(canvas, person, rng)
    _marks.draw_earrings(canvas, person, rng)
    _hair.draw_hair_in_front(canvas, person, rng)
    _marks.draw_glasses(canvas, person, rng)
    return _scene.photograph(canvas, size, light, rng)


def _pose(rng: np.random.Generator) -> Pose:
    return Pose(
        scale=0.265 * float(np.exp(rng.normal(0, 0.05))),
        roll=float(rng.normal(0, 0.07)),
        yaw=float(rng.normal(0, 0.11)),
        pitch=float(rng.normal(0, 0.05)),
        shift=(float(rng.normal(0, 0.02)), float(rng.normal(0.01, 0.02))),
    )
