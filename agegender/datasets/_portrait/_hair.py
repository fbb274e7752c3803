"""Hair: what hangs behind a head, and what lies on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agegender.datasets._portrait._canvas import Canvas, curve, loop, mirror, oval
from agegender.datasets._portrait._person import GREY_HAIR, Colour, Person, between, mix, shade

LONG = ("straight", "wavy", "curly")
TONES = (0.76, 0.86, 0.94, 1.02, 1.1, 1.2)
STEPS = 14


def tones(person: Person) -> list[Colour]:
    """Return the colours of single strands, some grey before others."""
    hair = person.hair
    greying = np.clip(hair.grey * 1.5 - np.array([0.0, 0.35, 0.05, 0.45, 0.2, 0.1]), 0, 1)
    # What looks alive in dark hair looks like white lines in grey.
    evenness = 1 - 0.5 * hair.grey
    return [shade(mix(hair.colour, GREY_HAIR, g), f**evenness) for g, f in zip(greying, TONES, strict=True)]


def base_colour(person: Person) -> Colour:
    """Return the colour of hair in the shade of other hair."""
    grey = person.hair.grey
    return shade(mix(person.hair.colour, GREY_HAIR, 0.9 * grey), between(0.74, 0.88, grey))


def draw_hair_behind(canvas: Canvas, person: Person, rng: np.random.Generator) -> None:
    """Draw the hair that hangs behind the face, or the knot on top of it."""
    hair, shape = person.hair, person.shape
    if hair.style == "updo":
        knot = oval(0.1 * hair.parting, -shape.top - 0.22, 0.42 * hair.volume, 0.36 * hair.volume)
        canvas.fill(knot, base_colour(person), -0.3)
        _curls_in(canvas, person, rng, knot.mean(axis=0), 0.4 * hair.volume, 40)
    if hair.style not in (*LONG, "bob"):
        return
    bottom = 1.0 if hair.style == "bob" else hair.length
    wide = shape.width + 0.26 * hair.volume
    flare = {"straight": 0.0, "wavy": 0.12, "curly": 0.28, "bob": 0.12}[hair.style]
    side = curve(
        [
            (0.0, -shape.top - 0.1),
            (0.8 * wide, -0.75 * shape.top),
            (wide, 0.0),
            (wide + flare, 0.6 * bottom),
            (wide * 0.85 + flare, bottom),
            (0.0, bottom + 0.02),
        ]
    )
    canvas.fill(np.concatenate([side, mirror(side)[::-1]]), base_colour(person), -0.2)
    _falling(canvas, person, rng, side)
    if hair.style == "curly":
        _curls_along(canvas, person, rng, side[8:], 130)


def _falling(canvas: Canvas, person: Person, rng: np.random.Generator, side: NDArray[np.float64]) -> None:
    """Draw strands from the top of the head down both sides."""
    share = rng.uniform(0.55, 1.0, 80)[:, np.newaxis, np.newaxis]
    strands = side[np.newaxis, 3:-7] * np.concatenate([share, np.ones_like(share)], axis=2)
    if person.hair.style != "straight":
        phase = rng.uniform(0, 6.3, (80, 1)) + np.linspace(0, 9, strands.shape[1])
        strands[..., 0] += 0.045 * np.sin(phase)
    strands[::2] = mirror(strands[::2])
    canvas.strands(strands, tones(person), 0.016, -0.2)


def draw_hair_in_front(canvas: Canvas, person: Person, rng: np.random.Generator) -> None:
    """Draw the hair that lies on the head, down to the hairline."""
    hair = person.hair
    if hair.style == "fuzz":
        _draw_fuzz(canvas, person, rng)
        return
    line, outer = _hairline(person), _outer_edge(person)
    if hair.receded > 0.72:
        _draw_fringe_of_bald_head(canvas, person, rng)
        return
    _shadow_below(canvas, person, line)
    mask = canvas.mask()
    canvas.mark_shape(
        mask, np.concatenate([outer, line[::-1]]), between(0.45, 1, (hair.density - 0.3) / 0.5), 0.1
    )
    canvas.tint(mask, base_colour(person), 0.015)
    _lay_strands(canvas, person, rng, line, outer)
    if hair.style in (*LONG, "bob"):
        _draw_side_locks(canvas, person, rng)


def _outer_edge(person: Person) -> NDArray[np.float64]:
    """Return the hair's upper edge from the left ear over the head to the right one."""
    shape, hair = person.shape, person.hair
    lift = {"cropped": 0.05, "short": 0.14, "swept": 0.2, "curls": 0.24, "updo": 0.08}.get(
        hair.style, 0.14
    ) * hair.volume
    low = shape.eye_line + (0.12 if hair.style in ("cropped", "short", "swept", "curls") else 0.3)
    right = [
        (0.0, -shape.top - lift),
        (0.5 * shape.width, -0.9 * shape.top - 0.95 * lift),
        (0.86 * shape.width, -0.6 * shape.top - 0.75 * lift),
        (shape.width + 0.5 * lift, -0.15 * shape.top),
        (shape.width + 0.03 + 0.2 * lift, low),
    ]
    return _over(right)


