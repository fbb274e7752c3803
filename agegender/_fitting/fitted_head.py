"""A trained head as one frozen value: from rows to calibrated distributions, with NumPy and ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from agegender._fitting import onnx_head
from agegender._safe.keras import check_keras_file
from agegender._safe.onnx import check_head_graph
from agegender._utils.distributions import expected_age
from agegender._utils.rows import blocks, find_missing, release
from agegender.calibration import Calibration, likelier_labels, scale_genders
from agegender.exceptions import ModelFileError

__all__ = ["PREDICTED_ROWS", "FittedHead", "check_fitted", "read_off"]

PREDICTED_ROWS = 65_536
"""The distributions of more rows would take more memory than what is read off them."""


@dataclass(frozen=True, eq=False)
class FittedHead:
    """A trained head.

    Parameters
    ----------
    classes : list of two ndarrays
        The ages 0, 1, … in years, and the two gender labels.
    row_shape : tuple of int
        The shape of a row that the head reads.
    calibration : Calibration
    onnx, keras : bytes or None
        Its two forms. The first one that there is predicts.
    """

    classes: list[NDArray[Any]]
    row_shape: tuple[int, ...]
    calibration: Calibration
    onnx: bytes | None
    keras: bytes | None

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Self:
        """Make it from the fitted attributes of a classifier."""
        names = ("classes_", "_row_shape", "calibration_", "_onnx", "_keras")
        return cls(*(state[name] for name in names))

    @property
    def needs_keras(self) -> bool:
        """Whether ONNX Runtime cannot run it."""
        return self.onnx is None

    def has_views(self, shape: tuple[int, ...]) -> bool:
        """Tell whether an array of this shape has rows of several views per picture.

        Raises
        ------
        ValueError
            If its rows have another shape than those that the head reads.
        """
        if shape[2:] == self.row_shape:
            return True
        if shape[1:] != self.row_shape:
            raise ValueError(
                f"X has rows of shape {shape[1:]}, but this AgeGenderClassifier was fitted on rows of "
                f"{self.row_shape}, or several views of them; extract the same layer."
            )
        return False

    def distributions(self, rows: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Return the calibrated probabilities of ages and genders; NaN for a row that contains NaN."""
        ages, genders = self.raw_distributions(rows)
        return [ages, scale_genders(genders, self.calibration.temperature)]

    def raw_distributions(self, rows: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Return the probabilities as the head gives them, averaged over the views of a picture."""
        self.has_views(rows.shape)
        found = [np.full((len(rows), len(labels)), np.nan, np.float32) for labels in self.classes]
        for part in blocks(len(rows), rows.shape[1:]):
            block = rows[part]
            present = np.flatnonzero(~find_missing(block))
            read = block[present].astype(np.float32, copy=False).reshape(-1, *self.row_shape)
            release(rows)
            if not len(read):
                continue
            for whole, new in zip(found, self._run(read), strict=True):
                whole[part.start + present] = new.reshape(len(present), -1, new.shape[1]).mean(axis=1)
        return found

    def read_off(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the mean age and the more probable gender per row: float64, or objects if labels are strings."""
        starts = range(0, len(rows), PREDICTED_ROWS)
        parts = (rows[start : start + PREDICTED_ROWS] for start in starts)
        return np.concatenate([read_off(self.distributions(part), self.classes[1]) for part in parts])

    def _run(self, rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if self.onnx is not None:
            return onnx_head.run_onnx(self.onnx, rows)
        assert self.keras is not None
        return onnx_head.run_keras(onnx_head.from_keras_bytes(self.keras), rows)


def read_off(distributions: Sequence[NDArray[np.float32]], labels: NDArray[Any]) -> NDArray[Any]:
    """Return mean ages and more probable genders of distributions: float64, or objects if labels are strings."""
    ages, genders = distributions
    likelier = likelier_labels(genders, labels)
    text = likelier.dtype.kind in "OUS"
    predicted = np.empty((len(ages), 2), dtype=object if text else np.float64)
    predicted[:, 0] = expected_age(ages)
    predicted[:, 1] = likelier
    return predicted


def check_fitted(state: Mapping[str, Any]) -> None:
    """Raise a ModelFileError if the fitted attributes of a classifier in a safe file are not as they should be."""
    if "classes_" not in state:
        return
    shape, (ages, genders) = state["_row_shape"], state["classes_"]
    if not isinstance(shape, tuple) or not all(type(side) is int and side > 0 for side in shape):
        raise ModelFileError(f"its rows have the shape {str(shape)[:80]}")
    in_order = 1 < len(ages) <= 1001 and np.array_equal(ages, np.arange(len(ages)))
    if not in_order or np.shape(genders) != (2,):
        raise ModelFileError("its classes are not the ages 0, 1, … and two genders")
    if not isinstance(state["calibration_"], Calibration):
        raise ModelFileError("its calibration is none")
    if state["_onnx"] is None and state["_keras"] is None:
        raise ModelFileError("it has no trained head")
    if state["_onnx"] is not None:
        check_head_graph(state["_onnx"], "its head", shape, len(ages), len(genders))
    if state["_keras"] is not None:
        check_keras_file(state["_keras"], "its head in Keras form")
