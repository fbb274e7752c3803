"""Plots of predicted age distributions of single pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agegender.calibration import UNCALIBRATED, Calibration, age_interval, calibration_of
from agegender.metrics import expected_age, target_column
from agegender.plots._axes import BLUE, SKY, VERMILION, new_axes, tidy

__all__ = ["AgeDistributionDisplay"]

MOST_PICTURES = 16
# The share of a row that the peak of its neighbour may overlap.
OVERLAP = 1.15


class AgeDistributionDisplay:
    """Predicted distributions over ages, one row per picture, with interval, mean and true age.

    Make one by `from_estimator` or `from_predictions`.

    Parameters
    ----------
    proba : ndarray of shape (n_samples, n_ages)
        Distributions over the ages 0, 1, 2 and so on.
    low, high : ndarray of shape (n_samples,)
        The interval, in years.
    coverage : float
        Coverage of the interval.
    true_age : ndarray of shape (n_samples,), default=None
        Years.
    names : sequence of str, default=None
        Names of the pictures.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    agegender.plots.AgeErrorDisplay : Age errors by age.

    Examples
    --------
    >>> import numpy as np
    >>> from agegender.plots import AgeDistributionDisplay
    >>> years = np.arange(101)
    >>> proba = np.exp(-0.5 * ((years - np.array([[30], [60]])) / 6) ** 2)
    >>> proba /= proba.sum(axis=1, keepdims=True)
    >>> display = AgeDistributionDisplay.from_predictions([33, 52], proba, names=["anna.jpg", "bert.jpg"])
    >>> display.low.round(1)
    array([20.1, 50.1])
    """

    def __init__(
        self,
        proba: NDArray[np.float64],
        low: NDArray[np.float64],
        high: NDArray[np.float64],
        *,
        coverage: float,
        true_age: NDArray[np.float64] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.proba = proba
        self.low = low
        self.high = high
        self.coverage = coverage
        self.true_age = true_age
        self.names = names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        names: Sequence[str] | None = None,
        coverage: float = 0.9,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Predict, and plot the distributions.

        Parameters
        ----------
        estimator : AgeGenderPipeline, AgeGenderClassifier or another fitted one
        X : sequence of at most 16 pictures, or of whatever the estimator reads
        y : array-like of shape (n_samples, 2) or (n_samples,), or frame with the column ``age``, default=None
            True ages in years.
        names : sequence of str, default=None
            Names of the pictures.
        coverage : float, default=0.9
            Coverage of the interval, if the estimator is calibrated.
        ax, **kwargs
            See `plot`.

        Returns
        -------
        AgeDistributionDisplay
        """
        proba = estimator.predict_proba(X)[0]
        calibration = calibration_of(estimator)
        shown = {"names": names, "coverage": coverage, "calibration": calibration, "ax": ax}
        return cls.from_predictions(y, proba, **shown, **kwargs)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_proba: ArrayLike,
        *,
        names: Sequence[str] | None = None,
        coverage: float = 0.9,
        calibration: Calibration = UNCALIBRATED,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Plot predicted distributions.

        Parameters
        ----------
        y_true : array-like of shape (n_samples, 2) or (n_samples,), frame with the column ``age``, or None
            True ages in years.
        y_proba : array-like of shape (n_samples, n_ages)
            Distributions over the ages 0, 1, 2 and so on; of at most 16 pictures.
        names : sequence of str, default=None
            Names of the pictures.
        coverage : float, default=0.9
            Coverage of the interval.
        calibration : Calibration, default=UNCALIBRATED
            By default the raw distributions are used.
        ax, **kwargs
            See `plot`.

        Returns
        -------
        AgeDistributionDisplay
        """
        proba = np.asarray(y_proba, dtype=np.float64)
        if not 0 < len(proba) <= MOST_PICTURES:
            raise ValueError(
                f"AgeDistributionDisplay: got {len(proba)} pictures; it shows 1 to {MOST_PICTURES}; choose some."
            )
        low, high = age_interval(proba, coverage, calibration)
        truth = None if y_true is None else target_column(y_true, "age").astype(np.float64)
        return cls(proba, low, high, coverage=coverage, true_age=truth, names=names).plot(ax=ax, **kwargs)

    def plot(self, *, ax: Any = None, **kwargs: Any) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            If None, a new figure is made, whose height depends on the number of pictures.
        **kwargs
            Arguments for the filled distributions.

        Returns
        -------
        AgeDistributionDisplay
            The display itself.
        """
        n = len(self.proba)
        self.ax_ = new_axes(ax, (6.0, 1.1 + 0.75 * n))
        self.figure_ = self.ax_.figure
        for row in range(n):
            self._plot_row(row, n - 1 - row, kwargs)
        names = [f"picture {i}" for i in range(n)] if self.names is None else list(self.names)
        self.ax_.set_yticks(np.arange(n)[::-1], names)
        self.ax_.tick_params(axis="y", length=0)
        self.ax_.set(xlabel="Age (years)", xlim=(0, self.proba.shape[1] - 1), ylim=(-0.3, n - 1 + OVERLAP))
        self._legend()
        tidy(self.ax_, grid="x")
        self.ax_.spines["left"].set_visible(False)
        return self

    def _plot_row(self, row: int, base: float, kwargs: dict[str, Any]) -> None:
        years = np.arange(self.proba.shape[1])
        height = base + OVERLAP * 0.85 * self.proba[row] / max(self.proba[row].max(), 1e-12)
        style = {"color": SKY, "alpha": 0.55, "linewidth": 0, "zorder": 2 * row + 2} | kwargs
        self.ax_.fill_between(years, base, height, **style)
        above = {"zorder": 2 * row + 3}
        self.ax_.plot(years, height, color=BLUE, linewidth=1.2, **above)
        self.ax_.plot([self.low[row], self.high[row]], [base, base], color=BLUE, linewidth=4, **above)
        age = expected_age(self.proba[[row]])[0]
        self.ax_.plot(age, base, "o", color="white", markeredgecolor=BLUE, markersize=7, **above)
        if self.true_age is not None:
            mark = {"marker": "D", "color": VERMILION, "markeredgecolor": "white", "markersize": 8}
            self.ax_.plot(self.true_age[row], base, linestyle="", **mark, **above)

    def _legend(self) -> None:
        from matplotlib.lines import Line2D

        mean = Line2D([], [], marker="o", linestyle="", color="white", markeredgecolor=BLUE, label="mean")
        interval = Line2D([], [], color=BLUE, linewidth=4, label=f"{100 * self.coverage:g} % interval")
        handles = [mean, interval]
        if self.true_age is not None:
            handles.append(Line2D([], [], marker="D", linestyle="", color=VERMILION, label="truth"))
        place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": len(handles)}
        self.ax_.legend(handles=handles, frameon=False, fontsize="small", **place)
