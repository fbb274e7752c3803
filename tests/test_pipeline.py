"""Pictures in, ages and genders out: searches, folds, saved models, bad input."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from agegender import AgeGenderClassifier, AgeGenderPipeline, ConvHead, DenseHead, EmbeddingExtractor
from agegender.backbones import Backbone
from agegender.datasets import load_utkface
from agegender.exceptions import FramingWarning, LeakageWarning, PictureWarning
from agegender.metrics import SCORERS
from agegender.model_selection import AgeGenderKFold, cross_val_predict_frame
from agegender.persistence import load_model, save_model
from agegender.runtime import close_networks


def small(backbone: Backbone, head="dense", **params) -> AgeGenderPipeline:
    classifier = AgeGenderClassifier(head, epochs=3, random_state=0).set_params(**params)
    return AgeGenderPipeline(EmbeddingExtractor(backbone), classifier)


def test_it_learns_what_the_pictures_show(backbone, faces) -> None:
    model = small(backbone, DenseHead(), epochs=150, learning_rate=0.02, validation_fraction=0.0)
    model.fit(faces.data, faces.target)
    guess = np.abs(faces.target[:, 0] - faces.target[:, 0].mean()).mean()
    with pytest.warns(
        LeakageWarning, match="60 of 60 pictures are among those that this model was trained on"
    ):
        assert -model.score(faces.data, faces.target) < 0.5 * guess
    assert (model.predict(faces.data)[:, 1] == faces.target[:, 1]).mean() > 0.8


def test_the_head_decides_the_layer_and_no_parameter_is_written_to(backbone, faces) -> None:
    for head, layer in ((DenseHead(), "penultimate"), (ConvHead(), "feature_map")):
        model = small(backbone, head).fit(faces.data, faces.target)
        assert model.extractor_.layer == layer
        assert model.extractor.layer == "auto"
        assert not hasattr(model.extractor, "backbone_")
        assert not hasattr(model.classifier, "classes_")


def test_an_explicit_layer_wins_and_a_head_that_cannot_read_it_says_so(backbone, faces) -> None:
    model = small(backbone).set_params(extractor__layer="embedding").fit(faces.data, faces.target)
    assert model.classifier_.n_features_in_ == 16
    with pytest.raises(ValueError, match="ConvHead"):
        small(backbone, ConvHead()).set_params(extractor__layer="embedding").fit(faces.data, faces.target)


def test_defaults_can_be_searched_over_as_they_stand() -> None:
    model = AgeGenderPipeline()
    assert "classifier__head__units" in model.get_params()
    assert model.classifier is None
    model.set_params(classifier__head__units=(32,), extractor__crop=0.1)
    assert model.classifier.head.units == (32,)
    assert model.extractor.crop == 0.1
    assert AgeGenderPipeline().classifier is None
    assert clone(model).classifier.head is not model.classifier.head


def test_predictions_agree_with_each_other(backbone, faces) -> None:
    model = small(backbone).fit(faces.data, faces.target, groups=faces.groups)
    predicted, proba, frame = (
        getattr(model, name)(faces.data) for name in ("predict", "predict_proba", "predict_frame")
    )
    assert predicted.shape == (len(faces.data), 2)
    np.testing.assert_allclose(proba[0] @ np.arange(101), predicted[:, 0], rtol=1e-4)
    np.testing.assert_array_equal(model.classes_[1][proba[1].argmax(axis=1)], predicted[:, 1])
    assert list(frame.columns) == ["age", "age_low", "age_high", "gender", "gender_proba"]
    np.testing.assert_allclose(frame["age"], predicted[:, 0])
    assert (frame["age_low"] <= frame["age_high"]).all()


def test_a_frame_holds_the_distribution_of_each_picture_if_it_is_asked_for(backbone, faces) -> None:
    model = small(backbone).fit(faces.data, faces.target)
    frame = model.predict_frame(faces.data[:5], distribution=True)
    np.testing.assert_allclose(
        np.stack(frame["age_proba"]), model.predict_proba(faces.data[:5])[0], atol=1e-6
    )
    pd.testing.assert_frame_equal(frame.drop(columns="age_proba"), model.predict_frame(faces.data[:5]))
    with pytest.warns(FramingWarning):
        nobody = model.predict_faces(faces.data[:2], faces="mtcnn", distribution=True)
    assert len(nobody) == 0
    assert "age_proba" in nobody.columns


def test_the_same_random_state_gives_the_same_model(backbone, faces) -> None:
    first, second = (small(backbone).fit(faces.data, faces.target).predict(faces.data) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_frame_with_named_genders_is_learned_as_it_is(backbone, faces) -> None:
    y = pd.DataFrame({"age": faces.target[:, 0], "gender": np.where(faces.target[:, 1] == 1, "woman", "man")})
    model = small(backbone).fit(faces.data, y)
    assert set(model.predict_frame(faces.data)["gender"]) <= {"woman", "man"}
    np.testing.assert_array_equal(model.classes_[1], ["man", "woman"])


@pytest.mark.slow
def test_a_search_passes_each_picture_through_the_network_once_a_layer(backbone, faces) -> None:
    from agegender.runtime import images_passed

    before = images_passed()
    grid = {
        "classifier__head": [DenseHead(), DenseHead(units=(8,)), ConvHead()],
        "classifier__learning_rate": [1e-2, 1e-3],
    }
    search = GridSearchCV(
        small(backbone, epochs=2), grid, cv=AgeGenderKFold(3), scoring=SCORERS, refit="neg_age_mae"
    )
    search.fit(faces.data, faces.target, groups=faces.groups)
    assert images_passed() - before == 2 * len(faces.data)
    assert len(search.cv_results_["params"]) == 6
    assert np.isfinite(search.cv_results_["mean_test_gender_accuracy"]).all()


@pytest.mark.slow
def test_crops_and_backbones_can_be_searched_over(backbone, faces, tmp_path) -> None:
    from conftest import write_tiny_onnx

    other = Backbone.from_onnx(write_tiny_onnx(tmp_path / "other.onnx", seed=1))
    grid = {"extractor__backbone": [backbone, other], "extractor__crop": [0.0, 0.1]}
    search = GridSearchCV(
        small(backbone, epochs=2), grid, cv=AgeGenderKFold(2), scoring=SCORERS, refit="neg_age_mae"
    )
    search.fit(faces.data, faces.target)
    assert search.best_estimator_.extractor_.backbone_ in (backbone, other)


def test_sklearns_own_pipeline_and_cross_validation_take_the_parts(backbone, faces) -> None:
    classifier = AgeGenderClassifier(epochs=2, random_state=0)
    model = make_pipeline(EmbeddingExtractor(backbone), StandardScaler(), classifier)
    scores = cross_validate(
        model, faces.data, faces.target, groups=faces.groups, cv=AgeGenderKFold(3), scoring=SCORERS
    )
    assert np.isfinite(scores["test_neg_age_mae"]).all()
    predicted = cross_val_predict(small(backbone, epochs=2), faces.data, faces.target, cv=AgeGenderKFold(3))
    assert predicted.shape == faces.target.shape


def test_a_saved_model_predicts_the_same_in_a_new_process_without_tensorflow(
    tiny_onnx, faces, tmp_path
) -> None:
    moved = tmp_path / "moved.onnx"
    moved.write_bytes(tiny_onnx.read_bytes())
    model = small(Backbone.from_onnx(moved)).fit(faces.data, faces.target)
    expected = model.predict(faces.data)
    joblib.dump(model, tmp_path / "model.joblib")
    moved.unlink()
    predicted, imported = predict_in_a_new_process(tmp_path, faces.data)
    assert not imported & {"tensorflow", "keras", "matplotlib", "deepface"}
    np.testing.assert_allclose(predicted, expected, atol=1e-5)


def predict_in_a_new_process(folder: Path, pictures) -> tuple[np.ndarray, set[str]]:
    """Return what folder/model.joblib predicts there, and the packages imported for it."""
    np.save(folder / "paths.npy", np.asarray(pictures).astype(str))
    script = """