def _hairline(person: Person) -> NDArray[np.float64]:
    """Return the hair's lower edge from the left ear over the forehead to the right one."""
    shape, hair = person.shape, person.hair
    brow = shape.eye_line - shape.brow_height
    room = brow + shape.top
    long = hair.style in (*LONG, "bob")
    y = brow - ((0.72 if long else 0.52) + 0.32 * hair.receded) * room
    temple = 0.14 * (1 - person.childhood) * (0.4 if hair.style in LONG else 1) + 0.3 * hair.receded
    low = shape.eye_line + (0.12 if hair.style in ("cropped", "short", "swept", "curls") else 0.3)
    if hair.fringe and hair.receded < 0.4:
        # It ends above the eyes, and falls beside them.
        y, temple, long = brow - 0.03 - (0.55 - hair.fringe) * 0.55 * room, -0.05, False
    right = [
        (0.0, y),
        (0.34 * shape.width, y - 0.35 * temple + (0.1 if long else 0)),
        (0.64 * shape.width, y - 0.2 * temple + (0.35 if long else 0.08)),
        (0.84 * shape.width, brow - 0.1),
        (0.93 * shape.width, shape.eye_line - 0.12),
        (0.955 * shape.width, low),
    ]
    return _over(right)


def _over(right: list[tuple[float, float]]) -> NDArray[np.float64]:
    left = [(-x, y) for x, y in reversed(right[1:])]
    return curve([*left, *right])


