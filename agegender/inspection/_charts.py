"""The page's plots, as SVG inside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from agegender.plots._axes import BLUE, ORANGE, VERMILION, tidy
from agegender.reports._parts import draw

if TYPE_CHECKING:
    from agegender.inspection._tables import InspectionTables

__all__ = ["charts"]


def charts(found: InspectionTables) -> dict[str, str]:
    """Return each plot as a data URI."""
    return {
        "readings": draw(lambda ax: _readings(ax, found)),
        "ages": draw(lambda ax: _ages(ax, found)),
        "digits": draw(lambda ax: _digits(ax, found)),
        "suspicions": draw(lambda ax: _suspicions(ax, found)),
    }


def _readings(ax: Any, found: InspectionTables) -> None:
    labels = found.labels.dropna(subset=["read_age"])
    doubted = labels["age_suspicion"] >= 0.5
    usual, doubtful = labels[~doubted], labels[doubted]
    ax.scatter(usual["age"], usual["read_age"], s=5, alpha=0.25, color=BLUE, linewidths=0)
    ax.scatter(doubtful["age"], doubtful["read_age"], s=14, color=VERMILION, label="label in doubt")
    ax.set(xlabel="Labelled age", ylabel="Age read by models of other folds")
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    tidy(ax)


def _ages(ax: Any, found: InspectionTables) -> None:
    below = np.zeros(len(found.ages))
    for name, color in zip(found.gender_names, (BLUE, ORANGE), strict=True):
        counts = found.ages[name].to_numpy()
        ax.bar(found.ages["age"], counts, width=1, bottom=below, color=color, label=name)
        below = below + counts
    ax.set(xlabel="Labelled age", ylabel="Pictures")
    ax.legend(frameon=False, fontsize="small")
    tidy(ax)


def _digits(ax: Any, found: InspectionTables) -> None:
    ends = 100 * np.asarray(found.heaping["ends"])
    ax.bar(range(10), ends, color=[VERMILION if digit in (0, 5) else BLUE for digit in range(10)])
    ax.axhline(10, color="black", linestyle="--", linewidth=1)
    ax.set(xlabel="Last digit of the age", ylabel="Pictures (%)", xticks=range(10))
    tidy(ax)


def _suspicions(ax: Any, found: InspectionTables) -> None:
    known = np.sort(found.labels["suspicion"].dropna().to_numpy(dtype=np.float64))[::-1]
    ax.plot(np.arange(1, len(known) + 1), known, color=BLUE, linewidth=2)
    ax.set(xlabel="Rank", ylabel="Probability that the label is wrong", xscale="log", ylim=(0, 1.02))
    tidy(ax)