import sys
import tempfile
from pathlib import Path
import joblib, numpy as np
folder = Path(sys.argv[1])
model = joblib.load(folder / "model.joblib")
np.save(folder / "predicted.npy", model.predict(np.load(folder / "paths.npy")))
model.predict_frame(np.load(folder / "paths.npy"))
print(*{name.split(".")[0] for name in sys.modules})
"""
    environment = {"AGEGENDER_HOME": str(folder / "elsewhere"), "PATH": "/usr/bin"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    return np.load(folder / "predicted.npy"), set(done.stdout.split())


def test_bad_pictures_are_left_out_of_fit_with_one_warning_and_predicted_as_nan(
    backbone, faces, tmp_path
) -> None:

    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff nothing")
    X, y = [broken, *faces.data], np.vstack([[20, 0], faces.target])
    model = small(backbone).set_params(extractor__on_error="nan")
    with pytest.warns(PictureWarning, match="1 "):
        model.fit(X, y)
    predicted = model.predict(X)
    assert np.isnan(predicted[0]).all()
    assert np.isfinite(predicted[1:]).all()
    assert model.predict_frame(X).iloc[0].isna().all()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda y: y[:-1], "60 pictures and y 59 rows"),
        (lambda y: np.where(np.arange(len(y))[:, None] == 3, np.nan, y), "row 3"),
        (lambda y: np.where(np.arange(len(y))[:, None] == 3, [130, 0], y), "130 in row 3"),
        (lambda y: np.where(np.arange(len(y))[:, None] == 3, [30, 2], y), "gender"),
        (lambda y: y * [1, 0], "gender"),
        (lambda y: y[:, 0], "shape"),
        (lambda y: pd.DataFrame(y, columns=["age", "sex"]), "'gender'"),
    ],
    ids=["lengths", "nan", "age of 130", "three genders", "one gender", "ages only", "columns"],
)
def test_a_bad_target_is_refused_before_any_picture_is_embedded(backbone, faces, spoil, message) -> None:
    from agegender.runtime import images_passed

    before = images_passed()
    with pytest.raises(ValueError, match=message):
        small(backbone).fit(faces.data, spoil(faces.target))
    assert images_passed() == before


def test_an_unknown_head_is_answered_with_the_nearest(backbone, faces) -> None:
    with pytest.raises(ValueError, match="Did you mean 'dense'"):
        small(backbone, "dens").fit(faces.data, faces.target)


@pytest.mark.slow
def test_the_whole_on_real_faces(shared, tmp_path) -> None:
    real = load_utkface(shared / "data/utkface_mini")
    assert len(real.excluded) >= 3
    network = Backbone.from_onnx(shared / "weights/mobilefacenet_arcface.onnx", mean=0.0, scale=1.0)
    model = AgeGenderPipeline(
        EmbeddingExtractor(network), AgeGenderClassifier(DenseHead(units=(256,)), random_state=0)
    )
    scores = cross_validate(
        model, real.data, real.target, groups=real.groups, cv=AgeGenderKFold(3), scoring=SCORERS
    )
    assert -scores["test_neg_age_mae"].mean() < 13
    assert scores["test_gender_accuracy"].mean() > 0.85
    model.fit(real.data, real.target, groups=real.groups)
    joblib.dump(model, tmp_path / "model.joblib")
    predicted, imported = predict_in_a_new_process(tmp_path, real.data)
    assert "tensorflow" not in imported
    np.testing.assert_allclose(predicted, model.predict(real.data), atol=1e-5)


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """An empty directory that is Python's temporary one for the test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def left_in(folder: Path) -> list[str]:
    """Return the files in a folder but those of TensorFlow's autograph, which keeps its modules until the end."""
    return [path.name for path in folder.iterdir() if not path.name.startswith("__autograph_generated_file")]


