"""A model beside predictors that others trained, in one report and on the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from deepface_networks import demography

from agegender import AgeGenderClassifier, AgeGenderPipeline, DenseHead, EmbeddingExtractor, save_model
from agegender._networks.location import weights_folder
from agegender.baselines import DeepFaceAgeGender
from agegender.reports import evaluation_report


class Oracle:
    """A baseline that is wrong by so many years."""

    def __init__(self, y: np.ndarray, wrong_by: float) -> None:
        self.y = y
        self.wrong_by = wrong_by

    def predict_frame(self, X: list) -> pd.DataFrame:
        return pd.DataFrame({"age": self.y[:, 0] + self.wrong_by, "gender": self.y[:, 1].astype(int)})


class Named(Oracle):
    """One that calls genders f and m."""

    def predict_frame(self, X: list) -> pd.DataFrame:
        frame = super().predict_frame(X)
        return frame.assign(gender=np.where(frame["gender"] == 1, "f", "m"))


@pytest.fixture(scope="module")
def fitted(backbone, faces) -> AgeGenderPipeline:
    classifier = AgeGenderClassifier(DenseHead(units=(8,)), epochs=5, random_state=0)
    return AgeGenderPipeline(EmbeddingExtractor(backbone, cache=None), classifier).fit(
        faces.data[:40], faces.target[:40]
    )


@pytest.fixture
def deepface_weights() -> None:
    weights_folder().mkdir(parents=True)
    onnx.save(demography(101, seed=1), weights_folder() / "age_model_weights.onnx")
    onnx.save(demography(2, seed=2), weights_folder() / "gender_model_weights.onnx")


@pytest.mark.slow
def test_a_model_is_compared_picture_by_picture(fitted, faces) -> None:
    y = np.asarray(faces.target)[40:]
    report = evaluation_report(
        fitted, faces.data[40:], y, baselines={"perfect": Oracle(y, 0.0), "off": Oracle(y, 90.0)}
    )
    table = report.baselines.set_index(["baseline", "figure"])
    mae = report.overall.value["age_mae"]
    perfect, off = table.loc[("perfect", "age_mae")], table.loc[("off", "age_mae")]
    assert perfect[["n", "value", "clear"]].tolist() == [20, 0.0, True]
    np.testing.assert_allclose(perfect[["model", "difference"]].astype(float), mae)
    assert off["value"] == 90.0
    np.testing.assert_allclose(off["difference"], mae - 90)
    assert off["low"] <= off["difference"] <= off["high"] < 0
    assert table.loc[("perfect", "gender_accuracy"), "value"] == 1.0
    assert json.loads(report.to_json())["baselines"][0]["baseline"] == "perfect"
    page = report.to_html()
    assert "Beside others" in page
    assert "90.00 years" in page


@pytest.mark.slow
def test_a_model_alone_has_an_empty_table(fitted, faces) -> None:
    report = evaluation_report(fitted, faces.data[40:], faces.target[40:])
    assert len(report.baselines) == 0
    assert "Beside others" not in report.to_html()


def test_genders_that_baselines_do_not_predict_are_refused(faces) -> None:
    y = np.asarray(faces.target)
    named = pd.DataFrame({"age": y[:, 0], "gender": np.where(y[:, 1], "f", "m")})
    with pytest.raises(ValueError, match=r"0 \(male\) and 1 \(female\); the true ones have \['f', 'm'\]"):
        evaluation_report(Named(y, 1.0), faces.data, named, baselines={"x": Oracle(y, 0.0)})


def test_a_report_on_a_baseline_itself(deepface_weights, faces) -> None:
    baseline = DeepFaceAgeGender(cache=None)
    report = evaluation_report(baseline, faces.data, faces.target)
    expected = np.abs(baseline.predict(faces.data)[:, 0] - np.asarray(faces.target)[:, 0]).mean()
    assert report.overall.value["age_mae"] == pytest.approx(expected)
    assert len(report.age_calibration) > 0


def test_an_estimator_without_a_distribution_is_reported_without_intervals(faces) -> None:
    y = np.asarray(faces.target)
    report = evaluation_report(Oracle(y, 3.0), faces.data, y)
    assert report.overall.value["age_mae"] == pytest.approx(3.0)
    assert report.overall.n["age_coverage"] == 0
    assert len(report.age_calibration) == 0


@pytest.mark.slow
def test_the_command_evaluates_a_baseline_and_a_model_beside_it(
    deepface_weights, fitted, drawn_faces, tmp_path: Path, own_home
) -> None:
    save_model(fitted, tmp_path / "model.agegender")
    alone = _evaluate("deepface", drawn_faces, "--out", tmp_path / "alone")
    assert alone.returncode == 0, alone.stderr
    both = _evaluate(
        tmp_path / "model.agegender", drawn_faces, "--baseline", "deepface", "--out", tmp_path / "both"
    )
    assert both.returncode == 0, both.stderr
    assert "baseline" in both.stdout
    of_deepface = json.loads((tmp_path / "alone" / "report.json").read_text())
    compared = json.loads((tmp_path / "both" / "report.json").read_text())["baselines"]
    assert compared[0]["figure"] == "age_mae"
    assert compared[0]["value"] == pytest.approx(of_deepface["overall"]["age_mae"]["value"])
    unknown = _evaluate(tmp_path / "model.agegender", drawn_faces, "--baseline", "x", "--out", tmp_path / "x")
    assert unknown.returncode == 2
    assert "'deepface', 'insightface'" in unknown.stderr
    assert not (tmp_path / "x").exists()


def _evaluate(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from agegender.cli import main; main()", "evaluate", "--quiet"]
    environment = os.environ | {"COLUMNS": "160", "NO_COLOR": "1"}
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, env=environment, check=False
    )
