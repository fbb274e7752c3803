"""From pictures to the input of a network, as graph operations: views, trimming, scaling.

These are the operations of `agegender.views`, `agegender.images.trim` and `agegender.images.letterbox`, which
use OpenCV. Pictures are uint8 (n, h, w, 3), and within a view float32 (n, 3, h, w) with whole values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from agegender._exporting.nodes import Nodes, single
from agegender.exceptions import ModelFileError
from agegender.views import LARGEST_SIDE, View

__all__ = ["shown"]

_GREY = np.array([9798, 19235, 3735], np.float32)  # OpenCV's weights of red, green and blue, times 2 ** 15
_TO_THE_START = np.array([np.iinfo(np.int64).min], np.int64)


def shown(
    nodes: Nodes,
    pictures: str,
    *,
    side: tuple[int, int] | None,
    views: Sequence[View],
    crop: float,
    size: tuple[int, int],
) -> str:
    """Return a network's input: all pictures in the first view, then all in the second view, and so on.

    Parameters
    ----------
    nodes : Nodes
    pictures : str
        uint8 (n, h, w, 3), RGB.
    side : tuple of int or None
        Their height and width; None if these are open.
    views : sequence of View
    crop : float
        The fraction trimmed from every side, after the view.
    size : tuple of int
        Height and width of the network's input.

    Returns
    -------
    str
        uint8 (n_views · n, size[0], size[1], 3), RGB.
    """
    if side is not None and crop == 0 and side == size and tuple(views) == (View(),):
        return pictures
    each = [
        _letterboxed(nodes, _trimmed(nodes, _view(nodes, pictures, view, side), crop), size) for view in views
    ]
    return each[0] if len(each) == 1 else nodes.add("Concat", *each, axis=0)


def _trimmed(nodes: Nodes, x: str, crop: float) -> str:
    """Trim a fraction from every side, or, if it is negative, add a black border."""
    from onnx import TensorProto

    if crop == 0:
        return x
    sides = _sides(nodes, x)
    share = nodes.add("Mul", nodes.add("Cast", sides, to=TensorProto.DOUBLE), np.array(abs(crop)))
    cut = nodes.add("Cast", nodes.add("Round", share), to=TensorProto.INT64)
    if crop < 0:
        return _padded(nodes, x, cut, cut)
    most = nodes.add("Div", nodes.add("Sub", sides, np.array(1)), np.array(2))
    cut = nodes.add("Min", cut, most)
    return nodes.add("Slice", x, cut, nodes.add("Sub", sides, cut), np.array([1, 2]))


def _letterboxed(nodes: Nodes, x: str, size: tuple[int, int]) -> str:
    """Scale to fit `size` with the same proportions; the rest is black."""
    from onnx import TensorProto

    before = nodes.add("Cast", _sides(nodes, x), to=TensorProto.DOUBLE)
    # In double precision, because sides must be rounded down to the same whole pixels as in the library.
    factor = _smallest(nodes, nodes.add("Div", np.array(size, np.float64), before))
    sides = nodes.add("Cast", nodes.add("Mul", before, factor), to=TensorProto.INT64)
    sides = nodes.add("Max", sides, np.array(1))
    room = nodes.add("Sub", np.array(size), sides)
    first = nodes.add("Div", room, np.array(2))
    return _padded(nodes, _scaled(nodes, x, sides), first, nodes.add("Sub", room, first))


def _scaled(nodes: Nodes, x: str, sides: str) -> str:
    """Scale bilinearly in whole numbers, with exactly the results of ``cv2.resize`` for bytes."""
    from onnx import TensorProto

    (top, bottom), (above, below) = _neighbours(nodes, x, sides, 0)
    (left, right), (before, after) = _neighbours(nodes, x, sides, 1)
    before, after = (nodes.add("Unsqueeze", weight, np.array([1])) for weight in (before, after))
    above, below = (nodes.add("Unsqueeze", weight, np.array([1, 2])) for weight in (above, below))
    lines = []
    for row in (top, bottom):
        line = nodes.add("Gather", x, row, axis=1)
        ends = [
            nodes.add(
                "Mul", nodes.add("Cast", nodes.add("Gather", line, i, axis=2), to=TensorProto.INT32), weight
            )
            for i, weight in ((left, before), (right, after))
        ]
        lines.append(nodes.add("Div", nodes.add("Add", *ends), np.array(16, np.int32)))
    parts = []
    for line, weight in zip(lines, (above, below), strict=True):
        weighted = nodes.add("Mul", line, weight)
        parts.append(nodes.add("Div", weighted, np.array(2**16, np.int32)))
    rounded = nodes.add("Add", nodes.add("Add", *parts), np.array(2, np.int32))
    return nodes.add("Cast", nodes.add("Div", rounded, np.array(4, np.int32)), to=TensorProto.UINT8)


def _neighbours(nodes: Nodes, x: str, sides: str, axis: int) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return the two rows (axis 0) or columns around each new one, and their weights times 2,048."""
    from onnx import TensorProto

    def length(of: str) -> str:
        return nodes.add("Gather", of, np.array(axis), axis=0)

    new, old = length(sides), length(_sides(nodes, x))
    ratio = nodes.add("Div", *(nodes.add("Cast", side, to=TensorProto.DOUBLE) for side in (new, old)))
    step = nodes.add("Div", np.array(1.0), ratio)
    middles = nodes.add("Cast", nodes.add("Range", np.array(0), new, np.array(1)), to=TensorProto.DOUBLE)
    middles = nodes.add("Mul", nodes.add("Add", middles, np.array(0.5)), step)
    places = nodes.add("Cast", nodes.add("Sub", middles, np.array(0.5)), to=TensorProto.FLOAT)
    first = nodes.add("Floor", places)
    share = nodes.add("Sub", places, first)
    weights = [
        nodes.add("Cast", nodes.add("Round", nodes.add("Mul", part, single(2048))), to=TensorProto.INT32)
        for part in (nodes.add("Sub", single(1), share), share)
    ]
    first = nodes.add("Cast", first, to=TensorProto.INT64)
    last = nodes.add("Sub", old, np.array(1))
    low, high = (
        nodes.add("Min", nodes.add("Max", place, np.array(0)), last)
        for place in (first, nodes.add("Add", first, np.array(1)))
    )
    return (low, high), (weights[0], weights[1])