def spy_on_fit(monkeypatch, then=lambda: None) -> list[type]:
    """Collect the type of array that each classifier is fitted on."""
    types, fit = [], AgeGenderClassifier._fit_whole

    def spied(self, X, *args, **kwargs):
        types.append(type(X))
        then()
        return fit(self, X, *args, **kwargs)

    monkeypatch.setattr(AgeGenderClassifier, "_fit_whole", spied)
    return types


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_more_than_memory_limit_goes_through_a_map_and_blocks_with_the_same_numbers(
    backbone, faces, temporary, monkeypatch, dtype
) -> None:
    types = spy_on_fit(monkeypatch)
    model = small(backbone, ConvHead()).set_params(extractor__dtype=dtype)
    held = model.fit(faces.data, faces.target)
    row_bytes = 3 * 3 * 12 * np.dtype(dtype).itemsize
    spilled = clone(model).set_params(memory_limit=7 * row_bytes).fit(faces.data, faces.target)
    assert types == [np.ndarray, np.memmap]
    assert not left_in(temporary)
    np.testing.assert_array_equal(spilled.predict(faces.data), held.predict(faces.data))
    for found, expected in zip(
        spilled.predict_proba(faces.data), held.predict_proba(faces.data), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    pd.testing.assert_frame_equal(spilled.predict_frame(faces.data), held.predict_frame(faces.data))
    held_out = [np.full((8, 8, 3), 9 * i, np.uint8) for i in range(9)]
    target = np.column_stack([np.arange(9), np.arange(9) % 2])
    assert spilled.score(held_out, target) == held.score(held_out, target)
    spilled.predict(faces.data)
    assert (spilled.report_.n_images, spilled.report_.n_cached) == (len(faces.data), len(faces.data))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_of_the_map_when_fit_is_interrupted(
    backbone, faces, temporary, monkeypatch, error
) -> None:
    def stop():
        raise error

    types = spy_on_fit(monkeypatch, stop)
    with pytest.raises(error):
        small(backbone).set_params(memory_limit=0).fit(faces.data, faces.target)
    assert types == [np.memmap]
    assert not left_in(temporary)


def test_a_disk_without_room_for_the_map_is_an_error_that_says_what_to_do(
    backbone, faces, temporary, monkeypatch
) -> None:
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match=r"memory_limit.*TMPDIR.*float16"):
        small(backbone).set_params(memory_limit=0).fit(faces.data, faces.target)


