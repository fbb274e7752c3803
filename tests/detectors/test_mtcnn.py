"""MTCNN: its weights as joblib reads them, and the fast way of running it against the plain one."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import joblib
import lz4.frame
import numpy as np
import pytest
from material import Material
from numpy.typing import NDArray
from PIL import Image

from agegender import images
from agegender._detectors import mtcnn, mtcnn_graphs
from agegender._detectors.arrays import read_arrays
from agegender._machine.sessions import open_session
from agegender.datasets import make_faces

Run = Callable[[str, NDArray[np.uint8]], NDArray[np.float32]]


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.uint8]:
    """Drawn faces of several sizes in a picture of 640 × 480; MTCNN finds most of them."""
    picture = Image.new("RGB", (640, 480), (120, 130, 140))
    places = ((10, 10, 300), (330, 20, 160), (510, 30, 90), (350, 220, 200), (570, 200, 50), (30, 340, 120))
    for path, (x, y, side) in zip(make_faces(6, tmp_path_factory.mktemp("drawn")).data, places, strict=True):
        picture.paste(Image.open(path).resize((side, side)), (x, y))
    return np.asarray(picture)


@pytest.mark.parametrize("name", ["pnet", "rnet", "onet"])
def test_the_weights_are_the_arrays_that_joblib_reads(name: str) -> None:
    expected = joblib.load(mtcnn_graphs._weights_file(name))
    found = mtcnn_graphs.read_weights(name)
    assert len(found) == len(expected) > 10
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("content", [print, np.float64])
def test_a_file_with_anything_but_arrays_is_refused(content: Any) -> None:
    packed = lz4.frame.compress(pickle.dumps([content]))
    with pytest.raises(pickle.UnpicklingError, match="not only arrays"):
        read_arrays(packed)


def pair_by_pair(boxes: Any, others: Any, of_smaller: bool) -> NDArray[np.float64]:
    shares = np.zeros((len(boxes), len(others)))
    for i, (left, top, right, bottom, *_) in enumerate(boxes.tolist()):
        for j, (x, y, end, low, *_) in enumerate(others.tolist()):
            shared = max(0.0, min(right, end) - max(left, x)) * max(0.0, min(bottom, low) - max(top, y))
            areas = (right - left) * (bottom - top), (end - x) * (low - y)
            whole = min(areas) if of_smaller else sum(areas) - shared
            shares[i, j] = shared / whole if whole > 0 else 0.0
    return shares


@pytest.mark.parametrize("of_smaller", [False, True])
def test_overlaps_are_those_of_each_pair_to_the_last_bit(of_smaller: bool) -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 60, (40, 2))
    boxes = np.column_stack([corners, corners + rng.uniform(-2, 40, (40, 2)), rng.uniform(size=40)])
    expected = pair_by_pair(boxes[:9], boxes, of_smaller)
    assert (expected > 0.3).sum() > 10
    np.testing.assert_array_equal(mtcnn._overlaps(boxes[:9], boxes, of_smaller), expected)


@pytest.fixture
def plainly(monkeypatch: pytest.MonkeyPatch) -> Callable[[NDArray[np.uint8]], NDArray[np.float64]]:
    """MTCNN with PReLU as an operator, no padded channels, no integral image, level by level and pair by pair."""

    def rectify(graph: Any, tensor: str) -> str:
        return str(graph.add("PRelu", tensor, next(graph.weights).ravel().reshape(-1, 1, 1)))

    def find(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        with monkeypatch.context() as patch:
            patch.setattr(mtcnn_graphs._Graph, "rectify", rectify)
            patch.setattr(mtcnn_graphs, "_BLOCK", 1)
            networks = {
                name: open_session(mtcnn_graphs.build(name, mtcnn_graphs.read_weights(name)), n_threads=1)
                for name in mtcnn_graphs.WEIGHTS
            }
            patch.setattr(mtcnn, "_run", lambda name, given: networks[name].run(None, {"pictures": given})[0])
            patch.setattr(mtcnn, "_FEW", 0.0)
            patch.setattr(mtcnn, "resolve_threads", lambda: 1)
            patch.setattr(mtcnn, "_overlaps", pair_by_pair)
            return mtcnn.Mtcnn()(pixels, 0.9)

    return find


def test_the_fast_way_finds_the_boxes_of_the_plain_one(crowd: NDArray[np.uint8], plainly: Any) -> None:
    found, expected = mtcnn.Mtcnn()(crowd, 0.9), plainly(crowd)
    assert len(found) >= 4
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_so_it_does_in_photographs(shared: Material, plainly: Any) -> None:
    for name in ("group_multiface.jpg", "couple.jpg"):
        pixels = images.load(shared / "photos" / name)
        found, expected = mtcnn.Mtcnn()(pixels, 0.9), plainly(pixels)
        assert len(found) >= 2
        np.testing.assert_allclose(found, expected, atol=0.05)
