"""A model for small sets, whose gender comes from a logistic regression instead of a trained head."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone

from agegender.inspection._suspicion import log_odds_of

__all__ = ["FEW", "READINGS", "FewFacesModel", "rows_with"]

FEW = 1000
"""Number of pictures below which this model judges labels."""

READINGS = 3
"""Number of times that a small set is divided into folds."""

TOLD_WEIGHT = 0.3
"""Standard deviation of the column of a trained model's log-odds; the other columns together have the length 1."""


class FewFacesModel(BaseEstimator):
    """The age from a classifier, the gender from a logistic regression.

    A head that is trained by gradient descent learns the flipped genders of a few hundred pictures too. A
    logistic regression with strong regularisation does so less. Activations are standardised and scaled to unit
    length; hence the regularisation is the same for each network. The age of the head is the better one.

    If a trained model has read the pictures, its log-odds are a further column of the regression: a few hundred
    pictures then correct a reading that was learned from many, instead of learning all of it.

    Parameters
    ----------
    classifier : AgeGenderClassifier
        Cloned and trained for the age.
    shape : tuple of int
        The shape of a picture's activations.
    """

    def __init__(self, classifier: Any, shape: tuple[int, ...]) -> None:
        self.classifier = classifier
        self.shape = shape

    @property
    def max_age(self) -> int:
        return int(self.classifier.max_age)

    def fit(self, X: NDArray[Any], y: NDArray[Any], groups: NDArray[Any] | None = None) -> FewFacesModel:
        """Train both; the classifier keeps pictures of one of `groups` on one side of its inner split.

        A row of `X` is what `rows_with` returns.
        """
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import Normalizer, StandardScaler

        if len(np.unique(y[:, 1])) < 2:
            raise ValueError(
                f"inspect_faces: a training part of cv has {len(y)} pictures of one gender and none of the other. "
                "Use folds with both, such as cv=5, or pass a classifier."
            )
        rows, told = self._parts(X)
        self.classifier_ = clone(self.classifier).fit(rows, y, groups=groups)
        self.scaler_ = make_pipeline(StandardScaler(), Normalizer()).fit(_flat(rows))
        self.told_scaler_ = StandardScaler().fit(told) if told.shape[1] else None
        self.gender_ = LogisticRegression(C=1.0, max_iter=1000)
        self.gender_.fit(self._columns(rows, told), y[:, 1].astype(int))
        return self

    def predict_proba(self, X: NDArray[Any]) -> list[NDArray[np.float64]]:
        """Return age distributions, shape (n, max_age + 1), and gender probabilities, shape (n, 2)."""
        rows, told = self._parts(X)
        return [
            self.classifier_.predict_proba(rows)[0],
            self.gender_.predict_proba(self._columns(rows, told)),
        ]

    def _parts(self, X: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the activations, and the trained model's log-odds in a column or in none."""
        n = int(np.prod(self.shape))
        return X[:, :n].reshape(len(X), *self.shape), X[:, n:]

    def _columns(self, rows: NDArray[Any], told: NDArray[Any]) -> NDArray[np.float64]:
        columns = self.scaler_.transform(_flat(rows))
        if self.told_scaler_ is None:
            return np.asarray(columns)
        return np.hstack([columns, TOLD_WEIGHT * self.told_scaler_.transform(told)])


def rows_with(rows: NDArray[Any], told: NDArray[np.float64] | None) -> NDArray[np.floating]:
    """Return the input of a `FewFacesModel`: flat activations and, in the last column, what a trained model says.

    Parameters
    ----------
    rows : ndarray of shape (n_pictures, …)
    told : ndarray of shape (n_pictures,) or None
        Its probabilities of the second gender; NaN, for a picture that it could not read, counts as 0.5.

    Returns
    -------
    ndarray of shape (n_pictures, n_columns)
    """
    flat = rows.reshape(len(rows), -1)
    if told is None:
        return flat
    log_odds = log_odds_of(np.where(np.isfinite(told), told, 0.5))
    return np.column_stack([flat, log_odds]).astype(flat.dtype)


def _flat(X: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(X, dtype=np.float64).reshape(len(X), -1)
