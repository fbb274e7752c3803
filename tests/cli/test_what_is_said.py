"""What commands print, refuse and try beforehand."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import joblib
import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from typer.testing import CliRunner, Result

from agegender import AgeGenderClassifier, AgeGenderPipeline, Backbone, EmbeddingExtractor, save_model
from agegender.cli import app
from agegender.cli._output import complain, shown
from agegender.reports import EvaluationReport
from agegender.runtime import images_passed


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, tiny_onnx: Path, faces) -> Any:
    folder = tmp_path_factory.mktemp("given")
    extractor = EmbeddingExtractor(Backbone.from_onnx(tiny_onnx), cache=None, layer="embedding")
    model = AgeGenderPipeline(extractor, AgeGenderClassifier(epochs=1, random_state=0))
    fitted = model.fit(faces.data, faces.target)
    return SimpleNamespace(unfitted=model, fitted=fitted, path=save_model(fitted, folder / "model.agegender"))


def agegender(*arguments: object, columns: int = 80) -> Result:
    return CliRunner(env={"COLUMNS": str(columns)}).invoke(app, [str(argument) for argument in arguments])


ODD = ("holiday[edited].jpg", "odd[/z].jpg", "[red]anna[/red].jpg", "smile:sweat:.jpg", "back\\[slash].jpg")


def test_names_are_printed_as_they_are(given, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ODD:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(tmp_path / name)
    (tmp_path / "bad[").mkdir()
    (tmp_path / "bad[/b].jpg").write_text("no picture")
    done = agegender("predict", "--model", given.path, "--faces", "none", tmp_path, "--annotate", "seen[1]")
    assert done.exit_code == 1, done.exception
    assert all(name in done.stdout for name in ODD)
    assert "Not read: bad[/b].jpg: " in done.stderr
    assert "5 annotated pictures in seen[1]." in done.stderr
    assert str(tmp_path) not in done.output


def test_a_table_of_long_paths_keeps_to_a_line_each(given, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    deep = tmp_path / "a_folder" / "another_one" / "and_one_more_with_a_long_name"
    deep.mkdir(parents=True)
    for number in range(3):
        name = f"a_picture_whose_name_goes_on_and_on_for_some_time_number_{number}.jpg"
        Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(deep / name)
    done = agegender("predict", "--model", given.path, "--faces", "none", "a_folder")
    rows = [line for line in done.stdout.splitlines() if "…" in line]
    assert len(rows) == 3
    assert all(len(line) <= 80 and f"{number}.jpg" in line for number, line in enumerate(rows))
    wide = agegender("predict", "--model", given.path, "--faces", "none", "a_folder", columns=300)
    assert wide.stdout.count("a_folder/another_one/and_one_more_with_a_long_name/a_picture") == 3


def test_paths_are_shown_from_where_one_stands(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "a" / "b.jpg") == "a/b.jpg"
    assert shown("/elsewhere/b.jpg") == "/elsewhere/b.jpg"
    assert shown("two\nlines\x1b[31m.jpg") == "two\\nlines\\x1b[31m.jpg"
    long = "/data/somewhere/far/down/anna_and_bert_at_the_sea.jpg"
    for width in range(20, len(long) + 2):
        assert len(shown(long, width)) <= width
        assert shown(long, width).endswith("a.jpg")
    assert shown(long, 40) == "…/far/down/anna_and_bert_at_the_sea.jpg"


def test_errors_are_printed_as_they_are(capsys) -> None:
    complain("Error", "there is no layer 'conv[/2]', but [bold]map[/bold]")
    assert capsys.readouterr().err == "Error: there is no layer 'conv[/2]', but [bold]map[/bold]\n"


def test_groups_of_a_report_are_printed_as_they_are() -> None:
    import pandas as pd

    frame = pd.DataFrame({"true_age": [30, 41], "age": [33, 40], "true_gender": [0, 1], "gender": [0, 1]})
    report = EvaluationReport.from_predictions(frame, groups={"kind[/x]": ["a[b]", "c\\[d]"]})
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(report)
    said = console.export_text()
    assert all(text in said for text in ("kind[/x]", "a[b]", "c\\[d]"))


@pytest.mark.parametrize("command", ["predict", "evaluate", "video"])
def test_what_is_no_fitted_model_is_refused_by_every_command(command, given, tmp_path, drawn_faces) -> None:
    junk, cut, safe = tmp_path / "junk.joblib", tmp_path / "cut.joblib", tmp_path / "junk.agegender"
    for path in (junk, safe):
        path.write_bytes(b"no model at all")
    joblib.dump(given.fitted, tmp_path / "whole.joblib")
    cut.write_bytes((tmp_path / "whole.joblib").read_bytes()[:2000])
    joblib.dump(Ridge(), tmp_path / "ridge.joblib")
    joblib.dump(GridSearchCV(given.unfitted, {}), tmp_path / "search.joblib")
    joblib.dump(AgeGenderPipeline(given.unfitted.extractor), tmp_path / "new.joblib")
    save_model(AgeGenderPipeline(), tmp_path / "new.agegender")
    save_model(given.fitted.classifier_, tmp_path / "classifier.agegender")
    for name, message in {
        "junk.joblib": "cannot be loaded by joblib",
        "cut.joblib": "cannot be loaded by joblib",
        "junk.agegender": "not a file of agegender.save_model",
        "ridge.joblib": "holds an object of class Ridge; a fitted AgeGenderPipeline is needed",
        "search.joblib": "class GridSearchCV; a fitted AgeGenderPipeline is needed. Save its best_estimator_",
        "new.joblib": "holds an unfitted AgeGenderPipeline; fit it",
        "new.agegender": "holds an unfitted AgeGenderPipeline; fit it",
        "classifier.agegender": "class AgeGenderClassifier; a fitted AgeGenderPipeline",
        "none.joblib": "There is no model",
        "model.h5": "ends neither in",
    }.items():
        path = tmp_path / name
        call = {
            "predict": ("predict", "--model", path, drawn_faces),
            "evaluate": ("evaluate", path, drawn_faces, "--out", tmp_path / "report"),
            "video": ("video", "0", "--model", path, "--out", tmp_path / "v.mp4"),
        }[command]
        done = agegender(*call)
        assert message in str(done.exception), name
    assert not (tmp_path / "report").exists()


def test_where_results_go_is_tried_before_the_work(given, tiny_onnx, drawn_faces, tmp_path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    network = ("--backbone", tiny_onnx)
    for call in (
        ("train", drawn_faces, *network, "--out", blocked / "model.agegender"),
        ("embed", drawn_faces, *network, "--out", blocked / "e.npz"),
        ("embed", drawn_faces, *network, "--out", blocked, "--shard", "1/2"),
        ("predict", drawn_faces, "--model", given.path, "--csv", blocked / "people.csv"),
        ("predict", drawn_faces, "--model", given.path, "--annotate", blocked),
        ("evaluate", given.path, drawn_faces, "--out", blocked),
        ("quantize", tiny_onnx, drawn_faces, "--out", blocked / "n.onnx"),
        ("demo", "--out", blocked),
    ):
        before = images_passed()
        done = agegender(*call)
        assert isinstance(done.exception, OSError), (call, done.output)
        assert "cannot be written" in str(done.exception)
        assert images_passed() == before
    done = agegender("embed", drawn_faces, *network, "--out", tmp_path)
    assert "is a folder; name the file" in str(done.exception)


def test_csv_to_a_device_or_a_link_leaves_both_in_place(given, drawn_faces, tmp_path) -> None:
    link, real = tmp_path / "people.csv", tmp_path / "disk.csv"
    link.symlink_to(real)
    call = ("predict", sorted(drawn_faces.iterdir())[0], "--model", given.path, "--faces", "none", "--csv")
    assert agegender(*call, "/dev/null").exit_code == 0
    assert Path("/dev/null").is_char_device()
    assert agegender(*call, link).exit_code == 0
    assert link.is_symlink()
    assert real.read_text().startswith("age,")


def test_options_for_a_file_beside_a_networks_name_are_refused(drawn_faces, tmp_path) -> None:
    for options, message in (
        (("--mean", 0), "--mean say what an .onnx file takes; the network 'compact' has its own"),
        (("--color", "bgr", "--scale", "1/128"), "--color and --scale say .* Leave them out"),
    ):
        done = agegender("embed", drawn_faces, "--backbone", "compact", *options, "--out", tmp_path / "e.npz")
        with pytest.raises(ValueError, match=message):
            raise done.exception
