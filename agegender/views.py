"""Views: small, fixed changes of a picture; each view is embedded and cached separately.

A view is a `View`, a name of `VIEWS`, or several names joined by ``+`` (``"mirror+zoom"``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._utils.validation import did_you_mean

__all__ = [
    "DEGRADED",
    "ORDER",
    "VIEWS",
    "View",
    "look",
    "resolve_calibration_views",
    "resolve_views",
    "view_axis",
]

LARGEST_SIDE = 1024
"""In pixels; a picture with a longer side is first scaled down, because face networks have much smaller inputs,
and changing a photograph of 12 megapixels would take longer than embedding it."""


@dataclass(frozen=True, kw_only=True)
class View:
    """One fixed change of a picture; without arguments, the unchanged picture.

    The changes are applied in the order of the parameters, around the centre of the picture. If they uncover a
    border, it is filled with the reflected picture. Equal numbers are the same view and have the same rows in
    the cache, whatever their name.

    Parameters
    ----------
    mirror : bool, default=False
        Swap left and right.
    zoom : float, default=1.0
        Factor by which the content is enlarged; the size of the picture stays the same.
    turn : float, default=0.0
        Rotation in degrees, counter-clockwise.
    right, down : float, default=0.0
        Shifts, as fractions of width and height.
    gamma : float, default=1.0
        Brightness x, from 0 to 1, becomes x to this power: above 1, the picture gets darker, below 1 lighter.
        No value saturates.
    grey : bool, default=False
        Remove the colours.
    blur : float, default=0.0
        Standard deviation of a Gaussian, as a fraction of the picture's longer side.
    side : float, default=0.0
        The picture is scaled down until its longer side has so many pixels, and up again; if 0, or if the picture
        is smaller, it is not.
    jpeg : float, default=0.0
        Quality, from 1 to 100, with which the picture is written as JPEG and read again; if 0, it is not.
    black : bool, default=False
        Uncovered borders are black instead of reflected.

    Raises
    ------
    ValueError
        If a number is not finite, `zoom` or `gamma` is not above 0, `blur` or `side` is negative, or `jpeg` is
        neither 0 nor from 1 to 100.

    See Also
    --------
    agegender.views.look : Compute views of a picture.
    agegender.Augmentation : Random changes of pictures in training.

    Examples
    --------
    >>> str(View(mirror=True, zoom=1.2)), str(View())
    ('mirror,zoom=1.2', 'plain')
    >>> VIEWS["mirror"] + VIEWS["zoom"]
    View(mirror=True, zoom=1.1)
    """

    mirror: bool = False
    zoom: float = 1.0
    turn: float = 0.0
    right: float = 0.0
    down: float = 0.0
    gamma: float = 1.0
    grey: bool = False
    blur: float = 0.0
    side: float = 0.0
    jpeg: float = 0.0
    black: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            exact = bool(value) if isinstance(field.default, bool) else float(value)
            if not math.isfinite(exact) or (field.name in ("zoom", "gamma") and exact <= 0):
                raise ValueError(
                    f"View: {field.name}={value!r} should be a finite number, zoom and gamma above 0."
                )
            object.__setattr__(self, field.name, exact)
        for name in ("blur", "side"):
            if getattr(self, name) < 0:
                raise ValueError(f"View: {name}={getattr(self, name)!r} should not be negative.")
        if self.jpeg and not 1 <= self.jpeg <= 100:
            raise ValueError(f"View: jpeg={self.jpeg!r} should be a quality from 1 to 100, or 0.")

    def __add__(self, other: View) -> View:
        """Return the view that combines the changes of both."""
        return View(
            mirror=self.mirror != other.mirror,
            zoom=self.zoom * other.zoom,
            turn=self.turn + other.turn,
            right=self.right + other.right,
            down=self.down + other.down,
            gamma=self.gamma * other.gamma,
            grey=self.grey or other.grey,
            blur=math.hypot(self.blur, other.blur),
            side=_least(self.side, other.side),
            jpeg=_least(self.jpeg, other.jpeg),
            black=self.black or other.black,
        )

    def __repr__(self) -> str:
        return f"View({', '.join(f'{name}={value!r}' for name, value in self._changes().items())})"

    def __str__(self) -> str:
        """The view as part of a cache key."""
        changes = (name if value is True else f"{name}={value!r}" for name, value in self._changes().items())
        return ",".join(changes) or "plain"

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the changed picture.

        Parameters
        ----------
        pixels : ndarray of shape (h, w, 3), uint8

        Returns
        -------
        ndarray of shape (h, w, 3), uint8
            `pixels` itself if nothing changes. Otherwise, a picture with a side of more than 1,024 pixels is
            scaled down to that.
        """
        if self == View():
            return pixels
        pixels = _at_most(pixels, LARGEST_SIDE)
        if self.mirror:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
        if (self.zoom, self.turn, self.right, self.down) != (1, 0, 0, 0):
            pixels = self._warp(pixels)
        return self._recolor(pixels)

    def _warp(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        import cv2

        height, width = pixels.shape[:2]
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), self.turn, self.zoom)
        matrix[:, 2] += self.right * width, self.down * height
        border = cv2.BORDER_CONSTANT if self.black else cv2.BORDER_REFLECT_101
        warped = cv2.warpAffine(pixels, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=border)
        return warped

    def _recolor(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        import cv2

        if self.gamma != 1:
            table = np.round(255 * (np.arange(256) / 255) ** self.gamma).astype(np.uint8)
            pixels = cv2.LUT(pixels, table)
        if self.grey:
            pixels = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        if self.blur:
            pixels = cv2.GaussianBlur(pixels, (0, 0), self.blur * max(pixels.shape[:2]))
        if self.side:
            height, width = pixels.shape[:2]
            small = _at_most(pixels, self.side)
            pixels = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
        if self.jpeg:
            _, content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, round(self.jpeg)])
            pixels = np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR), np.uint8)
        return pixels

    def _changes(self) -> dict[str, Any]:
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}


