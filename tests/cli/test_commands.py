"""Each command, run as a user runs it."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import write_drawn_faces
from typer.testing import CliRunner, Result

from agegender import EmbeddingExtractor, cli
from agegender.backbones import Backbone
from agegender.cli import app
from agegender.cli._options import cache_folder, place_name
from agegender.cli.cache import parse_size
from agegender.cli.inspect import _load


def agegender(*arguments: object, home: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"AGEGENDER_HOME": str(home), "COLUMNS": "160", "NO_COLOR": "1"}
    command = [sys.executable, "-c", "from agegender.cli import main; main()", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_onnx: Path, drawn_faces: Path):
    folder = tmp_path_factory.mktemp("trained")
    options = [
        "--backbone",
        tiny_onnx,
        "--units",
        "8",
        "--folds",
        3,
        "--epochs",
        5,
        "--checkpoint",
        folder / "checkpoints",
        "--out",
        folder / "model.agegender",
    ]
    done = agegender("train", drawn_faces, *options, home=folder / "home")
    return folder, done


def test_train_prints_a_row_a_fold_and_saves_a_model(trained) -> None:
    folder, done = trained
    assert [row.split()[1] for row in done.stdout.splitlines() if row[:1] in "│|" and " %" in row] == [
        "1",
        "2",
        "3",
        "mean",
    ]
    assert "60 through the network" in done.stderr
    assert (folder / "model.agegender").stat().st_size > 1000
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
    assert {path.suffix for path in (folder / "checkpoints").iterdir()} == {".checkpoint"}
    assert len(list((folder / "checkpoints").iterdir())) == 4  # three folds and the model of all pictures


@pytest.mark.slow
def test_a_second_training_passes_nothing_through_the_network(trained, tiny_onnx, drawn_faces) -> None:
    folder, _ = trained
    options = ["--backbone", tiny_onnx, "--units", "8", "--folds", 0, "--epochs", 1]
    assert "60 from the cache, 0 through the network" in agegender(
        "train", drawn_faces, *options, home=folder / "home"
    ).stderr.replace("\n", " ")


@pytest.mark.slow
def test_predict_prints_a_table_and_json(trained, drawn_faces) -> None:
    folder, _ = trained
    pictures = sorted(drawn_faces.iterdir())[:3]
    table = agegender(
        "predict", "--faces", "none", "--model", folder / "model.agegender", *pictures, home=folder / "home"
    ).stdout
    assert all(picture.name[:12] in table for picture in pictures)
    said = agegender(
        "predict",
        "--faces",
        "none",
        "--model",
        folder / "model.agegender",
        "--json",
        drawn_faces,
        home=folder / "home",
    ).stdout
    records = json.loads(said)
    assert len(records) == 60
    assert set(records[0]) == {"picture", "age", "age_low", "age_high", "gender", "gender_proba"}


@pytest.mark.slow
def test_evaluate_writes_a_report_by_group(trained, drawn_faces, tmp_path) -> None:
    folder, _ = trained
    model, out = folder / "model.agegender", tmp_path / "report"
    done = agegender("evaluate", model, drawn_faces, "--out", out, home=folder / "home")
    assert "Mean absolute error" in done.stdout
    assert sorted(path.name for path in out.iterdir()) == ["predictions.csv", "report.html", "report.json"]
    data = json.loads((out / "report.json").read_text("utf-8"))
    assert data["counts"]["with_age"] == 60
    assert {row["grouping"] for row in data["by_group"]} >= {"race", "gender", "race × age band"}
    assert [row["gender"] for row in data["genders"]] == ["female", "male"]
    assert data["counts"]["trained_on"] == 60
    assert "60 of these pictures are among those that the model was trained on" in done.stdout
    assert "60 of 60 pictures" in " ".join(done.stderr.split())
    done = agegender(
        "evaluate", model, drawn_faces, "--out", out, "--by", "rase", home=folder / "home", check=False
    )
    assert done.returncode == 2
    assert "no such column" in done.stderr


def test_predict_names_what_it_could_not_read_and_ends_with_1(trained, drawn_faces, tmp_path) -> None:
    folder, _ = trained
    good, bad = next(drawn_faces.iterdir()), tmp_path / "bad.jpg"
    bad.write_text("no picture")
    arguments = ["predict", "--faces", "none", "--model", folder / "model.agegender", "--json", good, bad]
    done = agegender(*arguments, home=folder / "home", check=False)
    assert done.returncode == 1
    assert "bad.jpg" in done.stderr
    assert json.loads(done.stdout)[1]["error"]


def test_embed_writes_every_readable_picture(tiny_onnx, drawn_faces, tmp_path) -> None:
    out = tmp_path / "deep" / "embeddings.npz"
    agegender("embed", drawn_faces, "--backbone", tiny_onnx, "--out", out, "--cache", "none", home=tmp_path)
    with np.load(out) as saved:
        assert saved["embeddings"].shape == (60, 16)
        assert len(set(saved["paths"])) == 60
    assert [path.name for path in out.parent.iterdir()] == ["embeddings.npz"]


def test_the_cache_tells_what_it_holds_and_can_be_cleared(tiny_onnx, drawn_faces, tmp_path) -> None:
    options = ["--backbone", tiny_onnx, "--out", tmp_path / "e.npz", "--quiet"]
    assert agegender("embed", drawn_faces, *options, home=tmp_path).stderr == ""
    assert "60 rows" in agegender("cache", "info", home=tmp_path).stdout
    agegender("cache", "clear", "--yes", home=tmp_path)
    assert " 0 rows" in agegender("cache", "info", home=tmp_path).stdout


def test_the_cache_can_be_pruned_to_a_size_and_verified(tiny_onnx, drawn_faces, own_home) -> None:
    def cache(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["cache", *arguments], env={"COLUMNS": "160"})

    rows = EmbeddingExtractor(Backbone.from_onnx(tiny_onnx)).transform(sorted(drawn_faces.iterdir()))
    assert cache("verify").stdout == "60 rows, none damaged.\n"
    assert cache("prune", "--max-size", "1.5 GiB").stdout.startswith("Deleted 0 rows; 60 stay")
    database = own_home / "agegender" / "embeddings.sqlite"
    content = bytearray(database.read_bytes())
    content[content.index(rows[7].tobytes())] ^= 1
    database.write_bytes(content)
    done = cache("verify")
    assert done.exit_code == 1
    assert done.stdout.startswith("1 of 60 rows were damaged and deleted, 1 of them found by their checksum")
    assert cache("prune", "--max-size", "0").stdout.startswith("Deleted 59 rows; 0 stay")


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("5GB", 5 * 10**9), ("500 mb", 5 * 10**8), ("1.5GiB", 3 * 2**29), ("123", 123), ("2k", 2000), ("7B", 7)],
)
def test_a_size_is_read_as_people_write_it(text, n_bytes) -> None:
    assert parse_size(text) == n_bytes


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "5 XB", "five"])
def test_what_is_no_size_is_refused(text) -> None:
    with pytest.raises(ValueError, match="is not a size such as 5GB"):
        parse_size(text)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT")
def test_ctrl_c_says_how_to_go_on_and_the_command_goes_on_from_there(tiny_onnx, tmp_path) -> None:
    faces = write_drawn_faces(tmp_path / "faces", 300)
    command = [
        sys.executable,
        "-c",
        STOPPED,
        "embed",
        faces,
        "--backbone",
        tiny_onnx,
        "--out",
        tmp_path / "e.npz",
    ]
    environment = os.environ | {"AGEGENDER_HOME": str(tmp_path)}
    with subprocess.Popen(
        [*map(str, command), "--batch-size", "16"], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        said = process.stderr.read()
    assert process.returncode == 130
    assert "Stopped. 32 pictures were computed and are cached; the same call continues from there." in said
    assert "Traceback" not in said
    assert not list(tmp_path.glob("*e.npz*"))
    done = agegender(*command[3:], home=tmp_path)
    assert "32 from the cache, 268 through the network" in done.stderr


@pytest.mark.slow
def test_embed_writes_the_shards_of_a_list(tiny_onnx, drawn_faces, tmp_path) -> None:
    import pyarrow.parquet as pq

    names = sorted(path.name for path in drawn_faces.iterdir())[:9]
    pictures = tmp_path / "pictures.txt"
    pictures.write_text("".join(f"{drawn_faces / name}\n" for name in [*names, "nowhere.jpg"]))
    command = ["embed", pictures, "--backbone", tiny_onnx, "--out", tmp_path / "rows"]
    done = agegender(*command, "--shard", "2/2", home=tmp_path / "home")
    assert "Embedded 5 pictures" in done.stderr
    assert "1 of them could not be read; the column error contains the reasons." in done.stderr
    table = pq.read_table(tmp_path / "rows" / "part-000002-of-000002.parquet")
    assert table["path"].to_pylist() == [str(drawn_faces / name) for name in [*names[1::2], "nowhere.jpg"]]
    rows = EmbeddingExtractor(Backbone.from_onnx(tiny_onnx), layer="embedding", cache=None).transform(
        [drawn_faces / name for name in names[1::2]]
    )
    np.testing.assert_array_equal(np.array(table["embedding"].to_pylist()[:4], np.float32), rows)
    assert (
        "exists already, with 5 rows" in agegender(*command, "--shard", "2/2", home=tmp_path / "home").stderr
    )
    assert not (tmp_path / "home").exists()
    refused = agegender(*command, "--shard", "3/2", home=tmp_path / "home", check=False)
    assert refused.returncode == 2
    assert "numbered from 1 to" in refused.stderr


# Ctrl-C comes while the third batch passes through the network.
STOPPED = """
import os, signal
from agegender._extraction import fill
from agegender.cli import main

