"""``agegender train --shards``: no picture is opened, and the model predicts pictures."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from agegender import EmbeddingExtractor, load_model
from agegender.backbones import Backbone
from agegender.cli import app
from agegender.shards import write_shard


@pytest.fixture
def shards(tiny_onnx: Path, drawn_faces: Path, tmp_path: Path) -> Path:
    extractor = EmbeddingExtractor(Backbone.from_onnx(tiny_onnx), layer="pooled", cache=None)
    for number in (1, 2):
        write_shard(drawn_faces, tmp_path / "shards", extractor, f"{number}/2")
    names = sorted(path.name for path in drawn_faces.iterdir())
    split = [name.split("_") for name in names]
    table = pd.DataFrame({"path": names, "age": [int(part[0]) for part in split]})
    table.assign(gender=[int(part[1]) for part in split]).to_csv(tmp_path / "table.csv", index=False)
    return tmp_path


def test_a_model_is_trained_from_shards(shards: Path, tiny_onnx: Path, paths: list[str]) -> None:
    out = shards / "model.agegender"
    arguments = ["--shards", shards / "shards", "--labels", shards / "table.csv", "--backbone", tiny_onnx]
    arguments += ["--units", "8", "--folds", "2", "--epochs", "3", "--out", out]
    result = CliRunner().invoke(app, ["train", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    assert "60 rows of tiny, 0 left out." in result.output
    assert "mean" in result.stdout
    assert load_model(out).predict(paths[:3]).shape == (3, 2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "takes a folder of pictures, or --shards"),
        (["--shards", "x"], "go together"),
        (["pictures", "--shards", "x", "--labels", "y"], "takes a folder of pictures, or --shards"),
    ],
)
def test_what_to_train_on_is_one_thing(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["train", *arguments])
    assert result.exit_code != 0
    assert isinstance(result.exception, ValueError)
    assert said in str(result.exception)


def test_a_network_that_is_nowhere_is_told_of_before_training(shards: Path) -> None:
    arguments = [
        "--shards",
        shards / "shards",
        "--labels",
        shards / "table.csv",
        "--out",
        shards / "m.agegender",
    ]
    result = CliRunner().invoke(app, ["train", *map(str, arguments)])
    assert "cannot be loaded by that name" in str(result.exception)
