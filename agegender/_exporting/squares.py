"""From pictures to what a network is shown, as graph operations: views, trimming, scaling.

What `agegender.views`, `agegender.images.trim` and `agegender.images.letterbox` do with OpenCV. In between, pictures
are float32 (n, 3, h, w) with whole values from 0 to 255, where OpenCV has bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from agegender._exporting.nodes import Nodes
from agegender.exceptions import ModelFileError
from agegender.views import LARGEST_SIDE, View

__all__ = ["shown"]

_GREY = np.array([[9798], [19235], [3735]], np.float32)  # OpenCV's weights of red, green and blue, of 2 ** 15
_TO_THE_START = np.array([np.iinfo(np.int64).min], np.int64)
_HEIGHT, _WIDTH = np.array([2], np.int64), np.array([3], np.int64)
_TWO, _THREE = np.array([2], np.int64), np.array([3], np.int64)


def shown(
    nodes: Nodes,
    pictures: str,
    *,
    side: tuple[int, int] | None,
    views: Sequence[View],
    crop: float,
    size: tuple[int, int],
) -> str:
    """Return what a network is shown of pictures: all of them in the first view, then all in the second, and so on.

    Parameters
    ----------
    nodes : Nodes
    pictures : str
        uint8 (n, h, w, 3), RGB.
    side : tuple of int or None
        Their height and width; None where these are open.
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
    fits = side is not None and trimmed_size(side, crop) == size
    if fits and crop == 0 and tuple(views) == (View(),):
        return pictures
    from onnx import TensorProto

    x = nodes.add("Cast", nodes.add("Transpose", pictures, perm=[0, 3, 1, 2]), to=TensorProto.FLOAT)
    each = []
    for view in views:
        one = _trimmed(nodes, _view(nodes, x, view, side), crop)
        each.append(one if fits else _letterboxed(nodes, one, size))
    x = each[0] if len(each) == 1 else nodes.add("Concat", *each, axis=0)
    return nodes.add("Transpose", nodes.add("Cast", x, to=TensorProto.UINT8), perm=[0, 2, 3, 1])


