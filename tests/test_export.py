"""One ONNX file from a fitted pipeline: the pipeline's numbers, in ONNX Runtime alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from typer.testing import CliRunner

from agegender import (
    AgeGenderClassifier,
    AgeGenderPipeline,
    Backbone,
    ConvHead,
    DenseHead,
    EmbeddingExtractor,
    FineTuneHead,
    load_model,
    load_pretrained,
    save_model,
)
from agegender._exporting import trial
from agegender.cli import app
from agegender.datasets import load_utkface
from agegender.exceptions import ModelFileError, WeightsError
from agegender.export import OUTPUTS, export_onnx
from agegender.faces import align, detect
from agegender.images import letterbox, load

YEARS = 1e-4


def described(path: Path) -> dict[str, Any]:
    entries = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    return json.loads(entries["agegender_export"])


def run(path: Path, pictures: np.ndarray, **others: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"pictures": pictures, **others}), strict=True))


def expected(model: AgeGenderPipeline, pictures: np.ndarray, coverage: float = 0.9) -> dict[str, np.ndarray]:
    frame = model.predict_frame(list(pictures), faces=None, coverage=coverage)
    age_proba, gender_proba = model.predict_proba(list(pictures), faces=None)
    numbers = {name: frame[name].to_numpy() for name in OUTPUTS[:3]}
    return numbers | {"gender_proba": gender_proba, "age_proba": age_proba}


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], years: float = YEARS) -> None:
    for name in OUTPUTS:
        limit = years if wanted[name].ndim == 1 else max(years / 10, 1e-6)
        np.testing.assert_allclose(found[name], wanted[name], rtol=0, atol=limit, err_msg=name)


def fitted(extractor: EmbeddingExtractor, X: list[Any], y: Any, head: Any = "dense", **options: Any):
    classifier = AgeGenderClassifier(head, **{"epochs": 2, "random_state": 0} | options)
    return AgeGenderPipeline(extractor, classifier).fit(X, y)


@pytest.fixture(scope="module")
def crops(shared: Path) -> list[np.ndarray]:
    """Forty real crops of 200 × 200 pixels, and a few that are not square."""
    paths = sorted((shared / "data" / "utkface_mini").glob("*_*_*_*.jpg"))
    return [load(path) for path in paths[::13]]


@pytest.fixture(scope="module")
def mobile(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> AgeGenderPipeline:
    """A pipeline on a real network, trained on real faces for a few epochs."""
    path = shared / "weights" / "mobilefacenet_arcface.onnx"
    faces = load_utkface(shared / "data" / "utkface_mini")
    backbone = Backbone.from_onnx(path, mean=0.0, scale=1.0, licence="non-commercial research")
    extractor = EmbeddingExtractor(backbone, cache=tmp_path_factory.mktemp("cache"))
    return fitted(extractor, faces.data[:250], faces.target[:250], DenseHead(units=(16,)), epochs=15)


@pytest.fixture(scope="module")
def tiny(backbone: Backbone, faces: Any) -> AgeGenderPipeline:
    """A pipeline on the tests' own small network, calibrated."""
    extractor = EmbeddingExtractor(backbone, cache=None)
    return fitted(extractor, faces.data, faces.target, calibration_fraction=0.4, epochs=20)


@pytest.fixture(scope="module")
def squares(paths: list[str]) -> np.ndarray:
    return np.stack([letterbox(load(path), (24, 24)) for path in paths[:12]])


@pytest.mark.parametrize("resize", [False, True])
def test_the_model_in_the_package_gives_its_own_numbers(
    crops: list[np.ndarray], tmp_path: Path, resize: bool
) -> None:
    model = load_pretrained("compact")
    path = export_onnx(model, tmp_path / "compact.onnx", resize=resize)
    pictures = np.stack([crop if resize else letterbox(crop, (80, 80)) for crop in crops])
    assert_same(run(path, pictures), expected(model, pictures))


@pytest.mark.parametrize("resize", [False, True])
def test_a_face_recognition_network_with_a_trained_head_gives_its_own_numbers(
    mobile: AgeGenderPipeline, crops: list[np.ndarray], tmp_path: Path, resize: bool
) -> None:
    path = export_onnx(mobile, tmp_path / "mobile.onnx", resize=resize, coverage=0.8)
    pictures = np.stack([crop if resize else letterbox(crop, (112, 112)) for crop in crops])
    assert_same(run(path, pictures), expected(mobile, pictures, 0.8))


