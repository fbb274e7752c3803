"""What a network is shown, as graph operations: the pixels that OpenCV gives the library."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from agegender import images
from agegender._exporting.nodes import Nodes
from agegender._exporting.squares import shown
from agegender._machine.sessions import open_session
from agegender.exceptions import ModelFileError
from agegender.views import View, look, resolve_views

SIZE = (24, 20)


def as_shown(
    pictures: np.ndarray, *, views: Sequence[View] = (View(),), crop: float = 0.0, open_size: bool = True
) -> np.ndarray:
    """What the graph makes of pictures."""
    side = None if open_size else pictures.shape[1:3]
    nodes = Nodes(18)
    output = shown(nodes, "pictures", side=side, views=views, crop=crop, size=SIZE)
    nodes.add("Identity", output, name="shown")
    shape = ["n", *(side or ("h", "w")), 3]
    model = nodes.model(
        "squares",
        [helper.make_tensor_value_info("pictures", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("shown", TensorProto.UINT8, None)],
    )
    return open_session(model.SerializeToString()).run(None, {"pictures": pictures})[0]


def by_the_library(picture: np.ndarray, view: View, crop: float) -> np.ndarray:
    return images.letterbox(images.trim(look(picture, [view])[0], crop), SIZE)


def noise(n: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([0.0, 0.07, 0.3, -0.1, -0.55]))
@example(49, 49, 0.0)  # 49 · (24 / 49) is below 24 in floating point
@example(1, 90, 0.0)
@example(48, 40, 0.0)  # exactly half, where OpenCV averages
@example(24, 20, 0.0)
def test_a_picture_of_any_size_is_trimmed_and_scaled_to_the_very_pixels(
    height: int, width: int, crop: float
) -> None:
    pictures = noise(2, height, width)
    expected = [by_the_library(picture, View(), crop) for picture in pictures]
    np.testing.assert_array_equal(as_shown(pictures, crop=crop), expected)
    np.testing.assert_array_equal(as_shown(pictures, crop=crop, open_size=False), expected)


@pytest.mark.parametrize("open_size", [True, False])
@pytest.mark.parametrize("name", ["mirror", "darker", "brighter", "grey", "mirror+grey+darker"])
def test_views_without_a_warp_are_the_very_pixels(name: str, open_size: bool) -> None:
    pictures, views = noise(2, 60, 50), resolve_views(("plain", name))
    found = as_shown(pictures, views=views, crop=0.1, open_size=open_size)
    expected = [by_the_library(picture, view, 0.1) for view in views for picture in pictures]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("open_size", [True, False])
@pytest.mark.parametrize("name", ["zoom", "zoom_out", "rotate_left", "mirror+shift_up", "shift_right"])
def test_warped_views_differ_by_rounding_alone(name: str, open_size: bool) -> None:
    pictures, (view,) = noise(2, 60, 50), resolve_views(name)
    found = as_shown(pictures, views=(view,), open_size=open_size).astype(int)
    expected = np.array([by_the_library(picture, view, 0.0) for picture in pictures])
    assert np.abs(found - expected).max() <= 1
    assert np.mean(found != expected) < 0.15  # most where a shift is by half a pixel


def test_blur_is_opencv_s_to_rounding_where_the_size_is_known_and_an_error_where_it_is_open() -> None:
    pictures, views = noise(2, *SIZE), (View(blur=0.05),)
    found = as_shown(pictures, views=views, open_size=False).astype(int)
    expected = np.array([by_the_library(picture, views[0], 0.0) for picture in pictures])
    assert np.abs(found - expected).max() <= 2
    with pytest.raises(ModelFileError, match=r"'blur=0\.05' blurs by a fraction .* resize=False"):
        as_shown(pictures, views=views)


def test_a_large_picture_is_scaled_down_before_a_view_as_in_the_library() -> None:
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.integers(60, 200, (9, 12, 3)), np.ones((170, 170, 1))).astype(np.uint8)
    found = as_shown(smooth[np.newaxis], views=(View(mirror=True),))[0].astype(int)
    expected = by_the_library(smooth, View(mirror=True), 0.0)
    assert np.abs(found - expected).mean() < 1


def test_a_picture_that_fits_passes_as_it_is() -> None:
    nodes = Nodes(17)
    assert shown(nodes, "pictures", side=SIZE, views=(View(),), crop=0.0, size=SIZE) == "pictures"
