"""Photographs as they come: not cut like UTKFace, turned, blurred, compressed, badly lit, grey, half hidden."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from agegender.faces import reframe

Pixels = NDArray[np.uint8]

TIGHT, TEMPLATE = 1.0, 0.79
"""Size of a face against UTKFace's crops: in them, and in a crop aligned to ArcFace's template."""

WHITE = np.full((1, 1, 3), 235.0)


@dataclass(frozen=True)
class View:
    """One way to look at a crop: a linear map (2, 2) about the middle, a shift, a tilt, mirror, border."""

    linear: NDArray[np.float64]
    shift: tuple[float, float]
    tilt: tuple[float, float]
    mirrored: bool
    border: int


def random_view(rng: np.random.Generator) -> View:
    """Draw a view: half of them framed about as UTKFace, a fifth about as ArcFace's template, the rest anyhow."""
    kind = rng.random()
    if kind < 0.5:
        scale, degrees, shift, bent, tilted = rng.normal(TIGHT, 0.05), rng.normal(0, 5), 0.025, 0.02, 0.03
    elif kind < 0.7:
        scale, degrees, shift, bent, tilted = rng.normal(TEMPLATE, 0.05), rng.normal(0, 6), 0.03, 0.03, 0.03
    else:
        scale, degrees, shift, bent, tilted = rng.uniform(0.5, 1.3), rng.normal(0, 15), 0.06, 0.1, 0.15
    angle, stretch, shear = np.deg2rad(degrees), np.exp(rng.normal(0, bent)), rng.normal(0, bent)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    bend = np.array([[stretch, shear], [0.0, 1 / stretch]])
    offset, tilt = rng.normal(0, shift, 2).clip(-0.15, 0.15), rng.normal(0, tilted, 2).clip(-0.35, 0.35)
    borders = (cv2.BORDER_CONSTANT, cv2.BORDER_REPLICATE, cv2.BORDER_REFLECT_101)
    return View(
        float(np.clip(scale, 0.45, 1.4)) * turn @ bend,
        (float(offset[0]), float(offset[1])),
        (float(tilt[0]), float(tilt[1])),
        bool(rng.random() < 0.5),
        borders[rng.choice(3, p=(0.5, 0.2, 0.3))],
    )


def warp(picture: Pixels, view: View, side: int) -> Pixels:
    """Return the view of a square crop, `side` pixels wide."""
    stored = picture.shape[0]
    to_middle, from_middle = np.eye(3), np.eye(3)
    to_middle[:2, 2] = -(stored / 2 - 0.5)
    from_middle[:2, 2] = np.full(2, side / 2 - 0.5) + np.array(view.shift) * side
    moved = np.eye(3)
    moved[:2, :2] = view.linear * side / stored
    moved[2, :2] = np.array(view.tilt) / stored
    warped = cv2.warpPerspective(
        picture,
        from_middle @ moved @ to_middle,
        (side, side),
        flags=cv2.INTER_LINEAR,
        borderMode=view.border,
        borderValue=(0, 0, 0),
    )
    return np.asarray(warped[:, ::-1] if view.mirrored else warped)


def elsewhere(picture: Pixels, other: Pixels, rng: np.random.Generator) -> Pixels:
    """Return a crop of UTKFace, now and then with other surroundings of the face: one colour, a slope, `other`'s.

    A network that has seen the backgrounds of one data set alone takes a studio's white wall for years.
    """
    if rng.random() >= 0.3:
        return picture
    kind, side = rng.random(), picture.shape[0]
    if kind < 0.55:
        colour = rng.uniform(200, 256) if rng.random() < 0.4 else rng.uniform(0, 256)
        behind = (colour + rng.normal(0, 12, 3)).clip(0, 255) * np.ones((side, 1, 1), np.float32)
        if kind < 0.2:
            behind = behind * np.linspace(1, rng.uniform(0.3, 1), side)[:: rng.choice((-1, 1)), None, None]
    else:
        behind = other[:, :: rng.choice((-1, 1))]
    return framed_by(picture, behind, (rng.uniform(0.34, 0.5), rng.uniform(0.44, 0.6)), rng.uniform(1, 5))


def framed_by(
    picture: Pixels, behind: NDArray[np.generic], axes: tuple[float, float], softness: float
) -> Pixels:
    """Put an ellipse about the face of a UTKFace crop in front of `behind`, with an edge of some pixels."""
    side = picture.shape[0]
    mask = np.zeros((side, side), np.float32)
    middle, lengths = (side // 2, round(side * 0.52)), (round(side * axes[0]), round(side * axes[1]))
    cv2.ellipse(mask, middle, lengths, 0, 0, 360, 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), softness)[:, :, None]
    return np.asarray((picture * mask + behind.astype(np.float32) * (1 - mask)).astype(np.uint8))


