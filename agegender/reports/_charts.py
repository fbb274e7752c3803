"""The plots of the page, as embedded SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from agegender.plots import AgeCumulativeScoreDisplay, AgeErrorDisplay
from agegender.plots._axes import BLUE, GREY, INK, VERMILION, tidy
from agegender.reports._parts import SIZE, draw

if TYPE_CHECKING:
    from agegender.reports._fields import ReportTables

__all__ = ["charts"]

ROW_HEIGHT = 0.26


def charts(report: ReportTables) -> dict[str, str]:
    """Return all plots that have data, as data URIs."""
    known = report.predictions.dropna(subset=["true_age", "age"])
    drawn = {}
    if len(known):
        truth, age = known["true_age"], known["age"]
        drawn["bands"] = draw(lambda ax: AgeErrorDisplay.from_predictions(truth, age, ax=ax))
        drawn["errors"] = draw(lambda ax: AgeErrorDisplay.from_predictions(truth, age, ax=ax, kind="by_age"))
        drawn["scores"] = draw(lambda ax: AgeCumulativeScoreDisplay.from_predictions(truth, age, ax=ax))
    if len(report.gender_calibration):
        drawn["gender"] = draw(lambda ax: _gender(ax, report))
    if len(report.age_calibration):
        drawn["coverage"] = draw(lambda ax: _coverage(ax, report))
        drawn["positions"] = draw(lambda ax: _positions(ax, report))
    single = report.by_group[~report.by_group["grouping"].str.contains(" × ")]
    for figure in ("age_mae", "gender_accuracy"):
        if single[figure].notna().any():
            drawn[figure] = _groups(single[single[figure].notna()], figure, report)
    return drawn


def _gender(ax: Any, report: ReportTables) -> None:
    bins = report.gender_calibration
    _diagonal(ax)
    spread = np.vstack([bins["share"] - bins["low"], bins["high"] - bins["share"]])
    _points(ax, bins["mean_proba"], bins["share"], spread)
    ax.set(xlabel=f"Predicted probability of “{report.genders['gender'].iloc[-1]}”", ylabel="Observed share")


def _coverage(ax: Any, report: ReportTables) -> None:
    levels = report.age_calibration
    _diagonal(ax)
    spread = np.vstack([levels["covered"] - levels["low"], levels["high"] - levels["covered"]])
    _points(ax, levels["level"], levels["covered"], spread)
    ax.set(xlabel="Nominal coverage of the interval", ylabel="Empirical coverage")


def _diagonal(ax: Any) -> None:
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="calibrated")
    ax.set(xlim=(0, 1.01), ylim=(0, 1.01))


def _points(ax: Any, x: Any, y: Any, spread: Any) -> None:
    style = {"color": BLUE, "ecolor": INK, "elinewidth": 1, "capsize": 2.5, "markeredgecolor": "white"}
    ax.errorbar(x, y, spread.clip(0), fmt="o-", markersize=7, label="observed", **style)
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    tidy(ax)


def _positions(ax: Any, report: ReportTables) -> None:
    counts = report.age_positions["n"].to_numpy()
    ax.bar(report.age_positions["position"] + 0.05, counts / counts.sum(), width=0.09, color=BLUE)
    ax.axhline(0.1, color=VERMILION, linestyle="--", linewidth=1.2, label="calibrated")
    ax.set(xlabel="Position of the true age in its distribution", ylabel="Share of pictures", xlim=(0, 1))
    ax.legend(frameon=False, fontsize="small")
    tidy(ax)


def _groups(table: Any, figure: str, report: ReportTables) -> str:
    """Draw one line per group: the value with its interval, and the overall value as a vertical line."""
    factor = 1 if figure == "age_mae" else 100

    def plot(ax: Any) -> None:
        places, ticks, names = 0.0, [], []
        for _, part in table.groupby("grouping", sort=False):
            for row in part.itertuples():
                value, low, high = (factor * getattr(row, f"{figure}{end}") for end in ("", "_low", "_high"))
                ax.plot([low, high], [places, places], color=BLUE, linewidth=2.4, solid_capstyle="round")
                ax.plot(value, places, "o", color=BLUE, markeredgecolor="white", markersize=7)
                ticks.append(places)
                names.append(f"{row.group}  ({getattr(row, f'{figure}_n'):,})")
                places += 1
            places += 0.8
        ax.axvline(factor * report.overall["value"][figure], color=VERMILION, linestyle="--", linewidth=1.2)
        ax.set_yticks(ticks, names)
        ax.set_ylim(places - 1, -0.8)
        ax.set_xlabel("Mean absolute error (years)" if figure == "age_mae" else "Gender accuracy (%)")
        tidy(ax, grid="x")
        ax.tick_params(axis="y", length=0)

    return draw(plot, (SIZE[0], 1.0 + ROW_HEIGHT * (len(table) + 2)))
