"""Plots of age errors."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agegender._utils.figures import age_bands, band_name, mean_interval
from agegender._utils.validation import check_choice
from agegender.metrics import predicted_rows, target_column
from agegender.plots._axes import BLUE, INK, LINES, VERMILION, new_axes, tidy

__all__ = ["AgeCumulativeScoreDisplay", "AgeErrorDisplay"]

KINDS = ("by_band", "by_age")
# More pictures are shown by their density, because points would overlap.
MOST_POINTS = 1000
# Width in years of the bands for quantiles, and the minimum number of pictures, because quantiles of few are noisy.
RUNNING_WIDTHS = (5, 10, 20)
LEAST_IN_BAND = 10


class AgeErrorDisplay:
    """Errors of predicted ages, by age band or against the true age.

    Make it with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    true_age, predicted_age : ndarray of shape (n_samples,)
        Years.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    agegender.plots.AgeCumulativeScoreDisplay : Share of ages within k years.

    Examples
    --------
    >>> import numpy as np
    >>> from agegender.plots import AgeErrorDisplay
    >>> truth = np.arange(10, 70)
    >>> display = AgeErrorDisplay.from_predictions(truth, truth + 3.0 * (-1) ** truth)
    >>> display.ax_.get_ylabel()
    'Error (years)'
    """

    def __init__(self, true_age: NDArray[np.float64], predicted_age: NDArray[np.float64]) -> None:
        self.true_age = true_age
        self.predicted_age = predicted_age

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any, *, kind: str = "by_band", ax: Any = None, **kwargs: Any
    ) -> Self:
        """Predict, and plot the errors.

        Parameters
        ----------
        estimator : AgeGenderPipeline, AgeGenderClassifier or another fitted one
        X : sequence of pictures, or other input of the estimator
        y : array-like of shape (n_samples, 2) or (n_samples,), or frame with the column ``age``
            True ages in years.
        kind, ax, **kwargs
            See `plot`.

        Returns
        -------
        AgeErrorDisplay
        """
        return cls.from_predictions(y, estimator.predict(X), kind=kind, ax=ax, **kwargs)

    @classmethod
    def from_predictions(
        cls, y_true: Any, y_pred: Any, *, kind: str = "by_band", ax: Any = None, **kwargs: Any
    ) -> Self:
        """Plot the errors of predictions.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n_samples, 2) or (n_samples,), or frames with the column ``age``
            Ages in years. Rows predicted as NaN are ignored with a warning.
        kind, ax, **kwargs
            See `plot`.

        Returns
        -------
        AgeErrorDisplay
        """
        return cls(*_ages(y_true, y_pred)).plot(kind=kind, ax=ax, **kwargs)

    def plot(self, *, kind: str = "by_band", ax: Any = None, **kwargs: Any) -> Self:
        """Draw.

        Parameters
        ----------
        kind : {"by_band", "by_age"}, default="by_band"
            "by_band": mean absolute error and mean error per decade of age, with 95 % intervals. "by_age":
            every error against the true age, with the median and the middle 90 % per band of five years (ten or
            twenty, if there are few pictures).
        ax : matplotlib Axes, default=None
            If None, a new figure is made.
        **kwargs
            For the bars or the points (with more than 1,000 pictures, the hexagons).

        Returns
        -------
        AgeErrorDisplay
            The display.
        """
        check_choice("kind", kind, KINDS, type(self).__name__)
        self.ax_ = new_axes(ax)
        self.figure_ = self.ax_.figure
        if kind == "by_band":
            self._plot_bands(kwargs)
        else:
            self._plot_errors(kwargs)
        tidy(self.ax_)
        return self

    def _plot_bands(self, kwargs: dict[str, Any]) -> None:
        errors, bands = self.predicted_age - self.true_age, age_bands(self.true_age)
        firsts = np.unique(bands)
        parts = [errors[bands == first] for first in firsts]
        place = np.arange(len(firsts))
        absolute = [np.abs(part) for part in parts]
        style = {"color": BLUE, "width": 0.7, "label": "mean absolute error"} | kwargs
        self.ax_.bar(place, [part.mean() for part in absolute], **style)
        _whiskers(self.ax_, place, absolute, INK)
        _whiskers(self.ax_, place, parts, VERMILION)
        means = [part.mean() for part in parts]
        self.ax_.plot(place, means, "o", color=VERMILION, markeredgecolor="white", label="bias (mean error)")
        self.ax_.axhline(0, color=INK, linewidth=0.8)
        names = [f"{band_name(first)}\n{len(part):,}" for first, part in zip(firsts, parts, strict=True)]
        self.ax_.set_xticks(place, names)
        self.ax_.set(xlabel="True age (years), and number of pictures", ylabel="Error (years)")
        self.ax_.legend(frameon=False, fontsize="small")

    def _plot_errors(self, kwargs: dict[str, Any]) -> None:
        errors = self.predicted_age - self.true_age
        if len(errors) > MOST_POINTS:
            style = {"gridsize": 45, "bins": "log", "cmap": "Blues", "mincnt": 1, "linewidths": 0.2} | kwargs
            self.ax_.hexbin(self.true_age, errors, **style)
        else:
            style = {"s": 14, "color": BLUE, "alpha": 0.45, "linewidths": 0} | kwargs
            self.ax_.scatter(self.true_age, errors, **style)
        self._plot_quantiles(errors)
        self.ax_.axhline(0, color=INK, linewidth=0.8)
        self.ax_.set(xlabel="True age (years)", ylabel="Predicted − true age (years)")

    def _plot_quantiles(self, errors: NDArray[np.float64]) -> None:
        years = _running_width(self.true_age)
        if years is None:
            return
        centres, low, middle, high = _running_quantiles(self.true_age, errors, years)
        self.ax_.plot(centres, middle, color=VERMILION, linewidth=2, label="median")
        band = {"color": VERMILION, "linewidth": 1, "linestyle": "--"}
        self.ax_.plot(centres, low, label="middle 90 %", **band)
        self.ax_.plot(centres, high, **band)
        self.ax_.legend(frameon=False, fontsize="small")


class AgeCumulativeScoreDisplay:
    """The share of ages with an error of at most k years, for every k.

    Make it with `from_estimator` or `from_predictions`; draw several on the same axes to compare.

    Parameters
    ----------
    errors : ndarray of shape (n_samples,)
        Absolute errors in years.
    name : str, default=None
        For the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    line_ : matplotlib Line2D

    See Also
    --------
    agegender.plots.AgeErrorDisplay : Age errors by age.

    Examples
    --------
    >>> from agegender.plots import AgeCumulativeScoreDisplay
    >>> display = AgeCumulativeScoreDisplay.from_predictions([30, 40], [33, 47], max_k=10)
    >>> display.line_.get_ydata()[[2, 3, 7]]
    array([  0.,  50., 100.])
    """

    def __init__(self, errors: NDArray[np.float64], *, name: str | None = None) -> None:
        self.errors = errors
        self.name = name

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any, *, name: str | None = None, ax: Any = None, **kwargs: Any
    ) -> Self:
        """Predict, and plot the curve.

        Parameters
        ----------
        estimator : AgeGenderPipeline, AgeGenderClassifier or another fitted one
        X : sequence of pictures, or other input of the estimator
        y : array-like of shape (n_samples, 2) or (n_samples,), or frame with the column ``age``
            True ages in years.
        name : str, default=None
            For the legend.
        ax, **kwargs
            See `plot`.

        Returns
        -------
        AgeCumulativeScoreDisplay
        """
        return cls.from_predictions(y, estimator.predict(X), name=name, ax=ax, **kwargs)

    @classmethod
    def from_predictions(
        cls, y_true: Any, y_pred: Any, *, name: str | None = None, ax: Any = None, **kwargs: Any
    ) -> Self:
        """Plot the curve of predictions.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n_samples, 2) or (n_samples,), or frames with the column ``age``
            Ages in years. Rows predicted as NaN are ignored with a warning.
        name : str, default=None
            For the legend.
        ax, **kwargs
            See `plot`.

        Returns
        -------
        AgeCumulativeScoreDisplay
        """
        truth, predicted = _ages(y_true, y_pred)
        return cls(np.abs(truth - predicted), name=name).plot(ax=ax, **kwargs)

    def plot(self, *, ax: Any = None, max_k: int = 20, marked_k: int | None = 5, **kwargs: Any) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            If None, a new figure is made.
        max_k : int, default=20
            The largest error shown, in years.
        marked_k : int or None, default=5
            The error, in years, whose share is written next to the curve.
        **kwargs
            For the line.

        Returns
        -------
        AgeCumulativeScoreDisplay
            The display.
        """
        self.ax_ = new_axes(ax)
        self.figure_ = self.ax_.figure
        years = np.arange(max_k + 1)
        shares = 100 * np.mean(self.errors[:, None] <= years, axis=0)
        n_curves = sum(len(line.get_xdata()) > 1 for line in self.ax_.lines)
        marked = [] if marked_k is None or marked_k > max_k else [marked_k]
        note = "".join(f"{shares[k]:.1f} % within {k} years" for k in marked)
        label = self.name and (f"{self.name}: {note}" if note else self.name)
        style: dict[str, Any] = {
            "linewidth": 2,
            "label": label,
            "color": LINES[n_curves % len(LINES)],
            "markevery": marked,
        }
        style |= {"marker": "o", "markeredgecolor": "white", "markersize": 8} | kwargs
        (self.line_,) = self.ax_.plot(years, shares, **style)
        if marked and not self.name:
            place = {"xytext": (10, -6), "textcoords": "offset points", "va": "top"}
            self.ax_.annotate(note, (marked[0], shares[marked[0]]), color=self.line_.get_color(), **place)
        self.ax_.set(xlabel="Error allowed, k (years)", ylabel="CS@k (% of pictures)", xlim=(0, max_k))
        self.ax_.set_ylim(0, 102)
        self.ax_.xaxis.get_major_locator().set_params(integer=True)
        if self.name:
            self.ax_.legend(frameon=False, fontsize="small", loc="lower right")
        tidy(self.ax_)
        return self


