"""Calibration plots of gender probabilities."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agegender._utils.figures import calibration_bins
from agegender.metrics import target_column
from agegender.plots._axes import BLUE, GREY, INK, new_axes, tidy

__all__ = ["GenderCalibrationDisplay"]


class GenderCalibrationDisplay:
    """Observed share of a gender against its predicted probability, with 95 % intervals.

    Make it with `from_estimator` or `from_predictions`. Points on the diagonal are calibrated; bars below show
    the number of pictures.

    Parameters
    ----------
    is_label : ndarray of shape (n_samples,), bool
        Whether a picture has that gender.
    proba : ndarray of shape (n_samples,)
        Its predicted probability.
    label : object
        The gender's label.

    Attributes
    ----------
    bins_ : DataFrame
        One row per bin: n, mean_proba, share, low and high (Wilson's interval).
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    agegender.plots.AgeDistributionDisplay : Predicted distributions of single pictures.

    Examples
    --------
    >>> import numpy as np
    >>> from agegender.plots import GenderCalibrationDisplay
    >>> genders = np.array([0, 0, 0, 1, 1, 1, 1, 0])
    >>> proba = np.array([0.1, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9, 0.9])
    >>> display = GenderCalibrationDisplay.from_predictions(genders, np.column_stack([1 - proba, proba]))
    >>> display.bins_[["n", "mean_proba", "share"]]
       n  mean_proba  share
    0  4         0.1   0.25
    1  4         0.9   0.75
    """

    def __init__(self, is_label: NDArray[np.bool_], proba: NDArray[np.float64], label: Any) -> None:
        self.is_label = is_label
        self.proba = proba
        self.label = label

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any, *, n_bins: int = 10, ax: Any = None, **kwargs: Any
    ) -> Self:
        """Predict, and plot the shares.

        Parameters
        ----------
        estimator : AgeGenderPipeline, AgeGenderClassifier or another fitted one
        X : sequence of pictures, or other input of the estimator
        y : array-like of shape (n_samples, 2) or (n_samples,), or frame with the column ``gender``
            True genders.
        n_bins, ax, **kwargs
            See `plot`.

        Returns
        -------
        GenderCalibrationDisplay
        """
        proba = estimator.predict_proba(X)[1]
        labels = estimator.classes_[1]
        return cls.from_predictions(y, proba, labels=labels, n_bins=n_bins, ax=ax, **kwargs)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_proba: ArrayLike,
        *,
        labels: ArrayLike | None = None,
        n_bins: int = 10,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Plot the shares of predictions.

        Parameters
        ----------
        y_true : array-like of shape (n_samples, 2) or (n_samples,), or frame with the column ``gender``
            True genders.
        y_proba : array-like of shape (n_samples, 2)
            Probabilities of the two genders; rows of NaN are ignored.
        labels : array-like of shape (2,), default=None
            The labels of the columns of `y_proba`. If None, the sorted labels of `y_true`.
        n_bins, ax, **kwargs
            See `plot`.

        Returns
        -------
        GenderCalibrationDisplay
        """
        truth, proba = target_column(y_true, "gender"), np.asarray(y_proba, dtype=np.float64)
        if proba.shape != (len(truth), 2):
            raise ValueError(
                f"y_proba has shape {proba.shape}; it should be ({len(truth)}, 2), one row per row of y_true."
            )
        label = (np.unique(truth) if labels is None else np.asarray(labels))[-1]
        present = ~np.isnan(proba[:, 1])
        display = cls(truth[present] == label, proba[present, 1], label)
        return display.plot(n_bins=n_bins, ax=ax, **kwargs)

    def plot(self, *, n_bins: int = 10, ax: Any = None, **kwargs: Any) -> Self:
        """Draw.

        Parameters
        ----------
        n_bins : int, default=10
            Number of bins of equal width.
        ax : matplotlib Axes, default=None
            If None, a new figure is made.
        **kwargs
            Arguments for the points.

        Returns
        -------
        GenderCalibrationDisplay
            The display.
        """
        self.ax_ = new_axes(ax, (5.0, 4.6))
        self.figure_ = self.ax_.figure
        self.bins_ = calibration_bins(self.is_label, self.proba, n_bins)
        bins = self.bins_
        edges = np.linspace(0, 1, n_bins + 1)
        counts = np.histogram(self.proba, edges)[0]
        height = 0.16 * counts / max(counts.max(), 1)
        self.ax_.bar(edges[:-1] + 0.5 / n_bins, height, width=0.9 / n_bins, color="#d5d9de", label="pictures")
        self.ax_.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="calibrated")
        spread = np.vstack([bins["share"] - bins["low"], bins["high"] - bins["share"]])
        style = {"fmt": "o-", "color": BLUE, "ecolor": INK, "elinewidth": 1, "capsize": 2.5, "linewidth": 1.5}
        style |= {"markeredgecolor": "white", "markersize": 7, "label": "observed"} | kwargs
        self.ax_.errorbar(bins["mean_proba"], bins["share"], spread.clip(0), **style)
        self.ax_.set(xlim=(-0.02, 1.02), ylim=(0, 1.03), aspect="equal")
        self.ax_.set(xlabel=f"Predicted probability of gender {self.label}", ylabel="Observed share")
        self.ax_.legend(frameon=False, fontsize="small", loc="upper left")
        tidy(self.ax_)
        return self
