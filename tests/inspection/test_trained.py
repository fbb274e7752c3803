"""A trained model that has not seen the pictures helps to judge their labels, and one that has is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import write_drawn_faces
from one_face import OneFace
from sklearn.linear_model import LogisticRegression

from agegender import AgeGenderClassifier, AgeGenderPipeline, DenseHead, EmbeddingExtractor
from agegender.datasets import load_utkface
from agegender.ensemble import AgeGenderEnsemble
from agegender.exceptions import PictureError
from agegender.inspection import _inspect, inspect_faces
from agegender.inspection._few import FewFacesModel, rows_with
from agegender.inspection._inputs import labelled_faces
from agegender.inspection._suspicion import doubt_ages, doubt_genders
from agegender.inspection._trained import TrainedModel

N = 80


class Baseline:
    """A model that reads face crops or photographs, and raises an error or answers NaN where there is no face."""

    classes_ = (np.arange(121), np.array([0, 1]))

    def __init__(self, on_error: str = "raise", verbose: int = 1) -> None:
        self.on_error = on_error
        self.verbose = verbose

    def predict_proba(self, X):
        if self.on_error == "raise":
            raise PictureError(str(X[0]), "has no face")
        assert self.verbose == 0
        ages, genders = np.full((len(X), 121), 1 / 121), np.full((len(X), 2), 0.5)
        ages[0], genders[0] = np.nan, np.nan
        return [ages, genders]


class Knowing:
    """Knows the labels as they were drawn, and has no answer for the first picture."""

    classes_ = (np.arange(121), np.array([0, 1]))

    def __init__(self, target: np.ndarray) -> None:
        self.target = target

    def predict_proba(self, X):
        assert len(X) == len(self.target)
        ages = np.exp(-0.5 * ((np.arange(121) - self.target[:, :1]) / 4) ** 2)
        second = 0.02 + 0.96 * self.target[:, 1]
        proba = [ages / ages.sum(axis=1, keepdims=True), np.column_stack([1 - second, second])]
        for part in proba:
            part[0] = np.nan
        return proba


def head() -> AgeGenderClassifier:
    return AgeGenderClassifier(DenseHead(units=(8,)), epochs=1, batch_size=32, calibration_fraction=0)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return load_utkface(write_drawn_faces(tmp_path_factory.mktemp("set"), N), check=None)


def inspected(faces, y, backbone, model, **options):
    options = {"detector": None, "classifier": head(), "cv": 2} | options
    return inspect_faces(
        faces.data, y, extractor=EmbeddingExtractor(backbone, cache=None), model=model, **options
    )


def test_what_it_says_is_joined_and_told(faces, backbone) -> None:
    y = faces.target.copy()
    y[30, 0], y[50, 1] = (y[30, 0] + 50) % 101, 1 - y[50, 1]
    found = inspected(faces, y, backbone, Knowing(faces.target))
    assert found.labels["age_suspicion"].idxmax() == 30
    assert found.labels["gender_suspicion"].idxmax() == 50
    assert found.noise.age_share >= 0.5
    assert found.noise.gender_share >= 0.5
    np.testing.assert_allclose(found.labels["model_female"][1:], 0.02 + 0.96 * faces.target[1:, 1])
    assert np.isnan(found.labels["model_age"][0])
    assert np.isfinite(found.labels["suspicion"]).all()
    assert any("of the class Knowing, keeps no record" in note for note in found.notes)
    shares = (100 * found.noise.age_share, 100 * found.noise.gender_share)
    assert "Its share is {:.0f} % in the ages and {:.0f} % in the genders.".format(*shares) in found.to_html()


def test_models_of_few_pictures_use_its_genders_once(faces, backbone, monkeypatch) -> None:
    monkeypatch.setattr(_inspect, "AgeGenderClassifier", lambda **options: head())
    y = faces.target.copy()
    y[50, 1] = 1 - y[50, 1]
    found = inspected(faces, y, backbone, Knowing(faces.target), classifier=None)
    assert found.noise.gender_share is None
    assert found.labels["gender_suspicion"].idxmax() == 50
    assert (found.labels["read_female"][1:].round() == faces.target[1:, 1]).mean() > 0.95
    assert "the models that judge genders use its genders" in found.to_html()


def test_without_one_the_models_of_the_folds_judge_alone(faces, backbone) -> None:
    found = inspected(faces, faces.target, backbone, None)
    assert (found.noise.age_share, found.noise.gender_share) == (0, 0)
    assert "model_age" not in found.labels


def test_the_model_of_the_package_reads_by_default_but_not_for_other_genders(faces, backbone) -> None:
    assert inspected(faces, faces.target, backbone, "auto").labels["model_age"].notna().all()
    words = {0: "boy", 1: "girl"}
    found = inspected(faces, faces.target, backbone, "auto", gender_names=words)
    assert "model_age" not in found.labels
    assert any(
        "'male' and 'female'" in note and "'boy' and 'girl' (see gender_names)" in note
        for note in found.notes
    )
    with pytest.raises(ValueError, match=r"its genders are 'male' and 'female'.*model=None"):
        inspected(faces, faces.target, backbone, "compact", gender_names=words)


def test_genders_are_matched_by_name(faces, backbone) -> None:
    turned = faces.target.copy()
    turned[:, 1] = 1 - turned[:, 1]
    straight = inspected(faces, faces.target, backbone, "compact").labels["model_female"]
    other = inspected(faces, turned, backbone, "compact", gender_names={0: "female", 1: "male"})
    np.testing.assert_allclose(other.labels["model_male"], 1 - straight, atol=1e-6)


def test_one_that_was_trained_on_the_pictures_is_refused_before_any_work(
    faces, backbone, tmp_path: Path
) -> None:
    model = AgeGenderPipeline(EmbeddingExtractor(backbone, cache=None), head())
    model.fit(faces.data[:50], faces.target[:50])
    with pytest.raises(ValueError, match="it was trained on 50 of the 80 pictures"):
        inspected(faces, faces.target, backbone, model)
    others = load_utkface(write_drawn_faces(tmp_path, N, seed=1), check=None)
    assert inspected(others, others.target, backbone, model).labels["model_age"].notna().all()


def test_a_model_whose_training_pictures_are_not_known_or_those_of_a_search_is_refused(
    faces, backbone
) -> None:
    model = AgeGenderPipeline(EmbeddingExtractor(backbone, cache=None), head())
    model.fit(faces.data[:50], faces.target[:50])
    search = SimpleNamespace(
        best_estimator_=model, classes_=model.classes_, predict_proba=model.predict_proba
    )
    with pytest.raises(ValueError, match="it was trained on 50 of the 80 pictures"):
        inspected(faces, faces.target, backbone, search)
    with pytest.raises(ValueError, match=r"is a Predictor.*not record.*agegender\.load_model"):
        inspected(faces, faces.target, backbone, model.to_predictor())


def test_one_that_finds_no_face_has_no_answer_and_stays_as_it_is(faces, backbone) -> None:
    model = Baseline()
    found = inspected(faces, faces.target, backbone, model)
    assert found.labels["model_age"].isna().to_numpy().nonzero()[0].tolist() == [0]
    assert (model.on_error, model.verbose) == ("raise", 1)


# Drawings of 32 pixels have no framing that could be learned.
@pytest.mark.filterwarnings("ignore:The framing of the faces:agegender.exceptions.FramingWarning")
@pytest.mark.parametrize("averaged", [False, True])
def test_one_of_face_crops_finds_faces_in_photographs_as_the_extractor_does(
    backbone, averaged, tmp_path
) -> None:
    others = load_utkface(write_drawn_faces(tmp_path, 50, seed=1), check=None)
    model = AgeGenderPipeline(EmbeddingExtractor(backbone, cache=None), head()).fit(
        others.data, others.target
    )
    if averaged:
        kept = load_utkface(write_drawn_faces(tmp_path / "kept", 50, seed=3), check=None)
        model = AgeGenderEnsemble([model], prefit=True).fit(kept.data, kept.target)
    extractor = EmbeddingExtractor(backbone, cache=None, faces=OneFace())
    labelled = labelled_faces(others.data[:6], others.target[:6], None, None, None, 100)
    judge = TrainedModel(model, 1)
    read = judge.read(labelled, np.ones(6, bool), extractor, 101)
    expected = model.predict_proba(others.data[:6], faces=extractor.faces)
    np.testing.assert_array_equal(read.gender_proba, expected[1][:, 1])
    assert not np.array_equal(expected[1], model.predict_proba(others.data[:6])[1])


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("best", "'best'"),
        (Path("best.agegender"), r"'best\.agegender'"),
        (LogisticRegression().fit([[0], [1]], [0, 1]), "LogisticRegression"),
        (AgeGenderClassifier(), "AgeGenderClassifier"),
        (AgeGenderPipeline(), "AgeGenderPipeline"),
    ],
)
def test_what_reads_no_pictures_is_refused(faces, backbone, model, said: str) -> None:
    with pytest.raises(ValueError, match=f"model is .*{said}; it should be"):
        inspected(faces, faces.target, backbone, model)


def test_one_that_says_nothing_more_has_no_weight_in_ages() -> None:
    rng = np.random.default_rng(0)
    ages = rng.integers(5, 95, 300).astype(float)
    bells = np.exp(-0.5 * ((np.arange(101) - ages[:, np.newaxis] - rng.normal(0, 4, (300, 1))) / 4) ** 2)
    knows = bells / bells.sum(axis=1, keepdims=True)
    nothing = np.full((300, 101), 1 / 101)
    assert doubt_ages(knows, ages, trained=nothing).share == 0
    assert doubt_ages(nothing, ages, trained=knows).share == 1
    unread = np.full((300, 101), np.nan)
    np.testing.assert_array_equal(
        doubt_ages(knows, ages, trained=unread).suspicion, doubt_ages(knows, ages).suspicion
    )


def test_one_that_says_nothing_more_has_little_weight_in_genders() -> None:
    rng = np.random.default_rng(0)
    genders = rng.integers(0, 2, 400)
    knows = 1 / (1 + np.exp(-rng.normal(6.0 * genders - 3, 1.5)))
    assert doubt_genders(knows, genders, trained=rng.uniform(0.01, 0.99, 400)).share < 0.15
    assert doubt_genders(rng.uniform(0.3, 0.7, 400), genders, trained=knows).share > 0.85
    unread = doubt_genders(knows, genders, trained=np.full(400, np.nan))
    np.testing.assert_array_equal(unread.suspicion, doubt_genders(knows, genders).suspicion)


def test_few_pictures_correct_a_reading_instead_of_learning_all_of_it() -> None:
    rng = np.random.default_rng(0)
    genders = rng.integers(0, 2, 300)
    rows = rng.normal(size=(300, 5, 10)).astype(np.float32)
    told = np.where(genders == 1, 0.9, 0.1)
    told[7] = np.nan
    y = np.column_stack([np.full(300, 30.0), genders])
    known, new = slice(0, 100), slice(100, 300)
    model = FewFacesModel(head(), (5, 10))
    with_it = clone_fit(model, rows_with(rows, told), y, known, new)
    without = clone_fit(model, rows_with(rows, None), y, known, new)
    assert (with_it == genders[new]).mean() > 0.95
    assert (without == genders[new]).mean() < 0.7


def clone_fit(model: FewFacesModel, rows: np.ndarray, y: np.ndarray, known: slice, new: slice) -> np.ndarray:
    return model.fit(rows[known], y[known]).predict_proba(rows[new])[1].argmax(axis=1)
