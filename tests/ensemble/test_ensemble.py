"""Pipelines with different networks and heads, averaged."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import write_drawn_faces, write_tiny_onnx
from one_face import OneFace
from sklearn.base import clone

from agegender import (
    AgeGenderClassifier,
    AgeGenderPipeline,
    Backbone,
    ConvHead,
    DenseHead,
    EmbeddingExtractor,
    load_model,
    save_model,
)
from agegender._extraction.shared import passes_of
from agegender.cli._models import load
from agegender.datasets import load_utkface
from agegender.ensemble import AgeGenderEnsemble
from agegender.ensemble._weights import mixture_weights
from agegender.exceptions import LeakageWarning, ModelFileError
from agegender.faces import FACE_COLUMNS
from agegender.runtime import images_passed


def pipeline(backbone, head=None, **options) -> AgeGenderPipeline:
    head = DenseHead((4,)) if head is None else head
    return AgeGenderPipeline(
        EmbeddingExtractor(backbone, cache=None, **options),
        AgeGenderClassifier(head, epochs=4, learning_rate=0.01, validation_fraction=0.0, random_state=0),
    )


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Backbone:
    return Backbone.from_onnx(
        write_tiny_onnx(tmp_path_factory.mktemp("networks") / "other.onnx", seed=1), color="bgr"
    )


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    return load_utkface(write_drawn_faces(tmp_path_factory.mktemp("held") / "out", 80, seed=5))


@pytest.fixture(scope="module")
def models(backbone, other, faces) -> list[AgeGenderPipeline]:
    made = [pipeline(backbone), pipeline((backbone, other)), pipeline(other, ConvHead())]
    return [model.fit(faces.data, faces.target) for model in made]


@pytest.fixture(scope="module")
def ensemble(models, held_out) -> AgeGenderEnsemble:
    return AgeGenderEnsemble(models, prefit=True).fit(held_out.data, held_out.target)


def test_distributions_are_averaged_with_the_weights(ensemble, models, held_out) -> None:
    assert ensemble.weights_.shape == (2, 3)
    np.testing.assert_allclose(ensemble.weights_.sum(axis=1), 1)
    each = [model.predict_proba(held_out.data)[0] for model in models]
    expected = np.tensordot(ensemble.weights_[0], each, axes=1)
    ages, genders = ensemble.predict_proba(held_out.data)
    np.testing.assert_allclose(ages, expected, atol=1e-5)
    np.testing.assert_allclose(genders.sum(axis=1), 1, atol=1e-5)
    predicted = ensemble.predict(held_out.data)
    np.testing.assert_allclose(predicted[:, 0], ages @ np.arange(101), atol=1e-3)
    frame = ensemble.predict_frame(held_out.data, coverage=0.8, distribution=True)
    np.testing.assert_allclose(frame["age"], predicted[:, 0])
    np.testing.assert_allclose(np.stack(frame["age_proba"]), ages)
    inside = (frame["age_low"] <= held_out.target[:, 0]) & (held_out.target[:, 0] <= frame["age_high"])
    assert ensemble.calibration_.n_pictures == 40
    assert 0.65 < inside.mean() <= 1
    error = np.abs(predicted[:, 0] - held_out.target[:, 0]).mean()
    assert ensemble.score(held_out.data, held_out.target) == pytest.approx(-error)


def test_models_that_agree_are_one_pass_and_share_networks(ensemble, models, held_out) -> None:
    flat, maps = passes_of([model.extractor_.extraction() for model in models])
    assert [network.name for network in flat.extraction.resolved.backbones] == ["tiny", "other"]
    assert maps.extraction.resolved.sources == models[2].extractor_.resolved_.sources
    before = images_passed()
    ensemble.predict(held_out.data[:10])
    assert images_passed() - before == 30  # tiny, other, and other's map; not tiny twice


def test_the_better_model_weighs_more_and_few_pictures_decide_little() -> None:
    likelihoods = np.tile([0.2, 0.05, 0.01], (2000, 1))
    weights = mixture_weights(likelihoods)
    assert weights[0] > 0.98
    few = mixture_weights(likelihoods[:10])
    assert few[0] < 0.6
    assert few[0] > few[1] > few[2]
    mixed = np.array([[0.2, 0.0], [0.0, 0.2]] * 500)
    np.testing.assert_allclose(mixture_weights(mixed), 0.5, atol=1e-3)


def test_it_travels_as_one_safe_file_and_as_a_pickle(ensemble, held_out, tmp_path: Path) -> None:
    expected = ensemble.predict_frame(held_out.data)
    file = save_model(ensemble, tmp_path / "both.agegender")
    for loaded in (load_model(file), pickle.loads(pickle.dumps(ensemble))):
        assert isinstance(loaded, AgeGenderEnsemble)
        found = loaded.predict_frame(held_out.data)
        np.testing.assert_array_equal(found["age_low"], expected["age_low"])
        np.testing.assert_array_equal(found["gender_proba"], expected["gender_proba"])
    with zipfile.ZipFile(file) as archive:
        networks = [name for name in archive.namelist() if name.startswith("network")]
    assert len(networks) == 2  # of three models
    with pytest.raises(
        ModelFileError, match=r"AgeGenderEnsemble; a fitted .* is needed.* save one of its models_"
    ):
        load(file)


def test_fit_holds_out_pictures_that_no_model_is_trained_on(backbone, other, held_out) -> None:
    made = AgeGenderEnsemble([pipeline(backbone), pipeline(other)], held_out_fraction=0.5)
    fitted = made.fit(held_out.data, held_out.target)
    assert fitted.seen_in_training(held_out.data).sum() == 40
    assert not hasattr(made.models[0], "classifier_")
    with pytest.warns(LeakageWarning, match="40 of 80 pictures"):
        fitted.score(held_out.data, held_out.target)
    with pytest.raises(ValueError, match="8 held-out pictures are too few"):
        clone(made).set_params(held_out_fraction=0.1).fit(held_out.data, held_out.target)


def test_what_is_wrong_is_said(models, faces, held_out, backbone) -> None:
    with pytest.warns(LeakageWarning, match="60 of 60 pictures"):
        AgeGenderEnsemble(models[:1], prefit=True).fit(faces.data, faces.target)
    for wrong, error, message in (
        ([], ValueError, "models is empty"),
        ([AgeGenderClassifier()], TypeError, "not AgeGenderClassifier"),
        ([pipeline(backbone)], ValueError, "needs fitted models"),
    ):
        with pytest.raises(error, match=message):
            AgeGenderEnsemble(wrong, prefit=True).fit(held_out.data, held_out.target)
    older = pipeline(backbone).set_params(classifier__max_age=110).fit(faces.data, faces.target)
    with pytest.raises(ValueError, match=r"model 1 0 … 110\. Train them with one max_age"):
        AgeGenderEnsemble([models[0], older], prefit=True).fit(held_out.data, held_out.target)


# The drawn faces have no landmarks that a detector finds, which is said.
@pytest.mark.filterwarnings("ignore:The framing of the faces:agegender.exceptions.FramingWarning")
def test_every_face_of_a_picture_is_predicted(ensemble, faces) -> None:
    table = ensemble.predict_faces(faces.data[:3], faces=OneFace())
    expected = ensemble.predict_frame(faces.data[:3], faces=OneFace())
    assert table["picture"].tolist() == [0, 1, 2]
    np.testing.assert_allclose(table["age"], expected["age"], rtol=1e-5)
    np.testing.assert_allclose(table["gender_proba"], expected["gender_proba"], rtol=1e-5)
    pd.testing.assert_frame_equal(table[list(expected)], expected, rtol=1e-5)
    none = ensemble.predict_faces([np.zeros((40, 40, 3), np.uint8)], faces=OneFace(), distribution=True)
    assert len(none) == 0
    assert none.dtypes.drop("age_proba").to_dict() == table.dtypes.to_dict()


@pytest.mark.filterwarnings("ignore:The framing of the faces:agegender.exceptions.FramingWarning")
@pytest.mark.parametrize("limit", [0, None])
def test_the_table_tells_what_faces_show_as_that_of_a_pipeline(
    backbone, other, faces, held_out, limit
) -> None:
    models = [
        pipeline(backbone, on_error="nan").fit(faces.data, faces.target),
        pipeline(other, ConvHead(), on_error="nan").fit(faces.data, faces.target),
    ]
    ensemble = AgeGenderEnsemble(models, prefit=True, memory_limit=limit).fit(held_out.data, held_out.target)
    X = pd.Series([faces.data[0], np.zeros((40, 40, 3), np.uint8), *faces.data[1:3]], index=list("abcd"))
    table, alone = ensemble.predict_frame(X, faces=OneFace()), models[0].predict_frame(X, faces=OneFace())
    assert list(table) == list(alone)
    pd.testing.assert_frame_equal(table[list(FACE_COLUMNS)], alone[list(FACE_COLUMNS)])
    assert table.loc["b", "doubts"] == "no face"
    assert np.isnan(table.loc["b", "age"])
    assert table.loc["a", "quality"] > 0
    assert ensemble.predict_frame(X[:1]).columns.tolist() == [
        *("age", "age_low", "age_high", "gender", "gender_proba")
    ]
