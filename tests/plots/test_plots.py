"""Each display draws the numbers that its predictions have."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot

from agegender.calibration import Calibration
from agegender.exceptions import PictureWarning
from agegender.plots import (
    AgeCumulativeScoreDisplay,
    AgeDistributionDisplay,
    AgeErrorDisplay,
    GenderCalibrationDisplay,
    TrainingHistoryDisplay,
)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


class Known:
    """Predicts an age three years too high, and gender 1 with the probability that the row gives."""

    classes_ = (np.arange(101), np.array([0, 1]))

    def predict(self, X):
        return np.column_stack([X[:, 0] + 3, X[:, 1] > 0.5])

    def predict_proba(self, X):
        ages = np.exp(-0.5 * ((np.arange(101) - X[:, [0]]) / 5) ** 2)
        return [ages / ages.sum(axis=1, keepdims=True), np.column_stack([1 - X[:, 1], X[:, 1]])]


def rows(n=400):
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(0, 100, n), rng.random(n)])
    return X, np.column_stack([X[:, 0], rng.random(n) < X[:, 1]]).astype(float)


def test_errors_by_band_are_bars_of_the_mae_and_points_of_the_bias():
    truth = np.repeat([5.0, 25.0, 101.0], 20)
    predicted = truth + np.tile([1.0, -3.0], 30)
    ax = AgeErrorDisplay.from_predictions(truth, predicted).ax_
    assert [bar.get_height() for bar in ax.patches] == [2.0, 2.0, 2.0]
    bias = next(line for line in ax.lines if line.get_label().startswith("bias"))
    assert bias.get_ydata().tolist() == [-1, -1, -1]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0–9\n20", "20–29\n20", "90+\n20"]


def test_errors_by_age_are_points_or_a_density_with_running_quantiles():
    X, y = rows(400)
    display = AgeErrorDisplay.from_estimator(Known(), X, y, kind="by_age", s=3)
    assert len(display.ax_.collections[0].get_offsets()) == 400
    median = next(line for line in display.ax_.lines if line.get_label() == "median")
    assert median.get_ydata() == pytest.approx(np.full(20, 3.0))
    many = AgeErrorDisplay.from_predictions(np.tile(X[:, 0], 3), np.tile(X[:, 0], 3), kind="by_age")
    assert many.ax_.collections[0].get_array().sum() == 1200
    with pytest.raises(ValueError, match=r"kind='band'.*Did you mean 'by_band'"):
        AgeErrorDisplay.from_predictions([1, 2], [1, 2], kind="band")


def test_quantiles_of_few_errors_are_taken_over_wider_bands_or_not_at_all():
    ages = np.tile(np.arange(0.0, 80.0), 3)
    plot = partial(AgeErrorDisplay.from_predictions, kind="by_age")
    for n_pictures, centres in ((240, np.arange(2.5, 80, 5)), (80, np.arange(5.0, 80, 10))):
        ax = plot(ages[:n_pictures], ages[:n_pictures] + 1).ax_
        median = next(line for line in ax.lines if line.get_label() == "median")
        assert median.get_xdata().tolist() == centres.tolist()
    few = plot(ages[:80:20], ages[:80:20]).ax_
    assert len(few.collections[0].get_offsets()) == 4
    assert few.get_legend() is None


def test_pictures_without_a_prediction_are_left_out_with_a_warning():
    frame = pd.DataFrame({"age": [30.0, np.nan, 50.0], "gender": [0, np.nan, 1]})
    with pytest.warns(PictureWarning, match="1 of 3 rows"):
        display = AgeCumulativeScoreDisplay.from_predictions([[30, 0], [40, 0], [56, 1]], frame)
    assert display.errors.tolist() == [0, 6]


def test_curves_on_the_same_axes_have_their_own_colours_and_names():
    X, y = rows()
    first = AgeCumulativeScoreDisplay.from_estimator(Known(), X, y, name="three off")
    second = AgeCumulativeScoreDisplay.from_predictions(y, y, name="right", ax=first.ax_, max_k=20)
    assert first.line_.get_ydata()[[2, 3]].tolist() == [0, 100]
    assert second.line_.get_ydata()[0] == 100
    assert first.line_.get_color() != second.line_.get_color()
    assert [text.get_text() for text in first.ax_.get_legend().texts] == [
        "three off: 100.0 % within 5 years",
        "right: 100.0 % within 5 years",
    ]


def test_distributions_are_drawn_with_the_estimators_own_calibration():
    X, y = rows(3)
    model = Known()
    model.calibration_ = Calibration(99, tuple(np.linspace(0.3, 0.49, 99)), 1.0)
    display = AgeDistributionDisplay.from_estimator(model, X, y, coverage=0.5, names=["a", "b", "c"])
    plain = AgeDistributionDisplay.from_estimator(Known(), X, coverage=0.5)
    assert (display.high - display.low > plain.high - plain.low).all()
    assert [tick.get_text() for tick in display.ax_.get_yticklabels()] == ["a", "b", "c"]
    truths = [line.get_xdata()[0] for line in display.ax_.lines if line.get_marker() == "D"]
    assert truths == y[:, 0].tolist()
    with pytest.raises(ValueError, match="got 17 pictures; it shows 1 to 16"):
        AgeDistributionDisplay.from_estimator(Known(), rows(17)[0])


def test_a_calibrated_gender_lies_on_the_diagonal():
    X, y = rows(20_000)
    bins = GenderCalibrationDisplay.from_estimator(Known(), X, y).bins_
    assert len(bins) == 10
    assert bins["n"].sum() == 20_000
    assert bins["share"].to_numpy() == pytest.approx(bins["mean_proba"], abs=0.03)
    assert ((bins["low"] < bins["share"]) & (bins["share"] < bins["high"])).all()


def test_genders_may_be_text_and_unread_pictures_are_not_counted():
    truth = pd.DataFrame({"gender": ["m", "f", "m", "f"]})
    proba = [[0.9, 0.1], [np.nan, np.nan], [0.2, 0.8], [0.8, 0.2]]
    display = GenderCalibrationDisplay.from_predictions(truth, proba, n_bins=2)
    assert display.label == "m"
    assert display.bins_[["n", "share"]].to_numpy().tolist() == [[2, 0.5], [1, 1.0]]
    with pytest.raises(ValueError, match=r"shape \(4,\); it should be \(4, 2\)"):
        GenderCalibrationDisplay.from_predictions(truth, np.zeros(4))


def test_history_has_a_line_a_member_and_marks_the_best_epoch_of_each_round():
    errors = [9, 5, 6, 4, 5]
    history = [
        {"member": m, "round": 1 + (i > 2), "epoch": i, "val_age_mae": e + m, "loss": 1.0}
        for m in (1, 2)
        for i, e in enumerate(errors)
    ]
    model = type("Fitted", (), {"history_": history})()
    display = TrainingHistoryDisplay.from_estimator(model)
    assert [line.get_ydata().tolist() for line in display.lines_] == [[10, 6, 7, 5, 6], [11, 7, 8, 6, 7]]
    marks = [line.get_xydata().tolist() for line in display.ax_.lines if line.get_marker() == "o"]
    assert marks == [[[2, 6]], [[4, 5]], [[2, 7]], [[4, 6]]]
    assert [line.get_label() for line in display.lines_] == ["member 1: 6.00, 5.00", "member 2: 7.00, 6.00"]
    alone = TrainingHistoryDisplay(history[:3]).plot()
    assert [text.get_text() for text in alone.ax_.get_legend().get_texts()] == ["best: 6.00"]
    assert TrainingHistoryDisplay(history[:3]).plot(metric="loss").ax_.get_legend() is None
    with pytest.raises(ValueError, match="int has no history_"):
        TrainingHistoryDisplay.from_estimator(3)


def test_axes_given_are_drawn_on_and_no_other_figure_is_made():
    _, axes = pyplot.subplots(2)
    X, y = rows()
    display = AgeErrorDisplay.from_estimator(Known(), X, y, ax=axes[1], color="black")
    assert display.ax_ is axes[1]
    assert display.figure_ is axes[1].figure
    assert pyplot.get_fignums() == [1]


def test_importing_the_displays_imports_no_matplotlib():
    code = "import sys, agegender.plots; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
