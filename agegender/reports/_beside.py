"""What a model predicts, and how it does beside predictors that others trained, on the same pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agegender._utils.figures import mean_interval
from agegender.calibration import Calibration, calibration_of, prediction_frame
from agegender.reports._inputs import complete_frame
from agegender.reports._tables import FIGURES, row_figures

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COMPARED", "beside", "no_baselines", "predicted"]

COMPARED = ("age_mae", "age_cs5", "gender_accuracy")
_COLUMNS = ["baseline", "figure", "n", "model", "value", "difference", "low", "high", "clear"]


def predicted(
    model: Any, X: Any, coverage: float
) -> tuple[pd.DataFrame, NDArray[np.floating] | None, Calibration]:
    """Return the predictions of an estimator, their distributions where it has any, and its calibration."""
    calibration = calibration_of(model)
    if not hasattr(model, "predict_proba"):
        return model.predict_frame(X), None, calibration
    age_proba, gender_proba = model.predict_proba(X)
    frame = prediction_frame(
        age_proba, gender_proba, model.classes_[1], calibration=calibration, coverage=coverage
    )
    return frame, age_proba, calibration


def no_baselines() -> pd.DataFrame:
    """Return the table of a model that stands alone."""
    import pandas as pd

    return pd.DataFrame(columns=_COLUMNS)


def beside(
    predictions: pd.DataFrame,
    baselines: Mapping[str, Any],
    X: Any,
    truth: pd.DataFrame,
    gender_names: Mapping[Any, str] | None,
    **options: Any,
) -> pd.DataFrame:
    """Return one row per baseline and metric: both values on the pictures that both predict, and their difference.

    Parameters
    ----------
    predictions : DataFrame
        The model's, as `complete_frame` returns them.
    baselines : dict of str to estimator
    X : sequence of pictures
    truth : DataFrame
        Columns true_age and true_gender.
    gender_names : dict or None
    **options
        Of the bootstrap.

    Returns
    -------
    DataFrame
        Columns baseline, figure, n, model, value (the baseline's), difference (the model's less the baseline's), low,
        high (the bootstrap's 95 % interval of the paired difference), clear: whether that interval leaves out 0.

    Raises
    ------
    ValueError
        If the true genders are not coded as baselines predict them.
    """
    import pandas as pd

    strange = set(truth["true_gender"].dropna()) - {0, 1}
    if strange:
        raise ValueError(
            f"Baselines predict the genders 0 (male) and 1 (female); the true ones have {sorted(map(str, strange))}. "
            "Code them so, and give gender_names={0: 'male', 1: 'female'} for names."
        )
    ours = row_figures(predictions)
    records = []
    for name, estimator in baselines.items():
        frame = estimator.predict_frame(X)
        theirs = row_figures(complete_frame(frame.assign(**truth), gender_names))
        for figure in COMPARED:
            column, _ = FIGURES[figure]
            both = (ours[column].notna() & theirs[column].notna()).to_numpy()
            if not both.any():
                continue
            mine, its = ours[column][both].to_numpy(np.float64), theirs[column][both].to_numpy(np.float64)
            low, high = mean_interval(mine - its, **options)
            values = (mine.mean(), its.mean(), (mine - its).mean(), low, high, bool(low > 0 or high < 0))
            records.append((name, figure, int(both.sum()), *values))
    return pd.DataFrame(records, columns=_COLUMNS)
