"""Folds alike in age and gender, groups that stay whole, out-of-fold tables."""

from __future__ import annotations

import io
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold, ShuffleSplit, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from agegender.exceptions import PictureError
from agegender.model_selection import (
    AgeGenderKFold,
    connected_groups,
    cross_val_predict_frame,
    duplicate_groups,
    grouped_split,
    similar_face_groups,
)


def people(n: int, seed: int = 0) -> np.ndarray:
    """Ages skewed as in real sets, and a gender that depends on age."""
    rng = np.random.RandomState(seed)
    ages = np.clip(rng.gamma(2.5, 13, n).round(), 0, 100)
    return np.column_stack([ages, rng.rand(n) < np.where(ages < 40, 0.55, 0.35)]).astype(float)


def folds_of(y, groups=None, **options) -> list[np.ndarray]:
    return [test for _, test in AgeGenderKFold(**options).split(y, y, groups)]


# AgeGenderKFold


def test_every_picture_is_tested_once_and_trained_on_otherwise():
    y = people(103)
    tested = np.zeros(103, dtype=int)
    for train, test in AgeGenderKFold(4).split(y, y):
        tested[test] += 1
        assert np.array_equal(np.sort(np.r_[train, test]), np.arange(103))
        assert np.array_equal(test, np.sort(test))
    assert (tested == 1).all()