VIEWS = {
    "plain": View(),
    "mirror": View(mirror=True),
    "zoom": View(zoom=1.1),
    "zoom_out": View(zoom=0.9),
    "rotate_left": View(turn=8),
    "rotate_right": View(turn=-8),
    "shift_left": View(right=-0.05),
    "shift_right": View(right=0.05),
    "shift_up": View(down=-0.05),
    "shift_down": View(down=0.05),
    "darker": View(gamma=1.5),
    "brighter": View(gamma=0.67),
    "grey": View(grey=True),
    "blur": View(blur=0.008),
}
"""The named views."""

DEGRADED = (
    View(),
    View(grey=True),
    View(blur=0.015),
    View(side=48),
    View(jpeg=15),
    View(zoom=1.25),
    View(zoom=0.75, black=True),
    View(turn=15),
    View(turn=-15),
    View(gamma=2.0),
    View(gamma=0.5),
    View(grey=True, zoom=0.85, turn=8, side=64, jpeg=30, black=True),
)
"""What happens to pictures elsewhere: for `calibration_views` of a pipeline."""

ORDER = (
    "plain",
    "mirror",
    "zoom",
    "mirror+zoom_out",
    "rotate_left",
    "mirror+rotate_left",
    "shift_up",
    "mirror+shift_down",
    "zoom_out",
    "mirror+zoom",
    "darker",
    "mirror+brighter",
)
"""The order of views: a number n means the first n. Every second one is mirrored."""


