"""Predicting without the code that trains: the same numbers as the pipeline, few imports, clear refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from conftest import write_tiny_onnx
from predicting import HEAVIER, check_same, imported_after

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
    load_pretrained,
    save_model,
)
from agegender._extraction.extraction import Running
from agegender._extraction.resolved import Asked
from agegender.datasets import make_faces
from agegender.exceptions import ModelFileError, PictureError
from agegender.inference._saved import SavedClassifier

HEADS = {
    "dense": lambda _: DenseHead((4,)),
    "conv": lambda _: ConvHead((4,)),
    "tuned": lambda backbone: FineTuneHead("relu1", backbone=backbone),
    "pixels": lambda backbone: FineTuneHead("input", backbone=backbone),
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_faces(24, tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return Backbone.from_onnx(write_tiny_onnx(tmp_path_factory.mktemp("other") / "other.onnx", seed=1))


@pytest.fixture(scope="module")
def given(drawn, backbone, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A fitted pipeline with calibrated intervals, its file, and pictures."""
    classifier = AgeGenderClassifier(DenseHead((4,)), epochs=3, random_state=0, validation_fraction=0.2)
    model = AgeGenderPipeline(EmbeddingExtractor(backbone, cache=None), classifier)
    model.fit(drawn.data, drawn.target)
    file = save_model(model, tmp_path_factory.mktemp("model") / "model.agegender")
    return SimpleNamespace(model=model, file=file, pictures=list(drawn.data[:5]))


@pytest.mark.parametrize("faces", ["None", "'mtcnn'"])
def test_a_model_from_a_file_predicts_without_the_code_that_trains(given, faces) -> None:
    call = "predict_columns" if faces == "None" else "predict_faces"
    script = (
        "import sys; from agegender.inference import load\n"
        f"print(load(sys.argv[1], cache=None).{call}(sys.argv[2:], faces={faces}))"
    )
    assert imported_after(script, given.file, *given.pictures) == set()


@pytest.mark.parametrize("given_up", ["", "cache=None"])
def test_so_does_the_model_of_the_package_which_does_not_need_onnx_either(given, given_up) -> None:
    script = (
        "import sys; from agegender.inference import load_pretrained\n"
        f"print(load_pretrained({given_up}).predict(sys.argv[1:]))"
    )
    assert imported_after(script, *given.pictures, heavy=HEAVIER) == set()


@pytest.mark.parametrize("output", ["--json", "--csv"])
def test_so_does_the_command(given, output, tmp_path) -> None:
    options = {"--json": ["--json"], "--csv": ["--csv", str(tmp_path / "table.csv")]}[output]
    script = (
        "import sys; from agegender.cli import app\n"
        f"app(['predict', '--faces', 'none', *sys.argv[1:], *{options!r}], standalone_mode=False)"
    )
    assert imported_after(script, *given.pictures, heavy=HEAVIER) == set()