def test_failures_in_later_blocks_keep_their_place(backbone, faces, tmp_path) -> None:

    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff nothing")
    model = small(backbone).set_params(extractor__on_error="nan", memory_limit=7 * 12 * 4)
    X, y = [*faces.data[:30], broken], faces.target[:31]
    with pytest.warns(PictureWarning, match="1 of 31"):
        model.fit(X, y)
    predicted = model.predict(X)
    assert np.flatnonzero(np.isnan(predicted[:, 0])).tolist() == [30]
    assert [failure.index for failure in model.report_.failures] == [30]


@pytest.mark.parametrize("limit", ["2 gigs", -1, True, "GB"])
def test_a_bad_memory_limit_is_refused(backbone, faces, limit) -> None:
    with pytest.raises(ValueError, match=r"memory_limit=.*'2GB'"):
        small(backbone).set_params(memory_limit=limit).fit(faces.data, faces.target)


# What a model knows of its training


@pytest.mark.parametrize("kept", ["joblib", "safe"])
def test_a_saved_model_knows_the_pictures_that_it_was_trained_on(backbone, faces, tmp_path, kept) -> None:
    model = small(backbone).set_params(extractor__framing="utkface").fit(faces.data[:40], faces.target[:40])
    if kept == "joblib":
        joblib.dump(model, tmp_path / "model")
        loaded = joblib.load(tmp_path / "model")
    else:
        loaded = load_model(save_model(model, tmp_path / "model"))
    assert loaded.trained_on_.dtype == np.uint64
    np.testing.assert_array_equal(loaded.trained_on_, model.trained_on_)
    copies = [Path(path).read_bytes() for path in faces.data]
    assert loaded.seen_in_training(copies).tolist() == [True] * 40 + [False] * 20
    with pytest.warns(LeakageWarning, match="5 of 25 pictures"):
        loaded.score(faces.data[35:], faces.target[35:])
    loaded.score(faces.data[40:], faces.target[40:])


