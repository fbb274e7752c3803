"""Faces found in photographs, and crops brought into another framing, on their way into a network."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pyarrow.parquet as pq
import pytest
from material import Material
from numpy.typing import NDArray
from PIL import Image
from sklearn.base import clone

from agegender import (
    AgeGenderClassifier,
    AgeGenderPipeline,
    Backbone,
    DenseHead,
    EmbeddingExtractor,
    images,
)
from agegender._extraction.crops import SeenCrops
from agegender._extraction.framing import FaceFinder
from agegender._fitting.fitted_head import FittedHead
from agegender._pixels.alignment import TEMPLATES, usual_framing
from agegender.cache import EmbeddingCache
from agegender.datasets import make_faces
from agegender.exceptions import (
    FramingWarning,
    ModelFileError,
    NoFaceError,
    WeightsNotFoundError,
    WeightsWarning,
)
from agegender.faces import Face, RecordedDetector, align, detect, largest_face, load_detector, reframe
from agegender.persistence import load_model, save_model
from agegender.shards import write_shard

N = 24


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Drawn portraits in which MTCNN finds a face."""
    faces = make_faces(N + 6, tmp_path_factory.mktemp("portraits"), random_state=3)
    shown = [bool(detect(path, detector="mtcnn")) for path in faces.data]
    assert sum(shown) >= N
    return SimpleNamespace(data=faces.data[shown][:N], target=faces.target[shown][:N])