def test_each_fold_has_its_share_of_every_band_of_age_and_gender():
    y = people(2000)
    folds = folds_of(y, n_splits=5)
    assert {len(fold) for fold in folds} == {400}
    bands = (y[:, 0] // 5 * 2 + y[:, 1]).astype(int)
    counts = np.array([np.bincount(bands[fold], minlength=bands.max() + 1) for fold in folds])
    assert np.ptp(counts, axis=0).max() <= 1


@pytest.mark.parametrize("largest", [2, 5, 40])
def test_groups_stay_whole_and_folds_nearly_equal(largest):
    y = people(3000)
    rng = np.random.RandomState(1)
    groups = np.repeat(np.arange(3000), rng.randint(1, largest + 1, 3000))[:3000]
    folds = folds_of(y, groups, n_splits=5)
    for fold in folds:
        assert not np.isin(groups[fold], np.delete(groups, fold)).any()
    sizes = [len(fold) for fold in folds]
    assert np.ptp(sizes) <= max(3, largest // 4)
    assert np.ptp([y[fold, 0].mean() for fold in folds]) < 1.0
    assert np.ptp([y[fold, 1].mean() for fold in folds]) < 0.05


def test_planted_copies_with_different_labels_never_straddle_a_fold():
    y = people(500)
    groups = np.arange(500)
    groups[250:] = groups[:250]
    for train, test in AgeGenderKFold(5).split(y, y, groups):
        assert not set(groups[train]) & set(groups[test])


def test_labels_of_groups_may_be_text_and_missing_ones_stand_alone():
    y = people(60)
    names = np.array(["ann", "bob", None] * 20, dtype=object)
    folds = folds_of(y, names, n_splits=3)
    assert sorted(len(fold) for fold in folds) == [20, 20, 20]
    homes = [{name for name in names[fold] if name} for fold in folds]
    assert sorted(map(len, homes)) == [0, 1, 1]


def test_bands_too_small_for_the_folds_earn_no_warning():
    y = np.array([[3, 0], [20, 1], [20, 1], [45, 0], [77, 1], [99, 0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folds = folds_of(y, n_splits=3)
    assert [len(fold) for fold in folds] == [2, 2, 2]


def test_the_same_seed_gives_the_same_folds_and_another_seed_others():
    y = people(200)
    first, again, other = folds_of(y), folds_of(y), folds_of(y, random_state=1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_without_shuffling_a_band_is_dealt_in_order():
    y = np.full((6, 2), [30.0, 1.0])
    assert [fold.tolist() for fold in folds_of(y, n_splits=3, shuffle=False)] == [[0, 3], [1, 4], [2, 5]]


def test_frames_with_text_and_ages_alone_are_split_like_arrays():
    y = people(150)
    frame = pd.DataFrame({"gender": np.where(y[:, 1] == 1, "female", "male"), "age": y[:, 0]})
    ages_only = folds_of(y[:, 0], n_splits=3)
    assert [len(fold) for fold in folds_of(frame, n_splits=3)] == [50, 50, 50]
    assert np.ptp([y[fold, 0].mean() for fold in ages_only]) < 3.0
    assert [len(fold) for fold in folds_of(y[:, 0].tolist(), n_splits=3)] == [50, 50, 50]


@pytest.mark.parametrize(
    ("options", "groups", "message"),
    [
        ({"n_splits": 1}, None, "n_splits=1; it should be an integer of at least 2"),
        ({"n_splits": 2.0}, None, "n_splits=2.0"),
        ({"n_splits": 11}, None, "n_splits=11 is more than the number of groups, 10"),
        ({"n_splits": 4}, [0, 1, 2] * 3 + [0], r"more than the number of groups, 3 \(among 10 pictures\)"),
        ({}, [0, 1], r"groups has shape \(2,\); it should be \(10,\)"),
    ],
)
def test_impossible_folds_are_refused_with_the_reason(options, groups, message):
    with pytest.raises(ValueError, match=message):
        folds_of(people(10), groups, **options)


def test_targets_of_another_length_or_kind_are_refused():
    with pytest.raises(ValueError, match="X has 4 rows and y has 10"):
        next(AgeGenderKFold(2).split(np.zeros(4), people(10)))
    with pytest.raises(ValueError, match="y is None"):
        next(AgeGenderKFold(2).split(np.zeros(4)))
    with pytest.raises(ValueError, match="NaN"):
        next(AgeGenderKFold(2).split(np.zeros(2), [[np.nan, 0], [3, 1]]))


def test_it_shows_its_parameters_and_counts_its_folds():
    assert repr(AgeGenderKFold(3)) == "AgeGenderKFold(n_splits=3, random_state=0, shuffle=True)"
    assert AgeGenderKFold(3).get_n_splits() == 3


def test_scikit_learn_hands_it_groups_with_and_without_metadata_routing():
    y = people(90)
    X = y + np.random.RandomState(0).randn(90, 2)
    groups = np.arange(90) // 2
    folds = AgeGenderKFold(3)
    plain = cross_validate(Ridge(), X, y, groups=groups, cv=folds, return_indices=True)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = cross_validate(Ridge(), X, y, params={"groups": groups}, cv=folds, return_indices=True)
        GridSearchCV(Ridge(), {"alpha": [1.0]}, cv=folds).fit(X, y, groups=groups)
    for a, b in zip(plain["indices"]["test"], routed["indices"]["test"], strict=True):
        assert np.array_equal(a, b)
        assert (np.bincount(groups[a], minlength=45) % 2 == 0).all()


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 100), st.integers(0, 1), st.integers(0, 12)), min_size=2, max_size=60
    ),
    n_splits=st.integers(2, 5),
)
def test_any_target_and_groups_make_a_partition_without_leak(rows, n_splits):
    table = np.array(rows)
    y, groups = table[:, :2], table[:, 2]
    if len(np.unique(groups)) < n_splits:
        return
    parts = list(AgeGenderKFold(n_splits).split(y, y, groups))
    assert np.array_equal(np.sort(np.concatenate([test for _, test in parts])), np.arange(len(y)))
    for train, test in parts:
        assert len(test)
        assert not set(groups[train]) & set(groups[test])


# grouped_split


@pytest.mark.parametrize("test_size", [0.01, 0.1, 0.25, 0.37, 0.9])
def test_a_single_split_has_the_size_asked_for_and_the_same_people_on_both_sides(test_size):
    y = people(4000)
    groups = np.arange(4000) // 2
    train, test = grouped_split(y, groups, test_size=test_size)
    assert np.array_equal(np.sort(np.r_[train, test]), np.arange(4000))
    assert not set(groups[train]) & set(groups[test])
    assert abs(len(test) - test_size * 4000) <= 4
    if test_size >= 0.1:
        assert abs(y[train, 0].mean() - y[test, 0].mean()) < 1.0
        assert abs(y[train, 1].mean() - y[test, 1].mean()) < 0.03


@pytest.mark.parametrize("n", [2, 3, 7])
@pytest.mark.parametrize("test_size", [0.001, 0.1, 0.5, 0.999])
def test_neither_side_of_a_single_split_is_empty(n, test_size):
    train, test = grouped_split(people(n), test_size=test_size)
    assert len(train)
    assert len(test)


def test_one_large_group_does_not_end_in_a_small_test_part():
    y = people(200)
    groups = np.r_[np.zeros(60, dtype=int), np.arange(1, 141)]
    for seed in range(5):
        _, test = grouped_split(y, groups, test_size=0.1, random_state=seed)
        assert 15 <= len(test) <= 25


def test_a_single_split_that_cannot_be_made_is_refused():
    with pytest.raises(ValueError, match="at least two groups; these 9 pictures form 1"):
        grouped_split(people(9), np.zeros(9))
    with pytest.raises(ValueError, match="test_size=3"):
        grouped_split(people(9), test_size=3)


# groups


def test_groupings_are_joined_through_one_another():
    copies = [0, 0, 1, 2, 3, 4]
    persons = ["ann", "bob", "bob", "eve", None, None]
    assert connected_groups(copies, persons).tolist() == [0, 0, 0, 1, 2, 3]
    assert connected_groups(np.array([5.0, np.nan, 5.0, np.nan])).tolist() == [0, 1, 0, 2]


def test_groupings_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match=r"lengths \[2, 3\]"):
        connected_groups([0, 1], [0, 1, 2])
    with pytest.raises(ValueError, match="at least one grouping"):
        connected_groups()
    with pytest.raises(ValueError, match=r"shape \(2, 1\)"):
        connected_groups(np.zeros((2, 1)))


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def test_copies_are_found_by_bytes_and_re_encoded_ones_by_pixels(tmp_path):
    rng = np.random.RandomState(0)
    one, two = (rng.randint(0, 255, (8, 9, 3), dtype=np.uint8) for _ in range(2))
    (tmp_path / "one.png").write_bytes(encoded(one, "PNG"))
    pictures = [tmp_path / "one.png", encoded(one, "PNG"), encoded(one, "BMP"), encoded(two, "PNG"), one]
    assert duplicate_groups(pictures).tolist() == [0, 0, 1, 2, 3]
    assert duplicate_groups(pictures, pixels=True).tolist() == [0, 0, 0, 1, 0]


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(PictureError, match="nowhere"):
        duplicate_groups([str(tmp_path / "nowhere.jpg")])
    with pytest.raises(TypeError, match="one picture"):
        duplicate_groups("holiday.jpg")


def test_faces_are_alike_by_direction_and_not_by_length():
    embeddings = np.array([[1, 0, 0], [0, 3, 0], [5, 0.1, 0], [0, 0, 2], [0, 0.1, 0]])
    assert similar_face_groups(embeddings, 0.95).tolist() == [0, 1, 0, 2, 1]
    assert similar_face_groups(embeddings, -1).tolist() == [0] * 5


def test_faces_are_joined_through_others_across_blocks(monkeypatch):
    monkeypatch.setattr("agegender.model_selection._similar.BLOCK_ROWS", 10)
    monkeypatch.setattr("agegender.model_selection._similar.COMPARED_ROWS", 3)
    angles = np.linspace(0, np.pi / 2, 41)
    around = np.column_stack([np.cos(angles), np.sin(angles)])
    order = np.random.RandomState(0).permutation(41)
    apart = -around[:1] * 3
    step = np.cos(angles[1])
    groups = similar_face_groups(np.vstack([around[order], apart]), step - 1e-4)
    assert groups.tolist() == [0] * 41 + [1]
    assert len(set(similar_face_groups(around[order], step + 1e-4))) == 41


def test_faces_without_an_embedding_stand_alone():
    embeddings = np.array([[1, 0], [np.nan, 1], [0, 0], [1, 0], [np.nan, 1], [0, 0]])
    assert similar_face_groups(embeddings, -1).tolist() == [0, 1, 2, 0, 3, 4]


def test_embeddings_that_are_no_table_and_impossible_thresholds_are_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 3, 3, 4\).*layer=.embedding"):
        similar_face_groups(np.zeros((2, 3, 3, 4)))
    with pytest.raises(ValueError, match="threshold=90"):
        similar_face_groups(np.zeros((2, 3)), 90)


