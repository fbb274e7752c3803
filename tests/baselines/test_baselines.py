"""Predictors that others trained: what their own code says of the same pictures, and how they fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import networks
import numpy as np
import onnx
import pandas as pd
import pytest
from deepface_networks import demography
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from agegender import images
from agegender._networks.location import insightface_folder, weights_folder
from agegender.baselines import DeepFaceAgeGender, InsightFaceAgeGender, load_baseline
from agegender.exceptions import NoFaceError, PictureError, WeightsNotFoundError
from agegender.faces import FACE_COLUMNS, Face, detect

SUPPORT = str(Path(__file__).resolve().parents[1] / "support")
SIZES = {"square": (200, 200), "tall": (260, 150), "wide": (90, 241)}


def genderage(seed: int = 0) -> onnx.ModelProto:
    """A small network of the layout of InsightFace's: (1, 3, 96, 96) in, two numbers for genders and one age out."""
    b = networks.Builder(seed)
    x = b.add("Relu", b.conv("picture", 3, 8, strides=[4, 4]))
    x = b.dense(b.add("Flatten", b.add("GlobalAveragePool", x)), 8, 3)
    b.add("Add", x, b.constant(np.array([0.0, 0.0, 0.3], np.float32)), name="fc1")
    return b.model({"fc1": [1, 3]}, [1, 3, 96, 96])


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSIGHTFACE_HOME", str(tmp_path / "insightface"))
    monkeypatch.setenv("AGEGENDER_OFFLINE", "1")


@pytest.fixture
def deepface_weights() -> None:
    weights_folder().mkdir(parents=True)
    onnx.save(demography(101, seed=1), weights_folder() / "age_model_weights.onnx")
    onnx.save(demography(2, seed=2), weights_folder() / "gender_model_weights.onnx")


@pytest.fixture
def insightface_weights() -> Path:
    path = insightface_folder() / "buffalo_l" / "genderage.onnx"
    path.parent.mkdir(parents=True)
    onnx.save(genderage(), path)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(0)
    for name, (height, width) in SIZES.items():
        blocks = rng.integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((width, height)).save(tmp_path / f"{name}.jpg", quality=93)
    return [str(tmp_path / f"{name}.jpg") for name in SIZES]


@pytest.fixture
def photograph(shared: Path) -> str:
    return str(sorted((shared / "photos").glob("*.jpg"))[0])


# deepface


