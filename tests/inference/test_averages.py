"""Predicting with an average of pipelines without the code that trains: the numbers of the ensemble, few imports."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import joblib
import numpy as np
import pytest
from conftest import write_tiny_onnx
from one_face import OneFace
from predicting import check_same, imported_after
from typer.testing import CliRunner

from agegender import (
    AgeGenderClassifier,
    AgeGenderPipeline,
    Backbone,
    ConvHead,
    DenseHead,
    EmbeddingExtractor,
    FineTuneHead,
    inference,
    load_model,
    save_model,
)
from agegender._extraction.shared import passes_of
from agegender._fitting.averaged_head import check_averaged
from agegender.baselines import DeepFaceAgeGender
from agegender.calibration import UNCALIBRATED
from agegender.cli import _models, app
from agegender.cli.inspect import _trained
from agegender.datasets import make_faces
from agegender.ensemble import AgeGenderEnsemble
from agegender.exceptions import ModelFileError
from agegender.runtime import images_passed


def pipeline(backbone: Any, head: Any, **options: Any) -> AgeGenderPipeline:
    return AgeGenderPipeline(
        EmbeddingExtractor(backbone, cache=None, **options),
        AgeGenderClassifier(head, epochs=2, learning_rate=0.01, random_state=0),
    )


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_faces(24, tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_faces(48, tmp_path_factory.mktemp("held"), random_state=7)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return Backbone.from_onnx(write_tiny_onnx(tmp_path_factory.mktemp("other") / "other.onnx", seed=1))


@pytest.fixture(scope="module")
def given(drawn, held_out, backbone, other, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An average of heads on one network, on two networks in the other order, and on a map; its file; pictures."""
    made = [
        pipeline(backbone, DenseHead((4,))),
        pipeline((other, backbone), DenseHead((4,))),
        pipeline(other, ConvHead((4,))),
    ]
    models = [model.fit(drawn.data, drawn.target) for model in made]
    model = AgeGenderEnsemble(models, prefit=True).fit(held_out.data, held_out.target)
    file = save_model(model, tmp_path_factory.mktemp("model") / "average.agegender")
    return SimpleNamespace(model=model, file=file, pictures=list(drawn.data[:4]))


def test_an_average_predicts_what_its_ensemble_does(given) -> None:
    check_same(given.model, given.file, given.pictures)


def test_views_options_and_heads_on_pixels_too(drawn, held_out, backbone, other, tmp_path) -> None:
    options = {"views": ("plain", "mirror"), "crop": 0.1}
    models = [
        pipeline((backbone, other), DenseHead((4,)), **options).fit(drawn.data, drawn.target),
        pipeline(backbone, FineTuneHead("input", backbone=backbone), **options).fit(drawn.data, drawn.target),
    ]
    model = AgeGenderEnsemble(models, prefit=True).fit(held_out.data, held_out.target)
    assert model.calibration_.temperature != 1
    check_same(model, save_model(model, tmp_path / "views.agegender"), drawn.data[:3])


@pytest.mark.parametrize("call", ["predict_columns", "predict_faces"])
def test_it_needs_no_code_that_trains(given, call) -> None:
    script = (
        "import sys; from agegender.inference import load\n"
        f"print(load(sys.argv[1], cache=None).{call}(sys.argv[2:], faces='mtcnn'))"
    )
    assert imported_after(script, given.file, *given.pictures[:1]) == set()


def test_a_network_that_models_share_runs_once_and_networks_are_listed_once(given) -> None:
    predictor = inference.load(given.file, cache=None)
    assert [network.name for network in predictor.networks] == ["tiny", "other"]
    assert repr(predictor) == "<Predictor on tiny + other, genders 0, 1>"
    before = images_passed()
    predictor.predict(given.pictures)
    assert images_passed() - before == 3 * 4  # tiny, other, and other's map; neither of the first two twice
    report = predictor.report_
    assert (report.n_images, report.n_computed, report.n_computed_by) == (4, 4, {"tiny": 4, "other": 8})


