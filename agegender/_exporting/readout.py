"""From a head's probabilities to calibrated numbers, as graph operations: age, its interval, the genders.

`agegender.metrics` and `agegender.calibration` do the same in double precision. Here everything is float32,
because more runtimes support it. Therefore each end of an interval is computed from the same end of the
distribution, so that small sums stay exact.
"""

from __future__ import annotations

import numpy as np

from agegender._exporting.nodes import Nodes, single
from agegender.calibration import LEVELS, Calibration

__all__ = ["age_interval", "expected_age", "mean_of_views", "outside", "scaled_genders"]

_LEAST = single(1e-30)


def mean_of_views(nodes: Nodes, proba: str, n_views: int, n_labels: int) -> str:
    """Average over views: from (n_views · n, n_labels), ordered by view, to (n, n_labels)."""
    if n_views == 1:
        return proba
    each = nodes.add("Reshape", proba, np.array([n_views, -1, n_labels]))
    total = nodes.add("ReduceSum", each, np.array([0]), keepdims=0)
    return nodes.add("Mul", total, single(1 / n_views))


def expected_age(nodes: Nodes, proba: str, n_ages: int, *, name: str) -> str:
    """Return Σ k·p(k), of shape (n,)."""
    column = nodes.add("MatMul", proba, np.arange(n_ages, dtype=np.float32)[:, np.newaxis])
    return nodes.add("Squeeze", column, np.array([1]), name=name)


def outside(nodes: Nodes, coverage: float | str, calibration: Calibration) -> str:
    """Return the share of a distribution below its interval, which equals the share above; of shape (1,).

    Parameters
    ----------
    nodes : Nodes
    coverage : float or str
        A number, or the name of a tensor of shape (1,).
    calibration : Calibration
    """
    # Not the widths: for a wide interval, the share outside is small and would be lost by rounding.
    left = 0.5 - np.array(calibration.half_widths)
    if not isinstance(coverage, str):
        return nodes.constant(single([np.interp(coverage, LEVELS, left)]))
    # Linear interpolation between levels: each level's share falls from 1 to 0 at the next level.
    within = nodes.add("Clip", coverage, single(LEVELS[0]), single(LEVELS[-1]))
    places = nodes.add("Sub", nodes.add("Mul", within, single(100)), np.arange(1, 100, dtype=np.float32))
    shares = nodes.add("Relu", nodes.add("Sub", single(1), nodes.add("Abs", places)))
    return nodes.add("MatMul", shares, left.astype(np.float32)[:, np.newaxis])


def age_interval(nodes: Nodes, proba: str, share: str, n_ages: int, *, names: tuple[str, str]) -> None:
    """Return the lower and the upper end of the age's interval, of shape (n,); `share` is from `outside`."""
    whole = nodes.add("LessOrEqual", share, single(0))
    last = single(n_ages - 1)
    low = _quantile(nodes, proba, share, n_ages)
    backwards = nodes.add("Slice", proba, np.array([-1]), np.array([-(2**31)]), np.array([1]), np.array([-1]))
    high = nodes.add("Sub", last, _quantile(nodes, backwards, share, n_ages))
    nodes.add("Where", whole, single(0), low, name=names[0])
    nodes.add("Where", whole, last, high, name=names[1])


def _quantile(nodes: Nodes, proba: str, share: str, n_ages: int) -> str:
    """Return the quantiles of the distributions; the mass of age k is spread evenly over k ± ½."""
    from onnx import TensorProto

    reached = nodes.add("CumSum", proba, np.array(1))
    total = nodes.add("Slice", reached, np.array([n_ages - 1]), np.array([n_ages]), np.array([1]))
    goal = nodes.add("Mul", total, share)
    below = nodes.add("Cast", nodes.add("Less", reached, goal), to=TensorProto.INT64)
    year = nodes.add("ReduceSum", below, np.array([1]), keepdims=1)
    year = nodes.add("Min", year, np.array([n_ages - 1]))
    mass = nodes.add("GatherElements", proba, year, axis=1)
    before = nodes.add("Sub", nodes.add("GatherElements", reached, year, axis=1), mass)
    inside = nodes.add("Div", nodes.add("Sub", goal, before), nodes.add("Max", mass, _LEAST))
    age = nodes.add("Add", nodes.add("Cast", year, to=TensorProto.FLOAT), inside)
    age = nodes.add("Clip", nodes.add("Sub", age, single(0.5)), single(0), single(n_ages - 1))
    return nodes.add("Squeeze", age, np.array([1]))


def scaled_genders(nodes: Nodes, proba: str, temperature: float, *, name: str) -> str:
    """Divide the log-odds by the temperature."""
    if temperature == 1:
        return nodes.add("Identity", proba, name=name)
    logs = nodes.add("Log", nodes.add("Max", proba, _LEAST))
    # A row times this gives minus the scaled log-odds and the log-odds: per gender, those in its favour.
    in_favour = nodes.add("MatMul", logs, single([[1, -1], [-1, 1]]) / single(temperature))
    return nodes.add("Sigmoid", in_favour, name=name)
