"""A report beside that of another set: both values, the difference, and what cannot be compared."""

from __future__ import annotations

import io
import json
import math

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from agegender import AgeGenderClassifier, AgeGenderPipeline, EmbeddingExtractor, save_model
from agegender.cli import app
from agegender.reports import EvaluationReport, evaluation_report

NAMES = {0: "man", 1: "woman"}


def report_of(n: int, oldest: int, error: float, seed: int, **options) -> EvaluationReport:
    rng = np.random.default_rng(seed)
    truth, genders = rng.integers(0, oldest, n).astype(float), rng.integers(0, 2, n)
    age = truth + rng.normal(0, error, n)
    right = rng.random(n) < 0.9
    frame = pd.DataFrame(
        {
            **{"true_age": truth, "age": age, "age_low": age - 6, "age_high": age + 6},
            **{"true_gender": genders, "gender": np.where(right, genders, 1 - genders), "gender_proba": 0.9},
        }
    )
    return EvaluationReport.from_predictions(frame, **{"gender_names": NAMES, "n_resamples": 100} | options)


@pytest.fixture(scope="module")
def training() -> EvaluationReport:
    return report_of(600, 50, 3, 0, title="Training set [out of fold]")


@pytest.fixture(scope="module")
def test_set() -> EvaluationReport:
    return report_of(400, 80, 6, 1, title="Test set")


def test_both_values_and_their_difference_are_those_of_the_reports(training, test_set) -> None:
    table = test_set.beside(training).reference.set_index(["grouping", "group", "figure"])
    for figure in ("age_mae", "age_coverage", "gender_accuracy"):
        row = table.loc[("all pictures", "all pictures", figure)]
        here, there = test_set.overall.loc[figure], training.overall.loc[figure]
        assert (row["value"], row["reference"]) == pytest.approx((here["value"], there["value"]))
        assert row["difference"] == pytest.approx(here["value"] - there["value"])
        low = row["difference"] - math.hypot(here["value"] - here["low"], there["high"] - there["value"])
        assert row["difference_low"] == pytest.approx(low)
        assert (row["n"], row["reference_n"]) == (400, 600)
    assert table.loc[("all pictures", "all pictures", "age_mae"), "clear"]
    assert not table.loc[("all pictures", "all pictures", "gender_accuracy"), "clear"]
    women = table.loc[("gender", "woman", "gender_accuracy")]
    found = training.by_group.set_index(["grouping", "group"]).loc[("gender", "woman")]
    assert women["reference"] == pytest.approx(found["gender_accuracy"])


def test_the_distributions_of_ages_are_compared_bands_of_one_set_too(training, test_set) -> None:
    table = test_set.beside(training).reference
    shares = table[(table["grouping"] == "age band") & (table["figure"] == "share")].set_index("group")
    ages = test_set.predictions["true_age"]
    assert list(shares.index[:2]) == ["0–9", "10–19"]
    assert shares.loc["20–29", "value"] == ((ages >= 20) & (ages < 30)).mean()
    assert shares["value"].sum() == pytest.approx(1)
    assert shares["reference"].sum() == pytest.approx(1)
    assert (shares.loc["70–79", "reference"], shares.loc["70–79", "reference_n"]) == (0, 0)
    assert shares.loc["70–79", "clear"]
    errors = table[(table["group"] == "70–79") & (table["figure"] == "age_mae")].iloc[0]
    assert np.isnan(errors["reference"])
    assert not errors["clear"]


def test_sets_without_a_common_age_are_compared(training) -> None:
    old = training.predictions.assign(true_age=training.predictions["true_age"] + 50)
    table = EvaluationReport.from_predictions(old, n_resamples=100).beside(training).reference
    shares = table[(table["grouping"] == "age band") & (table["figure"] == "share")].set_index("group")
    assert shares.loc["0–9", ["value", "difference"]].tolist() == [0, -shares.loc["0–9", "reference"]]
    assert shares.loc["50–59", "reference"] == 0