# cross_val_predict_frame


class Tabled(Ridge):
    """A model with predict_frame, which remembers what it was fitted with."""

    def fit(self, X, y, sample_weight=None):
        self.n_fitted_ = len(X)
        return super().fit(X, np.asarray(y, dtype=float), sample_weight=sample_weight)

    def predict_frame(self, X):
        age, gender = self.predict(X).T
        return pd.DataFrame({"age": age, "age_low": age - 1, "gender": gender.round(), "n": self.n_fitted_})


class Tabled1d(Tabled):
    """The same, of one number a picture."""

    def fit(self, X, y):
        return super().fit(np.reshape(X, (-1, 1)), y)

    def predict(self, X):
        return super().predict(np.reshape(X, (-1, 1)))


@pytest.fixture
def data():
    y = people(60)
    return y + np.random.RandomState(0).randn(60, 2), y


def test_the_table_has_each_picture_predicted_by_a_model_that_never_saw_its_group(data):
    X, y = data
    groups = np.arange(60) // 2
    frame = cross_val_predict_frame(Tabled(), X, y, groups=groups, cv=3)
    assert list(frame.columns) == ["age", "age_low", "gender", "n", "fold", "true_age", "true_gender"]
    assert frame.index.tolist() == list(range(60))
    assert np.array_equal(frame[["true_age", "true_gender"]].to_numpy(), y)
    assert frame["true_gender"].dtype == np.int64
    for fold, (train, test) in enumerate(AgeGenderKFold(3).split(X, y, groups)):
        expected = Tabled().fit(X[train], y[train]).predict(X[test])
        assert frame.index[frame["fold"] == fold].tolist() == test.tolist()
        np.testing.assert_allclose(frame["age"].to_numpy()[test], expected[:, 0])
        assert (frame["n"].to_numpy()[test] == len(train)).all()


