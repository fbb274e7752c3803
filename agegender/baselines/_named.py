"""Baselines by name."""

from __future__ import annotations

from typing import Any

from agegender._utils.validation import check_choice
from agegender.baselines._deepface import DeepFaceAgeGender
from agegender.baselines._insightface import InsightFaceAgeGender

__all__ = ["BASELINES", "load_baseline"]

BASELINES: dict[str, type[DeepFaceAgeGender] | type[InsightFaceAgeGender]] = {
    "deepface": DeepFaceAgeGender,
    "insightface": InsightFaceAgeGender,
}
"""The estimators by their names on the command line."""


def load_baseline(name: str, **parameters: Any) -> DeepFaceAgeGender | InsightFaceAgeGender:
    """Return a published predictor after finding its weights.

    Parameters
    ----------
    name : {"deepface", "insightface"}
    **parameters
        Parameters of the class.

    Returns
    -------
    DeepFaceAgeGender or InsightFaceAgeGender

    Raises
    ------
    ValueError
        If there is no such baseline.
    WeightsNotFoundError
        If its weights were not found and could not be downloaded.

    See Also
    --------
    agegender.load_pretrained : The model in this package.

    Examples
    --------
    >>> load_baseline("deepfake")
    Traceback (most recent call last):
    ValueError: load_baseline: name='deepfake' is not one of 'deepface', 'insightface'. Did you mean 'deepface'?
    """
    check_choice("name", name, tuple(BASELINES), "load_baseline")
    return BASELINES[name](**parameters).fit()