def trimmed_size(side: tuple[int, int], crop: float) -> tuple[int, int]:
    """Return the height and width that `agegender.images.trim` leaves of a picture."""
    if crop < 0:
        height, width = (length + 2 * round(-crop * length) for length in side)
    else:
        height, width = (length - 2 * min(round(crop * length), (length - 1) // 2) for length in side)
    return height, width


def _trimmed(nodes: Nodes, x: str, crop: float) -> str:
    """Trim a fraction from every side, or add so much black."""
    from onnx import TensorProto

    if crop == 0:
        return x
    sides = _sides(nodes, x)
    share = nodes.add("Cast", sides, to=TensorProto.DOUBLE)
    share = nodes.add("Round", nodes.add("Mul", share, np.array(abs(crop))))
    cut = nodes.add("Cast", share, to=TensorProto.INT64)
    if crop < 0:
        return _padded(nodes, x, cut, cut)
    most = nodes.add("Div", nodes.add("Sub", sides, np.array(1)), np.array(2))
    cut = nodes.add("Min", cut, most)
    return nodes.add("Slice", x, cut, nodes.add("Sub", sides, cut), np.array([2, 3]))


def _letterboxed(nodes: Nodes, x: str, size: tuple[int, int]) -> str:
    """Scale to fit `size`, proportions kept, the rest black."""
    from onnx import TensorProto

    sides = nodes.add("Cast", _sides(nodes, x), to=TensorProto.DOUBLE)
    # In double precision: the sides are cut down to whole pixels, and must be cut where the library cuts them.
    factor = nodes.add("Div", np.array(size, np.float64), sides)
    factor = nodes.add("ReduceMin", factor, axes=[0], keepdims=1)
    scaled = nodes.add("Cast", nodes.add("Mul", sides, factor), to=TensorProto.INT64)
    scaled = nodes.add("Max", scaled, np.array(1))
    x = _scaled(nodes, x, scaled)
    room = nodes.add("Sub", np.array(size), scaled)
    before = nodes.add("Div", room, np.array(2))
    return _padded(nodes, x, before, nodes.add("Sub", room, before))


def _at_most(nodes: Nodes, x: str, side: int) -> str:
    """Scale pictures down until no side is longer, by averaging as it were."""
    from onnx import TensorProto

    sides = nodes.add("Cast", _sides(nodes, x), to=TensorProto.DOUBLE)
    longest = nodes.add("ReduceMax", sides, axes=[0], keepdims=1)
    factor = nodes.add("Min", nodes.add("Div", np.array([side], np.float64), longest), np.array([1.0]))
    scaled = nodes.add("Cast", nodes.add("Round", nodes.add("Mul", sides, factor)), to=TensorProto.INT64)
    return _scaled(nodes, x, nodes.add("Max", scaled, np.array(1)), antialias=1)


def _scaled(nodes: Nodes, x: str, sides: str, **options: int) -> str:
    first = nodes.add("Slice", nodes.add("Shape", x), np.array([0]), np.array([2]))
    sizes = nodes.add("Concat", first, sides, axis=0)
    mode = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return _whole(nodes, nodes.add("Resize", x, "", "", sizes, **mode, **options))


def _padded(nodes: Nodes, x: str, before: str, after: str, mode: str = "constant") -> str:
    """Add rows and columns: `before` and `after` name two numbers each, of height and width."""
    none = np.array([0, 0])
    return nodes.add("Pad", x, nodes.add("Concat", none, before, none, after, axis=0), mode=mode)


def _sides(nodes: Nodes, x: str) -> str:
    """Return height and width as a tensor of two int64."""
    return nodes.add("Slice", nodes.add("Shape", x), np.array([2]), np.array([4]))


def _whole(nodes: Nodes, x: str) -> str:
    return nodes.add("Clip", nodes.add("Round", x), np.float32(0), np.float32(255))


def _view(nodes: Nodes, x: str, view: View, side: tuple[int, int] | None) -> str:
    """Make the changes of a view, in the order in which `View` makes them."""
    if view == View():
        return x
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
    return x


def _warped(nodes: Nodes, x: str, view: View) -> str:
    """Zoom, turn and shift about the centre; borders are mirrored."""
    from onnx import TensorProto

    sides = nodes.add("Cast", _sides(nodes, x), to=TensorProto.FLOAT)
    height, width = (nodes.add("Slice", sides, np.array([i]), np.array([i + 1])) for i in (0, 1))
    half = [nodes.add("Mul", nodes.add("Sub", length, np.float32([1])), np.float32([0.5])) for length in (height, width)]
    rows, columns = (
        _places(nodes, length, middle, shift)
        for length, middle, shift in zip((height, width), half, (view.down, view.right), strict=True)
    )
    rows = nodes.add("Unsqueeze", rows, np.array([1]))
    columns = nodes.add("Unsqueeze", columns, np.array([0]))
    cosine, sine = (f(math.radians(view.turn)) / view.zoom for f in (math.cos, math.sin))

    def mixed(down: float, across: float, middle: str) -> str:
        """A weighted sum of the places, in units of half a side, which run from −1 to 1."""
        parts = nodes.add("Mul", rows, np.float32([down])), nodes.add("Mul", columns, np.float32([across]))
        in_units = nodes.add("Div", nodes.add("Add", *parts), nodes.add("Max", middle, np.float32([0.5])))
        return nodes.add("Unsqueeze", in_units, np.array([0, 3]))

    grid = nodes.add("Concat", mixed(-sine, cosine, half[1]), mixed(cosine, sine, half[0]), axis=3)
    n = nodes.add("Slice", nodes.add("Shape", x), np.array([0]), np.array([1]))
    grid = nodes.add("Expand", grid, nodes.add("Concat", n, np.array([1, 1, 1]), axis=0))
    mode = {"mode": "bilinear", "padding_mode": "reflection", "align_corners": 1}
    return _whole(nodes, nodes.add("GridSample", x, grid, **mode))


def _places(nodes: Nodes, length: str, middle: str, shift: float) -> str:
    """Return the numbers 0, 1, … less the middle and the shift, one for each row or column."""
    scalar = nodes.add("Squeeze", length, np.array([0]))
    counted = nodes.add("Range", np.float32(0), scalar, np.float32(1))
    moved = nodes.add("Add", middle, nodes.add("Mul", length, np.float32([shift])))
    return nodes.add("Sub", counted, moved)


def _relit(nodes: Nodes, x: str, gamma: float) -> str:
    from onnx import TensorProto

    table = np.round(255 * (np.arange(256) / 255) ** gamma).astype(np.float32)
    return nodes.add("Gather", table, nodes.add("Cast", x, to=TensorProto.INT32), axis=0)


def _grey(nodes: Nodes, x: str) -> str:
    weighted = nodes.add("Conv", x, _GREY.reshape(1, 3, 1, 1), np.float32([2**14]))
    grey = nodes.add("Floor", nodes.add("Mul", weighted, np.float32([2**-15])))
    return nodes.add("Concat", grey, grey, grey, axis=1)


def _blurred(nodes: Nodes, x: str, view: View, side: tuple[int, int] | None) -> str:
    import cv2

    if side is None:
        raise ModelFileError(
            f"The view {str(view)!r} blurs by a fraction of the picture's side, which resize=True leaves open; "
            "export with resize=False, or without this view."
        )
    sigma = view.blur * max(side)
    n = round(sigma * 6 + 1) | 1  # as cv2.GaussianBlur takes them
    kernel = cv2.getGaussianKernel(n, sigma).astype(np.float32)
    reach = nodes.constant(np.array([n // 2, n // 2]))
    x = _padded(nodes, x, reach, reach, mode="reflect")
    for shape in ((3, 1, n, 1), (3, 1, 1, n)):
        x = nodes.add("Conv", x, np.broadcast_to(kernel.reshape(shape[2:]), shape).copy(), group=3)
    return _whole(nodes, x)
