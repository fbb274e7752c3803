"""Where and how finely a detector searches: quarter turns, finer copies, tiles, a given smallest face."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from material import Material
from numpy.typing import NDArray

from agegender import images
from agegender._detectors.search import Search, search
from agegender.datasets import make_faces
from agegender.faces import Detector, Face, detect, detector_key, load_detector

Pixels = NDArray[np.uint8]
POINTS = np.array([[0.3, 0.35], [0.7, 0.35], [0.5, 0.55], [0.35, 0.75], [0.65, 0.75]])


class Spots:
    """Finds red squares of at least 16 pixels with a green upper edge: faces that stand upright."""

    def __init__(self) -> None:
        self.searched: list[tuple[int, ...]] = []

    def __call__(self, pixels: Pixels, min_score: float) -> NDArray[np.float64]:
        self.searched.append(pixels.shape[:2])
        red = (pixels[..., 0] > 100) & (pixels[..., 2] < 50)
        _, _, boxes, _ = cv2.connectedComponentsWithStats(red.astype(np.uint8))
        rows = []
        for x, y, width, height, _ in boxes[1:].tolist():
            green = pixels[y : y + max(2, height // 4), x : x + width, 1] > 100
            if min(width, height) >= 16 and green.mean() > 0.5:
                points = POINTS * [width, height] + [x, y]
                rows.append([x, y, width, height, *points.ravel(), 0.9])
        return np.reshape(np.array(rows, dtype=np.float64), (-1, 15))


def picture(height: int, width: int, *squares: tuple[int, int, int]) -> Pixels:
    made = np.full((height, width, 3), 60, np.uint8)
    for left, top, side in squares:
        made[top : top + side, left : left + side] = (250, 0, 0)
        made[top : top + side // 2, left : left + side] = (250, 250, 0)
    return made


def test_a_picture_without_a_face_is_searched_in_four_turns_and_the_places_are_its_own() -> None:
    upright = picture(300, 500, (80, 40, 60))
    for quarter in range(4):
        pixels = np.ascontiguousarray(np.rot90(upright, quarter))
        find = Spots()
        (row,) = search(pixels, find, Search(0.5, 640))
        assert row[15] == 90 * quarter
        assert len(find.searched) == quarter + 1
        left, top, width, height = row[:4].astype(int)
        assert (pixels[top : top + height, left : left + width, 0] == 250).all()
        eyes, mouth = row[4:8].reshape(2, 2).mean(axis=0), row[10:14].reshape(2, 2).mean(axis=0)
        down = [(0, 1), (1, 0), (0, -1), (-1, 0)][quarter]
        np.testing.assert_allclose((mouth - eyes) / np.linalg.norm(mouth - eyes), down, atol=1e-6)
    find = Spots()
    sideways = np.ascontiguousarray(np.rot90(upright))
    assert not len(search(sideways, find, Search(0.5, 640, turned=False)))
    assert len(find.searched) == 1


def test_small_faces_have_a_finer_copy_searched_and_large_ones_do_not() -> None:
    find = Spots()
    assert len(search(picture(960, 1280, (100, 100, 300)), find, Search(0.5, 640))) == 1
    assert find.searched == [(480, 640)]
    find = Spots()
    found = search(
        picture(1920, 2560, (100, 100, 800), (1200, 100, 72), (1400, 100, 36), (1600, 100, 20)),
        find,
        Search(0.5, 640),
    )
    assert find.searched == [(480, 640), (960, 1280), (1920, 2560)]
    np.testing.assert_allclose(sorted(found[:, 2]), [20, 36, 72, 800], rtol=0.06)
    assert len(search(picture(1920, 2560, (1200, 100, 72)), Spots(), Search(0.5, 640, finer=False))) == 1


def test_a_given_smallest_face_decides_the_copy_and_very_large_pictures_are_searched_in_parts() -> None:
    pixels = picture(3000, 4000, (3950, 2960, 24), (1270, 1250, 24), (40, 40, 1200))
    assert len(search(pixels, Spots(), Search(0.5, 640))) == 1
    find = Spots()
    found = search(pixels, find, Search(0.5, 640, min_face_size=24))
    assert max(max(shape) for shape in find.searched) <= 2560
    np.testing.assert_allclose(sorted(found[:, 2]), [24, 24, 1200], atol=10)
    find = Spots()
    assert len(search(picture(960, 1280, (100, 100, 300)), find, Search(0.5, 640, min_face_size=200))) == 1
    assert [max(shape) for shape in find.searched] == [154]


def test_a_detector_keeps_its_smallest_face_and_its_key_has_it(tmp_path: Path) -> None:
    plain, small = load_detector("mtcnn"), load_detector("mtcnn", min_face_size=24)
    assert plain.min_face_size is None
    assert load_detector(small).min_face_size == 24
    assert len({detector_key(plain), detector_key(small), detector_key(plain, max_side=1280)}) == 3
    assert detector_key(plain, min_face_size=24) == detector_key(small)
    crop = images.load(make_faces(1, tmp_path).data[0])
    pixels = np.full((1200, 1600, 3), 120, np.uint8)
    pixels[600:648, 800:848] = cv2.resize(crop, (48, 48), interpolation=cv2.INTER_AREA)
    (face,) = detect(pixels, detector=small)
    assert 820 < face.landmarks[:, 0].mean() < 830
    with pytest.raises(ValueError, match="min_face_size=5 should be at least 10 pixels"):
        load_detector("mtcnn", min_face_size=5)


def _landmarks_turned(face: Face, quarter: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    points, width = np.asarray(face.landmarks), shape[1]
    for step in range(quarter):
        width = shape[1] if step % 2 == 0 else shape[0]
        points = np.stack([points[:, 1], width - points[:, 0]], axis=1)
    return points


@pytest.mark.parametrize("name", ["yunet", "mtcnn"])
def test_photographs_on_their_side_or_upside_down_give_the_same_face(name: str, shared: Material) -> None:
    """YuNet takes faces that are upside down for upright ones, unless they are looked at again."""
    file = shared / "weights/face_detection_yunet_2026may.onnx"
    detector: Detector = load_detector(file if name == "yunet" else "mtcnn")
    for stem in ("img12", "img5"):
        pixels = images.load(shared / f"photos/{stem}.jpg")
        upright = detect(pixels, detector=detector)[0]
        assert upright.rotation == 0
        for quarter in (1, 2, 3):
            face = detect(np.ascontiguousarray(np.rot90(pixels, quarter)), detector=detector)[0]
            shift = np.abs(face.landmarks - _landmarks_turned(upright, quarter, pixels.shape)).max()
            assert shift < 0.15 * upright.height
            if name == "yunet":
                assert face.rotation == 90 * quarter
