"""SCRFD on graphs of its layout: what InsightFace's own code reads from the same outputs, and what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import networks
import numpy as np
import onnx
import pytest
from PIL import Image

from agegender import EmbeddingExtractor, images
from agegender._detectors.scrfd import Scrfd, find_scrfd
from agegender._networks.location import insightface_folder, uniface_folder
from agegender.exceptions import NoFaceError, WeightsError, WeightsNotFoundError
from agegender.faces import DETECTORS, detect, load_detector

STRIDES = {9: ((8, 16, 32), 2), 15: ((8, 16, 32, 64, 128), 1), 6: ((8, 16, 32), 2)}


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSIGHTFACE_HOME", str(tmp_path / "insightface"))
    monkeypatch.setenv("UNIFACE_CACHE_DIR", str(tmp_path / "uniface"))


def scrfd(n_outputs: int = 9, side: int | str = "side", seed: int = 0) -> onnx.ModelProto:
    """A graph of SCRFD's layout: at each stride scores, distances to the sides, and landmarks."""
    b = networks.Builder(seed)
    strides, n_anchors = STRIDES[n_outputs]
    parts = {"score": 1, "bbox": 4, "kps": 10}
    wanted = list(parts)[: n_outputs // len(strides)]
    outputs: dict[str, list] = {}
    for kind in wanted:
        for stride in strides:
            pooled = b.add("AveragePool", "picture", kernel_shape=[stride] * 2, strides=[stride] * 2)
            x = b.conv(pooled, 3, n_anchors * parts[kind], 1)
            if kind == "score":
                x = b.add("Sigmoid", b.add("Mul", x, b.constant(np.float32(6))))
            if kind == "bbox":  # from half a cell to several
                x = b.add("Add", b.add("Abs", x), b.constant(np.float32(0.5)))
            x = b.add("Transpose", x, perm=[2, 3, 0, 1])
            name = f"{kind}_{stride}"
            b.add("Reshape", x, b.constant(np.array([-1, parts[kind]], np.int64)), name=name)
            outputs[name] = ["candidates", parts[kind]]
    return b.model(outputs, [1, 3, side, side])


def put(path: Path, model: onnx.ModelProto) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def picture(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(height)
    blocks = rng.integers(0, 256, (max(height // 40, 2), max(width // 40, 2), 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(blocks).resize((width, height)))


@pytest.mark.parametrize("shape", [(640, 640), (480, 640), (200, 130), (64, 500)])
@pytest.mark.parametrize(("n_outputs", "side"), [(9, "side"), (15, "side"), (9, 640)])
def test_faces_are_those_of_insightface_s_own_code(tmp_path, shape, n_outputs, side) -> None:
    model_zoo = pytest.importorskip("insightface.model_zoo.scrfd", reason="pip install --no-deps insightface")
    file = put(tmp_path / "det.onnx", scrfd(n_outputs, side))
    pixels = picture(*shape)
    theirs = model_zoo.SCRFD(str(file))
    boxes, points = theirs.detect(
        np.ascontiguousarray(pixels[..., ::-1]), input_size=(640, 640), det_thresh=0.6
    )
    found = Scrfd.from_file(file)(pixels, 0.6)
    assert len(found) == len(boxes) > 3
    np.testing.assert_allclose(found[:, :2], boxes[:, :2], rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(found[:, :2] + found[:, 2:4], boxes[:, 2:4], rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(found[:, 4:14], points.reshape(-1, 10), rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(found[:, 14], boxes[:, 4], rtol=1e-5)


def one_face(place: tuple[int, int], stride: int = 16) -> onnx.ModelProto:
    """A graph that finds one face at a known place, whatever the picture is."""
    b = networks.Builder()
    outputs: dict[str, list] = {}
    for kind, width in (("score", 1), ("bbox", 4), ("kps", 10)):
        for here in (8, 16, 32):
            n = (640 // here) ** 2
            values = np.zeros((n * 2, width), np.float32)
            if here == stride:
                at = 2 * (place[0] * (640 // here) + place[1])
                values[at] = {"score": 0.9, "bbox": 2.0, "kps": np.array([-1, -1, 1, -1, 0, 0, -1, 1, 1, 1])}[
                    kind
                ]
            zero = b.add("Mul", b.add("ReduceMean", "picture", keepdims=0), b.constant(np.float32(0)))
            b.add("Add", b.constant(values), zero, name=f"{kind}_{here}")
            outputs[f"{kind}_{here}"] = [n * 2, width]
    return b.model(outputs, [1, 3, 640, 640])


def test_a_known_face_stands_where_the_structure_says(tmp_path) -> None:
    detector = Scrfd.from_file(put(tmp_path / "det.onnx", one_face((10, 5))))
    face = detect(np.zeros((320, 320, 3), np.uint8), detector=detector)[0]
    # Cell (10, 5) of 16 pixels is at x = 80, y = 160 of 640: half of that here; two cells to each side.
    assert (face.x, face.y, face.width, face.height) == pytest.approx((24, 64, 32, 32))
    np.testing.assert_allclose(face.landmarks, [[32, 72], [48, 72], [40, 80], [32, 88], [48, 88]])
    assert face.score == pytest.approx(0.9)


def test_the_name_takes_the_best_file_that_is_there() -> None:
    with pytest.raises(WeightsNotFoundError, match=r"none of buffalo_l/det_10g\.onnx.*agegender download"):
        load_detector("scrfd")
    small = put(uniface_folder() / "scrfd_500m.onnx", scrfd(seed=1))
    assert find_scrfd() == small
    large = put(insightface_folder() / "buffalo_l" / "det_10g.onnx", scrfd(seed=2))
    assert load_detector("scrfd").sha256 == load_detector(large).sha256
    assert load_detector(small).name == "scrfd"
    assert "scrfd" in DETECTORS


def test_it_pickles_and_is_part_of_an_extractor_s_key(backbone, tmp_path) -> None:
    put(insightface_folder() / "buffalo_l" / "det_10g.onnx", one_face((10, 5)))
    detector = load_detector("scrfd")
    again = pickle.loads(pickle.dumps(detector))
    pixels = picture(320, 320)
    np.testing.assert_array_equal(again(pixels, 0.5), detector(pixels, 0.5))
    extractor = EmbeddingExtractor(backbone, layer="embedding", faces="scrfd", cache=None)
    assert extractor.transform([pixels]).shape == (1, 16)
    assert f"scrfd-{detector.sha256[:16]}-0.5-640" in str(extractor.recipes()[0].faces)


def test_a_picture_without_a_face_is_named(backbone) -> None:
    blank = one_face((10, 5))
    for weight in blank.graph.initializer:
        if weight.dims == [3200, 1]:
            weight.raw_data = bytes(len(weight.raw_data))
    put(insightface_folder() / "buffalo_l" / "det_10g.onnx", blank)
    with pytest.raises(NoFaceError, match="no face that scrfd finds"):
        EmbeddingExtractor(backbone, faces="scrfd", cache=None).transform([picture(100, 100)])


def test_what_is_not_such_a_detector_is_refused(tmp_path, tiny_onnx) -> None:
    with pytest.raises(WeightsError, match="gives no landmarks"):
        load_detector(put(tmp_path / "det_6.onnx", scrfd(6)))
    with pytest.raises(WeightsError, match="it has 1 outputs"):
        Scrfd.from_file(tiny_onnx)
    wrong = one_face((1, 1))
    few = onnx.numpy_helper.from_array(np.zeros((7, 1), np.float32), wrong.graph.initializer[0].name)
    wrong.graph.initializer[0].CopyFrom(few)
    with pytest.raises(WeightsError, match=r"wrong\.onnx is not an SCRFD face detector"):
        load_detector(put(tmp_path / "wrong.onnx", wrong))


def test_a_yunet_file_is_told_from_one(shared) -> None:
    yunet = shared / "weights" / "face_detection_yunet_2026may.onnx"
    assert load_detector(yunet).name == "yunet"
    assert len(detect(images.load(sorted((shared / "photos").glob("*.jpg"))[0]), detector=yunet)) >= 0
