"""The trained heads of several models, averaged: one frozen value, with NumPy and ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._fitting.fitted_head import PREDICTED_ROWS, FittedHead, read_off
from agegender.calibration import Calibration, scale_genders
from agegender.exceptions import ModelFileError

__all__ = ["AveragedHead", "check_alike", "check_averaged", "mixture"]


@dataclass(frozen=True, eq=False)
class AveragedHead:
    """The weighted average of the distributions of several heads.

    It takes one array of rows per head, where a :class:`agegender._fitting.fitted_head.FittedHead` takes one array.

    Parameters
    ----------
    heads : tuple of FittedHead
    weights : ndarray of shape (2, n_heads)
        The weights of the age distributions and of the gender probabilities.
    calibration : Calibration
        That of the average.
    """

    heads: tuple[FittedHead, ...]
    weights: NDArray[np.float64]
    calibration: Calibration

    @property
    def classes(self) -> list[NDArray[Any]]:
        """The ages 0, 1, … in years, and the two gender labels."""
        return self.heads[0].classes

    @property
    def needs_keras(self) -> bool:
        """Whether ONNX Runtime cannot run one of the heads."""
        return any(head.needs_keras for head in self.heads)

    def distributions(self, rows: Sequence[NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Return the calibrated probabilities of ages and genders; NaN if a head has a row that contains NaN."""
        found = [head.distributions(own) for head, own in zip(self.heads, rows, strict=True)]
        each = zip(self.weights, zip(*found, strict=True), strict=True)
        ages, genders = (mixture(weights, parts) for weights, parts in each)
        return [ages, scale_genders(genders, self.calibration.temperature)]

    def read_off(self, rows: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Return the mean age and the more probable gender per row: float64, or objects if labels are strings."""
        found = []
        for start in range(0, len(rows[0]), PREDICTED_ROWS):
            part = [own[start : start + PREDICTED_ROWS] for own in rows]
            found.append(read_off(self.distributions(part), self.classes[1]))
        return np.concatenate(found)


def mixture(weights: NDArray[np.float64], proba: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the weighted mean of distributions, one array per model.

    Examples
    --------
    >>> one, other = np.array([[1, 0]], np.float32), np.array([[0, 1]], np.float32)
    >>> mixture(np.array([0.75, 0.25]), [one, other])
    array([[0.75, 0.25]], dtype=float32)
    """
    total: Any = 0.0
    for weight, part in zip(weights, proba, strict=True):
        total = total + weight * part
    return np.asarray(total, np.float32)


def check_alike(classes: Sequence[Sequence[NDArray[Any]]], error: type[Exception] = ValueError) -> None:
    """Raise an error if models, given by their ages and genders, cannot be averaged."""
    for number, own in enumerate(classes):
        for what, first, other in zip(("ages", "genders"), classes[0], own, strict=True):
            if not np.array_equal(first, other):
                raise error(
                    f"the models cannot be averaged: model 0 predicts the {what} {first[0]} … {first[-1]}, model "
                    f"{number} {other[0]} … {other[-1]}. Train them with one max_age and the same gender labels."
                )


def check_averaged(state: Mapping[str, Any], classes: Sequence[Sequence[NDArray[Any]]]) -> None:
    """Raise a ModelFileError if the fitted attributes of an ensemble in a safe file are not as they should be."""
    weights = state.get("weights_")
    if not isinstance(weights, np.ndarray) or weights.shape != (2, len(classes)) or not classes:
        raise ModelFileError("it has no weight per model")
    if weights.dtype != np.float64 or not np.isfinite(weights).all() or (weights < 0).any():
        raise ModelFileError("its weights are no weights")
    if not isinstance(state.get("calibration_"), Calibration):
        raise ModelFileError("its calibration is none")
    check_alike(classes, ModelFileError)