def test_the_default_is_five_folds_and_the_estimator_stays_unfitted(data):
    model = Tabled()
    frame = cross_val_predict_frame(model, *data)
    assert sorted(frame["fold"].unique()) == [0, 1, 2, 3, 4]
    assert not hasattr(model, "coef_")


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(StandardScaler(), Tabled()),
        make_pipeline(Tabled()),
        GridSearchCV(Tabled(), {"alpha": [1.0]}, cv=2),
        GridSearchCV(make_pipeline(StandardScaler(), Tabled()), {"tabled__alpha": [1.0]}, cv=2),
    ],
)
def test_pipelines_and_searches_give_the_table_of_what_they_end_in(data, model):
    frame = cross_val_predict_frame(model, *data, cv=KFold(2))
    assert "age_low" in frame
    np.testing.assert_allclose(frame["age_low"] + 1, frame["age"])
    fitted = clone(model).fit(data[0][30:], data[1][30:])
    np.testing.assert_allclose(frame["age"].to_numpy()[:30], fitted.predict(data[0][:30])[:, 0])


def test_text_genders_and_lists_of_pictures_pass_through():
    class Constant(BaseEstimator):
        def fit(self, X, y):
            assert isinstance(X, list)
            assert isinstance(y, pd.DataFrame)
            return self

        def predict_frame(self, X):
            return pd.DataFrame({"gender": X})

    y = pd.DataFrame({"age": [1, 2, 30, 40], "gender": ["f", "m", "f", "m"]}, index=[9, 8, 7, 6])
    frame = cross_val_predict_frame(Constant(), list("abcd"), y, cv=2)
    assert frame["gender"].tolist() == list("abcd")
    assert frame["true_gender"].tolist() == ["f", "m", "f", "m"]


@pytest.mark.parametrize("kind", ["frame", "Series"])
def test_the_table_stands_under_the_index_of_X(data, kind):
    X, y = data
    plain = cross_val_predict_frame(Tabled(), X, y)
    labels = np.random.default_rng(1).permutation(60) * 10
    if kind == "frame":
        frame = cross_val_predict_frame(Tabled(), pd.DataFrame(X, index=labels), y)
    else:
        frame = cross_val_predict_frame(Tabled1d(), pd.Series(X[:, 0], index=labels), y)
        plain = cross_val_predict_frame(Tabled1d(), X[:, 0], y)
    assert frame.index.tolist() == labels.tolist()
    pd.testing.assert_frame_equal(frame.reset_index(drop=True), plain)


def test_weights_are_split_like_the_pictures(data):
    X, y = data
    weights = np.linspace(0.1, 5, 60)
    folds = AgeGenderKFold(2)
    frame = cross_val_predict_frame(Tabled(), X, y, cv=folds, params={"sample_weight": weights})
    train, test = next(folds.split(X, y))
    expected = Tabled().fit(X[train], y[train], sample_weight=weights[train]).predict(X[test])
    np.testing.assert_allclose(frame["age"].to_numpy()[test], expected[:, 0])


def test_metadata_goes_where_it_was_requested(data):
    X, y = data
    groups = np.arange(60) // 2
    weights = np.linspace(0.1, 5, 60)
    plain = cross_val_predict_frame(Tabled(), X, y, groups=groups, params={"sample_weight": weights})
    with sklearn.config_context(enable_metadata_routing=True):
        model = Tabled().set_fit_request(sample_weight=True)
        routed = cross_val_predict_frame(model, X, y, groups=groups, params={"sample_weight": weights})
    pd.testing.assert_frame_equal(plain, routed)


def test_folds_fitted_side_by_side_give_the_same_table(data):
    alone = cross_val_predict_frame(Tabled(), *data)
    with joblib.parallel_config(backend="threading"):
        pd.testing.assert_frame_equal(alone, cross_val_predict_frame(Tabled(), *data, n_jobs=2))


def test_splits_that_leave_pictures_out_are_refused(data):
    with pytest.raises(ValueError, match=r"row \d+ is in [02] test folds"):
        cross_val_predict_frame(Tabled(), *data, cv=ShuffleSplit(2, random_state=0))


def test_duplicate_groups_shows_progress_if_asked(capsys) -> None:
    pictures = [np.zeros((2, 2, 3), np.uint8)] * 3
    assert duplicate_groups(pictures, verbose=1).tolist() == [0, 0, 0]
    assert "3/3" in capsys.readouterr().err
    duplicate_groups(pictures)
    assert capsys.readouterr().err == ""