def test_the_network_may_be_left_as_it_is(
    mobile: AgeGenderPipeline, crops: list[np.ndarray], tmp_path: Path
) -> None:
    path = export_onnx(mobile, tmp_path / "mobile.onnx", rewrite=False)
    assert sum(node.op_type == "PRelu" for node in onnx.load(path).graph.node) > 30
    pictures = np.stack([letterbox(crop, (112, 112)) for crop in crops])
    assert_same(run(path, pictures), expected(mobile, pictures), years=5e-4)


def test_pictures_of_any_size_are_scaled_as_the_library_does(
    mobile: AgeGenderPipeline, crops: list[np.ndarray], tmp_path: Path
) -> None:
    path = export_onnx(mobile, tmp_path / "mobile.onnx", resize=True)
    for crop in (crops[0][:, 30:171], crops[1][20:, :], crops[2][::3, ::2], crops[3][50:90, 60:110]):
        pictures = np.ascontiguousarray(crop)[np.newaxis]
        assert_same(run(path, pictures), expected(mobile, pictures))


def test_a_face_aligned_as_the_metadata_say_is_the_face_that_the_library_finds(
    mobile: AgeGenderPipeline, shared: Path, tmp_path: Path
) -> None:
    path = export_onnx(mobile, tmp_path / "mobile.onnx")
    told = described(path)
    points = np.array(list(told["input"]["framing"]["landmarks"].values()))
    photo = load(shared / "photos" / "img4.jpg")
    face = detect(photo, detector=told["detector"]["name"])[0]
    square = align(photo, face, tuple(told["input"]["size"]), points)
    frame = mobile.predict_frame([photo], faces="auto")
    found = run(path, square[np.newaxis])
    assert told["input"]["framing"]["name"] == "own"
    np.testing.assert_allclose(found["age"], frame["age"], atol=0.05)


def test_half_the_size_in_half_precision(
    mobile: AgeGenderPipeline, crops: list[np.ndarray], tmp_path: Path
) -> None:
    whole, half = (
        export_onnx(mobile, tmp_path / f"{float16}.onnx", float16=float16) for float16 in (False, True)
    )
    pictures = np.stack([letterbox(crop, (112, 112)) for crop in crops])
    assert half.stat().st_size < 0.56 * whole.stat().st_size
    assert_same(run(half, pictures), expected(mobile, pictures), years=0.2)
    assert described(half)["weights"] == "float16"


def test_a_network_in_integers_stays_so(crops: list[np.ndarray], tmp_path: Path) -> None:
    network = Backbone.load("compact")
    integers = network.quantize(crops[:16], max_error=0.5)
    extractor = EmbeddingExtractor(integers, cache=None)
    model = fitted(extractor, crops, [[30 + i % 20, i % 2] for i in range(len(crops))], random_state=1)
    path = export_onnx(model, tmp_path / "integers.onnx")
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    assert path.stat().st_size < 0.6 * network.size
    pictures = np.stack([letterbox(crop, (80, 80)) for crop in crops])
    assert_same(run(path, pictures), expected(model, pictures), years=0.05)


@pytest.mark.parametrize(
    ("extractor", "head", "options"),
    [
        ({}, ConvHead(), {}),
        ({"dtype": "float16"}, DenseHead(units=(8,)), {"ensemble": 2, "standardize": False}),
        ({"layer": "relu1"}, FineTuneHead("relu1", units=(8,)), {}),
        ({"layer": "input"}, FineTuneHead("input", units=(8,), augment=None), {}),
        ({"views": ("plain", "mirror", "darker"), "crop": 0.1}, "dense", {}),
        ({"crop": -0.2}, "dense", {"max_age": 110}),
    ],
    ids=["map", "ensemble of half rows", "fine-tuned", "whole network", "views and crop", "padded"],
)
@pytest.mark.parametrize("resize", [False, True])
def test_every_kind_of_model_gives_its_own_numbers(
    backbone: Backbone,
    faces: Any,
    tmp_path: Path,
    extractor: dict[str, Any],
    head: Any,
    options: dict[str, Any],
    resize: bool,
) -> None:
    model = fitted(
        EmbeddingExtractor(backbone, cache=None, **extractor), faces.data, faces.target, head, **options
    )
    path = export_onnx(model, tmp_path / "model.onnx", resize=resize)
    size = described(path)["input"]["size"]
    assert size == ("any" if resize else [30, 30] if extractor.get("crop") == 0.1 else [24, 24])
    pictures = np.stack([load(path) for path in faces.data[:9]])
    pictures = pictures if resize else np.stack([letterbox(p, tuple(size)) for p in pictures])
    assert_same(run(path, pictures), expected(model, pictures))


