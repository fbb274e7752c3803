"""Ages, intervals and genders as graph operations: the numbers of agegender.calibration."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from agegender._exporting import readout
from agegender._exporting.nodes import Nodes
from agegender._machine.sessions import open_session
from agegender.calibration import UNCALIBRATED, Calibration, age_interval, scale_genders
from agegender.metrics import expected_age

RNG = np.random.default_rng(0)
SURE = Calibration(200, tuple(np.linspace(0.001, 0.4999, 99).tolist()), 1.7)


def distributions(n_ages: int) -> np.ndarray:
    """Narrow and wide, at both ends and in the middle, and one that is nearly certain."""
    ages = np.arange(n_ages)
    centres = RNG.uniform(-3, n_ages + 2, 60)[:, None]
    widths = RNG.uniform(0.3, 20, 60)[:, None]
    rows = np.exp(-0.5 * ((ages - centres) / widths) ** 2) + 1e-12
    rows[0] = np.where(ages == n_ages // 2, 1.0, 0.0)
    return (rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)


def run(nodes: Nodes, outputs: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    kinds = [(name, list(value.shape)) for name, value in feed.items()]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in kinds]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    return open_session(nodes.model("readout", inputs, ends).SerializeToString()).run(outputs, feed)


@pytest.mark.parametrize("calibration", [UNCALIBRATED, SURE], ids=["at its word", "calibrated"])
@pytest.mark.parametrize("n_ages", [2, 101])
@pytest.mark.parametrize("coverage", [0.01, 0.5, 0.9, 0.935, 0.99])
@pytest.mark.parametrize("asked", [False, True], ids=["at export", "as an input"])
def test_intervals_are_those_of_the_library(
    calibration: Calibration, n_ages: int, coverage: float, asked: bool
) -> None:
    proba, nodes = distributions(n_ages), Nodes(17)
    feed = {"proba": proba} | ({"coverage": np.float32([coverage])} if asked else {})
    share = readout.outside(nodes, "coverage" if asked else coverage, calibration)
    readout.age_interval(nodes, "proba", share, n_ages, names=("low", "high"))
    for found, expected in zip(
        run(nodes, ["low", "high"], feed), age_interval(proba, coverage, calibration), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-4 if coverage < 0.95 else 1e-3)


def test_an_interval_that_no_calibration_set_can_promise_is_the_whole_range() -> None:
    proba, nodes = distributions(101), Nodes(17)
    share = readout.outside(nodes, 0.9, Calibration(5, (0.5,) * 99, 1.0))
    readout.age_interval(nodes, "proba", share, 101, names=("low", "high"))
    low, high = run(nodes, ["low", "high"], {"proba": proba})
    assert (low == 0).all()
    assert (high == 100).all()


def test_ages_and_genders_are_those_of_the_library() -> None:
    proba, nodes = distributions(101), Nodes(17)
    genders = np.column_stack([1 - (p := RNG.random(60)), p]).astype(np.float32)
    genders[0] = [1, 0]
    readout.expected_age(nodes, "proba", 101, name="age")
    readout.scaled_genders(nodes, "genders", 1.7, name="scaled")
    age, scaled = run(nodes, ["age", "scaled"], {"proba": proba, "genders": genders})
    np.testing.assert_allclose(age, expected_age(proba), atol=5e-5)
    np.testing.assert_allclose(scaled, scale_genders(genders, 1.7), atol=1e-6)


def test_views_are_averaged_view_after_view() -> None:
    proba, nodes = distributions(101), Nodes(18)
    nodes.add("Identity", readout.mean_of_views(nodes, "proba", 3, 101), name="mean")
    (mean,) = run(nodes, ["mean"], {"proba": proba})
    np.testing.assert_allclose(mean, proba.reshape(3, 20, 101).mean(axis=0), atol=1e-7)
