"""A model for small sets, whose gender comes from a logistic regression instead of a trained head."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone

__all__ = ["FEW", "READINGS", "FewFacesModel"]

FEW = 1000
"""Number of pictures below which this model judges labels."""

READINGS = 3
"""Number of times that a small set is divided into folds."""


class FewFacesModel(BaseEstimator):
    """The age from a classifier, the gender from a logistic regression.

    A head that is trained by gradient descent learns the flipped genders of a few hundred pictures too. A
    logistic regression with strong regularisation does so less. Activations are standardised and scaled to unit
    length; hence the regularisation is the same for each network. The age of the head is the better one.

    Parameters
    ----------
    classifier : AgeGenderClassifier
        Cloned and trained for the age.
    """

    def __init__(self, classifier: Any) -> None:
        self.classifier = classifier

    @property
    def max_age(self) -> int:
        return int(self.classifier.max_age)

    def fit(self, X: NDArray[Any], y: NDArray[Any], groups: NDArray[Any] | None = None) -> FewFacesModel:
        """Train both; the classifier keeps pictures of one of `groups` on one side of its inner split."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import Normalizer, StandardScaler

        if len(np.unique(y[:, 1])) < 2:
            raise ValueError(
                f"inspect_faces: a training part of cv has {len(y)} pictures of one gender and none of the other. "
                "Use folds with both, such as cv=5, or pass a classifier."
            )
        self.classifier_ = clone(self.classifier).fit(X, y, groups=groups)
        linear = LogisticRegression(C=1.0, max_iter=1000)
        self.gender_ = make_pipeline(StandardScaler(), Normalizer(), linear)
        self.gender_.fit(_flat(X), y[:, 1].astype(int))
        return self

    def predict_proba(self, X: NDArray[Any]) -> list[NDArray[np.float64]]:
        """Return age distributions, shape (n, max_age + 1), and gender probabilities, shape (n, 2)."""
        return [self.classifier_.predict_proba(X)[0], self.gender_.predict_proba(_flat(X))]


def _flat(X: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(X, dtype=np.float64).reshape(len(X), -1)