@pytest.mark.parametrize("resize", [False, True])
def test_several_networks_of_different_sizes_are_one_file(
    backbone: Backbone, faces: Any, tmp_path: Path, resize: bool
) -> None:
    extractor = EmbeddingExtractor((backbone, "compact"), views=2, crop=0.05, cache=None)
    model = fitted(extractor, faces.data, faces.target)
    path = export_onnx(model, tmp_path / "model.onnx", resize=resize, float16=False)
    told = described(path)
    assert [network["name"] for network in told["networks"]] == [backbone.name, "compact"]
    assert told["input"]["size"] == ("any" if resize else [89, 89])
    pictures = np.stack([load(path) for path in faces.data[:9]])
    pictures = pictures if resize else np.stack([letterbox(picture, (89, 89)) for picture in pictures])
    assert_same(run(path, pictures), expected(model, pictures))


def test_a_model_of_aligned_faces_takes_the_squares_that_it_was_trained_on(
    backbone: Backbone, faces: Any, squares: np.ndarray, tmp_path: Path
) -> None:
    from agegender.faces import reframe

    extractor = EmbeddingExtractor(backbone, framing="utkface", crop=-0.1, cache=None)
    model = fitted(extractor, faces.data, faces.target)
    path = export_onnx(model, tmp_path / "model.onnx")
    framed = np.stack([reframe(picture, (24, 24), margin=0.1) for picture in squares])
    assert_same(run(path, framed), expected(model, squares))
    eye = described(path)["input"]["framing"]["landmarks"]["right eye"]
    np.testing.assert_allclose(eye, (np.array([38.2946, 51.6963]) / 112 - 0.5) / 1.2 + 0.5, atol=1e-4)
    with pytest.raises(ModelFileError, match=r"framing='utkface'.*resize=False"):
        export_onnx(model, tmp_path / "other.onnx", resize=True)


def test_coverage_may_be_asked_at_each_call(
    tiny: AgeGenderPipeline, squares: np.ndarray, tmp_path: Path
) -> None:
    path = export_onnx(tiny, tmp_path / "model.onnx", coverage=None)
    for coverage in (0.5, 0.905, 0.95):
        found = run(path, squares, coverage=np.array([coverage], np.float32))
        assert_same(found, expected(tiny, squares, coverage), years=1e-3)
    assert described(path)["coverage"] == "input"


def test_any_number_of_pictures_and_none_changes_another(
    tiny: AgeGenderPipeline, squares: np.ndarray, tmp_path: Path
) -> None:
    path = export_onnx(tiny, tmp_path / "model.onnx")
    together = run(path, squares)
    for n in (1, 5):
        alone = run(path, squares[:n])
        assert_same(alone, {name: values[:n] for name, values in together.items()}, years=1e-5)


@pytest.mark.parametrize("options", [{}, {"resize": True, "coverage": None, "float16": True}])
def test_operators_are_those_of_onnx_itself_without_branches(
    tiny: AgeGenderPipeline, tmp_path: Path, options: dict[str, Any]
) -> None:
    model = onnx.load(export_onnx(tiny, tmp_path / "model.onnx", **options))
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert {node.domain for node in model.graph.node} == {""}
    assert not {node.op_type for node in model.graph.node} & {"If", "Loop", "Scan", "SequenceMap"}
    assert len({node.name for node in model.graph.node} - {""}) == len(model.graph.node)
    assert [value.name for value in model.graph.output] == list(OUTPUTS)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "n"


