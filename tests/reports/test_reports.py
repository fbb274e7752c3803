"""Reports: figures by hand against figures of the report, pages that are safe and whole, data that can be read."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from agegender import AgeGenderClassifier, AgeGenderPipeline, EmbeddingExtractor
from agegender.calibration import UNCALIBRATED
from agegender.exceptions import LeakageWarning
from agegender.model_selection import cross_val_predict_frame
from agegender.reports import EvaluationReport, evaluation_report


def predictions(n=400, seed=0):
    rng = np.random.default_rng(seed)
    truth, genders = rng.integers(0, 100, n).astype(float), rng.integers(0, 2, n)
    error = rng.normal(1, 5, n)
    proba = rng.uniform(0.5, 1, n)
    return pd.DataFrame(
        {
            "age": truth + error,
            "age_low": truth + error - 8,
            "age_high": truth + error + 8,
            "gender": np.where(rng.random(n) < proba, genders, 1 - genders),
            "gender_proba": proba,
            "true_age": truth,
            "true_gender": genders,
        }
    )


@pytest.fixture(scope="module")
def frame():
    return predictions()


@pytest.fixture(scope="module")
def report(frame):
    kinds = np.where(np.arange(400) % 4 == 0, "a <b>bold</b>", "plain")
    proba = np.exp(-0.5 * ((np.arange(101) - frame.age.to_numpy()[:, None]) / 5) ** 2)
    proba /= proba.sum(axis=1, keepdims=True)
    names = [f"<i>{i}.jpg" for i in range(400)]
    return EvaluationReport.from_predictions(
        frame, groups={"kind": kinds}, pictures=names, age_proba=proba, gender_names={0: "man", 1: "woman"}
    )


def test_figures_over_all_are_those_counted_by_hand(frame, report):
    error = frame.age - frame.true_age
    value = report.overall["value"]
    assert value["age_mae"] == pytest.approx(error.abs().mean())
    assert value["age_bias"] == pytest.approx(error.mean())
    assert value["age_cs5"] == (error.abs() <= 5).mean()
    assert value["age_coverage"] == (error.abs() <= 8).mean()
    assert value["gender_accuracy"] == (frame.gender == frame.true_gender).mean()
    low, high = report.overall.loc["age_mae", ["low", "high"]]
    spread = error.abs().std() / 20
    assert (low, high) == pytest.approx(
        (value["age_mae"] - 1.96 * spread, value["age_mae"] + 1.96 * spread), abs=0.06
    )
    assert report.overall["n"].tolist() == [400] * 5


def test_figures_by_group_and_crossing_are_those_of_the_groups_rows(frame, report):
    table = report.by_group.set_index(["grouping", "group"])
    assert report.by_group["grouping"].unique().tolist() == [
        *("kind", "gender", "age band", "kind × gender", "kind × age band", "gender × age band")
    ]
    rows = (np.arange(400) % 4 == 0) & (frame.true_gender == 1)
    found = table.loc[("kind × gender", "a <b>bold</b> · woman")]
    assert found["n"] == rows.sum()
    assert found["age_mae"] == pytest.approx((frame.age - frame.true_age)[rows].abs().mean())
    assert found["gender_accuracy"] == (frame.gender == frame.true_gender)[rows].mean()
    bands = report.by_group[report.by_group["grouping"] == "age band"]
    assert bands["group"].tolist()[:2] + bands["group"].tolist()[-1:] == ["0–9", "10–19", "90+"]
    assert bands["n"].sum() == 400


def test_small_groups_have_figures_but_no_interval_of_a_mean():
    report = EvaluationReport.from_predictions(predictions(60), groups=["few"] * 4 + ["many"] * 56)
    few = report.by_group.set_index("group").loc["few"]
    assert few["age_mae"] > 0
    assert np.isnan(few["age_mae_low"])
    assert few["gender_accuracy_low"] < few["gender_accuracy_high"]
    assert "few" not in set(report.gaps["best"]) | set(report.gaps["worst"])


def test_gaps_name_the_best_and_the_worst_group():
    frame = predictions()
    frame.loc[:199, "age"] = frame.loc[:199, "true_age"] + 20
    gaps = EvaluationReport.from_predictions(frame, groups=["off"] * 200 + ["near"] * 200).gaps
    gap = gaps[(gaps["grouping"] == "group") & (gaps["figure"] == "age_mae")].iloc[0]
    assert (gap["best"], gap["worst"], gap["worst_value"], gap["clear"]) == ("near", "off", 20, True)


def test_recall_and_precision_of_each_gender_and_the_calibration_of_the_second(frame, report):
    table = report.genders.set_index("gender")
    women, said = frame.true_gender == 1, frame.gender == 1
    assert table.loc["woman", "recall"] == (women & said).sum() / women.sum()
    assert table.loc["man", "precision"] == (~women & ~said).sum() / (~said).sum()
    proba = np.where(said, frame.gender_proba, 1 - frame.gender_proba)
    first = report.gender_calibration.iloc[0]
    assert first["n"] == (proba < 0.1).sum()
    assert first["share"] == women[proba < 0.1].mean()


def test_intervals_are_checked_at_every_level(report):
    levels = report.age_calibration
    # Errors are normal around one year with a spread of five, as each distribution says but for the year.
    assert levels["covered"].to_numpy() == pytest.approx(levels["level"], abs=0.06)
    assert levels["width"].is_monotonic_increasing
    assert report.age_positions["n"].sum() == 400


def test_missing_labels_and_unread_pictures_count_where_they_can():
    frame = predictions(100)
    frame.loc[0, ["age", "age_low", "age_high", "gender", "gender_proba"]] = np.nan
    frame.loc[1, "true_age"] = np.nan
    frame["true_gender"] = frame["true_gender"].astype(object)
    frame.loc[[2, 3], "true_gender"] = None
    report = EvaluationReport.from_predictions(frame, groups=pd.Series([None, *"x" * 99], name="kind"))
    assert report.counts == {
        "pictures": 100,
        "predicted": 99,
        "with_age": 98,
        "with_gender": 97,
        "trained_on": 0,
    }
    assert report.overall["n"]["age_mae"] == 98
    assert report.overall["n"]["gender_accuracy"] == 97
    groups = report.by_group.set_index(["grouping", "group"])
    assert groups.loc[("kind", "x"), "n"] == 99
    assert 0 not in set(report.worst["row"])
    json.loads(report.to_json())
    assert "98 with a known age" in report.to_html()


def test_predictions_of_ages_alone_or_of_one_gender_make_a_report():
    frame = pd.DataFrame({"age": [30.0, 42], "true_age": [31.0, 40], "gender": [0, 0], "true_gender": [0, 0]})
    report = EvaluationReport.from_predictions(frame)
    assert report.overall["value"]["age_mae"] == 1.5
    assert report.genders["gender"].tolist() == [0]
    assert np.isnan(report.overall["value"]["age_coverage"])
    assert "1.50 years" in report.to_html()


def test_a_page_escapes_what_it_shows_and_loads_nothing(report):
    page = report.to_html()
    assert "a &lt;b&gt;bold&lt;/b&gt;" in page
    assert "<b>bold" not in page
    assert "&lt;i&gt;" in page
    assert "<i>" not in page
    assert "<script" not in page
    assert not re.findall(r"(?:src|href)=[\"'](?!data:)", page)
    assert "default-src 'none'" in page
    assert page.count("data:image/svg+xml") == 8


def test_a_page_is_dark_where_wanted_and_its_tables_can_be_reached_by_keyboard(report):
    page = report.to_html()
    assert "@media screen and (prefers-color-scheme: dark)" in page
    labels = re.findall(r'<div class="table" role="region" tabindex="0" aria-label="([^"]+)">', page)
    assert len(labels) == len(set(labels)) == page.count('class="table"') > 2


def test_the_worst_pictures_are_shown_and_those_that_cannot_be_read_are_not(tmp_path):
    frame = predictions(30)
    frame["age"] = frame["true_age"] + np.arange(30)
    paths = [str(tmp_path / f"{i}.png") for i in range(30)]
    for path in paths[28:]:
        Image.new("RGB", (300, 200), "red").save(path)
    report = EvaluationReport.from_predictions(frame, pictures=paths, n_worst=3)
    assert report.worst["row"].tolist() == [29, 28, 27]
    assert report.worst["error"].tolist() == [29, 28, 27]
    assert report.to_html().count("data:image/jpeg") == 2


def test_a_saved_report_is_whole_and_its_data_can_be_read_again(report, tmp_path):
    page = report.save(tmp_path / "deep" / "report")
    assert sorted(path.name for path in page.parent.iterdir()) == [
        "predictions.csv",
        "report.html",
        "report.json",
    ]
    data = json.loads((page.parent / "report.json").read_text("utf-8"))
    assert data["schema_version"] == 1
    assert data["overall"]["age_mae"]["value"] == pytest.approx(report.overall["value"]["age_mae"])
    assert len(data["by_group"]) == len(report.by_group)
    assert data["by_group"][0]["group"] == "a <b>bold</b>"
    assert len(pd.read_csv(page.parent / "predictions.csv")) == 400


def test_the_terminal_shows_figures_by_group(report):
    console = Console(width=150, file=io.StringIO())
    console.print(report)
    text = console.file.getvalue()
    assert f"{report.overall['value']['age_mae']:.2f} years" in text
    assert "a <b>bold</b>" in text


def model_and_data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 2))
    y = np.column_stack([np.clip(np.round(40 + 10 * X[:, 0]), 0, 100), X[:, 1] > 0])
    return AgeGenderClassifier(epochs=10, learning_rate=0.05, random_state=0), X, y


def test_a_report_of_a_model_is_that_of_its_predictions():
    model, X, y = model_and_data()
    model.fit(X[:300], y[:300])
    assert model.calibration_ != UNCALIBRATED
    report = evaluation_report(model, X[300:], y[300:], coverage=0.8)
    told = model.predict_frame(X[300:], coverage=0.8)
    assert report.predictions["age_low"].tolist() == told["age_low"].tolist()
    assert report.overall["value"]["age_mae"] == pytest.approx(-model.score(X[300:], y[300:]))
    level = report.age_calibration.set_index("level").loc[0.8]
    assert level["covered"] == report.overall["value"]["age_coverage"]
    assert report.worst["picture"][0].startswith("row ")
    with pytest.raises(ValueError, match="X has 200 pictures and y 300 rows"):
        evaluation_report(model, X[300:], y[:300])


def test_out_of_fold_predictions_make_a_report_without_a_held_out_set():
    model, X, y = model_and_data()
    frame = cross_val_predict_frame(model.set_params(epochs=2), X, y, cv=2)
    report = EvaluationReport.from_predictions(frame)
    assert report.counts["with_age"] == 500
    assert report.overall["value"]["age_mae"] == pytest.approx((frame.age - y[:, 0]).abs().mean())


@pytest.mark.parametrize(
    ("change", "groups", "message"),
    [
        (lambda f: f.drop(columns="true_age"), None, "no column 'true_age'"),
        (lambda f: f.assign(age=np.nan), None, "Nothing was predicted for any of the 400"),
        (lambda f: f.assign(gender="woman"), None, r"labels \[0, 1, 'woman'\]"),
        (lambda f: f, ["x"] * 3, "groups has 3 rows; it should have 400"),
        (lambda f: f, {"person": np.arange(400)}, "400 different labels; at most 50"),
        (lambda f: f, {"gender": ["x"] * 400}, "'gender', which every report contains"),
    ],
)
def test_what_makes_no_report_is_refused_with_its_own_error(frame, change, groups, message):
    with pytest.raises(ValueError, match=message):
        EvaluationReport.from_predictions(change(frame), groups=groups)


def test_pictures_of_the_training_are_counted_and_left_out_of_figures_of_their_own(backbone, faces, tmp_path):
    classifier = AgeGenderClassifier(epochs=2, random_state=0)
    model = AgeGenderPipeline(EmbeddingExtractor(backbone, framing="utkface"), classifier)
    model.fit(faces.data[:40], faces.target[:40])
    unseen = evaluation_report(model, faces.data[40:], faces.target[40:])
    assert unseen.counts["trained_on"] == 0
    assert unseen.unseen.empty
    with pytest.warns(LeakageWarning, match="30 of 50 pictures"):
        report = evaluation_report(model, iter(faces.data[10:]), faces.target[10:])
    assert report.counts["trained_on"] == 30
    pd.testing.assert_frame_equal(report.unseen, unseen.overall)
    assert report.overall["n"]["age_mae"] == 50
    assert report.to_dict()["counts"]["trained_on"] == 30
    assert report.worst["picture"][0] == faces.data[10:][report.worst["row"][0]]
    assert "30 of these pictures are among those that the model was trained on" in shown(report)


def shown(report):
    console = Console(file=io.StringIO(), width=120)
    console.print(report)
    return " ".join(console.file.getvalue().split())
