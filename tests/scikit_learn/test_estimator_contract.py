"""scikit-learn's own checks of an estimator, and what they cannot reach: tags, routing, tables, displays, odd input.

The checks' X is a table of numbers and their `y` one column. Subclasses map the column to ages and genders, rows of
numbers to pictures, and predictions back to one column, no more.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
from conftest import write_tiny_onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import RegressorTags, get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

from agegender import AgeGenderClassifier, AgeGenderPipeline, ConvHead, DenseHead, EmbeddingExtractor
from agegender.backbones import Backbone

FOLDER = Path(tempfile.mkdtemp())
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
BACKBONE = Backbone.from_onnx(write_tiny_onnx(FOLDER / "tiny.onnx"))


class OneColumn:
    """Maps y and predictions; called a regressor, for the checks have nothing for both kinds at once."""

    def fit(self, X, y, sample_weight=None, groups=None):
        return super().fit(self.rows(X), two_columns(y), sample_weight, groups)

    def predict(self, X):
        return super().predict(self.rows(X))[:, 0]

    def predict_proba(self, X):
        return super().predict_proba(self.rows(X))[0]

    def score(self, X, y, sample_weight=None):
        return super().score(self.rows(X), two_columns(y), sample_weight)

    def rows(self, X):
        return X

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.single_output, tags.target_tags.multi_output = True, False
        tags.estimator_type = "regressor"
        tags.regressor_tags = RegressorTags(poor_score=True)  # two epochs
        return tags


class Pictures:
    """Maps the rows of a table of numbers to pictures; anything else meets the library's own checks."""

    def rows(self, X):
        try:
            table = np.asarray(X)
            table = table if table.dtype.kind == "c" else table.astype(float)
        except (TypeError, ValueError):
            return X
        if table.ndim != 2 or 0 in table.shape or table.dtype.kind == "c" or not np.isfinite(table).all():
            return X
        grey = (128 + 127 * np.tanh(table / 10)).astype(np.uint8)
        return [np.repeat(np.resize(row, (24, 24, 1)), 3, axis=2) for row in grey]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = False
        tags.input_tags.two_d_array = True
        return tags


class Classifier(OneColumn, AgeGenderClassifier):
    pass


class Extractor(Pictures, EmbeddingExtractor):
    def transform(self, X, *, out=None):
        return super().transform(self.rows(X), out=out)


class Pipeline(Pictures, OneColumn, AgeGenderPipeline):
    pass


def two_columns(y):
    """Shift the checks' classes or real numbers into the years, and give every other row the other gender."""
    if y is None:
        return None
    y = np.asarray(y)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1 or y.dtype.kind not in "biufO" or not np.isfinite(y.astype(float)).all():
        return y
    y = y.astype(float)
    return np.column_stack([np.clip(y * 5.0 + 30, 0, 100), np.arange(len(y)) % 2])


NO_COLUMNS = "Pictures have no columns that could be counted."
READS_NOTHING = "fit reads no picture: it checks the parameters and finds the network."
NO_TABLE = "A picture is no row of numbers: the error says what an array of pictures looks like."
STOCHASTIC = "Training is stochastic: a row given twice makes other batches than a row of weight two."

