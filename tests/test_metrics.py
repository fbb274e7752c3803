import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.model_selection import cross_validate

from agegender.exceptions import PictureWarning
from agegender.metrics import (
    SCORERS,
    age_cumulative_score,
    age_mae,
    age_quantile,
    expected_age,
    gender_accuracy,
)

TRUTH = np.array([[30, 0], [41, 1], [50, 1], [7, 0]])
PREDICTED = np.array([[33.0, 0], [40, 0], [56, 1], [7, 0]])


def test_age_mae_is_the_mean_of_absolute_errors():
    assert age_mae(TRUTH, PREDICTED) == 2.5
    assert age_mae(TRUTH, PREDICTED, sample_weight=[1, 0, 0, 1]) == 1.5


def test_cumulative_score_counts_errors_up_to_k_years_inclusive():
    assert age_cumulative_score(TRUTH, PREDICTED) == 0.75
    assert age_cumulative_score(TRUTH, PREDICTED, k=6) == 1.0
    assert age_cumulative_score(TRUTH, PREDICTED, k=0) == 0.25


def test_gender_accuracy_is_the_share_of_right_labels():
    assert gender_accuracy(TRUTH, PREDICTED) == 0.75


def test_frames_arrays_and_single_columns_give_the_same_numbers():
    frame = pd.DataFrame({"path": list("abcd"), "gender": TRUTH[:, 1], "age": TRUTH[:, 0]})
    for truth, predicted in ((frame, PREDICTED), (TRUTH[:, 0], PREDICTED[:, 0]), (frame["age"], PREDICTED)):
        assert age_mae(truth, predicted) == 2.5
    assert gender_accuracy(frame, PREDICTED[:, 1]) == 0.75


def test_text_labels_are_compared_with_text_labels_only():
    frame = pd.DataFrame({"age": [1, 2], "gender": ["f", "m"]})
    predicted = np.array([[1.0, "f"], [2.0, "f"]], dtype=object)
    assert gender_accuracy(frame, predicted) == 0.5
    assert age_mae(frame, predicted) == 0.0
    with pytest.raises(ValueError, match="text never equals a number"):
        gender_accuracy(frame, [[1, 0], [2, 1]])


def test_rows_not_predicted_are_left_out_with_one_warning_that_counts_them():
    predicted = PREDICTED.copy()
    predicted[2] = np.nan
    with pytest.warns(PictureWarning, match="1 of 4 rows") as caught:
        assert age_mae(TRUTH, predicted) == pytest.approx(4 / 3)
    assert len(caught) == 1
    with pytest.warns(PictureWarning):
        assert gender_accuracy(TRUTH, predicted) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        ([[np.nan, 0]], [[3, 0]], "true age of 1 rows is missing"),
        ([[3, 0]], [[np.nan, np.nan]], "No age was predicted"),
        ([[3, 0]], [[3, 0], [4, 1]], "differ in length"),
        (np.zeros((3, 4)), [[3, 0]], r"shape \(3, 4\)"),
    ],
)
def test_what_cannot_be_compared_is_an_error(truth, predicted, message):
    with pytest.raises(ValueError, match=message):
        age_mae(truth, predicted)


def test_expected_age_is_the_weighted_average_over_the_years():
    assert expected_age([[0.2, 0.3, 0.5], [1, 0, 0]]).tolist() == pytest.approx([1.3, 0])


def test_quantiles_of_an_even_distribution_lie_where_they_should():
    even = np.full((1, 101), 1 / 101)
    assert age_quantile(even, 0.5) == pytest.approx(50)
    assert age_quantile(even, 0.05) == pytest.approx(0.05 * 101 - 0.5)
    assert age_quantile(even, 0.0) == 0.0
    assert age_quantile(even, 1.0) == 100.0


def test_quantiles_of_a_missing_row_are_missing():
    assert np.isnan(age_quantile([[np.nan, np.nan]], 0.5)).all()
    with pytest.raises(ValueError, match="fraction"):
        age_quantile([[1.0]], 5)


@given(
    arrays(np.float64, (3, 12), elements=st.floats(0, 1)).map(
        lambda p: (p + 1e-3) / (p + 1e-3).sum(1)[:, None]
    )
)
def test_quantiles_rise_with_q_and_enclose_their_share(proba):
    low, high = age_quantile(proba, 0.05), age_quantile(proba, 0.95)
    assert (low <= high).all()
    ages = np.arange(12)
    inside = (ages > low[:, None] - 0.5) & (ages < high[:, None] + 0.5)
    assert ((proba * inside).sum(axis=1) >= 0.9 - 1e-9).all()


def test_scorers_work_in_cross_validate_and_errors_are_negative():
    class Constant:
        def fit(self, X, y):
            return self

        def predict(self, X):
            return np.tile([40.0, 1], (len(X), 1))

        def get_params(self, deep=True):
            return {}

        def __sklearn_tags__(self):
            from sklearn.base import BaseEstimator

            return BaseEstimator().__sklearn_tags__()

    scores = cross_validate(Constant(), np.zeros((4, 1)), TRUTH, cv=2, scoring=SCORERS)
    assert scores["test_neg_age_mae"].tolist() == [-5.5, -21.5]
    assert scores["test_age_cs5"].tolist() == [0.5, 0.0]
    assert scores["test_gender_accuracy"].tolist() == [0.5, 0.5]


def test_weights_that_leave_nothing_to_average_are_refused() -> None:
    truth, said = [[30, 0], [40, 1]], [[33, 0], [40, 1]]
    assert age_mae(truth, said, sample_weight=[1, 0]) == 3.0
    for metric in (age_mae, age_cumulative_score, gender_accuracy):
        with pytest.raises(ValueError, match="sample_weight is zero for all 2 rows"):
            metric(truth, said, sample_weight=[0, 0])
        with pytest.raises(ValueError, match="not negative"):
            metric(truth, said, sample_weight=[1, -1])


def test_the_documentation_of_scikit_learns_own_scorers_holds() -> None:
    from sklearn.metrics import get_scorer

    y, said = np.array([[30.0, 0], [40, 1]]), np.array([[33.0, 0], [40, 1]])

    def score(name: str) -> float:
        return get_scorer(name)._score_func(y, said)

    assert score("neg_mean_absolute_error") == age_mae(y, said) / 2
    for name in ("accuracy", "neg_max_error"):
        with pytest.raises(ValueError, match=r"(?i)multioutput"):
            score(name)