signal.signal(signal.SIGINT, signal.default_int_handler)
batches, keep = iter("ab"), fill.Fill.keep

def stopping(self, *arguments):
    next(batches, None) or os.kill(os.getpid(), signal.SIGINT)
    keep(self, *arguments)

fill.Fill.keep = stopping
main()
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cache", "prune", "--max-size", "much"], "--max-size"),
        (["cache", "verify", "--cache", "none"], "--cache none"),
        (["train", "nowhere"], "nowhere"),
        (["predict", "--model", "no.joblib", "a.jpg"], "no.joblib"),
        (["train", ".", "--out", "model.bin"], ".agegender"),
        (["embed", ".", "--backbone", "arcfase", "--out", "x.npz"], "arcface"),
        (["train", ".", "--backbone", "x.onnx", "--scale", "a/b"], "--scale"),
    ],
    ids=["size", "cache", "folder", "model", "ending", "backbone", "scale"],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, message, tmp_path, drawn_faces) -> None:
    arguments = [drawn_faces if argument == "." else argument for argument in arguments]
    done = agegender(*arguments, home=tmp_path, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_help_shows_an_example_a_command(tmp_path) -> None:
    for command in ("train", "predict", "evaluate", "embed"):
        assert f"agegender {command}" in agegender(command, "--help", home=tmp_path).stdout


@pytest.mark.slow
def test_inspect_writes_a_report_and_corrections_that_a_loader_takes_back(
    tmp_path: Path, tiny_onnx: Path, drawn_faces: Path
) -> None:
    report = tmp_path / "report"
    options = [
        "--backbone",
        tiny_onnx,
        "--detector",
        "none",
        "--folds",
        2,
        "--shown",
        5,
        "--near-copy",
        0.9999,
    ]
    home = tmp_path / "home"
    done = agegender("inspect", drawn_faces, "--out", report, "--against", drawn_faces, *options, home=home)
    assert "60 pictures stand in the other set too" in " ".join(done.stdout.replace("│", " ").split())
    assert sorted(path.name for path in report.iterdir()) == [
        "corrections.csv",
        "inspection.html",
        "inspection.json",
        "labels.csv",
        "pictures.csv",
    ]
    labels = report / "labels.csv"
    assert "model_age" in labels.read_text().splitlines()[0]
    again = agegender(
        *("inspect", drawn_faces, "--out", report, "--corrections", report / "corrections.csv", *options),
        *("--model", "none"),
        home=home,
    )
    assert "model_age" not in labels.read_text().splitlines()[0]
    assert "60 pictures, 0 left out, 0 corrected" in again.stderr
    assert (report / "corrections-new.csv").is_file()
    assert "Edit corrections.csv" in done.stderr
    assert "Edit corrections-new.csv (corrections.csv was there and is unchanged)" in again.stderr


def test_inspect_keeps_the_names_of_persons(tmp_path: Path) -> None:
    rows = ["path,age,gender,group,who", "a.jpg,20,f,7,Ann", "b.jpg,60,f,8,Ann"]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"")
    load = functools.partial(_load, tmp_path / "t.csv", "path", "age", "gender", corrections=None, quiet=True)
    assert load(person="who").frame["person"].tolist() == ["Ann", "Ann"]
    assert set(load(person="group").frame["person"]) == {7, 8}
    with pytest.raises(ValueError, match=r"--person: there is no column 'whom' .* Did you mean 'who'"):
        load(person="whom")