def test_the_file_says_what_it_is(mobile: AgeGenderPipeline, shared: Path, tmp_path: Path) -> None:
    told = described(export_onnx(mobile, tmp_path / "model.onnx"))
    (network,) = told["networks"]
    assert network["sha256"] == mobile.extractor_.backbone_.sha256
    assert re.fullmatch("[0-9a-f]{64}", told["head"]["sha256"])
    assert told["licence"] == [network["licence"]] == ["non-commercial research"]
    assert told["genders"] == [0, 1]
    assert told["ages"] == [0, 100]
    assert told["input"] | {"framing": None} == {
        "type": "uint8", "layout": "nhwc", "color": "rgb", "size": [112, 112], "framing": None
    }  # fmt: skip
    assert {"agegender", "onnx", "onnxruntime"} <= set(told["versions"])
    assert max(told["largest_difference"].values()) < YEARS


def test_a_model_of_text_labels_names_them(backbone: Backbone, faces: Any, tmp_path: Path) -> None:
    import pandas as pd

    words = pd.DataFrame({"age": faces.target[:, 0], "gender": np.where(faces.target[:, 1], "w", "m")})
    model = fitted(EmbeddingExtractor(backbone, cache=None), faces.data, words)
    assert described(export_onnx(model, tmp_path / "model.onnx"))["genders"] == ["m", "w"]


def test_where_a_network_or_a_model_is_expected_the_file_says_what_it_is(
    tiny: AgeGenderPipeline, tmp_path: Path
) -> None:
    path = export_onnx(tiny, tmp_path / "model.onnx")
    with pytest.raises(WeightsError, match=r"model\.onnx is a whole model that export_onnx wrote \(.*tiny\)"):
        Backbone.from_onnx(path)
    with pytest.raises(ModelFileError, match=r"whole model that export_onnx wrote .*exported from"):
        load_model(path)
    done = CliRunner().invoke(app, ["predict", "x.jpg", "--model", str(path)])
    assert "whole model that export_onnx wrote" in str(done.exception)


def test_what_cannot_be_exported_is_named_and_nothing_is_written(
    tiny: AgeGenderPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(NotFittedError):
        export_onnx(AgeGenderPipeline(), path)
    with pytest.raises(TypeError, match="not AgeGenderClassifier"):
        export_onnx(tiny.classifier_, path)  # type: ignore[arg-type]
    search = GridSearchCV(tiny, {})
    search.best_estimator_ = tiny
    with pytest.raises(TypeError, match="best_estimator_"):
        export_onnx(search, path)
    with pytest.raises(ValueError, match=r"should end in \.onnx"):
        export_onnx(tiny, tmp_path / "model.agegender")
    with pytest.raises(ValueError, match=r"coverage=1\.5"):
        export_onnx(tiny, path, coverage=1.5)
    monkeypatch.setitem(trial.EXACT, "age", -1.0)
    with pytest.raises(ModelFileError, match="another age than the pipeline"):
        export_onnx(tiny, path)
    assert list(tmp_path.iterdir()) == []


def test_a_head_that_onnx_lacks_is_named(tiny: AgeGenderPipeline, tmp_path: Path) -> None:
    import copy

    model = copy.copy(tiny)
    model.classifier_ = copy.copy(tiny.classifier_)
    model.classifier_._onnx = None
    with pytest.raises(ModelFileError, match="a layer that ONNX or its converter lacks"):
        export_onnx(model, tmp_path / "model.onnx")


def test_the_command_exports_a_saved_model(
    tiny: AgeGenderPipeline, squares: np.ndarray, tmp_path: Path
) -> None:
    saved = save_model(tiny, tmp_path / "model.agegender")
    out = tmp_path / "model.onnx"
    done = CliRunner().invoke(app, ["export", str(saved), str(out), "--coverage", "0.8"])
    assert done.exit_code == 0, done.output
    assert "input pictures, outputs age, age_low, age_high, gender_proba, age_proba" in done.output
    assert_same(run(out, squares), expected(tiny, squares, 0.8))
    done = CliRunner().invoke(app, ["export", str(saved), str(out), "--coverage", "most"])
    assert "'most' is neither a fraction such as 0.9 nor input" in str(done.exception)