@pytest.fixture(scope="module")
def photographs(drawn: Any, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The drawn portraits, each somewhere in a larger picture."""
    folder, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for number, path in enumerate(drawn.data):
        pixels = images.load(path)
        canvas = Image.new("RGB", (420, 330), tuple(int(v) for v in pixels[0, 0]))
        canvas.paste(Image.fromarray(pixels), (int(rng.integers(0, 220)), int(rng.integers(0, 130))))
        canvas.save(folder / f"{number:03d}.png")
    return sorted(map(str, folder.iterdir()))


@pytest.fixture
def tiny(tiny_onnx: Path) -> Backbone:
    return Backbone.from_onnx(tiny_onnx)


class Counting:
    """MTCNN, and how often it was asked."""

    name, sha256, min_score, max_side = "mtcnn", "ab" * 32, 0.9, 640

    def __init__(self) -> None:
        self.asked = 0
        self.inner = load_detector("mtcnn")

    def __call__(self, pixels: NDArray[np.uint8], min_score: float) -> NDArray[np.float64]:
        self.asked += 1
        return self.inner(pixels, min_score)


def extractor(tiny: Backbone, **parameters: Any) -> EmbeddingExtractor:
    return EmbeddingExtractor(tiny, **({"layer": "embedding", "cache": None} | parameters))


def test_a_photograph_gives_the_row_of_its_largest_face_aligned(tiny, photographs) -> None:
    rows = extractor(tiny, faces="mtcnn").transform(photographs[:4])
    squares = [
        align(images.load(path), largest_face(path, detector="mtcnn"), (24, 24)) for path in photographs[:4]
    ]
    np.testing.assert_allclose(rows, extractor(tiny).transform(squares), atol=1e-4)
    assert np.abs(rows - extractor(tiny).transform(photographs[:4])).max() > 0.1


def test_a_picture_without_a_face_is_an_error_that_names_it_or_a_row_of_nan(
    tiny, photographs, tmp_path
) -> None:
    empty = tmp_path / "wall.png"
    Image.new("RGB", (200, 150), (90, 120, 60)).save(empty)
    with pytest.raises(NoFaceError, match=r"wall\.png: has no face that mtcnn finds") as caught:
        extractor(tiny, faces="mtcnn").transform([photographs[0], empty])
    assert caught.value.picture == str(empty)
    lenient = extractor(tiny, faces="mtcnn", on_error="nan")
    rows = lenient.transform([empty, photographs[0], empty])
    np.testing.assert_array_equal(np.isnan(rows[:, 0]), [True, False, True])
    assert [(failure.index, failure.picture) for failure in lenient.report_.failures] == [
        (0, str(empty)),
        (2, str(empty)),
    ]


def test_each_picture_is_searched_once_ever(tiny, photographs, tmp_path) -> None:
    counting = Counting()
    empty = np.zeros((90, 90, 3), np.uint8)
    pictures = [*photographs[:3], empty]
    for crop in (0.0, 0.1, -0.2, 0.0):
        found = extractor(tiny, faces=counting, crop=crop, cache=tmp_path, on_error="nan")
        found.transform(pictures)
    assert counting.asked == 3 + 4  # the empty picture in four turns
    assert (found.report_.n_cached, found.report_.n_computed) == (3, 0)


def test_more_faces_than_a_row_holds_are_found_again_each_time(tmp_path) -> None:
    class Crowd(Counting):
        def __call__(self, pixels: NDArray[np.uint8], min_score: float) -> NDArray[np.float64]:
            self.asked += 1
            corners = np.array([(x, y) for x in range(0, 140, 20) for y in range(0, 140, 20)], float)
            points = np.tile([5, 5, 15, 5, 10, 10, 6, 15, 14, 15], (len(corners), 1))
            points = points + np.tile(corners, 5)
            return np.hstack([corners, np.full((len(corners), 2), 18.0), points, np.ones((len(corners), 1))])

    crowd = Crowd()
    finder = FaceFinder(crowd, EmbeddingCache(tmp_path))
    for _ in range(2):
        assert len(finder(np.zeros((200, 200, 3), np.uint8), bytes(16))) == 49
    assert crowd.asked == 2


def test_all_that_decides_the_face_is_in_the_key(tiny, photographs, tmp_path) -> None:
    n_computed = []
    for parameters in (
        {},
        {"faces": "mtcnn"},
        {"framing": "utkface"},
        {"faces": Counting()},
        {"faces": "mtcnn", "crop": 0.1},
        {"faces": "mtcnn", "framing": "utkface"},
    ):
        one = extractor(tiny, cache=tmp_path, **parameters)
        one.transform(photographs[:1])
        n_computed.append(one.report_.n_computed)
    # The framing of crops has no say where a face is found.
    assert n_computed == [1, 1, 1, 1, 1, 0]


def test_tight_crops_are_reframed(tiny, drawn) -> None:
    rows = extractor(tiny, framing="utkface").transform(drawn.data[:3])
    squares = [reframe(images.load(path), (24, 24)) for path in drawn.data[:3]]
    np.testing.assert_array_equal(rows, extractor(tiny).transform(squares))


def test_a_crop_is_a_fraction_of_the_aligned_square_and_a_negative_one_shows_more(tiny, photographs) -> None:
    path = photographs[0]
    pixels, face = images.load(path), largest_face(path, detector="mtcnn")
    cropped = extractor(tiny, faces="mtcnn", crop=0.25).transform([path])
    trimmed = images.trim(align(pixels, face, (48, 48)), 0.25)
    np.testing.assert_allclose(cropped, extractor(tiny).transform([trimmed]), atol=1e-4)
    wide = extractor(tiny, faces="mtcnn", crop=-0.5).transform([path])
    shown = align(pixels, face, (24, 24), margin=0.5)
    np.testing.assert_allclose(wide, extractor(tiny).transform([shown]), atol=1e-4)
    middle = np.asarray(Image.fromarray(align(pixels, face, (24, 24))).resize((12, 12), Image.Resampling.BOX))
    assert np.abs(shown[6:18, 6:18].astype(int) - middle).mean() < 12


def train(tiny: Backbone, X: Any, y: Any, **parameters: Any) -> AgeGenderPipeline:
    classifier = AgeGenderClassifier(
        DenseHead(units=(8,)), epochs=3, random_state=0, validation_fraction=0.25
    )
    return AgeGenderPipeline(extractor(tiny, **parameters), classifier).fit(X, y)


@pytest.fixture(scope="module")
def on_crops(tiny_onnx: Path, drawn: Any, tmp_path_factory: pytest.TempPathFactory) -> AgeGenderPipeline:
    """Trained on the drawn portraits as they are."""
    return train(
        Backbone.from_onnx(tiny_onnx), drawn.data, drawn.target, cache=tmp_path_factory.mktemp("cache")
    )


def test_a_model_trained_on_crops_sees_found_faces_in_the_framing_of_its_crops(
    on_crops, drawn, photographs
) -> None:
    places = [largest_face(path, detector="mtcnn").landmarks / 200 for path in drawn.data]
    np.testing.assert_allclose(on_crops.extractor_.framing_, np.median(places, axis=0), atol=0.001)
    squares = [
        align(
            images.load(path),
            largest_face(path, detector="mtcnn"),
            (24, 24),
            on_crops.extractor_.framing_,
        )
        for path in photographs
    ]
    found = on_crops.predict_frame(photographs, faces="auto")
    np.testing.assert_allclose(found["age"], on_crops.predict_frame(squares)["age"], atol=0.05)
    for predicted, other in zip(
        on_crops.predict_proba(photographs, faces="mtcnn"), on_crops.predict_proba(squares), strict=True
    ):
        np.testing.assert_allclose(predicted, other, atol=1e-3)
    np.testing.assert_allclose(on_crops.predict(photographs, faces="auto")[:, 0], found["age"], atol=1e-3)


def test_a_model_trained_on_photographs_takes_face_crops_when_told_so(tiny, drawn, photographs) -> None:
    model = train(tiny, photographs, drawn.target, faces="auto", framing="utkface")
    assert not hasattr(model.extractor_, "framing_")
    np.testing.assert_allclose(
        model.predict(drawn.data, faces=None),
        model.classifier_.predict(extractor(tiny, framing="utkface").transform(drawn.data)),
        atol=1e-4,
    )


def test_the_detector_of_auto_is_kept_with_the_model(
    on_crops, photographs, shared: Material, own_home: Path
) -> None:
    assert on_crops.extractor_.detector_.name == "mtcnn"
    folder = own_home / ".deepface" / "weights"
    folder.mkdir(parents=True)
    shutil.copy(shared / "weights/face_detection_yunet_2026may.onnx", folder)
    assert load_detector("auto").name == "yunet"
    loaded = pickle.loads(pickle.dumps(on_crops))
    assert loaded.extractor_.detector_.name == "mtcnn"
    np.testing.assert_array_equal(
        loaded.predict(photographs[:3], faces="auto"), on_crops.predict(photographs[:3], faces="mtcnn")
    )
    changed = clone(loaded.extractor).set_params(faces="yunet").fit()
    assert changed.detector_.name == "yunet"
    assert changed.set_params(faces="mtcnn").fit().detector_.name == "mtcnn"


def test_a_safe_file_keeps_the_framing_and_the_name_of_the_detector(
    on_crops, photographs, shared: Material, own_home: Path, tmp_path: Path
) -> None:
    model = pickle.loads(pickle.dumps(on_crops))
    model.extractor_.cache = None
    loaded = load_model(save_model(model, tmp_path / "model.agegender"))
    folder = own_home / ".deepface" / "weights"
    folder.mkdir(parents=True)
    shutil.copy(shared / "weights/face_detection_yunet_2026may.onnx", folder)
    np.testing.assert_array_equal(
        loaded.predict(photographs[:3], faces="auto"), on_crops.predict(photographs[:3], faces="mtcnn")
    )
    model.extractor_.resolved_ = model.extractor_.resolved_.with_crops(SeenCrops(np.zeros((4, 2))))
    with pytest.raises(ModelFileError, match="not five points"):
        save_model(model, tmp_path / "bad.agegender")


def test_crops_whose_framing_cannot_be_known_are_warned_of(tiny, drawn_faces, photographs) -> None:
    paths = sorted(drawn_faces.iterdir())
    model = train(tiny, paths, [[int(path.name.split("_")[0]), i % 2] for i, path in enumerate(paths)])
    assert model.extractor_.framing_ is None
    with pytest.warns(FramingWarning, match='train with faces="auto"'):
        aligned = model.predict(photographs[:2], faces="auto")
    squares = [
        align(images.load(path), largest_face(path, detector="mtcnn"), (24, 24)) for path in photographs[:2]
    ]
    np.testing.assert_allclose(aligned, model.predict(squares), atol=0.05)


def test_every_face_of_a_picture_has_a_row_the_largest_first(on_crops, drawn, tmp_path) -> None:
    group = Image.new("RGB", (700, 400), (110, 130, 150))
    group.paste(Image.open(drawn.data[0]).resize((120, 120)), (20, 60))
    group.paste(Image.open(drawn.data[1]).resize((300, 300)), (340, 40))
    empty, path = np.zeros((80, 80, 3), np.uint8), tmp_path / "group.png"
    group.save(path)
    table = on_crops.predict_faces([empty, path], faces="mtcnn")
    faces = detect(path, detector="mtcnn")
    assert len(faces) == 2
    assert list(table["picture"]) == [1, 1]
    np.testing.assert_allclose(table[["x", "y", "width", "height"]].to_numpy(), [
        [face.x, face.y, face.width, face.height] for face in faces
    ], rtol=1e-5)  # fmt: skip
    assert table["x"][0] > 300
    largest = on_crops.predict_frame([path], faces="mtcnn")
    assert table["age"][0] == pytest.approx(largest["age"][0], abs=0.05)
    assert list(table.columns) == ["picture", "x", "y", "width", "height", "score", *largest.columns]
    measured = largest[["rotation", "sharpness", "yaw", "roll", "quality", "reliable", "doubts"]]
    pd.testing.assert_frame_equal(table.loc[[0], measured.columns], measured, rtol=1e-5)
    assert measured["quality"][0] == pytest.approx(faces[0].quality, abs=1e-5)
    alone = on_crops.predict_faces([empty])
    assert alone.dtypes.to_dict() == table.dtypes.to_dict()
    assert len(alone) == 0


def test_a_picture_that_cannot_be_read_is_named_when_every_face_is_asked_for(
    on_crops, photographs, tmp_path
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_text("no picture")
    with pytest.raises(ValueError, match=r"bad\.jpg"):
        on_crops.predict_faces([bad])
    lenient = pickle.loads(pickle.dumps(on_crops))
    lenient.extractor_.set_params(on_error="nan")
    assert list(lenient.predict_faces([bad, photographs[0]])["picture"]) == [1]
    assert [failure.index for failure in lenient.report_.failures] == [0]
    with pytest.raises(ValueError, match="faces=None detects no faces"):
        on_crops.predict_faces(photographs[:1], faces=None)


def test_faces_and_framing_survive_clone_and_search_parameters(tiny) -> None:
    detector = load_detector("mtcnn")
    copied = clone(AgeGenderPipeline(extractor(tiny, faces=detector, framing="utkface")))
    assert copied.extractor.faces.name == "mtcnn"
    assert copied.set_params(extractor__faces="auto", extractor__framing=None).extractor.framing is None


def test_a_usual_framing_is_the_median_and_none_where_faces_lie_anywhere() -> None:
    rng = np.random.default_rng(0)
    usual = np.array(TEMPLATES["utkface"][1])
    alike = [(usual + rng.normal(0, 4, (5, 2)), (200, 200)) for _ in range(20)]
    np.testing.assert_allclose(usual_framing(alike, 30), usual / 200, atol=0.015)
    assert usual_framing(alike, 41) is None
    assert usual_framing(alike[:7], 7) is None
    anywhere = [(usual / 4 + rng.uniform(0, 150, (1, 2)), (200, 200)) for _ in range(20)]
    assert usual_framing(anywhere, 20) is None
    narrow = [(usual - [40, 0], (200, 120)) for _ in range(20)]
    np.testing.assert_allclose(usual_framing(narrow, 20), usual / 200, atol=0.001)


def test_five_points_of_ones_own_are_a_template(photographs) -> None:
    pixels, face = images.load(photographs[0]), largest_face(photographs[0], detector="mtcnn")
    points = np.array(TEMPLATES["utkface"][1]) / 200
    np.testing.assert_array_equal(
        align(pixels, face, (60, 60), points), align(pixels, face, (60, 60), "utkface")
    )
    with pytest.raises(ValueError, match=r"template has shape \(4, 2\)"):
        align(pixels, Face(0, 0, 9, 9, face.landmarks, 1.0), (60, 60), points[:4])


def test_a_shard_has_the_rows_of_transform_framing_and_detector_included(
    tiny, drawn, photographs, tmp_path
) -> None:
    fitted = extractor(tiny, faces="mtcnn").fit().measure_framing(drawn.data)
    rows = fitted.transform(photographs[:5])
    assert not np.allclose(rows, extractor(tiny, faces="mtcnn").transform(photographs[:5]), atol=1e-3)
    report = write_shard(photographs[:5], tmp_path, fitted)
    np.testing.assert_array_equal(pq.read_table(report.path)["embedding"].to_pylist(), rows)


def test_tables_about_photographs_stand_under_the_index_of_X(on_crops, photographs) -> None:
    X = pd.Series(photographs[:3], index=[7, 3, 7])
    plain = on_crops.predict_faces(photographs[:3], faces="mtcnn")
    table = on_crops.predict_faces(X, faces="mtcnn")
    assert list(table.index) == [[7, 3, 7][picture] for picture in plain["picture"]]
    pd.testing.assert_frame_equal(table.reset_index(drop=True), plain)
    assert list(on_crops.predict_frame(X, faces="mtcnn").index) == [7, 3, 7]
    assert list(on_crops.predict_frame(pd.DataFrame({"path": X}), faces="mtcnn").index) == [7, 3, 7]


# What a model trained on crops says of other pictures


def test_whole_photographs_taken_as_crops_are_warned_of(on_crops, photographs) -> None:
    with pytest.warns(FramingWarning, match=r'face .* times smaller .*faces="auto"'):
        on_crops.predict(photographs)
    with pytest.warns(FramingWarning, match="1 of 1 checked pictures"):
        on_crops.predict_frame(photographs[:1])


def test_crops_like_those_of_the_training_are_not_warned_of(on_crops, drawn, photographs) -> None:
    on_crops.predict(drawn.data)
    on_crops.predict(drawn.data[:1])
    on_crops.predict([Image.open(drawn.data[0]).resize((90, 90))])
    on_crops.predict(photographs[:2], faces="auto")
    on_crops.predict_faces(photographs[:2])
    on_crops.predict(photographs[:2], faces=None)


def test_among_very_many_crops_a_face_is_looked_at_whatever_their_size(on_crops, drawn, tmp_path) -> None:
    far = [
        np.pad(images.load(path), ((160, 160), (160, 160), (0, 0)), mode="edge") for path in drawn.data[:4]
    ]
    shown = [np.asarray(Image.fromarray(pixels).resize((200, 200))) for pixels in far]
    with pytest.warns(FramingWarning, match="times smaller"):
        on_crops.predict([*shown] * 25)


# The detector in saved models


def test_a_safe_file_keeps_the_sha256_of_the_detector_and_warns_of_another(
    on_crops, photographs, shared: Path, own_home: Path, tmp_path: Path
) -> None:
    folder = own_home / ".deepface" / "weights"
    folder.mkdir(parents=True)
    weights = Path(shutil.copy(shared / "weights" / "face_detection_yunet_2026may.onnx", folder))
    fitted = extractor(on_crops.extractor_.backbone_, faces="auto").fit()
    saved = save_model(fitted, tmp_path / "extractor.agegender")
    digest = fitted.detector_.sha256
    loaded = load_model(saved)
    assert loaded.resolved_.detector == RecordedDetector("yunet", digest)
    np.testing.assert_array_equal(loaded.transform(photographs[:2]), fitted.transform(photographs[:2]))
    network = onnx.load(weights)
    network.doc_string = "another file"
    onnx.save(network, weights)
    with pytest.warns(WeightsWarning, match=rf"yunet detector of sha256 {digest[:12]}.*one on this machine"):
        load_model(saved).transform(photographs[:2])


def test_without_a_detector_on_the_machine_crops_are_trained_on_all_the_same(
    tiny, drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking() -> None:
        raise WeightsNotFoundError("There is no mtcnn here.")

    monkeypatch.setattr("agegender._detectors.mtcnn_graphs.check_weights", lacking)
    model = train(tiny, drawn.data, drawn.target)
    assert model.extractor_.framing_ is None
    assert np.isfinite(model.predict(drawn.data)).all()
    with pytest.raises(AttributeError, match="fitted without a detector"):
        _ = model.extractor_.detector_
    with pytest.raises(WeightsNotFoundError, match="no mtcnn here"):
        model.predict_faces(drawn.data[:1])


# Every face, within limits


def test_every_face_is_predicted_within_the_memory_limit(on_crops, photographs, monkeypatch) -> None:
    whole = on_crops.predict_faces(photographs[:6], faces="mtcnn")
    sizes: list[int] = []
    distributions = FittedHead.distributions

    def counted(self, rows):
        sizes.append(len(rows))
        return distributions(self, rows)

    monkeypatch.setattr(FittedHead, "distributions", counted)
    limited = clone_of(on_crops, memory_limit=2 * 16 * 4)
    pd.testing.assert_frame_equal(limited.predict_faces(photographs[:6], faces="mtcnn"), whole)
    assert max(sizes) == 2
    assert sum(sizes) == len(whole)


def test_every_face_is_predicted_after_the_networks_file_is_gone(
    tiny_onnx, drawn, photographs, tmp_path
) -> None:
    moved = Path(shutil.copy(tiny_onnx, tmp_path / "moved.onnx"))
    model = train(Backbone.from_onnx(moved, name="moved"), drawn.data, drawn.target)
    moved.unlink()
    found = model.predict_frame(photographs[:3], faces="mtcnn")
    largest = model.predict_faces(photographs[:3], faces="mtcnn").drop_duplicates("picture")
    np.testing.assert_allclose(largest["age"], found["age"], rtol=1e-5)


def clone_of(model: AgeGenderPipeline, **parameters: Any) -> AgeGenderPipeline:
    """Return the same fitted model with other parameters."""
    return pickle.loads(pickle.dumps(model)).set_params(**parameters)