def _resample(line: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    steps = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    at = shares * steps[-1]
    return np.stack([np.interp(at, steps, line[:, 0]), np.interp(at, steps, line[:, 1])], axis=-1)


def _lay_strands(
    canvas: Canvas,
    person: Person,
    rng: np.random.Generator,
    line: NDArray[np.float64],
    outer: NDArray[np.float64],
) -> None:
    """Draw strands between the hairline and the upper edge, combed as the style has it."""
    hair = person.hair
    n = int(160 * hair.density)
    if hair.style in ("curls", "curly"):
        _curls_between(canvas, person, rng, line, outer)
        return
    height = rng.uniform(-0.02, 1, (n, 1))
    if hair.style in ("cropped", "short"):
        start = rng.uniform(0.01, 0.99, (n, 1))
        shares = start + np.linspace(0, 0.06, 5) * np.sign(start - 0.5 - 0.2 * hair.parting)
        rise = height + np.linspace(0, 0.12 if hair.style == "cropped" else 0.3, 5)
    elif hair.style in ("swept", "updo"):
        shares = rng.uniform(0.02, 0.98, (n, 1)) + np.linspace(0, 0.1 * np.sign(hair.parting), STEPS)
        rise = np.linspace(-0.02, 1, STEPS) * rng.uniform(0.6, 1, (n, 1)) + 0 * shares
    elif hair.fringe:
        shares = rng.uniform(0.02, 0.98, (n, 1)) + np.linspace(0, 0.02, STEPS) * rng.normal(0, 1, (n, 1))
        rise = np.linspace(0, 1, STEPS) * rng.uniform(0.55, 1, (n, 1)) - 0.015
    else:
        part = 0.5 + 0.15 * hair.parting
        ends = np.where(rng.random((n, 1)) < part, 0.0, 1.0)
        shares = part + (ends - part) * np.linspace(0, 1, STEPS) ** 0.9
        rise = height * np.linspace(1, 1, STEPS)
    shares = np.clip(shares, 0, 1)
    rise = np.clip(rise, 0, 1)[..., np.newaxis]
    strands = _resample(line, shares) * (1 - rise) + _resample(outer, shares) * rise
    canvas.strands(strands, tones(person), 0.016, 0.1)


def _shadow_below(canvas: Canvas, person: Person, line: NDArray[np.float64]) -> None:
    mask = canvas.mask()
    canvas.mark(mask, [line + np.array([0.0, 0.04])], 0.4, 0.1, 0.15)
    canvas.tint(mask, shade(person.surface.skin, 0.55), 0.14)


def _draw_side_locks(canvas: Canvas, person: Person, rng: np.random.Generator) -> None:
    """Draw long hair falling in front of the ears."""
    shape, hair = person.shape, person.hair
    bottom = 1.0 if hair.style == "bob" else hair.length
    inner, outer = 0.9 * shape.width, shape.width + 0.24 * hair.volume
    wave = {"straight": 0.0, "bob": -0.05}.get(hair.style, 0.06)
    inside = curve(
        [
            (0.84 * shape.width, -0.62 * shape.top),
            (inner, -0.1),
            (inner + 0.03, 0.4),
            (inner + wave, 0.8 * bottom),
            (inner - 0.02, bottom),
        ]
    )
    outside = curve(
        [
            (0.9 * shape.width, -0.66 * shape.top),
            (outer - 0.06, -0.1),
            (outer, 0.4),
            (outer + wave, 0.8 * bottom),
            (outer - 0.1, bottom),
        ]
    )
    lock = np.concatenate([inside, outside[::-1]])
    for side in (lock, mirror(lock)):
        canvas.fill(side, base_colour(person))
    share = rng.uniform(0, 1, (70, 1, 1))
    strands = inside * (1 - share) + outside * share
    if hair.style != "straight":
        strands[..., 0] += 0.03 * np.sin(rng.uniform(0, 6.3, (70, 1)) + np.linspace(0, 10, strands.shape[1]))
    strands[::2] = mirror(strands[::2])
    canvas.strands(strands, tones(person), 0.016)
    if hair.style == "curly":
        _curls_along(canvas, person, rng, outside, 90)


def _rings(
    canvas: Canvas, person: Person, rng: np.random.Generator, middles: NDArray[np.float64], depth: float
) -> None:
    n = len(middles)
    angle = np.linspace(0, 3.6, 7) + rng.uniform(0, 6.3, (n, 1))
    radius = rng.uniform(0.045, 0.085, (n, 1))
    rings = middles[:, np.newaxis] + np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    canvas.strands(rings, tones(person), 0.05, depth)


def _curls_in(
    canvas: Canvas,
    person: Person,
    rng: np.random.Generator,
    middle: NDArray[np.float64],
    radius: float,
    n: int,
) -> None:
    _rings(canvas, person, rng, middle + rng.normal(0, 0.45 * radius, (n, 2)), -0.3)


def _curls_along(
    canvas: Canvas, person: Person, rng: np.random.Generator, line: NDArray[np.float64], n: int
) -> None:
    middles = line[rng.integers(0, len(line), n)] * rng.uniform(0.88, 1.04, (n, 1))
    middles[::2] = mirror(middles[::2])
    _rings(canvas, person, rng, middles, -0.1)


def _curls_between(
    canvas: Canvas,
    person: Person,
    rng: np.random.Generator,
    line: NDArray[np.float64],
    outer: NDArray[np.float64],
) -> None:
    n = int(260 * person.hair.density)
    shares, rise = rng.uniform(0, 1, n), rng.uniform(0.05, 1.02, (n, 1))
    _rings(canvas, person, rng, _resample(line, shares) * (1 - rise) + _resample(outer, shares) * rise, 0.1)


def _draw_fuzz(canvas: Canvas, person: Person, rng: np.random.Generator) -> None:
    """Draw an infant's thin hair."""
    line, outer = _hairline(person), _outer_edge(person)
    mask = canvas.mask()
    canvas.mark_shape(mask, np.concatenate([outer * 0.96, line[::-1]]), 0.4 * person.hair.density, 0.1)
    canvas.tint(mask, person.hair.colour, 0.14)
    n = int(340 * person.hair.density)
    shares, rise = rng.uniform(0.05, 0.95, (n, 1)), rng.uniform(0.1, 0.9, (n, 1)) + np.linspace(0, 0.16, 4)
    rise = rise[..., np.newaxis]
    shares = shares + np.linspace(0, 0.02, 4) * rng.choice([-1, 1], (n, 1))
    strands = _resample(line, shares) * (1 - rise) + _resample(outer * 0.95, shares) * rise
    mask = canvas.mask()
    canvas.mark(mask, list(strands), 0.3, 0.01, 0.1)
    canvas.tint(mask, person.hair.colour)


def _draw_fringe_of_bald_head(canvas: Canvas, person: Person, rng: np.random.Generator) -> None:
    """Draw what is left above the ears."""
    shape = person.shape
    top, low = -0.42 * shape.top * (1.6 - person.hair.receded), shape.eye_line + 0.15
    patch = loop(
        [
            (0.93 * shape.width, low),
            (0.88 * shape.width, -0.05),
            (0.9 * shape.width, top),
            (shape.width + 0.04, 0.8 * top),
            (shape.width + 0.09, 0.0),
            (shape.width + 0.06, low),
        ]
    )
    mask = canvas.mask()
    for side in (patch, mirror(patch)):
        canvas.mark_shape(mask, side, 0.8)
    canvas.tint(mask, base_colour(person), 0.06)
    root = patch[rng.integers(0, len(patch), 90)] * rng.uniform(0.97, 1.02, (90, 1))
    root[::2] = mirror(root[::2])
    canvas.strands(np.stack([root, root + rng.normal(0, 0.05, (90, 2))], axis=1), tones(person), 0.014)