def resolve_views(views: int | str | View | Sequence[str | View]) -> tuple[View, ...]:
    """Return the views for an extractor's `views` parameter.

    Parameters
    ----------
    views : int, str, View or sequence of str and View
        A number n: the first n of `ORDER`. Names can be combined with ``+``.

    Returns
    -------
    tuple of View

    Raises
    ------
    TypeError
        If `views` is not one of these.
    ValueError
        If a name is unknown, a view occurs twice, or there is none, or more than `ORDER` has.

    See Also
    --------
    agegender.views.View : One fixed change of a picture.

    Examples
    --------
    >>> resolve_views(2) == resolve_views(("plain", "mirror"))
    True
    >>> resolve_views("miror")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: views: 'miror' is not one of plain, ... Did you mean 'mirror'?
    """
    if isinstance(views, (int, np.integer)) and not isinstance(views, bool):
        if not 1 <= views <= len(ORDER):
            raise ValueError(f"views={views!r} should be from 1 to {len(ORDER)}, or the views' names.")
        views = ORDER[: int(views)]
    elif isinstance(views, (str, View)):
        views = (views,)
    if isinstance(views, bool) or not isinstance(views, Sequence):
        raise TypeError(f"views={views!r} should be a number of views, a name, or a tuple of names.")
    resolved = tuple(_resolve(view) for view in views)
    if not resolved:
        raise ValueError(f"views={views!r} has no view; views=1 uses the unchanged picture.")
    for position, view in enumerate(resolved):
        if view in resolved[:position]:
            raise ValueError(f"views={views!r}: {str(view)!r} occurs twice; each view should occur once.")
    return resolved


def resolve_calibration_views(views: int | str | View | Sequence[str | View] | None) -> tuple[View, ...]:
    """Return the views for a pipeline's `calibration_views` parameter; none for None.

    Parameters
    ----------
    views : "degraded", None, or as in `resolve_views`

    See Also
    --------
    agegender.views.resolve_views : The views for an extractor.

    Examples
    --------
    >>> resolve_calibration_views("degraded") == DEGRADED, resolve_calibration_views(None)
    (True, ())
    """
    if views is None:
        return ()
    return DEGRADED if isinstance(views, str) and views == "degraded" else resolve_views(views)


def view_axis(views: int | str | View | Sequence[str | View]) -> tuple[int, ...]:
    """Return the shape of the axis that `views` gives to rows: empty for 1 and for a single name.

    See Also
    --------
    agegender.views.resolve_views : The views for a parameter.

    Examples
    --------
    >>> view_axis(1), view_axis("mirror"), view_axis(("mirror",)), view_axis(3)
    ((), (), (1,), (3,))
    """
    n_views = len(resolve_views(views))
    several = n_views > 1 or not isinstance(views, (int, np.integer, str, View))
    return (n_views,) if several else ()


def look(pixels: NDArray[np.uint8], views: Sequence[View]) -> list[NDArray[np.uint8]]:
    """Return all views of a picture; a large picture is scaled down once for all views.

    Parameters
    ----------
    pixels : ndarray of shape (h, w, 3), uint8
    views : sequence of View

    See Also
    --------
    agegender.views.View : One fixed change of a picture.
    """
    plain = View()
    small = pixels if all(view == plain for view in views) else _at_most(pixels, LARGEST_SIDE)
    return [pixels if view == plain else view(small) for view in views]


def _resolve(view: object) -> View:
    if isinstance(view, View):
        return view
    if not isinstance(view, str):
        raise TypeError(f"views: {view!r} should be a name or a View.")
    return reduce(View.__add__, (_named(name) for name in view.split("+")))


def _named(name: str) -> View:
    if name not in VIEWS:
        raise ValueError(
            f"views: {name!r} is not one of {', '.join(VIEWS)}, or several of these joined by '+'."
            f"{did_you_mean(name, VIEWS)}"
        )
    return VIEWS[name]


def _least(one: float, other: float) -> float:
    """Return the smaller of two numbers of which 0 means none."""
    return min(one, other) if one and other else one or other


def _at_most(pixels: NDArray[np.uint8], side: float) -> NDArray[np.uint8]:
    """Scale a picture down until no side is longer."""
    height, width = pixels.shape[:2]
    if max(height, width) <= side:
        return pixels
    import cv2

    factor = side / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
