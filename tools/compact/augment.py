"""Photographs as they come: not cut like UTKFace, blurred, compressed, badly lit, grey."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from agegender.faces import reframe

Pixels = NDArray[np.uint8]

TIGHT, TEMPLATE = 1.0, 0.79
"""Size of a face against UTKFace's crops: in them, and in a crop aligned to ArcFace's template."""


@dataclass(frozen=True)
class View:
    """One way to look at a crop: similarity, mirror, border."""

    scale: float
    degrees: float
    shift: tuple[float, float]
    mirrored: bool
    border: int


def random_view(rng: np.random.Generator) -> View:
    """Draw a view: half of them framed about as UTKFace, a third about as ArcFace's template, the rest anyhow."""
    kind = rng.random()
    if kind < 0.5:
        scale, degrees, shift = rng.normal(TIGHT, 0.06), rng.normal(0, 6), 0.03
    elif kind < 0.85:
        scale, degrees, shift = rng.normal(TEMPLATE, 0.06), rng.normal(0, 6), 0.03
    else:
        scale, degrees, shift = rng.uniform(0.65, 1.2), rng.normal(0, 15), 0.07
    borders = (cv2.BORDER_CONSTANT, cv2.BORDER_REPLICATE, cv2.BORDER_REFLECT_101)
    offset = rng.normal(0, shift, 2).clip(-0.15, 0.15)
    return View(
        float(np.clip(scale, 0.6, 1.3)),
        float(degrees),
        (float(offset[0]), float(offset[1])),
        bool(rng.random() < 0.5),
        borders[rng.choice(3, p=(0.5, 0.25, 0.25))],
    )


def warp(picture: Pixels, view: View, side: int) -> Pixels:
    """Return the view of a square crop, `side` pixels wide."""
    stored = picture.shape[0]
    zoom = view.scale * side / stored
    matrix = cv2.getRotationMatrix2D((stored / 2 - 0.5, stored / 2 - 0.5), view.degrees, zoom)
    matrix[:, 2] += side / 2 - stored / 2 + np.array(view.shift) * side
    warped = cv2.warpAffine(
        picture, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=view.border, borderValue=(0, 0, 0)
    )
    return np.asarray(warped[:, ::-1] if view.mirrored else warped)


def spoil(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Treat a picture as cameras, programs and lamps do; each of them now and then."""
    out = picture
    if rng.random() < 0.6:
        out = _light(out, rng)
    if rng.random() < 0.12:
        out = np.repeat(cv2.cvtColor(out, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2)
    if rng.random() < 0.15:
        out = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.4, 1.4))
    if rng.random() < 0.1:
        out = _coarser(out, rng.uniform(0.35, 0.8))
    if rng.random() < 0.1:
        noise = rng.normal(0, rng.uniform(3, 14), out.shape).astype(np.float32)
        out = (out + noise).clip(0, 255).astype(np.uint8)
    if rng.random() < 0.15:
        quality = int(rng.integers(20, 80))
        out = cv2.imdecode(
            cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR
        )
    if rng.random() < 0.25:
        out = _hide(out, rng)
    return np.ascontiguousarray(out)


def _light(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Change brightness, contrast and gamma, and each colour a little, by one table."""
    levels = np.linspace(0, 1, 256)[:, None] ** rng.uniform(0.7, 1.4)
    gain = rng.uniform(0.75, 1.25) * rng.normal(1, 0.05, 3)
    table = ((levels - 0.5) * gain + 0.5 + rng.uniform(-0.15, 0.15)) * 255
    return np.asarray(cv2.LUT(picture, table.clip(0, 255).astype(np.uint8)[:, None, :]))


def _coarser(picture: Pixels, factor: float) -> Pixels:
    side = picture.shape[0]
    small = cv2.resize(picture, (round(side * factor),) * 2, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (side, side), interpolation=cv2.INTER_LINEAR))


def _hide(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Cover a rectangle with its own mean: a hand, a scarf, the picture's edge."""
    side = picture.shape[0]
    height, width = rng.integers(side // 8, side // 3, 2)
    top, left = rng.integers(0, side - height), rng.integers(0, side - width)
    out = picture.copy()
    patch = out[top : top + height, left : left + width]
    patch[:] = patch.mean(axis=(0, 1))
    return out


def plain(pictures: Pixels, side: int, *, framing: str) -> Pixels:
    """Return pictures as a user gives them: UTKFace's crops as they are, or aligned to ArcFace's template."""
    if framing == "arcface":
        return np.stack([reframe(picture, (side, side), "utkface") for picture in pictures])
    return np.stack([cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA) for picture in pictures])