def _padded(nodes: Nodes, x: str, before: str, after: str) -> str:
    """Add black rows and columns: `before` and `after` name tensors with the numbers of rows and columns."""
    none = np.array([0])
    return nodes.add("Pad", x, nodes.add("Concat", none, before, none, none, after, none, axis=0))


def _smallest(nodes: Nodes, two: str) -> str:
    """Return the smaller of two numbers, of shape (1,), because ReduceMin differs between the two opsets."""
    first, second = (nodes.add("Slice", two, np.array([i]), np.array([i + 1])) for i in (0, 1))
    return nodes.add("Min", first, second)


def _sides(nodes: Nodes, x: str) -> str:
    """Return height and width as a tensor of two int64."""
    return nodes.add("Slice", nodes.add("Shape", x), np.array([1]), np.array([3]))


def _view(nodes: Nodes, pictures: str, view: View, side: tuple[int, int] | None) -> str:
    """Apply the changes of a view, in the same order as `View`."""
    from onnx import TensorProto

    if view == View():
        return pictures
    x = nodes.add("Cast", nodes.add("Transpose", pictures, perm=[0, 3, 1, 2]), to=TensorProto.FLOAT)
    if side is None or max(side) > LARGEST_SIDE:
        x = _at_most(nodes, x, LARGEST_SIDE)
    if view.mirror:
        x = nodes.add("Slice", x, np.array([-1]), _TO_THE_START, np.array([3]), np.array([-1]))
    if (view.zoom, view.turn, view.right, view.down) != (1, 0, 0, 0):
        x = _warped(nodes, x, view)
    if view.gamma != 1:
        x = _relit(nodes, x, view.gamma)
    if view.grey:
        x = _grey(nodes, x)
    if view.blur:
        x = _blurred(nodes, x, view, side)
    return nodes.add("Transpose", nodes.add("Cast", x, to=TensorProto.UINT8), perm=[0, 2, 3, 1])


def _at_most(nodes: Nodes, x: str, side: int) -> str:
    """Scale pictures (n, 3, h, w) down until no side is longer; the result is close to averaging."""
    from onnx import TensorProto

    shape = nodes.add("Shape", x)
    sides = nodes.add("Cast", nodes.add("Slice", shape, np.array([2]), np.array([4])), to=TensorProto.DOUBLE)
    longest = nodes.add("Neg", _smallest(nodes, nodes.add("Neg", sides)))
    factor = nodes.add("Min", nodes.add("Div", np.array([side], np.float64), longest), np.array([1.0]))
    scaled = nodes.add("Cast", nodes.add("Round", nodes.add("Mul", sides, factor)), to=TensorProto.INT64)
    scaled = nodes.add("Max", scaled, np.array(1))
    sizes = nodes.add("Concat", nodes.add("Slice", shape, np.array([0]), np.array([2])), scaled, axis=0)
    mode: dict[str, Any] = {"mode": "linear", "coordinate_transformation_mode": "half_pixel", "antialias": 1}
    return _whole(nodes, nodes.add("Resize", x, "", "", sizes, **mode))