def spoil(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Treat a picture as people, lamps, cameras and programs do; each of them now and then."""
    out = picture
    if rng.random() < 0.3:
        out = _hide(out, rng)
    if rng.random() < 0.6:
        out = _light(out, rng)
    if rng.random() < 0.15:
        out = _without_colours(out, rng)
    if rng.random() < 0.06:
        out = _night(out, rng)
    if rng.random() < 0.15:
        out = _sharper(out, rng)
    if rng.random() < 0.15:
        out = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.4, 2.0))
    if rng.random() < 0.05:
        out = _shaken(out, rng)
    if rng.random() < 0.2:
        out = _coarser(out, rng)
    if rng.random() < 0.12:
        noise = rng.normal(0, rng.uniform(3, 16), out.shape).astype(np.float32)
        out = (out + noise).clip(0, 255).astype(np.uint8)
    if rng.random() < 0.25:
        quality = int(rng.integers(12, 85))
        out = cv2.imdecode(
            cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR
        )
    if rng.random() < 0.06:
        out = _bars(out, rng)
    return np.ascontiguousarray(out)


def _light(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Change brightness, contrast and gamma, and each colour a little, by one table."""
    levels = np.linspace(0, 1, 256)[:, None] ** rng.uniform(0.65, 1.5)
    gain = rng.uniform(0.7, 1.3) * rng.normal(1, 0.06, 3)
    table = ((levels - 0.5) * gain + 0.5 + rng.uniform(-0.17, 0.17)) * 255
    return np.asarray(cv2.LUT(picture, table.clip(0, 255).astype(np.uint8)[:, None, :]))


def _without_colours(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Return it grey; one in four from the red alone and bright, as an infrared camera sees skin; some toned."""
    kind = rng.random()
    grey = picture[:, :, 0] if kind < 0.25 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    if kind < 0.25:
        grey = (255 * (grey / 255.0) ** 0.7).astype(np.uint8)
    out = np.repeat(grey[:, :, None], 3, axis=2)
    if kind > 0.8:
        out = (out * np.array([1.0, 0.92, 0.75])).astype(np.uint8)
    return out


def _night(picture: Pixels, rng: np.random.Generator) -> Pixels:
    dark = picture.astype(np.float32) * rng.uniform(0.15, 0.5)
    return (dark + rng.normal(0, rng.uniform(2, 8), dark.shape)).clip(0, 255).astype(np.uint8)


def _sharper(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Return it with edges as cameras draw them; a portrait of many pixels is sharper than a crop of UTKFace."""
    amount, soft = rng.uniform(0.3, 2.0), cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.6, 1.5))
    return np.asarray(cv2.addWeighted(picture, 1 + amount, soft, -amount, 0))


def _shaken(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Blur along a line, as a moving camera does."""
    length = int(rng.integers(3, 10))
    kernel = np.zeros((length, length), np.float32)
    if rng.random() < 0.5:
        kernel[length // 2] = 1 / length
    else:
        kernel[:, length // 2] = 1 / length
    return np.asarray(cv2.filter2D(picture, -1, kernel))


def _coarser(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Return it as it was when it had a fifth to four fifths of the pixels along a side."""
    side = picture.shape[0]
    small = cv2.resize(picture, (round(side * rng.uniform(0.2, 0.8)),) * 2, interpolation=cv2.INTER_AREA)
    way = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST)[rng.choice(3, p=(0.6, 0.3, 0.1))]
    return np.asarray(cv2.resize(small, (side, side), interpolation=way))


def _bars(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Blacken a strip at one edge, as where a photograph ends."""
    out, width = picture.copy(), int(picture.shape[0] * rng.uniform(0.05, 0.3))
    strip = np.rot90(out, rng.integers(4))
    strip[:width] = 0
    return out


def _hide(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Cover a rectangle, an ellipse in the colour of skin, the eyes, or mouth and chin, with one colour."""
    side = picture.shape[0]
    out = picture.copy()
    kind = rng.random()
    if kind < 0.5:
        height, width = rng.integers(side // 8, int(side / 2.5), 2)
        top, left = rng.integers(0, side - height), rng.integers(0, side - width)
        patch = out[top : top + height, left : left + width]
        patch[:] = patch.mean(axis=(0, 1)) if rng.random() < 0.6 else rng.integers(0, 256, 3)
        return out
    colour = tuple(int(c) for c in rng.integers(0, 256, 3))
    if kind < 0.75:
        skin = picture[side // 2 : side * 3 // 4, side // 3 : side * 2 // 3].mean(axis=(0, 1))
        colour = tuple(int(c) for c in (skin * rng.uniform(0.8, 1.15)).clip(0, 255))
        middle, axes = rng.integers(0, side, 2), rng.integers(side // 12, side // 4, 2)
    elif kind < 0.85:
        middle = (side // 2, int(side * rng.uniform(0.27, 0.36)))
        axes = (int(side * rng.uniform(0.25, 0.4)), int(side * rng.uniform(0.04, 0.1)))
        colour = tuple(int(c) for c in rng.integers(0, 60, 3))
    else:
        middle = (side // 2, int(side * rng.uniform(0.7, 0.8)))
        axes = (int(side * rng.uniform(0.22, 0.35)), int(side * rng.uniform(0.15, 0.25)))
    angle = float(rng.uniform(-20, 20)) if kind > 0.75 else float(rng.uniform(0, 180))
    cv2.ellipse(out, tuple(map(int, middle)), tuple(map(int, axes)), angle, 0, 360, colour, -1)
    return out


def plain(pictures: Pixels, side: int, *, framing: str) -> Pixels:
    """Return pictures as a user gives them: UTKFace's crops as they are, or aligned to ArcFace's template."""
    if framing == "arcface":
        return np.stack([reframe(picture, (side, side), "utkface") for picture in pictures])
    return np.stack([cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA) for picture in pictures])


def studio(pictures: Pixels, side: int) -> Pixels:
    """Return the faces before a white wall."""
    return np.stack(
        [
            framed_by(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), WHITE, (0.42, 0.52), 3)
            for picture in pictures
        ]
    )


def wild(pictures: Pixels, side: int, seed: int) -> Pixels:
    """Return a random spoilt view of each picture, the same at every call."""
    views = []
    for row, picture in enumerate(pictures):
        rng = np.random.default_rng((seed, row))
        views.append(seen(picture, pictures[row - 1], side, rng))
    return np.stack(views)


def seen(picture: Pixels, other: Pixels, side: int, rng: np.random.Generator) -> Pixels:
    """Return a new random view of a crop of UTKFace; `other` may lend its background."""
    return spoil(warp(elsewhere(picture, other, rng), random_view(rng), side), rng)
