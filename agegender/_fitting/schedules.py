"""Learning rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable

from agegender._fitting.settings import Settings

__all__ = ["SCHEDULES"]


def _cosine(settings: Settings, errors: list[float]) -> float:
    """Half a cosine from the learning rate down to zero over all epochs (Loshchilov & Hutter 2017)."""
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * len(errors) / settings.epochs))


def _plateau(settings: Settings, errors: list[float]) -> float:
    """A third of the rate after every half `patience` of epochs without a smaller validation error."""
    rate, best, stale = settings.learning_rate, math.inf, 0
    for error in errors:
        best, stale = (error, 0) if error < best else (best, stale + 1)
        if stale == max(1, settings.patience // 2):
            rate, stale = rate / 3, 0
    return rate


def _constant(settings: Settings, errors: list[float]) -> float:
    return settings.learning_rate


SCHEDULES: dict[str | None, Callable[[Settings, list[float]], float]] = {
    "cosine": _cosine,
    "plateau": _plateau,
    None: _constant,
}
"""Functions from the settings and the validation errors so far to the next epoch's learning rate."""