def _whole(nodes: Nodes, x: str) -> str:
    return nodes.add("Clip", nodes.add("Round", x), single(0), single(255))


def _warped(nodes: Nodes, x: str, view: View) -> str:
    """Zoom, rotate and shift relative to the centre; borders are mirrored."""
    from onnx import TensorProto

    sides = nodes.add("Slice", nodes.add("Shape", x), np.array([2]), np.array([4]))
    sides = nodes.add("Cast", sides, to=TensorProto.FLOAT)
    height, width = (nodes.add("Slice", sides, np.array([i]), np.array([i + 1])) for i in (0, 1))
    half = [
        nodes.add("Mul", nodes.add("Sub", length, single([1])), single([0.5])) for length in (height, width)
    ]
    rows, columns = (
        _places(nodes, length, middle, shift)
        for length, middle, shift in zip((height, width), half, (view.down, view.right), strict=True)
    )
    rows = nodes.add("Unsqueeze", rows, np.array([1]))
    columns = nodes.add("Unsqueeze", columns, np.array([0]))
    cosine, sine = (f(math.radians(view.turn)) / view.zoom for f in (math.cos, math.sin))

    def mixed(down: float, across: float, middle: str) -> str:
        """A weighted sum of the coordinates, in units of half a side, which run from −1 to 1."""
        parts = nodes.add("Mul", rows, single([down])), nodes.add("Mul", columns, single([across]))
        in_units = nodes.add("Div", nodes.add("Add", *parts), nodes.add("Max", middle, single([0.5])))
        return nodes.add("Unsqueeze", in_units, np.array([0, 3]))

    grid = nodes.add("Concat", mixed(-sine, cosine, half[1]), mixed(cosine, sine, half[0]), axis=3)
    n = nodes.add("Slice", nodes.add("Shape", x), np.array([0]), np.array([1]))
    grid = nodes.add("Expand", grid, nodes.add("Concat", n, np.array([1, 1, 1]), axis=0))
    mode: dict[str, Any] = {"mode": "bilinear", "padding_mode": "reflection", "align_corners": 1}
    return _whole(nodes, nodes.add("GridSample", x, grid, **mode))


def _places(nodes: Nodes, length: str, middle: str, shift: float) -> str:
    """Return the numbers 0, 1, … minus the middle and the shift, one per row or column."""
    scalar = nodes.add("Squeeze", length, np.array([0]))
    counted = nodes.add("Range", single(0), scalar, single(1))
    moved = nodes.add("Add", middle, nodes.add("Mul", length, single([shift])))
    return nodes.add("Sub", counted, moved)


def _relit(nodes: Nodes, x: str, gamma: float) -> str:
    from onnx import TensorProto

    table = np.round(255 * (np.arange(256) / 255) ** gamma).astype(np.float32)
    return nodes.add("Gather", table, nodes.add("Cast", x, to=TensorProto.INT32), axis=0)


def _grey(nodes: Nodes, x: str) -> str:
    weighted = nodes.add("Conv", x, _GREY.reshape(1, 3, 1, 1), single([2**14]))
    grey = nodes.add("Floor", nodes.add("Mul", weighted, single([2**-15])))
    return nodes.add("Concat", grey, grey, grey, axis=1)


def _blurred(nodes: Nodes, x: str, view: View, side: tuple[int, int] | None) -> str:
    import cv2

    if side is None:
        raise ModelFileError(
            f"The view {str(view)!r} blurs by a fraction of the picture's side, which resize=True leaves open; "
            "export with resize=False, or without this view."
        )
    sigma = view.blur * max(side)
    n = round(sigma * 6 + 1) | 1  # as in cv2.GaussianBlur
    kernel = cv2.getGaussianKernel(n, sigma).astype(np.float32)
    x = nodes.add("Pad", x, np.array([0, 0, n // 2, n // 2] * 2), mode="reflect")
    for shape in ((3, 1, n, 1), (3, 1, 1, n)):
        x = nodes.add("Conv", x, np.broadcast_to(kernel.reshape(shape[2:]), shape).copy(), group=3)
    return _whole(nodes, x)