# Tables, generators and settings


def test_predictions_stand_under_the_index_of_X(backbone, faces) -> None:
    model = small(backbone).fit(faces.data, faces.target)
    X = pd.Series(faces.data[:5], index=[40, 10, 30, 10, 20])
    plain = model.predict_frame(faces.data[:5])
    for given in (X, X.to_frame("path")):
        frame = model.predict_frame(given)
        assert list(frame.index) == [40, 10, 30, 10, 20]
        pd.testing.assert_frame_equal(frame.reset_index(drop=True), plain)
    labels = list(range(20, 0, -1))
    out_of_fold = cross_val_predict_frame(
        model, pd.Series(faces.data[:20], index=labels), faces.target[:20], cv=2
    )
    assert list(out_of_fold.index) == labels
    assert out_of_fold["true_age"].tolist() == faces.target[:20, 0].tolist()


def test_a_generator_is_used_up_once(backbone, faces) -> None:
    def given() -> Iterator[str]:
        return iter(faces.data[:30])

    model = small(backbone).fit(given(), faces.target[:30])
    expected = model.predict(faces.data[:30])
    np.testing.assert_array_equal(model.predict(given()), expected)
    np.testing.assert_array_equal(model.predict_frame(given())["age"], expected[:, 0])
    assert model.seen_in_training(given()).all()
    with pytest.warns(LeakageWarning, match="30 of 30"):
        model.score(given(), faces.target[:30])


@pytest.mark.parametrize("head", [DenseHead(), ConvHead()])
def test_output_set_to_pandas_hinders_no_model(backbone, faces, head) -> None:
    plain = small(backbone, head).fit(faces.data, faces.target)
    with sklearn.config_context(transform_output="pandas"):
        model = small(backbone, head).fit(faces.data, faces.target)
        np.testing.assert_array_equal(model.predict(faces.data), plain.predict(faces.data))
        pd.testing.assert_frame_equal(model.predict_frame(faces.data), plain.predict_frame(faces.data))


# Taken to another machine


@pytest.mark.slow
@pytest.mark.parametrize("named", ["network", "path", "list"])
def test_a_loaded_model_is_refitted_and_cloned_without_the_networks_file(
    tiny_onnx, faces, tmp_path, named
) -> None:
    file = Path(shutil.copy(tiny_onnx, tmp_path / "moved.onnx"))
    given = {"network": Backbone.from_onnx(file), "path": str(file), "list": [file, Backbone.from_onnx(file)]}
    model = small(given[named]).set_params(extractor__framing="utkface", extractor__cache=None)
    expected = model.fit(faces.data, faces.target).predict(faces.data)
    joblib.dump(model, tmp_path / "model.joblib")
    save_model(model, tmp_path / "model.agegender")
    file.unlink()
    close_networks()
    for loaded in (joblib.load(tmp_path / "model.joblib"), load_model(tmp_path / "model.agegender")):
        np.testing.assert_array_equal(loaded.predict(faces.data), expected)
        for again in (clone(loaded), loaded):
            np.testing.assert_allclose(
                again.fit(faces.data, faces.target).predict(faces.data), expected, rtol=1e-5
            )