def test_models_whose_extractors_decode_differently_share_no_pass(backbone, given) -> None:
    extractors = [
        EmbeddingExtractor(backbone, layer="pooled", **options)
        for options in ({}, {"batch_size": 8}, {"draft": 2.0}, {"crop": 0.1})
    ]
    passes = passes_of([extractor.extraction() for extractor in extractors])
    assert [sorted(one.columns) for one in passes] == [[0, 1], [2], [3]]


def test_blocks_of_the_memory_limit_change_nothing(given) -> None:
    small = load_model(given.file).set_params(memory_limit=0)
    for model in small.models_:
        model.extractor_.set_params(cache=None)
    np.testing.assert_array_equal(small.predict(given.pictures), given.model.predict(given.pictures))
    predictor = small.to_predictor()
    predictor.predict(given.pictures)
    assert predictor.report_.n_images == 4


# Drawings of 32 pixels have no framing that could be learned.
@pytest.mark.filterwarnings("ignore:The framing of the faces:agegender.exceptions.FramingWarning")
@pytest.mark.parametrize("n_models", [2, 3])
def test_a_picture_that_cannot_be_read_is_named_once(given, n_models, tmp_path) -> None:
    """Also behind the first block of pictures, by models of one pass and of two."""
    model = load_model(given.file)
    model.models_, model.weights_ = model.models_[:n_models], model.weights_[:, :n_models]
    predictor = model.to_predictor().with_options(cache=None, on_error="nan")
    pictures = [np.full((40, 40, 3), 40 + index, np.uint8) for index in range(70)]
    pictures[3] = pictures[66] = str(tmp_path / "none.jpg")
    columns = predictor.predict_faces(pictures, faces=OneFace())
    assert columns["picture"].tolist() == [index for index in range(70) if index not in (3, 66)]
    assert [failure.index for failure in predictor.report_.failures] == [3, 66]
    predicted = predictor.predict(pictures, faces=None)
    assert np.flatnonzero(np.isnan(predicted[:, 0])).tolist() == [3, 66]
    assert [failure.index for failure in predictor.report_.failures] == [3, 66]


def test_its_options_are_those_of_every_model(given) -> None:
    predictor = inference.load(given.file).with_options(cache=None, batch_size=2)
    assert predictor.options["batch_size"] == 2
    assert {member.running.cache for member in predictor._extraction.members} == {None}
    with pytest.raises(ValueError, match="Predictor: on_error='ignore' is not one of"):
        predictor.with_options(on_error="ignore")
    rows = predictor.extraction("pooled").embed(given.pictures).rows
    expected = given.model.models_[0].extractor_.with_parameters(layer="pooled").transform(given.pictures)
    np.testing.assert_array_equal(rows, expected)


def test_its_description_counts_a_training_picture_once(given) -> None:
    training = inference.load(given.file).training
    assert training == given.model.to_predictor().training
    assert (training.head, training.n_epochs) == ("DenseHead + DenseHead + ConvHead", None)
    assert training.n_pictures == len(given.model.models_[0].trained_on_)


@pytest.mark.parametrize("suffix", [".agegender", ".joblib"])
def test_the_command_predicts_with_it(given, suffix, tmp_path) -> None:
    file = given.file
    if suffix == ".joblib":
        file = tmp_path / "average.joblib"
        joblib.dump(given.model, file)
    arguments = ["predict", "--model", file, "--faces", "none", *given.pictures, "--json"]
    done = CliRunner().invoke(app, list(map(str, arguments)))
    frame = given.model.predict_frame(given.pictures).assign(picture=given.pictures)
    assert json.loads(done.stdout) == json.loads(frame.to_json(orient="records"))