def test_the_command_line_is_understood_before_numpy_is_imported() -> None:
    script = (
        "import sys, agegender.cli; print(*{'numpy', 'PIL', 'onnxruntime', 'asyncio'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_command_imports_no_other_command(given) -> None:
    script = (
        "import sys; from agegender.cli import app\n"
        "app(['predict', '--faces', 'none', '--json', *sys.argv[1:]], standalone_mode=False)\n"
        "print(*(name for name in sys.modules if name.startswith('agegender.cli.')), file=sys.stderr)"
    )
    command = [sys.executable, "-W", "ignore", "-c", script, *map(str, given.pictures)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    public = {name.removeprefix("agegender.cli.") for name in done.stderr.split()}
    assert {name for name in public if not name.startswith("_")} == {"predict"}


@pytest.mark.parametrize("head", HEADS)
def test_every_head_predicts_what_its_pipeline_does(head, drawn, backbone, tmp_path) -> None:
    classifier = AgeGenderClassifier(
        HEADS[head](backbone), epochs=1, random_state=0, ensemble=2 if head == "dense" else 1
    )
    model = AgeGenderPipeline(EmbeddingExtractor(backbone, cache=None), classifier)
    model.fit(drawn.data, drawn.target)
    check_same(model, save_model(model, tmp_path / "model.agegender"), drawn.data[:4])


@pytest.mark.parametrize(
    "options",
    [
        {"views": ("plain", "mirror"), "crop": 0.1},
        {"dtype": "float16", "framing": "utkface", "draft": 2.0},
    ],
)
def test_several_networks_and_every_option_too(options, drawn, backbone, other, tmp_path) -> None:
    extractor = EmbeddingExtractor((backbone, other), cache=None, **options)
    model = AgeGenderPipeline(extractor, AgeGenderClassifier(epochs=1, random_state=0))
    model.fit(drawn.data, drawn.target)
    check_same(model, save_model(model, tmp_path / "model.agegender"), drawn.data[:4])


def test_the_model_of_the_package_is_the_same_both_ways(given) -> None:
    predictor, model = inference.load_pretrained(cache=None), load_pretrained()
    model.extractor_.set_params(cache=None)
    np.testing.assert_array_equal(predictor.predict(given.pictures), model.predict(given.pictures))
    assert predictor.resolved_.sources[0].tensor == model.extractor_.resolved_.sources[0].tensor
    assert predictor.training == model.to_predictor().training
    np.testing.assert_array_equal(
        predictor.predict_faces(given.pictures, faces="auto")["age"],
        model.predict_faces(given.pictures, faces="auto")["age"],
    )


def test_files_of_the_first_release_are_read(shared) -> None:
    file = shared / "models/v0.1.0.agegender"
    pictures = sorted(map(str, (shared / "data/utkface_mini").glob("*.jpg")))[:3]
    predictor = inference.load(file, cache=None)
    np.testing.assert_array_equal(predictor.predict(pictures), load_model(file).predict(pictures))


def test_text_labels_and_missing_values_are_those_of_the_table(given, drawn, backbone, tmp_path) -> None:
    frame = pd.DataFrame(
        {"age": drawn.target[:, 0], "gender": np.array(["man", "woman"])[drawn.target[:, 1].astype(int)]}
    )
    classifier = AgeGenderClassifier(DenseHead((4,)), epochs=1, random_state=0)
    model = AgeGenderPipeline(EmbeddingExtractor(backbone, cache=None), classifier).fit(drawn.data, frame)
    predictor = inference.load(save_model(model, tmp_path / "text.agegender"), on_error="nan")
    pictures = [*given.pictures[:2], str(tmp_path / "none.jpg")]
    columns = predictor.predict_columns(pictures, distribution=True)
    assert columns["age_proba"].shape == (3, 101)
    assert set(columns["gender"][:2]) <= {"man", "woman"}
    assert np.isnan(columns["age"][2])
    assert [failure.index for failure in predictor.report_.failures] == [2]
    model.extractor_.set_params(on_error="nan")
    expected = model.predict_frame(pictures)
    del columns["age_proba"]
    pd.testing.assert_frame_equal(pd.DataFrame(columns), expected)


def test_pictures_without_faces_give_empty_columns_of_the_same_types(given) -> None:
    predictor = inference.load(given.file, cache=None)
    grey = [np.full((64, 64, 3), 128, np.uint8)]
    none, some = (
        predictor.predict_faces(pictures, faces="mtcnn", max_age_range=5.0, distribution=True)
        for pictures in (grey, given.pictures)
    )
    assert list(none) == list(some)
    assert all(len(column) == 0 for column in none.values())
    assert none["age_proba"].shape == (0, 101)
    frame = given.model.predict_faces(grey, faces="mtcnn")
    assert list(frame.columns[:6]) == ["picture", "x", "y", "width", "height", "score"]


def test_blocks_of_the_memory_limit_change_nothing(given) -> None:
    parts = given.model.extractor_.extraction(), given.model.classifier_.fitted_head()
    small, large = (inference.Predictor(*parts, memory_limit=limit) for limit in (1, "2GB"))
    np.testing.assert_array_equal(small.predict(given.pictures), large.predict(given.pictures))
    assert small.report_.n_images == len(given.pictures)


def test_a_predictor_stays_as_it_is_when_its_pipeline_is_trained_again(given, drawn) -> None:
    model = load_model(given.file)
    model.extractor_.set_params(cache=None)
    predictor = model.to_predictor()
    before = predictor.predict(given.pictures)
    model.fit(drawn.data, drawn.target[::-1].copy())
    np.testing.assert_array_equal(predictor.predict(given.pictures), before)
    assert not np.array_equal(model.predict(given.pictures), before)


def test_options_are_checked_and_change_only_how_it_runs(given) -> None:
    predictor = inference.load(given.file)
    assert predictor.options["on_error"] == "raise"
    with pytest.raises(PictureError, match=r"none\.jpg"):
        predictor.predict(["none.jpg"])
    with pytest.raises(ValueError, match=r"no option 'cach'.*Did you mean 'cache'"):
        predictor.with_options(cach=None)
    with pytest.raises(ValueError, match="Predictor: on_error='ignore' is not one of"):
        predictor.with_options(on_error="ignore")
    with pytest.raises(ValueError, match="coverage=2 should be"):
        predictor.predict_columns(given.pictures, coverage=2)
    assert "tiny" in repr(predictor)


def test_what_is_no_fitted_pipeline_is_refused(given, tmp_path) -> None:
    unfitted = save_model(AgeGenderPipeline(), tmp_path / "new.agegender")
    head = save_model(given.model.classifier_, tmp_path / "head.agegender")
    pickled = tmp_path / "model.joblib"
    joblib.dump(given.model, pickled)
    for file, message in {
        unfitted: "holds an unfitted AgeGenderPipeline; fit it",
        head: "class AgeGenderClassifier; a fitted AgeGenderPipeline or AgeGenderEnsemble is needed",
        pickled: "not a file of agegender.save_model",
    }.items():
        with pytest.raises(ModelFileError, match=message):
            inference.load(file)
    with pytest.raises(FileNotFoundError):
        inference.load(tmp_path / "nothing.agegender")
    with pytest.raises(ValueError, match="name='large' is not one of 'compact'"):
        inference.load_pretrained("large")


def test_a_changed_file_is_refused(given, tmp_path) -> None:
    content = bytearray(given.file.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = tmp_path / "damaged.agegender"
    damaged.write_bytes(content)
    with pytest.raises(ModelFileError, match="cannot be loaded"):
        inference.load(damaged)


def test_a_head_in_keras_form_says_what_it_needs(given, tmp_path) -> None:
    model = load_model(given.file)
    model.extractor_.set_params(cache=None)
    model.classifier_._onnx = None
    file = save_model(model, tmp_path / "keras.agegender")
    with pytest.raises(ModelFileError, match=r"no ONNX form.*needs TensorFlow\. keras=True"):
        inference.load(file)
    allowed = inference.load(file, keras=True, cache=None)
    np.testing.assert_allclose(allowed.predict(given.pictures), model.predict(given.pictures), atol=1e-4)


def test_a_parameter_that_was_changed_after_fit_counts(given, tmp_path) -> None:
    model = load_model(given.file)
    model.extractor_.set_params(cache=None, crop=0.2)
    file = save_model(model, tmp_path / "cropped.agegender")
    predicted = inference.load(file, cache=None).predict(given.pictures)
    np.testing.assert_array_equal(predicted, model.predict(given.pictures))
    assert not np.array_equal(predicted, given.model.predict(given.pictures))


def test_parameters_and_defaults_are_those_of_the_estimators() -> None:
    extractor = EmbeddingExtractor().get_params()
    assert vars(Asked()) | vars(Running()) == extractor
    assert set(SavedClassifier.names) == set(AgeGenderClassifier().get_params(deep=False))


def test_the_command_writes_what_pandas_wrote(given, tmp_path) -> None:
    from typer.testing import CliRunner

    from agegender.cli import app

    table = tmp_path / "table.csv"
    arguments = [
        "predict",
        "--model",
        given.file,
        "--faces",
        "none",
        *given.pictures,
        "--csv",
        table,
        "--json",
    ]
    done = CliRunner().invoke(app, list(map(str, arguments)))
    frame = given.model.predict_frame(given.pictures).assign(picture=given.pictures)
    assert table.read_text("utf-8") == frame.to_csv(index=False)
    assert json.loads(done.stdout) == json.loads(frame.to_json(orient="records"))
