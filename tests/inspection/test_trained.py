"""A trained model that has not seen the pictures helps to judge their labels, and one that has is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import write_drawn_faces

from agegender import AgeGenderClassifier, AgeGenderPipeline, DenseHead, EmbeddingExtractor
from agegender.datasets import load_utkface
from agegender.inspection import _inspect, inspect_faces
from agegender.inspection._few import FewFacesModel, rows_with
from agegender.inspection._suspicion import doubt_ages, doubt_genders

N = 80


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
    assert any("'male' and 'female'" in note and "'boy' and 'girl'" in note for note in found.notes)
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


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("best", "'best'"),
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