EXPECTED_FAILURES = {
    Classifier: {
        "check_sample_weight_equivalence_on_dense_data": STOCHASTIC,
        "check_supervised_y_2d": "A column as y is this test's own mapping, which warns of nothing.",
        "check_regressors_no_decision_function": "It has predict_proba, as a classifier has.",
    },
    Extractor: {
        "check_dict_unchanged": "transform sets report_, what it did.",
        "check_n_features_in": NO_COLUMNS,
        "check_n_features_in_after_fitting": NO_COLUMNS,
        "check_complex_data": READS_NOTHING,
        "check_dtype_object": READS_NOTHING,
        "check_estimators_empty_data_messages": READS_NOTHING,
        "check_estimators_nan_inf": READS_NOTHING,
        "check_estimator_sparse_tag": READS_NOTHING,
        "check_fit1d": READS_NOTHING,
        "check_fit2d_predict1d": NO_TABLE,
    },
    Pipeline: {
        "check_sample_weight_equivalence_on_dense_data": STOCHASTIC,
        "check_supervised_y_2d": "A column as y is this test's own mapping, which warns of nothing.",
        "check_regressors_no_decision_function": "It has predict_proba, as a classifier has.",
        "check_n_features_in": NO_COLUMNS,
        "check_n_features_in_after_fitting": NO_COLUMNS,
        "check_complex_data": NO_TABLE,
        "check_dtype_object": NO_TABLE,
        "check_estimators_empty_data_messages": NO_TABLE,
        "check_estimators_nan_inf": NO_TABLE,
        "check_fit2d_predict1d": NO_TABLE,
    },
}


# The pictures that some checks draw are all alike, which is said.
@pytest.mark.filterwarnings("ignore:All .* rows are one group:agegender.exceptions.TrainingWarning")
@parametrize_with_checks(
    [
        Classifier(DenseHead(), epochs=2, random_state=0),
        Extractor(BACKBONE, layer="embedding"),
        Pipeline(EmbeddingExtractor(BACKBONE), AgeGenderClassifier(DenseHead(), epochs=2, random_state=0)),
    ],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES[type(estimator)],
    xfail_strict=True,
)
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def test_tags_say_what_goes_in_and_what_comes_out() -> None:
    extractor, classifier, pipeline = map(
        get_tags, (EmbeddingExtractor(), AgeGenderClassifier(), AgeGenderPipeline())
    )
    for tags in (extractor, pipeline):
        assert tags.input_tags.string
        assert not tags.input_tags.two_d_array
        assert not tags.input_tags.sparse
    assert classifier.input_tags.two_d_array
    assert classifier.input_tags.allow_nan
    for tags in (classifier, pipeline):
        assert tags.target_tags.multi_output
        assert not tags.target_tags.single_output
        assert tags.target_tags.required
        assert tags.requires_fit
    assert not extractor.requires_fit
    assert not extractor.target_tags.required


@pytest.mark.parametrize(
    "estimator", [AgeGenderClassifier(), AgeGenderPipeline()], ids=["classifier", "whole"]
)
def test_weights_and_groups_are_consumed_where_they_are_asked_for(estimator) -> None:
    with config_context(enable_metadata_routing=True):
        asking = clone(estimator).set_fit_request(sample_weight=True, groups=True)
        asking.set_score_request(sample_weight=True)
        request = asking.get_metadata_routing()
        assert request.consumes("fit", ["sample_weight", "groups", "colour"]) == {"sample_weight", "groups"}
        assert request.consumes("score", ["sample_weight", "groups"]) == {"sample_weight"}
        routed = EmbeddingExtractor().get_metadata_routing()
        assert not routed.consumes("transform", ["out", "sample_weight"])


def table(n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 3)), np.column_stack([np.arange(n), np.arange(n) % 2])  # each age once


def small(**params) -> AgeGenderClassifier:
    return AgeGenderClassifier(DenseHead(), epochs=2, random_state=0, **params)