@pytest.mark.slow
def test_ages_and_genders_are_those_of_deepface_s_analyze(deepface_weights, pictures) -> None:
    pytest.importorskip("werkzeug", reason="deepface's analyze needs werkzeug, which it does not declare")
    environment = os.environ | {"DEEPFACE_BACKEND_ENGINE": "onnx"}
    environment["PYTHONPATH"] = os.pathsep.join([SUPPORT, environment.get("PYTHONPATH", "")])
    ran = subprocess.run(
        [sys.executable, __file__, *pictures], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    theirs = json.loads(ran.stdout.splitlines()[-1])
    baseline = DeepFaceAgeGender(cache=None).fit()
    predicted, (ages, genders) = baseline.predict(pictures), baseline.predict_proba(pictures)
    # analyze resizes fractions, represent and agegender whole numbers: a hundredth of a percent.
    assert [int(age) for age in predicted[:, 0]] == [said["age"] for said in theirs]
    np.testing.assert_allclose(
        100 * genders, [[said["gender"]["Man"], said["gender"]["Woman"]] for said in theirs], atol=1e-2
    )
    assert ["Man", "Woman"][int(predicted[0, 1])] == theirs[0]["dominant_gender"]
    np.testing.assert_allclose(ages @ np.arange(101), predicted[:, 0], rtol=1e-5)
    assert np.ptp(predicted[:, 0]) > 0.5  # pictures are told apart


def test_a_table_has_intervals_of_the_distribution(deepface_weights, pictures) -> None:
    frame = DeepFaceAgeGender(cache=None).predict_frame(pictures, coverage=0.8)
    assert list(frame) == ["age", "age_low", "age_high", "gender", "gender_proba"]
    assert (frame["age_low"] < frame["age_high"]).all()
    assert frame["gender_proba"].between(0.5, 1).all()


def test_what_cannot_be_read_is_an_error_or_nan(deepface_weights, pictures, tmp_path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    with pytest.raises(PictureError, match=r"broken\.jpg"):
        DeepFaceAgeGender(cache=None).predict([str(broken)])
    baseline = DeepFaceAgeGender(cache=None, on_error="nan")
    predicted = baseline.predict([pictures[0], str(broken), pictures[1]])
    assert np.isnan(predicted).tolist() == [[False] * 2, [True] * 2, [False] * 2]
    assert [failure.index for failure in baseline.report_.failures] == [1]
    np.testing.assert_array_equal(predicted[[0, 2]], baseline.predict(pictures[:2]))


def test_a_picture_without_a_face_is_named(deepface_weights, pictures) -> None:
    baseline = DeepFaceAgeGender(faces="mtcnn", cache=None)
    with pytest.raises(NoFaceError, match=r"square\.jpg"):
        baseline.predict(pictures[:1])
    baseline.set_params(on_error="nan")
    assert np.isnan(baseline.predict(pictures[:1])).all()
    assert "no face" in baseline.report_.failures[0].reason
    assert len(baseline.predict_faces(pictures[:1])) == 0


@pytest.mark.parametrize("kind", [DeepFaceAgeGender, InsightFaceAgeGender])
def test_every_face_of_a_photograph_has_a_row(
    kind, deepface_weights, insightface_weights, photograph
) -> None:
    baseline = kind(faces="mtcnn", cache=None)
    found = detect(photograph, detector="mtcnn")
    table = baseline.predict_faces([photograph])
    assert len(table) == len(found) > 0
    np.testing.assert_allclose(table["x"], [face.x for face in found], rtol=1e-5)
    alone = baseline.predict([photograph])
    np.testing.assert_allclose(table[["age", "gender"]].to_numpy()[0], alone[0], rtol=1e-5)


@pytest.mark.parametrize("kind", [DeepFaceAgeGender, InsightFaceAgeGender])
def test_a_table_tells_what_faces_show(
    kind, deepface_weights, insightface_weights, photograph, pictures
) -> None:
    baseline = kind(faces="mtcnn", cache=None, on_error="nan")
    X = pd.Series([pictures[0], photograph], index=["drawn", "real"])
    frame, every = baseline.predict_frame(X), baseline.predict_faces(X)
    assert list(frame.index) == ["drawn", "real"]
    assert set(every.index) == {"real"}
    assert list(every) == ["picture", "x", "y", "width", "height", "score", *frame]
    largest = every.iloc[0]
    for name in FACE_COLUMNS:
        assert frame.loc["real", name] == largest[name]
    assert largest["quality"] == pytest.approx(detect(photograph, detector="mtcnn")[0].quality, rel=1e-5)
    assert frame.loc["drawn", ["reliable", "doubts"]].tolist() == [False, "no face"]
    assert "quality" not in baseline.predict_frame(X, faces=None)


def test_it_is_an_estimator_that_learns_nothing(deepface_weights, pictures) -> None:
    baseline = clone(DeepFaceAgeGender(cache=None, batch_size=2))
    y = np.column_stack([[30, 40, 50], [0, 1, 0]])
    scores = cross_val_score(baseline, np.array(pictures, dtype=object), y, cv=3)
    np.testing.assert_allclose(scores, -np.abs(baseline.predict(pictures)[:, 0] - y[:, 0]), rtol=1e-5)


def test_missing_weights_say_which_file_to_put_where() -> None:
    with pytest.raises(
        WeightsNotFoundError, match=r"Put age_model_weights\.onnx or age_model_weights\.h5 into"
    ):
        load_baseline("deepface")
    with pytest.raises(WeightsNotFoundError, match="agegender download insightface/buffalo_l"):
        load_baseline("insightface")


def test_a_face_is_turned_upright_and_its_box_cut_out() -> None:
    from agegender.baselines._deepface import upright_box

    pixels = np.zeros((200, 200, 3), np.uint8)
    pixels[80, 110], pixels[100, 90] = 255, 255  # left and right eye of a head that leans
    face = Face(60, 40, 80, 100, [[90, 100], [110, 80], [100, 95], [95, 110], [110, 100]], 1.0)
    cut = upright_box(pixels, face)
    assert cut.shape == (100, 80, 3)
    rows = np.nonzero(cut[..., 0] > 60)[0]
    assert np.ptp(rows) <= 2  # the eyes are level


# InsightFace


def test_a_face_s_numbers_are_those_of_insightface_s_own_code(insightface_weights, photograph) -> None:
    attribute = pytest.importorskip(
        "insightface.model_zoo.attribute", reason="pip install --no-deps insightface"
    )
    theirs = attribute.Attribute(str(insightface_weights))
    pixels = images.load(photograph)
    baseline = InsightFaceAgeGender(faces="mtcnn", cache=None)
    table = baseline.predict_faces([photograph])
    rows = baseline._every_face([photograph], "mtcnn", largest=False)[1]
    for face, row, said in zip(detect(photograph, detector="mtcnn"), rows, table.itertuples(), strict=True):
        found = _AsInsightFace(np.array([face.x, face.y, face.x + face.width, face.y + face.height]))
        gender, age = theirs.get(np.ascontiguousarray(pixels[..., ::-1]), found)
        assert round(100 * float(row[2])) == age
        assert said.gender == 1 - gender  # theirs is 1 for men
        assert said.age == pytest.approx(100 * row[2])


class _AsInsightFace(dict):
    def __init__(self, bbox: np.ndarray) -> None:
        super().__init__()
        self.bbox = bbox


def test_it_tells_no_distribution(insightface_weights, pictures) -> None:
    frame = InsightFaceAgeGender(cache=None).predict_frame(pictures)
    assert frame[["age_low", "age_high", "gender_proba"]].isna().all(axis=None)
    assert frame["gender"].isin([0, 1]).all()
    assert not hasattr(InsightFaceAgeGender(), "predict_proba")


def measure(pictures: list[str]) -> None:
    """What deepface says of pictures; run in a process of its own, for deepface changes whoever imports it."""
    from deepface.modules import demography as theirs

    how = {"detector_backend": "skip", "enforce_detection": False, "silent": True}
    said = [theirs.analyze(picture, actions=("age", "gender"), **how) for picture in pictures]
    kept = [{name: entry[0][name] for name in ("age", "gender", "dominant_gender")} for entry in said]
    print(json.dumps(kept, default=float))  # noqa: T201


if __name__ == "__main__":
    measure(sys.argv[1:])
