from __future__ import annotations

import csv
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from material import Material
from numpy.typing import NDArray
from PIL import Image

from agegender import images
from agegender._detectors import mtcnn, mtcnn_graphs
from agegender._machine.sessions import open_session
from agegender._networks import location
from agegender._pixels.alignment import TEMPLATES
from agegender.datasets import make_faces
from agegender.exceptions import PictureError, WeightsError, WeightsNotFoundError
from agegender.faces import Face, align, detect, detector_key, largest_face, load_detector, reframe

ARCFACE = np.array(TEMPLATES["arcface"][1])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Eight drawn portraits, each with one face that MTCNN finds."""
    return [Path(path) for path in make_faces(8, tmp_path_factory.mktemp("portraits")).data]


@pytest.fixture(scope="module")
def pixels(drawn: list[Path]) -> NDArray[np.uint8]:
    return images.load(drawn[0])


@pytest.fixture
def yunet(shared: Material) -> Path:
    return shared / "weights/face_detection_yunet_2026may.onnx"


def test_every_drawn_face_is_found_with_its_landmarks_in_place(drawn: list[Path]) -> None:
    for path in drawn:
        face, *others = detect(path, detector="mtcnn")
        assert others == []
        right_eye, left_eye, nose, right_corner, left_corner = face.landmarks
        assert right_eye[0] < nose[0] < left_eye[0]
        assert right_corner[0] < nose[0] < left_corner[0]
        assert max(right_eye[1], left_eye[1]) < nose[1] < min(right_corner[1], left_corner[1])
        assert (
            (face.landmarks > [face.x, face.y])
            & (face.landmarks < [face.x + face.width, face.y + face.height])
        ).all()
        assert 0.9 <= face.score <= 1


def test_several_faces_come_largest_first_in_pixels_of_the_picture(pixels: NDArray[np.uint8]) -> None:
    alone = detect(pixels, detector="mtcnn")[0]
    picture = np.full((500, 900, 3), 120, np.uint8)
    picture[250:350, 60:160] = np.asarray(Image.fromarray(pixels).resize((100, 100), Image.Resampling.BOX))
    picture[40:440, 400:800] = np.asarray(Image.fromarray(pixels).resize((400, 400)))
    large, small = detect(picture, detector="mtcnn")
    np.testing.assert_allclose(large.landmarks, alone.landmarks * 2 + [400, 40], atol=8)
    np.testing.assert_allclose(small.landmarks, alone.landmarks / 2 + [60, 250], atol=4)
    assert large.width > 3 * small.width


def test_a_large_picture_is_searched_in_a_small_copy_with_places_scaled_back(
    pixels: NDArray[np.uint8],
) -> None:
    alone = detect(pixels, detector="mtcnn")[0]
    large = np.asarray(Image.fromarray(pixels).resize((1800, 1800), Image.Resampling.BICUBIC))
    found = detect(large, detector="mtcnn", max_side=200)[0]
    np.testing.assert_allclose(found.landmarks, alone.landmarks * 9, atol=40)


def test_a_path_bytes_and_pixels_of_one_picture_give_the_same_faces(drawn: list[Path]) -> None:
    faces = detect(drawn[1], detector="mtcnn")
    assert detect(drawn[1].read_bytes(), detector="mtcnn") == faces
    assert detect(images.load(drawn[1]), detector="mtcnn") == faces
    assert len({*faces, *detect(str(drawn[1]), detector="mtcnn")}) == 1


def test_a_turned_photograph_is_searched_upright(pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    upright = detect(pixels, detector="mtcnn")[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(pixels).copy()).save(tmp_path / "turned.png", exif=exif)
    assert detect(tmp_path / "turned.png", detector="mtcnn")[0] == upright


def test_a_picture_without_a_face_has_none_and_asking_for_the_largest_says_so(tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), "teal").save(tmp_path / "sea.png")
    assert detect(tmp_path / "sea.png", detector="mtcnn") == []
    with pytest.raises(PictureError, match=r"sea\.png: has no face that mtcnn finds.*faces=None"):
        largest_face(tmp_path / "sea.png", detector="mtcnn")


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 900, 3), (900, 2, 3), (11, 11, 3)])
def test_pictures_too_small_for_a_face_have_none(shape: tuple[int, ...]) -> None:
    assert detect(np.zeros(shape, np.uint8), detector="mtcnn") == []


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("no picture at all")
    with pytest.raises(PictureError, match=r"notes\.jpg"):
        detect(tmp_path / "notes.jpg", detector="mtcnn")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"min_score": 1.5}, "not from 0 to 1"),
        ({"max_side": 8}, "below 32"),
        ({"detector": 3}, "is not a detector"),
    ],
)
def test_a_parameter_out_of_range_is_refused(
    wrong: dict[str, Any], message: str, pixels: NDArray[np.uint8]
) -> None:
    with pytest.raises(ValueError, match=message):
        detect(pixels, **{"detector": "mtcnn", **wrong})


def test_mtcnn_needs_neither_tensorflow_nor_its_own_package(drawn: list[Path]) -> None:
    code = (
        "import sys; from agegender.faces import detect; assert detect(sys.argv[1], detector='mtcnn');"
        "print(sorted({'tensorflow', 'keras', 'mtcnn', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(drawn[0])], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_missing_or_changed_mtcnn_weights_are_told_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mtcnn_graphs, "_folder", lambda: tmp_path)
    with pytest.raises(WeightsNotFoundError, match=r"pip install mtcnn==1\.0\.0"):
        load_detector("mtcnn")
    (tmp_path / "pnet.lz4").write_bytes(b"something else")
    with pytest.raises(WeightsError, match=r"is not the file of mtcnn 1\.0\.0"):
        mtcnn_graphs.read_weights("pnet")


@pytest.mark.parametrize(("name", "side"), [("pnet", 50), ("rnet", 24), ("onet", 48)])
def test_the_fast_form_of_mtcnns_networks_gives_the_numbers_of_the_plain_one(
    name: str, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = mtcnn_graphs.read_weights(name)
    fast = mtcnn_graphs.build(name, weights)

    def plain(graph: Any, tensor: str) -> str:
        slope = next(graph.weights).ravel()
        return graph.add("PRelu", tensor, slope.reshape(-1, 1, 1))

    monkeypatch.setattr(mtcnn_graphs._Graph, "rectify", plain)
    monkeypatch.setattr(mtcnn_graphs, "_BLOCK", 1)
    pictures = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    heads = [
        open_session(model, n_threads=1).run(None, {"pictures": pictures})[0]
        for model in (fast, mtcnn_graphs.build(name, weights))
    ]
    np.testing.assert_allclose(*heads, atol=2e-5)


corners = st.tuples(st.floats(0, 80), st.floats(0, 80), st.floats(1, 60), st.floats(1, 60), st.floats(0, 1))


@settings(deadline=None, max_examples=60)
@given(st.lists(corners, max_size=25), st.floats(0.1, 0.9))
def test_suppression_keeps_the_best_of_overlapping_boxes(
    rows: list[tuple[float, ...]], overlap: float
) -> None:
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    boxes = np.column_stack([table[:, :2], table[:, :2] + table[:, 2:4], table[:, 4]])
    kept = mtcnn._suppress(boxes, overlap)
    shares = _shares(boxes, kept)
    for box, share in zip(boxes, shares, strict=True):
        better = kept[:, 4] >= box[4]
        assert (kept == box).all(axis=1).any() or (share[better] > overlap).any()
    among = _shares(kept, kept)
    assert (among[~np.eye(len(kept), dtype=bool)] <= overlap + 1e-9).all()


def _shares(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:4], others[None, :, 2:4])
    shared = np.maximum(0, high - low).prod(axis=2)
    areas = [np.prod(b[:, 2:4] - b[:, :2], axis=1) for b in (boxes, others)]
    return shared / (areas[0][:, None] + areas[1][None] - shared)


# ---- YuNet, and both on photographs ------------------------------------------------------------------------------


def test_yunet_finds_drawn_faces_where_mtcnn_does(drawn: list[Path], yunet: Path) -> None:
    for path in drawn:
        ours, theirs = detect(path, detector=yunet)[0], detect(path, detector="mtcnn")[0]
        assert np.abs(ours.landmarks - theirs.landmarks).max() < 0.15 * theirs.height


def test_auto_takes_yunet_where_its_file_is_and_mtcnn_otherwise(yunet: Path) -> None:
    assert load_detector("auto").name == "mtcnn"
    folder = location.weights_folder()
    folder.mkdir(parents=True)
    (folder / "face_detection_yunet_2022mar.onnx").write_bytes(b"an older release")
    shutil.copy(yunet, folder)
    found = load_detector("auto")
    assert found.name == "yunet"
    assert found.sha256 == load_detector(yunet).sha256 == load_detector("yunet").sha256


def test_yunet_is_neither_here_nor_to_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGEGENDER_OFFLINE", "1")
    with pytest.raises(
        WeightsNotFoundError, match=r"AGEGENDER_OFFLINE forbids(?s:.*)https://github.com/opencv"
    ) as told:
        load_detector("yunet")
    assert str(location.weights_folder()) in str(told.value)
    assert load_detector("auto").name == "mtcnn"


def test_a_downloaded_yunet_that_is_not_the_published_file_is_refused(
    yunet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deepface.commons import weight_utils

    def fetch(file_name: str, source_url: Any, compress_type: Any = None) -> str:
        return str(shutil.copy(yunet, location.weights_folder() / file_name))

    monkeypatch.setattr(weight_utils, "download_weights_if_necessary", fetch)
    with pytest.raises(WeightsNotFoundError, match="232,589"):
        load_detector("yunet")
    assert list(location.weights_folder().iterdir()) == []


def test_files_that_are_no_detectors_are_refused(tiny_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"not a face detector that cv2\.FaceDetectorYN can run"):
        load_detector(tiny_onnx)
    with pytest.raises(WeightsNotFoundError, match="There is no face detector"):
        load_detector(tmp_path / "gone.onnx")
    (tmp_path / "page.onnx").write_text("<!DOCTYPE html><html>404</html>")
    with pytest.raises(WeightsError, match="web page"):
        load_detector(tmp_path / "page.onnx")


def test_a_misspelt_detector_is_answered_with_the_right_name() -> None:
    with pytest.raises(ValueError, match=r"detector='yunnet' is not one of .*Did you mean 'yunet'\?"):
        load_detector("yunnet")


def test_a_pickled_detector_finds_the_same_faces_without_its_file(
    yunet: Path, tmp_path: Path, drawn: list[Path]
) -> None:
    copied = Path(shutil.copy(yunet, tmp_path / "yunet.onnx"))
    detector = load_detector(copied)
    expected = detect(drawn[0], detector=detector)
    pickled = pickle.dumps(detector)
    copied.unlink()
    code = (
        "import pickle, sys; from agegender.faces import detect; d = pickle.load(sys.stdin.buffer);"
        "print(detect(sys.argv[1], detector=d)[0].to_row().tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(drawn[0])], input=pickled, capture_output=True, check=True
    )
    assert Face.from_row(np.array(eval(done.stdout))) == expected[0]
    assert done.stderr == b""
    again = pickle.loads(pickle.dumps(load_detector("mtcnn")))
    assert detect(drawn[0], detector=again) == detect(drawn[0], detector="mtcnn")


@pytest.mark.parametrize("name", ["mtcnn", "yunet"])
def test_threads_may_share_a_detector(name: str, drawn: list[Path], request: pytest.FixtureRequest) -> None:
    detector = load_detector("mtcnn" if name == "mtcnn" else request.getfixturevalue("yunet"))
    pictures = [images.load(path)[: 200 - 5 * i] for i, path in enumerate(drawn)]
    expected = [detect(picture, detector=detector) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda picture: detect(picture, detector=detector), pictures)) == expected


@pytest.mark.parametrize("name", ["mtcnn", "yunet"])
def test_visible_faces_of_photographs_are_found_and_nothing_else(
    name: str, shared: Material, yunet: Path
) -> None:
    detector = load_detector("mtcnn" if name == "mtcnn" else yunet)
    counts = {
        "couple": 2,
        "group_multiface": 6,
        "group_tv_1": 4,
        "img31": 1,
        "img62": 1,
        "selfie-many-people": 4,
    }
    if name == "yunet":  # which finds those cut by the picture's edge as well
        counts |= {"img62": 2, "selfie-many-people": 6}
    found = {stem: len(detect(shared / f"photos/{stem}.jpg", detector=detector)) for stem in counts}
    assert found == counts


@pytest.mark.parametrize("name", ["mtcnn", "yunet"])
def test_aligned_faces_of_the_same_person_are_told_from_others(
    name: str, shared: Material, yunet: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from sklearn.metrics import roc_auc_score

    detector = load_detector("mtcnn" if name == "mtcnn" else yunet)
    session = onnxruntime.InferenceSession(shared / "weights/mobilefacenet_arcface.onnx")
    with (shared / "photos/same_person_pairs.csv").open() as file:
        pairs = list(csv.DictReader(file))
    units = {}
    for photo in sorted({pair[column] for pair in pairs for column in ("file_x", "file_y")}):
        picture = images.load(shared / f"photos/{photo}")
        crop = align(picture, largest_face(picture, detector=detector), (112, 112))
        numbers = session.run(None, {"data": crop.transpose(2, 0, 1)[np.newaxis].astype(np.float32)})[0][0]
        units[photo] = numbers / np.linalg.norm(numbers)
    same = [pair["same_person"] == "yes" for pair in pairs]
    assert roc_auc_score(same, [units[pair["file_x"]] @ units[pair["file_y"]] for pair in pairs]) >= 0.99


# ---- alignment ---------------------------------------------------------------------------------------------------


def _marked(side: int, landmarks: NDArray[np.float64], radius: float) -> NDArray[np.uint8]:
    """Draw a soft white spot at each landmark."""
    rows, columns = np.indices((side, side))
    spots = [np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * radius**2)) for x, y in landmarks]
    return np.repeat((255 * np.sum(spots, axis=0)).astype(np.uint8)[..., np.newaxis], 3, axis=2)


def _middles(picture: NDArray[np.uint8], near: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    found = []
    for x, y in np.rint(near).astype(int):
        part = picture[y - reach : y + reach + 1, x - reach : x + reach + 1, 0].astype(float)
        rows, columns = np.indices(part.shape)
        found.append(
            [(part * columns).sum() / part.sum() + x - reach, (part * rows).sum() / part.sum() + y - reach]
        )
    return np.array(found)


@pytest.mark.parametrize("unit", [0.8, 3.0, 6.0])
@pytest.mark.parametrize(
    ("size", "template"), [((112, 112), "arcface"), ((160, 200), "arcface"), ((160, 160), "utkface")]
)
def test_landmarks_come_to_lie_on_the_template(unit: float, size: tuple[int, int], template: str) -> None:
    side, points = TEMPLATES[template]
    factor = min(size) / side
    target = np.array(points) * factor + [(size[1] - min(size)) / 2, (size[0] - min(size)) / 2]
    turn = np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    whole = int(200 * unit)
    landmarks = (target - target.mean(axis=0)) @ turn.T * unit + whole / 2
    picture = _marked(whole, landmarks, 2.5 * unit)
    crop = align(picture, Face(0, 0, 9, 9, landmarks, 1.0), size, template)
    assert crop.shape == (*size, 3)
    np.testing.assert_allclose(_middles(crop, target, 7), target, atol=0.2)


def test_a_face_larger_than_the_input_is_averaged_not_sampled() -> None:
    picture = np.zeros((1200, 1200, 3), np.uint8)
    picture[::2, ::2] = 255
    picture[1::2, 1::2] = 255
    crop = align(picture, Face(0, 0, 9, 9, ARCFACE * 8 + 150, 1.0), (112, 112))
    assert crop.min() > 120
    assert crop.max() < 135


def test_what_lies_outside_of_the_picture_is_black(pixels: NDArray[np.uint8]) -> None:
    white = np.full((112, 112, 3), 255, np.uint8)
    half = align(white, Face(0, 0, 9, 9, ARCFACE - np.array([56, 0]), 1.0), (112, 112))
    assert half[:, :54].max() == 0
    assert half[:, 58:].min() == 255
    assert align(white, Face(0, 0, 9, 9, ARCFACE + 5000, 1.0), (112, 112)).max() == 0
    assert align(pixels, Face(0, 0, 9, 9, ARCFACE * 1e-3, 1.0), (112, 112)).shape == (112, 112, 3)


def test_an_upright_face_of_the_templates_size_is_cut_out_pixel_by_pixel(pixels: NDArray[np.uint8]) -> None:
    crop = align(pixels, Face(0, 0, 9, 9, ARCFACE + np.array([30, 50]), 1.0), (112, 112))
    assert np.abs(crop.astype(int) - pixels[50:162, 30:142]).max() <= 1


@settings(deadline=None, max_examples=40)
@given(st.floats(0.2, 5), st.floats(-3.1, 3.1), st.floats(-500, 500), st.floats(-500, 500))
def test_any_turn_scale_and_shift_is_found_again(scale: float, angle: float, x: float, y: float) -> None:
    from agegender._pixels.alignment import _similarity

    a, b = scale * np.cos(angle), scale * np.sin(angle)
    matrix = np.array([[a, -b, x], [b, a, y]])
    target = ARCFACE @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(_similarity(ARCFACE, target), matrix, atol=1e-6)


def test_landmarks_in_one_point_and_unknown_templates_are_refused(pixels: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="all lie in one point"):
        align(pixels, Face(0, 0, 9, 9, np.ones((5, 2)), 1.0), (112, 112))
    with pytest.raises(ValueError, match=r"template='arcfase' is not one of .*Did you mean 'arcface'"):
        align(pixels, Face(0, 0, 9, 9, ARCFACE, 1.0), (112, 112), "arcfase")
    with pytest.raises(ValueError, match="framing='imdb' is not one of 'utkface'"):
        reframe(pixels, (112, 112), "imdb")


@pytest.mark.parametrize("side", [100, 200, 500])
def test_a_reframed_crop_is_what_alignment_makes_of_its_usual_landmarks(
    side: int, pixels: NDArray[np.uint8]
) -> None:
    crop = np.asarray(Image.fromarray(pixels).resize((side, side)))
    usual = np.array(TEMPLATES["utkface"][1]) * side / 200
    aligned = align(crop, Face(0, 0, 9, 9, usual, 1.0), (112, 112))
    np.testing.assert_array_equal(reframe(crop, (112, 112)), aligned)
    assert aligned[:20].max() == 0
    assert aligned[60, 56].max() > 0


def test_a_crop_that_is_not_square_is_reframed_as_if_padded(pixels: NDArray[np.uint8]) -> None:
    narrow = pixels[:, 20:180]
    padded = np.zeros_like(pixels)
    padded[:, 20:180] = narrow
    close = reframe(narrow, (112, 112)).astype(int) - reframe(padded, (112, 112))
    assert np.abs(close[:, 24:88]).mean() < 1


def test_real_crops_are_reframed_as_detection_would_align_them(shared: Material, yunet: Path) -> None:
    detector, shifts = load_detector(yunet), []
    for path in sorted((shared / "data/utkface_mini").glob("*.jpg"))[::25]:
        again = detect(reframe(images.load(path), (224, 224)), detector=detector)
        shifts += [face.landmarks / 2 - ARCFACE for face in again[:1]]
    assert len(shifts) >= 18
    assert np.abs(np.median(shifts, axis=0)).max() < 5


# ---- faces as values ---------------------------------------------------------------------------------------------


def test_a_face_survives_as_a_row_of_numbers_and_cannot_be_changed() -> None:
    face = Face(1.5, 2, 30, 40, ARCFACE, 0.75)
    assert face.to_row().shape == (18,)
    assert Face.from_row(face.to_row()) == face
    assert hash(Face.from_row(face.to_row().tolist())) == hash(face)
    assert Face(1.5, 2, 30, 40, ARCFACE + 1, 0.75) != face
    with pytest.raises(ValueError, match="read-only"):
        face.landmarks[0, 0] = 3
    with pytest.raises(ValueError, match=r"five points \(5, 2\)"):
        Face(1, 2, 3, 4, np.zeros(10), 0.5)


def test_the_key_tells_apart_all_that_changes_a_crop(yunet: Path) -> None:
    mtcnn = load_detector("mtcnn")
    keys = [
        detector_key(mtcnn),
        detector_key(load_detector(yunet)),
        detector_key(mtcnn, min_score=0.5),
        detector_key(mtcnn, max_side=1000),
    ]
    assert len(set(keys)) == len(keys)
    assert detector_key(mtcnn, min_score=mtcnn.min_score) == keys[0]
    assert detector_key(mtcnn, max_side=mtcnn.max_side) != keys[0]  # a single copy, and no finer one
