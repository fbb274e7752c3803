"""Reading and checking the query parameters of a request."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from agegender._utils.validation import did_you_mean
from agegender.calibration import check_coverage
from agegender.serve._problems import Problem

__all__ = ["LAYERS", "Embed", "Predict", "embed_parameters", "predict_parameters"]

LAYERS = ("embedding", "penultimate", "pooled")
"""What ``/v1/embed`` can return."""


@dataclass(frozen=True)
class Predict:
    """What is predicted for each face; the fields are parameters of ``predict_faces``.

    `faces` is a name that the service offers; with "none", each picture is used as a face crop. With `live`,
    faces are searched for in a smaller copy.
    """

    faces: str = "auto"
    coverage: float = 0.9
    max_age_range: float | None = None
    min_gender_proba: float | None = None
    distribution: bool = False
    live: bool = False


@dataclass(frozen=True)
class Embed:
    """Which activations of each face are returned."""

    faces: str = "auto"
    layer: str = "embedding"


def predict_parameters(given: Mapping[str, Any], offered: Collection[str]) -> tuple[Predict, bool]:
    """Read the parameters of a prediction.

    Parameters
    ----------
    given : mapping of str
        The parameters in a query, or in the first message of a live session.
    offered : collection of str
        The values that `faces` may have.

    Returns
    -------
    task : Predict
    skip_failures : bool
        Whether a picture that cannot be read gets its own entry in the answer; otherwise, the request fails.

    Raises
    ------
    Problem
        If a parameter is unknown, or its value is out of range.
    """
    known = ("faces", "coverage", "max_age_range", "min_gender_proba", "distribution", "on_error")
    _check_names(given, known)
    task = Predict(faces=_choice(given, "faces", "auto", offered))
    if "coverage" in given:
        task = replace(task, coverage=_number(given, "coverage"))
        try:
            check_coverage(task.coverage)
        except ValueError as error:
            raise Problem("parameter", str(error), parameter="coverage") from None
    if "max_age_range" in given:
        task = replace(task, max_age_range=_number(given, "max_age_range", 0, 200))
    if "min_gender_proba" in given:
        task = replace(task, min_gender_proba=_number(given, "min_gender_proba", 0.5, 1))
    task = replace(task, distribution=_flag(given, "distribution"))
    return task, _choice(given, "on_error", "raise", ("raise", "nan")) == "nan"


def embed_parameters(given: Mapping[str, Any], offered: Collection[str]) -> tuple[Embed, bool]:
    """Read the parameters of an embedding, as `predict_parameters` does."""
    _check_names(given, ("faces", "layer", "on_error"))
    task = Embed(_choice(given, "faces", "auto", offered), _choice(given, "layer", "embedding", LAYERS))
    return task, _choice(given, "on_error", "raise", ("raise", "nan")) == "nan"


def _check_names(given: Mapping[str, Any], known: Collection[str]) -> None:
    for name in given:
        if name not in known:
            raise Problem(
                "parameter",
                f"There is no parameter {name[:80]!r}; there are {', '.join(known)}.{did_you_mean(name, known)}",
                parameter=name[:80],
            )


def _choice(given: Mapping[str, Any], name: str, default: str, allowed: Collection[str]) -> str:
    value = given.get(name, default)
    if value not in allowed:
        raise Problem(
            "parameter",
            f"{name}={str(value)[:80]!r} is not one of {', '.join(map(repr, allowed))}.",
            parameter=name,
        )
    return str(value)


def _number(given: Mapping[str, Any], name: str, low: float = -1e9, high: float = 1e9) -> float:
    try:
        value = float(given[name])
    except (TypeError, ValueError):
        raise Problem(
            "parameter", f"{name}={str(given[name])[:80]!r} is not a number.", parameter=name
        ) from None
    if not low <= value <= high:
        raise Problem("parameter", f"{name}={value:g} is not from {low:g} to {high:g}.", parameter=name)
    return value


def _flag(given: Mapping[str, Any], name: str) -> bool:
    value = str(given.get(name, "false")).lower()
    if value not in ("true", "false", "1", "0"):
        raise Problem("parameter", f"{name}={value[:80]!r} is not true or false.", parameter=name)
    return value in ("true", "1")
