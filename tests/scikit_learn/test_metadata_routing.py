"""Groups and weights reach the folds, the classifier and its inner split, also by scikit-learn's routing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sklearn
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline

from agegender import AgeGenderClassifier, AgeGenderPipeline, DenseHead, EmbeddingExtractor, training
from agegender.backbones import Backbone
from agegender.datasets import load_utkface
from agegender.metrics import SCORERS, age_mae
from agegender.model_selection import AgeGenderKFold, cross_val_predict_frame


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.fixture(scope="module")
def faces(drawn_faces: Path):
    return load_utkface(drawn_faces)


@pytest.fixture
def extractor(tiny_onnx: Path) -> EmbeddingExtractor:
    return EmbeddingExtractor(Backbone.from_onnx(tiny_onnx), layer="penultimate")


@pytest.fixture
def fits(monkeypatch) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The y, sample_weight and groups of every fit of a classifier."""
    seen, fit = [], AgeGenderClassifier._fit_whole

    def spied(self, X, y, sample_weight=None, groups=None):
        seen.append((y, sample_weight, groups))
        return fit(self, X, y, sample_weight, groups)

    monkeypatch.setattr(AgeGenderClassifier, "_fit_whole", spied)
    return seen


def classifier() -> AgeGenderClassifier:
    return AgeGenderClassifier(DenseHead(), epochs=1, random_state=0)


def requesting(estimator):
    return estimator.set_fit_request(groups=True, sample_weight=True).set_score_request(sample_weight=True)


def estimators(extractor, faces) -> dict:
    """Return each kind of estimator that requests both, with what it reads."""
    return {
        "classifier": (requesting(classifier()), extractor.transform(faces.data)),
        "pipeline": (requesting(AgeGenderPipeline(extractor, classifier())), faces.data),
        "sklearn": (make_pipeline(extractor, requesting(classifier())), faces.data),
    }


@pytest.mark.parametrize("kind", ["classifier", "pipeline", "sklearn"])
@pytest.mark.parametrize("search", [False, True], ids=["cross_validate", "GridSearchCV"])
def test_groups_and_weights_are_routed_with_their_rows(routing, extractor, faces, fits, kind, search) -> None:
    model, X = estimators(extractor, faces)[kind]
    n = len(X)
    params = {"groups": np.arange(n) // 2, "sample_weight": np.arange(1.0, n + 1)}
    if search:
        name = {"classifier": "epochs", "pipeline": "classifier__epochs"}.get(
            kind, "agegenderclassifier__epochs"
        )
        GridSearchCV(model, {name: [1]}, cv=AgeGenderKFold(2)).fit(X, faces.target, **params)
    else:
        cross_validate(model, X, faces.target, params=params, cv=AgeGenderKFold(2), error_score="raise")
    assert len(fits) == (3 if search else 2)
    for y, weights, groups in fits:
        rows = weights.astype(int) - 1
        np.testing.assert_array_equal(y, faces.target[rows])
        np.testing.assert_array_equal(groups, rows // 2)
        # AgeGenderKFold had them too: both pictures of each pair are here.
        np.testing.assert_array_equal(np.bincount(np.unique(groups, return_inverse=True)[1]), 2)


def test_scores_are_weighted_where_that_is_requested(routing, extractor, faces) -> None:
    X = extractor.transform(faces.data)
    weights = np.where(faces.target[:, 0] > 50, 1.0, 0.0)
    scorer = make_scorer(age_mae, greater_is_better=False).set_score_request(sample_weight=True)
    model = (
        classifier().set_fit_request(sample_weight=False, groups=False).set_score_request(sample_weight=True)
    )
    scores = cross_validate(
        model, X, faces.target, params={"sample_weight": weights}, cv=AgeGenderKFold(2),
        scoring={"by_scorer": scorer}, return_estimator=True,
    )  # fmt: skip
    for fitted, score, (_, test) in zip(
        scores["estimator"], scores["test_by_scorer"], AgeGenderKFold(2).split(X, faces.target), strict=True
    ):
        old = test[weights[test] == 1]
        errors = np.abs(fitted.predict(X[old])[:, 0] - faces.target[old, 0])
        assert -score == pytest.approx(errors.mean())


def test_cross_val_predict_frame_routes_groups_to_folds_and_fit(routing, extractor, faces, fits) -> None:
    model, X = estimators(extractor, faces)["pipeline"]
    groups = np.arange(len(X)) // 2
    params = {"sample_weight": np.arange(1.0, len(X) + 1)}
    frame = cross_val_predict_frame(model, X, faces.target, groups=groups, params=params, cv=2)
    assert (frame.groupby(groups)["fold"].nunique() == 1).all()
    for _, weights, routed in fits:
        np.testing.assert_array_equal(routed, (weights.astype(int) - 1) // 2)


def test_without_routing_groups_are_for_the_folds_and_fit_takes_its_own(extractor, faces, fits) -> None:
    scores = cross_validate(
        AgeGenderPipeline(extractor, classifier()), faces.data, faces.target,
        groups=np.arange(60) // 2, params={"sample_weight": np.arange(1.0, 61)},
        cv=AgeGenderKFold(2), scoring=SCORERS,
    )  # fmt: skip
    assert np.isfinite(scores["test_neg_age_mae"]).all()
    for _, weights, groups in fits:
        assert groups is None
        np.testing.assert_array_equal(np.bincount((weights.astype(int) - 1) // 2, minlength=30) % 2, 0)


@pytest.mark.parametrize("views", [1, ("plain", "mirror")])
def test_pictures_of_equal_content_and_of_one_group_are_held_out_together(
    extractor, faces, tmp_path, monkeypatch, views
) -> None:
    copies = []
    for path in faces.data[:30]:
        copies.append(tmp_path / Path(path).name)
        copies[-1].write_bytes(Path(path).read_bytes())
    splits, split = [], training.split

    def watched(ages, genders, groups, fraction, rng):
        splits.append(split(ages, genders, groups, fraction, rng))
        return splits[-1]

    monkeypatch.setattr(training, "split", watched)
    X, y = [*faces.data, *copies], np.concatenate([faces.target, faces.target[:30]])
    person = np.arange(90)
    person[40:60] = np.repeat(np.arange(10), 2)  # also joined to copies, by the first ten pictures
    model = AgeGenderPipeline(extractor, classifier()).set_params(
        extractor__views=views, classifier__validation_fraction=0.4, classifier__rounds=3
    )
    model.set_params(classifier__calibration_fraction=0.0).fit(X, y, groups=person)
    assert len(splits) == 3
    for _, held_out in splits:
        side = np.isin(np.arange(90), held_out)
        assert 20 <= side.sum() <= 50
        np.testing.assert_array_equal(side[60:], side[:30])
        np.testing.assert_array_equal(side[40:60:2], side[:10])
        np.testing.assert_array_equal(side[41:60:2], side[:10])