def test_lists_and_tables_of_pandas_and_polars_train_the_same_head() -> None:
    X, y = table()
    expected = small().fit(X, y).predict(X)
    named = dict(zip("abc", X.T, strict=True))
    target = {"age": y[:, 0], "gender": y[:, 1]}
    for frame in (pd.DataFrame, pl.DataFrame):
        model = small().fit(frame(named), frame(target))
        np.testing.assert_array_equal(model.predict(frame(named)), expected)
        np.testing.assert_array_equal(model.feature_names_in_, ["a", "b", "c"])
    np.testing.assert_array_equal(small().fit(X.tolist(), y.tolist()).predict(X.tolist()), expected)


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda X: X[:0], ValueError, "0 sample"),
        (lambda X: X[:, :0], ValueError, "0 feature"),
        (lambda X: X + 1j, ValueError, "Complex data not supported"),
        (lambda X: scipy.sparse.csr_array(X), TypeError, "[Ss]parse"),
        (lambda X: np.where(X > 9, X, object()), TypeError, "argument must be"),
        (lambda X: X[:, 0], ValueError, "Reshape your data"),
    ],
    ids=["no rows", "no columns", "complex", "sparse", "objects", "one axis"],
)
def test_a_table_that_is_none_of_numbers_is_refused(spoil, error, message) -> None:
    X, y = table()
    with pytest.raises(error, match=message):
        small().fit(spoil(X), y)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ([], ValueError, "0 sample"),
        (np.ones((3, 5)), ValueError, "array of shape"),
        (np.ones((3, 5)) * 1j, ValueError, "array of shape"),
        (np.ones(3), ValueError, "array of shape"),
        (scipy.sparse.csr_array(np.eye(3)), TypeError, "sparse"),
        (7, TypeError, "int"),
    ],
    ids=["empty", "table", "complex", "one axis", "sparse", "number"],
)
def test_an_x_that_holds_no_pictures_is_refused_alike_by_extractor_and_pipeline(X, error, message) -> None:
    extractor = EmbeddingExtractor(BACKBONE, cache=None)
    with pytest.raises(error, match=message):
        extractor.fit(X).transform(X)
    with pytest.raises(error, match=message):
        AgeGenderPipeline(extractor, small()).fit(X, [[30, 0], [40, 1], [50, 0]])


def test_before_fit_nothing_is_predicted() -> None:
    for model in (AgeGenderClassifier(), AgeGenderPipeline(EmbeddingExtractor(BACKBONE))):
        for method in ("predict", "predict_proba", "predict_frame"):
            with pytest.raises(NotFittedError):
                getattr(model, method)([[1.0, 2.0]])


def test_one_row_cannot_be_learned_from_but_can_be_predicted() -> None:
    X, y = table()
    with pytest.raises(ValueError, match="1 class of gender"):
        small().fit(X[:1], y[:1])
    model = small().fit(X, y)
    np.testing.assert_allclose(model.predict(X[:1]), model.predict(X)[:1], rtol=1e-5)


def test_a_notebook_shows_both_parts_and_the_head() -> None:
    model = AgeGenderPipeline(EmbeddingExtractor(BACKBONE), AgeGenderClassifier(ConvHead()))
    shown = model._repr_html_()
    for part in ("AgeGenderPipeline", "EmbeddingExtractor", "AgeGenderClassifier", "ConvHead"):
        assert part in shown
    assert "StandardScaler" in make_pipeline(StandardScaler(), AgeGenderClassifier())._repr_html_()


VALUES = {
    "extractor__crop": st.floats(-1, 0.49),
    "extractor__batch_size": st.integers(1, 512),
    "extractor__layer": st.sampled_from(["auto", "pooled", "feature_map"]),
    "extractor__n_jobs": st.none() | st.integers(-2, 8).filter(bool),
    "classifier__epochs": st.integers(0, 500),
    "classifier__learning_rate": st.floats(1e-6, 1.0),
    "classifier__balance": st.sampled_from([None, "age", "age-drop"]),
    "classifier__head__units": st.lists(st.integers(1, 512), max_size=3).map(tuple),
    "classifier__head__dropout": st.floats(0, 0.9),
}


@settings(max_examples=40, deadline=None)
@given(st.fixed_dictionaries({}, optional=VALUES))
def test_parameters_come_back_as_they_were_set(params) -> None:
    model = AgeGenderPipeline().set_params(**params)
    held = model.get_params()
    assert {name: held[name] for name in params} == params
    again = AgeGenderPipeline().set_params(**{name: held[name] for name in params})
    for copied in (clone(model), again):
        assert {name: copied.get_params()[name] for name in params} == params
    assert AgeGenderPipeline().get_params().keys() <= held.keys()
