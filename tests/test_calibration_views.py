"""Intervals that are calibrated on changed pictures of the calibration set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from agegender import (
    AgeGenderClassifier,
    AgeGenderPipeline,
    EmbeddingExtractor,
    load_model,
    save_model,
)
from agegender.calibration import age_interval, calibrate, calibrate_on_views
from agegender.cli import app
from agegender.ensemble import AgeGenderEnsemble
from agegender.exceptions import TrainingWarning
from agegender.views import DEGRADED, View, look, resolve_calibration_views


def pipeline(backbone, changes, views=1, **options):
    extractor = EmbeddingExtractor(backbone, views=views)
    settings = {"epochs": 2, "random_state": 0, "calibration_fraction": 0.5} | options
    return AgeGenderPipeline(extractor, AgeGenderClassifier(**settings), calibration_views=changes)


def held_out(model, faces, monkeypatch):
    """Fit a model; return it and the rows of its calibration set."""
    kept = []
    whole = AgeGenderClassifier._fit_whole
    monkeypatch.setattr(
        AgeGenderClassifier, "_fit_whole", lambda *arguments: kept.append(whole(*arguments)) or kept[-1]
    )
    return model.fit(faces.data, faces.target), kept[0]


@pytest.mark.parametrize("views", [1, ("plain", "mirror")])
def test_it_is_the_calibration_of_the_changed_pictures(backbone, faces, views, monkeypatch) -> None:
    changes = ("plain", View(grey=True, turn=40), View(side=6))
    model, aside = held_out(pipeline(backbone, changes, views=views), faces, monkeypatch)
    classifier, n = model.classifier_, len(aside)
    assert classifier.calibration_.n_pictures == n >= 20
    distributions = []
    for change in resolve_calibration_views(changes):
        own = tuple(change + view for view in model.extractor_.resolved_.views)
        rows = EmbeddingExtractor(backbone, views=own, layer=model.extractor_.layer).transform(
            faces.data[aside]
        )
        distributions.append(tuple(classifier.fitted_head().raw_distributions(rows)))
    ages, genders = faces.target[aside].T
    expected = calibrate_on_views(distributions, ages, genders)
    alone = [calibrate(*one, ages, genders).half_widths for one in distributions]
    np.testing.assert_array_equal(expected.half_widths, np.max(alone, axis=0))
    np.testing.assert_allclose(classifier.calibration_.half_widths, expected.half_widths, atol=1e-5)
    assert classifier.calibration_.temperature == pytest.approx(expected.temperature, rel=1e-4)


def test_the_head_and_the_default_stay_as_they_are(backbone, faces, tmp_path) -> None:
    plain = pipeline(backbone, None).fit(faces.data, faces.target)
    changed = pipeline(backbone, "degraded").fit(faces.data, faces.target)
    assert plain.classifier_.calibration_ != changed.classifier_.calibration_
    np.testing.assert_array_equal(plain.predict(faces.data), changed.predict(faces.data))
    assert changed.report_.n_images == len(faces.data)
    loaded = load_model(save_model(changed, tmp_path / "model.agegender"))
    assert loaded.calibration_views == "degraded"
    assert loaded.classifier_.calibration_ == changed.classifier_.calibration_


def test_the_views_are_cached_and_of_the_calibration_set_alone(backbone, faces) -> None:
    model = pipeline(backbone, "degraded")
    model.fit(faces.data, faces.target)
    from agegender.runtime import images_passed

    before = images_passed()
    model.fit(faces.data, faces.target)
    assert images_passed() == before


def test_the_promise_is_kept_for_each_view() -> None:
    rng = np.random.default_rng(0)
    grid, even = np.arange(101), np.tile([0.5, 0.5], (1000, 1))

    def drawn(spread):
        proba = np.exp(-0.5 * ((grid - (ages + rng.normal(0, spread, 1000))[:, None]) / 4) ** 2)
        return proba / proba.sum(axis=1, keepdims=True), even

    ages = rng.uniform(20, 80, 1000)
    found = calibrate_on_views([drawn(4), drawn(8)], ages, np.arange(1000) % 2)
    assert found.n_pictures == 1000
    ages = rng.uniform(20, 80, 1000)
    for level in (0.5, 0.8):
        held = []
        for spread in (4, 8):
            low, high = age_interval(drawn(spread)[0], level, found)
            held.append(((low <= ages) & (ages <= high)).mean())
        assert held[0] > level + 0.05
        assert held[1] == pytest.approx(level, abs=0.04)


def test_every_degraded_view_changes_a_picture_and_keeps_its_size(faces) -> None:
    from agegender.images import load

    pixels = load(faces.data[0])
    pixels = np.repeat(np.repeat(pixels, 6, axis=0), 6, axis=1)
    seen = look(pixels, DEGRADED)
    assert all(view.shape == pixels.shape and view.dtype == np.uint8 for view in seen)
    assert [bool((view != pixels).any()) for view in seen] == [False] + [True] * (len(DEGRADED) - 1)
    assert len({str(view) for view in DEGRADED}) == len(DEGRADED)
    np.testing.assert_array_equal(View(zoom=0.5, black=True)(pixels)[:10], 0)
    assert View(zoom=0.5)(pixels)[:10].mean() > 0
    flat = View(side=1)(pixels)
    assert np.ptp(flat.reshape(-1, 3), axis=0).max() == 0
    np.testing.assert_array_equal(View(side=500)(pixels), pixels)
    assert (View(side=48) + View(side=20) + View(jpeg=30)) == View(side=20, jpeg=30)


@pytest.mark.parametrize("change", [{"side": -1}, {"jpeg": 0.5}, {"jpeg": 101}, {"jpeg": -3}])
def test_what_is_no_view_is_refused(change) -> None:
    with pytest.raises(ValueError, match="View: "):
        View(**change)


def test_what_cannot_be_calibrated_is_said(backbone, faces, tmp_path) -> None:
    with pytest.raises(ValueError, match="calibration_views='degraded' needs a calibration set"):
        pipeline(backbone, "degraded", calibration_fraction=0).fit(faces.data, faces.target)
    with pytest.raises(ValueError, match="Did you mean 'grey'"):
        pipeline(backbone, "gray").fit(faces.data, faces.target)
    with pytest.warns(TrainingWarning, match="There is no calibration set"):
        pipeline(backbone, "degraded", calibration_fraction=0.1, epochs=1).fit(faces.data, faces.target)
    with pytest.raises(ValueError, match="ensemble calibrates its average on plain pictures"):
        AgeGenderEnsemble([pipeline(backbone, "degraded")]).fit(faces.data, faces.target)


def test_the_command_calibrates_on_views(tiny_onnx: Path, drawn_faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.agegender"
    train = ["train", str(drawn_faces), "--backbone", str(tiny_onnx), "--epochs", "1", "--folds", "0", "-q"]
    runner = CliRunner()
    with pytest.warns(TrainingWarning, match="There is no calibration set"):  # of 60 pictures
        done = runner.invoke(app, [*train, "--calibration-views", "degraded", "--out", str(out)])
    assert done.exit_code == 0, done.exception
    assert load_model(out).calibration_views == "degraded"
    refused = runner.invoke(app, [*train, "--calibration-views", "gray"])
    assert "Did you mean 'grey'" in str(refused.exception)
    shards = ["train", "--shards", "x", "--labels", "y", "--calibration-views", "degraded"]
    assert "needs the pictures" in str(runner.invoke(app, shards).exception)
