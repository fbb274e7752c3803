"""Predicted distributions as the table that people read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agegender.calibration import UNCALIBRATED, Calibration, age_interval
from agegender.metrics import expected_age

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["likelier_labels", "prediction_frame"]


def prediction_frame(
    ages: NDArray[np.floating],
    genders: NDArray[np.floating],
    labels: NDArray[Any],
    *,
    calibration: Calibration = UNCALIBRATED,
    coverage: float = 0.9,
    max_age_range: float | None = None,
    min_gender_proba: float | None = None,
) -> pd.DataFrame:
    """Return a row a picture: age, age_low, age_high (years), gender, gender_proba.

    Parameters
    ----------
    ages : ndarray of shape (n_samples, n_ages)
    genders : ndarray of shape (n_samples, 2)
    labels : ndarray of shape (2,)
        What the columns of `genders` stand for.
    calibration : Calibration
        Of the intervals; the gender's probabilities are taken as they are.
    coverage, max_age_range, min_gender_proba
        As in `AgeGenderClassifier.predict_frame`.
    """
    import pandas as pd

    low, high = age_interval(ages, coverage, calibration)
    proba = genders.max(axis=1).astype(np.float64)
    columns = {
        "age": expected_age(ages),
        "age_low": low,
        "age_high": high,
        "gender": likelier_labels(genders, labels),
        "gender_proba": proba,
    }
    frame = pd.DataFrame(columns)
    if max_age_range is not None:
        _doubt(frame, "age", high - low <= max_age_range)
    if min_gender_proba is not None:
        _doubt(frame, "gender", proba >= min_gender_proba)
    return frame


def likelier_labels(genders: NDArray[np.floating], labels: NDArray[Any]) -> NDArray[Any]:
    """Return the likelier label of each row, NaN where there is none."""
    missing = np.isnan(genders[:, 0])
    likelier = labels[genders.argmax(axis=1)]
    if not missing.any():
        return likelier
    likelier = likelier.astype(object if likelier.dtype.kind in "OUS" else np.float64)
    likelier[missing] = np.nan
    return likelier


def _doubt(frame: pd.DataFrame, column: str, sure: NDArray[np.bool_]) -> None:
    """Take back what the model is not sure of."""
    frame[column] = frame[column].where(sure)
    frame[f"{column}_sure"] = sure
