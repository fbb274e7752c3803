"""Plots of predictions, in the style of scikit-learn's displays.

Each display is made by ``from_estimator`` or ``from_predictions``, draws on given or new axes, and stores them
as ``ax_`` and ``figure_``; `FacesDisplay`, which is HTML in notebooks, draws when its ``plot`` is called.
"""

from agegender.plots._age import AgeCumulativeScoreDisplay, AgeErrorDisplay
from agegender.plots._distribution import AgeDistributionDisplay
from agegender.plots._faces import FacesDisplay
from agegender.plots._gender import GenderCalibrationDisplay
from agegender.plots._history import TrainingHistoryDisplay

__all__ = [
    "AgeCumulativeScoreDisplay",
    "AgeDistributionDisplay",
    "AgeErrorDisplay",
    "FacesDisplay",
    "GenderCalibrationDisplay",
    "TrainingHistoryDisplay",
]
