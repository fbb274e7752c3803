"""Information about the caller: the line of the user's code, and whether scikit-learn called."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import Any

__all__ = [
    "caller",
    "is_cross_validated",
    "refuse_recoded_labels",
    "splitter",
    "warn_once",
    "warn_user",
]

_LIBRARIES = ("agegender", "sklearn", "joblib")
_CROSS_VALIDATION = (["sklearn", "model_selection"], ["agegender", "model_selection"])
_told: set[tuple[str, int, str]] = set()


def warn_once(message: str, category: type[Warning]) -> None:
    """Warn at the line of the user's code, once per line.

    Python's own "once per line" is reset whenever a warnings filter is changed, and scikit-learn and Keras
    change filters inside every fit. Cross-validation would therefore repeat the same warning in each fold.
    """
    frame = next((frame for frame in _frames() if not _belongs_to(frame, _LIBRARIES)), None)
    file, line = ("", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)
    if (file, line, message) not in _told:
        warnings.warn_explicit(message, category, file or "agegender", line)
        _told.add((file, line, message))


def warn_user(message: str, category: type[Warning]) -> None:
    """Warn at the line of the user's code, however many functions of the library are in between."""
    frame = next((frame for frame in _frames() if not _belongs_to(frame, _LIBRARIES)), None)
    if frame is None:
        warnings.warn(message, category, stacklevel=2)
        return
    names = frame.f_globals
    warnings.warn_explicit(
        message,
        category,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=names.get("__name__"),
        registry=names.setdefault("__warningregistry__", {}),
    )


def caller(module: str, function: str) -> FrameType | None:
    """Return the frame of a library's function if it is among the callers, or None."""
    for frame in _frames():
        if frame.f_code.co_name == function and frame.f_globals.get("__name__") == module:
            return frame
    return None


def splitter() -> Any:
    """Return the splitter of the cross-validation or search that called this code, or None.

    In a worker process, it cannot be found.
    """
    for frame in _frames():
        if str(frame.f_globals.get("__name__")).split(".")[:2] in _CROSS_VALIDATION:
            for name in ("cv_orig", "cv"):
                if hasattr(found := frame.f_locals.get(name), "split"):
                    return found
    return None


def refuse_recoded_labels() -> None:
    """Raise a ValueError if scikit-learn's ``cross_val_predict`` asks for probabilities of re-coded ages."""
    frame = caller("sklearn.model_selection._validation", "_fit_and_predict")
    if frame is not None and frame.f_locals.get("method") != "predict":
        raise ValueError(
            "scikit-learn's cross_val_predict gives no probabilities of ages: for them it numbers the ages that "
            "occur 0, 1, 2, … before it trains, so that they are no years any more. "
            "agegender.model_selection.cross_val_predict_frame gives ages, intervals and gender_proba out of fold; "
            'method="predict" works with both.'
        )


def is_cross_validated() -> bool:
    """Tell whether a cross-validation or search is among the callers, also in a worker process."""
    return any(
        str(frame.f_globals.get("__name__")).split(".")[:2] in _CROSS_VALIDATION for frame in _frames()
    )


def _frames() -> Iterator[FrameType]:
    frame = sys._getframe(2)
    while frame is not None:
        yield frame
        frame = frame.f_back  # type: ignore[assignment]


def _belongs_to(frame: FrameType, packages: tuple[str, ...]) -> bool:
    return str(frame.f_globals.get("__name__", "")).split(".")[0] in packages