def test_only_groupings_of_both_are_compared(test_set) -> None:
    kinds = np.array(["a", "b"])
    own = report_of(300, 60, 4, 2, groups={"kind": kinds[np.arange(300) % 2]})
    assert set(own.beside(test_set).reference["grouping"]) == {"all pictures", "gender", "age band"}
    both = own.beside(report_of(300, 60, 4, 3, groups={"kind": kinds[np.arange(300) % 2]}))
    assert "kind" in set(both.reference["grouping"])


def test_page_terminal_and_json_show_both(training, test_set, tmp_path) -> None:
    training.save(tmp_path / "training")
    compared = test_set.beside(tmp_path / "training")
    assert compared.reference_title == "Training set [out of fold]"
    page = compared.to_html()
    assert "Beside the reference" in page
    assert "Beside the reference" not in test_set.to_html()
    mae = f"{training.overall.value['age_mae']:.2f}"
    assert f'<span class="soft">{mae}</span>' in page
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(compared)
    said = console.export_text()
    assert "Beside the reference: Training set [out of fold]" in said
    assert f"{mae} years" in said
    data = json.loads(compared.to_json())
    assert data["reference_title"] == "Training set [out of fold]"
    assert data["reference"][0]["reference"] == pytest.approx(training.overall.value["age_mae"])
    assert json.loads(test_set.to_json())["reference"] == []
    again = test_set.beside(json.loads((tmp_path / "training" / "report.json").read_text("utf-8")))
    pd.testing.assert_frame_equal(again.reference, compared.reference)


def test_what_cannot_be_compared_is_an_error(training, test_set, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"to cover 0\.9, those of the reference 0\.8"):
        test_set.beside(report_of(100, 50, 3, 4, coverage=0.8))
    with pytest.raises(ValueError, match="groups of 'gender' are man, woman in this report, and 0, 1 in the"):
        test_set.beside(report_of(100, 50, 3, 4, gender_names=None))
    with pytest.raises(FileNotFoundError, match=r"report\.json"):
        test_set.beside(tmp_path / "nowhere.json")
    (tmp_path / "odd.json").write_text("{}")
    with pytest.raises(ValueError, match="is not a report"):
        test_set.beside(tmp_path / "odd.json")
    (tmp_path / "cut.json").write_text('{"over')
    with pytest.raises(ValueError, match=r"not a report\.json of agegender"):
        test_set.beside(tmp_path / "cut.json")
    with pytest.raises(ValueError, match="schema_version 2"):
        test_set.beside(training.to_dict() | {"schema_version": 2})


@pytest.mark.filterwarnings("ignore::agegender.exceptions.LeakageWarning")
def test_the_command_takes_a_reference(backbone, faces, drawn_faces, tmp_path) -> None:
    extractor = EmbeddingExtractor(backbone, cache=None)
    model = AgeGenderPipeline(extractor, AgeGenderClassifier(epochs=1, random_state=0))
    path = save_model(model.fit(faces.data, faces.target), tmp_path / "model.agegender")
    evaluate = ["evaluate", str(path), str(drawn_faces), "-q", "--out"]
    runner = CliRunner(env={"COLUMNS": "120"})
    first = runner.invoke(app, [*evaluate, str(tmp_path / "first")])
    assert first.exit_code == 0, first.exception
    second = runner.invoke(app, [*evaluate, str(tmp_path / "second"), "--reference", str(tmp_path / "first")])
    assert "Beside the reference" in second.stdout
    rows = json.loads((tmp_path / "second" / "report.json").read_text("utf-8"))["reference"]
    assert {row["difference"] for row in rows if row["group"] == "all pictures"} == {0}
    nowhere = runner.invoke(app, [*evaluate, str(tmp_path / "third"), "--reference", "nowhere"])
    assert isinstance(nowhere.exception, FileNotFoundError)
    assert not (tmp_path / "third").exists()
    direct = evaluation_report(
        model, faces.data, faces.target, gender_names={0: "male", 1: "female"}, reference=tmp_path / "first"
    )
    assert len(direct.reference)