def test_the_command_refuses_a_baseline(tmp_path) -> None:
    baseline = DeepFaceAgeGender()
    baseline.networks_ = []
    joblib.dump(baseline, tmp_path / "baseline.joblib")
    with pytest.raises(
        ModelFileError, match="holds an object of class DeepFaceAgeGender; this command needs"
    ):
        _models.load_predictor(tmp_path / "baseline.joblib")


def test_the_command_that_inspects_takes_it_and_the_one_that_evaluates_says_so(given) -> None:
    assert isinstance(_trained(str(given.file)), AgeGenderEnsemble)
    with pytest.raises(
        ModelFileError, match=r"holds an object of class AgeGenderEnsemble.*`inspect` take it"
    ):
        _models.load(given.file)


def test_the_command_imports_no_code_that_trains(given) -> None:
    script = (
        "import sys; from agegender.cli import app\n"
        "app(['predict', '--json', '--faces', 'none', '--model', *sys.argv[1:]], standalone_mode=False)"
    )
    assert imported_after(script, given.file, *given.pictures) == set()


def test_the_service_predicts_with_it(given) -> None:
    pytest.importorskip("starlette", reason="the extra `serve` is not installed")
    from agegender.serve._about import about
    from agegender.serve._limits import Limits
    from agegender.serve._parameters import Embed, Predict
    from agegender.serve._predictor import Predictor

    service = Predictor(inference.load(given.file), faces=OneFace())
    with open(given.pictures[0], "rb") as file:
        content = file.read()
    (answer,) = service(Predict(faces="none", distribution=False), [content])
    expected = given.model.predict_frame([given.pictures[0]], faces=None)
    assert answer.faces[0]["age"] == expected["age"][0]
    (answer,) = service(Predict(faces="auto", distribution=False), [content])
    assert len(answer.faces) == 1
    (answer,) = service(Embed("none", "pooled"), [content])
    assert len(answer.faces[0]["embedding"]) == 12
    described = about(
        service.model, service.detectors, name="average", sha256=None, trained_on=None, limits=Limits()
    )
    assert [network["name"] for network in described["networks"]] == ["tiny", "other"]


def test_what_cannot_be_averaged_is_refused(given, backbone, tmp_path) -> None:
    unfitted = save_model(AgeGenderEnsemble([AgeGenderPipeline()]), tmp_path / "new.agegender")
    with pytest.raises(ModelFileError, match="holds an unfitted AgeGenderEnsemble; fit it"):
        inference.load(unfitted)
    model = load_model(given.file)
    model.models_[1].classifier_._onnx = None
    file = save_model(model, tmp_path / "keras.agegender")
    with pytest.raises(ModelFileError, match=r"no ONNX form.*needs TensorFlow\. keras=True"):
        inference.load(file)
    assert len(inference.load(file, keras=True).networks) == 2


@pytest.mark.parametrize("load", [inference.load, load_model])
@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("weights_", np.ones((2, 2)), "it has no weight per model"),
        ("weights_", np.full((2, 3), -1.0), "its weights are no weights"),
        ("weights_", np.full((2, 3), np.nan), "its weights are no weights"),
        ("calibration_", None, "its calibration is none"),
        ("models_", [AgeGenderClassifier()], "its models_ are no pipelines"),
        ("models_", [AgeGenderPipeline()], "not fitted"),
    ],
)
def test_a_file_with_other_values_is_refused(given, load, attribute, value, message, tmp_path) -> None:
    model = load_model(given.file)
    setattr(model, attribute, value)
    with pytest.raises(ModelFileError, match=message):
        load(save_model(model, tmp_path / "wrong.agegender"))


def test_models_of_other_ages_are_refused() -> None:
    genders = np.array([0, 1])
    state = {"weights_": np.full((2, 2), 0.5), "calibration_": UNCALIBRATED}
    alike, others = [np.arange(101), genders], [np.arange(111), genders]
    check_averaged(state, [alike, alike])
    with pytest.raises(ModelFileError, match=r"model 0 predicts the ages 0 … 100, model 1 0 … 110"):
        check_averaged(state, [alike, others])
