"""Plots of the training history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from agegender._utils.validation import check_choice
from agegender.plots._axes import GREY, LINES, new_axes, tidy

__all__ = ["TrainingHistoryDisplay"]

METRICS = {
    "val_age_mae": "Validation age MAE (years)",
    "val_gender_accuracy": "Validation gender accuracy",
    "loss": "Training loss",
    "learning_rate": "Learning rate",
}


class TrainingHistoryDisplay:
    """A metric per epoch, with one line per ensemble member; the best epoch of each round is marked.

    Make it with `from_estimator`.

    Parameters
    ----------
    history : sequence of dict
        Records as in ``history_`` of `AgeGenderClassifier`.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        One per member.

    See Also
    --------
    agegender.plots.AgeErrorDisplay : Age errors by age.

    Examples
    --------
    >>> from agegender.plots import TrainingHistoryDisplay
    >>> history = [{"member": 1, "round": 1, "epoch": e, "val_age_mae": 9 / e, "loss": 4 / e} for e in (1, 2, 3)]
    >>> display = TrainingHistoryDisplay(history).plot()
    >>> display.lines_[0].get_ydata()
    array([9. , 4.5, 3. ])
    """

    def __init__(self, history: Sequence[dict[str, Any]]) -> None:
        self.history = history

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, metric: str = "val_age_mae", ax: Any = None, **kwargs: Any
    ) -> Self:
        """Plot the training of a fitted estimator.

        Parameters
        ----------
        estimator : AgeGenderClassifier, AgeGenderPipeline, or a search over one
            Fitted.
        metric, ax, **kwargs
            See `plot`.

        Returns
        -------
        TrainingHistoryDisplay
        """
        for attribute in ("best_estimator_", "classifier_"):
            estimator = getattr(estimator, attribute, estimator)
        if not getattr(estimator, "history_", None):
            raise ValueError(
                f"{type(estimator).__name__} has no history_; pass a fitted AgeGenderClassifier or AgeGenderPipeline."
            )
        return cls(estimator.history_).plot(metric=metric, ax=ax, **kwargs)

    def plot(self, *, metric: str = "val_age_mae", ax: Any = None, **kwargs: Any) -> Self:
        """Draw.

        Parameters
        ----------
        metric : {"val_age_mae", "val_gender_accuracy", "loss", "learning_rate"}, default="val_age_mae"
            The metric.
        ax : matplotlib Axes, default=None
            If None, a new figure is made.
        **kwargs
            Arguments for the lines.

        Returns
        -------
        TrainingHistoryDisplay
            The display.
        """
        check_choice("metric", metric, METRICS, type(self).__name__)
        self.ax_ = new_axes(ax)
        self.figure_ = self.ax_.figure
        members = sorted({record["member"] for record in self.history})
        names = [f"member {member}" for member in members] if len(members) > 1 else ["best"]
        pairs = zip(members, names, strict=True)
        self.lines_ = [self._plot_member(member, name, metric, kwargs) for member, name in pairs]
        self.ax_.set(xlabel="Epoch", ylabel=METRICS[metric])
        self.ax_.margins(x=0.02)
        self.ax_.xaxis.get_major_locator().set_params(integer=True)
        if len(members) > 1 or self.lines_[0].get_label() != "best":
            self.ax_.legend(frameon=False, fontsize="small")
        tidy(self.ax_)
        return self

    def _plot_member(self, member: int, name: str, metric: str, kwargs: dict[str, Any]) -> Any:
        records = [record for record in self.history if record["member"] == member]
        epochs, values = np.arange(1, len(records) + 1), np.array([record[metric] for record in records])
        color = LINES[(member - 1) % len(LINES)]
        style = {"linewidth": 1.8, "color": color, "label": name} | kwargs
        (line,) = self.ax_.plot(epochs, values, **style)
        rounds = np.array([record["round"] for record in records])
        marks = [
            self._mark_best(epochs[rounds == number], values[rounds == number], metric, line)
            for number in np.unique(rounds)
        ]
        if any(marks):
            line.set_label(f"{line.get_label()}: {', '.join(filter(None, marks))}")
        for start in epochs[1:][np.diff(rounds) > 0]:
            self.ax_.axvline(start - 0.5, color=GREY, linewidth=0.8, linestyle=":")
        return line

    def _mark_best(self, epochs: Any, values: Any, metric: str, line: Any) -> str:
        """Mark the best epoch, if there was a validation part, and return its value as text."""
        if not metric.startswith("val_") or np.isnan(values).all():
            return ""
        best = np.nanargmin(values) if metric == "val_age_mae" else np.nanargmax(values)
        mark = {"marker": "o", "color": line.get_color(), "markeredgecolor": "white", "markersize": 8}
        self.ax_.plot(epochs[best], values[best], linestyle="", **mark)
        return f"{values[best]:.2f}" if metric == "val_age_mae" else f"{100 * values[best]:.1f} %"