def _ages(y_true: Any, y_pred: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    truth = target_column(y_true, "age").astype(np.float64)
    predicted = target_column(y_pred, "age").astype(np.float64)
    truth, predicted, _ = predicted_rows("age", truth, predicted, None)
    return truth, predicted


def _whiskers(ax: Any, place: NDArray[Any], parts: list[NDArray[np.float64]], color: str) -> None:
    means = np.array([part.mean() for part in parts])
    low, high = np.array([mean_interval(part) for part in parts]).T
    # With too few pictures there is no interval.
    spread = np.nan_to_num([means - low, high - means])
    ax.errorbar(place, means, spread, fmt="none", ecolor=color, elinewidth=1.2, capsize=2.5)


def _running_width(ages: ArrayLike) -> int | None:
    """Return the smallest width of bands, in years, for which half of the bands have enough pictures, or None."""
    for years in RUNNING_WIDTHS:
        counts = np.unique(age_bands(ages, years), return_counts=True)[1]
        if np.median(counts) >= LEAST_IN_BAND:
            return years
    return None


def _running_quantiles(ages: ArrayLike, errors: NDArray[np.float64], years: int) -> NDArray[np.float64]:
    """Return the centres of the bands with enough pictures, and three quantiles of the errors in each band."""
    bands = age_bands(ages, years)
    firsts, counts = np.unique(bands, return_counts=True)
    firsts = firsts[counts >= LEAST_IN_BAND]
    quantiles = [np.quantile(errors[bands == first], [0.05, 0.5, 0.95]) for first in firsts]
    return np.vstack([firsts + years / 2, np.transpose(quantiles)])