def test_the_current_folder_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert place_name(Path(".")) == tmp_path.name
    assert place_name("s3://bucket/faces") == "faces"
    assert place_name("zip://::/data/faces.zip") == "faces.zip"


@pytest.mark.slow
def test_inspect_says_what_is_missing(tmp_path: Path, tiny_onnx: Path) -> None:
    faces = write_drawn_faces(tmp_path / "few", 10)
    options = ["--out", tmp_path / "report", "--backbone", tiny_onnx, "--detector", "none"]
    done = agegender("inspect", faces, *options, home=tmp_path / "home", check=False)
    assert done.returncode == 2
    assert "10 pictures" in done.stderr
    assert "too few" in done.stderr
    assert not (tmp_path / "report").exists()
    missing = agegender(
        "inspect", faces, *options, "--model", "no.agegender", home=tmp_path / "home", check=False
    )
    assert missing.returncode == 2
    assert "There is no model 'no.agegender'" in missing.stderr


def test_commands_are_known_by_name_before_they_are_imported() -> None:
    script = (
        "import sys, typer; from agegender.cli import app\n"
        "group = typer.main.get_command(app)\n"
        "names = group.list_commands(None)\n"
        "print(*(name for name in sys.modules if name.startswith('agegender.cli.') and '._' not in name))\n"
        "print(*names)\n"
        "print(*(group.get_command(None, name).name for name in names), group.get_command(None, 'pred'))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    imported, names, made = done.stdout.splitlines()
    files = {path.stem for path in Path(cli.__file__).parent.glob("[!_]*.py")}
    assert imported == ""
    assert made == f"{names} None"
    assert set(names.split()) == files


def test_without_a_cache_a_stopped_command_says_that_nothing_was_kept() -> None:
    stop = KeyboardInterrupt()
    stop.add_note("960 pictures are cached.")
    with pytest.raises(KeyboardInterrupt) as stopped, cache_folder("none"):
        raise stop
    assert stopped.value.__notes__ == ["Nothing was kept: --cache none."]
    with pytest.raises(KeyboardInterrupt) as stopped, cache_folder("auto"):
        raise KeyboardInterrupt
    assert not hasattr(stopped.value, "__notes__")
