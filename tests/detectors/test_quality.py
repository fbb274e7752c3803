"""How much a face shows: size, sharpness, pose, visible share, and the score of the worst of them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from agegender import images
from agegender.datasets import make_faces
from agegender.faces import FACE_COLUMNS, Face, detect, face_columns

FRONTAL = np.array([[38.0, 50], [74, 50], [56, 70], [42, 92], [70, 92]])


def face(landmarks: np.ndarray = FRONTAL, **others: float) -> Face:
    return Face(0, 0, 100, 100, landmarks, 0.9, **{"sharpness": 500.0, **others})  # type: ignore[arg-type]


def test_a_large_sharp_frontal_face_is_reliable_without_doubts() -> None:
    assert face().quality == 1
    assert face().reliable
    assert face().doubts == ""


@pytest.mark.parametrize(
    ("shown", "doubts"),
    [
        (Face(0, 0, 18, 22, FRONTAL, 0.9, sharpness=100.0), "small"),
        (face(sharpness=5.0), "blurred"),
        (face(visible=0.6), "cut off"),
        (face(FRONTAL + np.array([[0, 0], [0, 0], [22.0, 0], [0, 0], [0, 0]])), "turned away"),
        (Face(0, 0, 18, 22, FRONTAL, 0.9, sharpness=5.0), "small, blurred"),
    ],
)
def test_a_face_that_shows_little_says_why(shown: Face, doubts: str) -> None:
    assert shown.doubts == doubts
    assert not shown.reliable
    assert 0 <= shown.quality < 0.5


def test_the_pose_is_that_of_a_head_turned_in_space() -> None:
    for degrees in (-60, -30, 0, 20, 50):
        angle = np.radians(degrees)
        points = FRONTAL.copy()
        points[:2, 0] = 56 + np.array([-18, 18]) * np.cos(angle)
        points[2, 0] = 56 + 0.9 * 18 * np.sin(angle)
        lean = np.radians(25)
        turn = np.array([[np.cos(lean), -np.sin(lean)], [np.sin(lean), np.cos(lean)]])
        points[2, 1] = 50
        shown = face(points @ turn.T)
        assert shown.yaw == pytest.approx(degrees, abs=1e-6)
        assert shown.roll == pytest.approx(25)


def test_a_blurred_face_has_less_sharpness_at_any_size(tmp_path: Path) -> None:
    crop = images.load(make_faces(1, tmp_path).data[0])
    sharp = detect(crop, detector="mtcnn")[0]
    larger = detect(cv2.resize(crop, (400, 400), interpolation=cv2.INTER_CUBIC), detector="mtcnn")[0]
    blurred = detect(cv2.GaussianBlur(crop, (0, 0), 4), detector="mtcnn")[0]
    assert larger.sharpness == pytest.approx(sharp.sharpness, rel=0.4)
    assert blurred.sharpness < sharp.sharpness / 5


def test_a_row_keeps_everything_and_a_missing_face_has_its_columns() -> None:
    shown = Face(1, 2, 30, 40, FRONTAL, 0.8, 270, 33.0, 0.9)
    assert Face.from_row(shown.to_row()) == shown
    assert Face.from_row(shown.to_row()[:15]) == Face(1, 2, 30, 40, FRONTAL, 0.8)
    columns = face_columns([shown, None])
    assert list(columns) == list(FACE_COLUMNS)
    assert columns["rotation"].tolist() == [270, 0]
    assert columns["reliable"].tolist() == [True, False]
    assert columns["doubts"].tolist() == ["", "no face"]
    assert np.isnan(columns["quality"][1])
