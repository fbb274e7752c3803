"""``--backbone a --backbone b``: several networks side by side, each with its own options."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import write_tiny_onnx
from material import Material
from typer.testing import CliRunner, Result

from agegender import Backbone, EmbeddingExtractor, load_model
from agegender.cli import app
from agegender.cli._networks import network_of, networks_of
from agegender.shards import write_shard

MEAN, SCALE = (104.0, 117.0, 123.0), 1 / 60
NO_FLAGS = {"color": None, "mean": None, "scale": None}


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_onnx(tmp_path_factory.mktemp("other") / "other.onnx", seed=1)


def agegender(*arguments: object, code: int = 0) -> Result:
    done = CliRunner(env={"COLUMNS": "160"}).invoke(app, [str(argument) for argument in arguments])
    assert code or done.exit_code == 0, (done.output, done.exception)
    return done


def both(tiny: Path, other: Path, layers: tuple[str, str] = ("", "")) -> list[str]:
    terms = "color=bgr,mean=104:117:123,scale=1/60"
    first, second = (f",layer={layer}" if layer else "" for layer in layers)
    return ["--backbone", f"{tiny}{first}", "--backbone", f"{other},{terms}{second}"]


def test_embed_writes_the_rows_of_each_network_with_its_own_options(
    tiny_onnx: Path, other: Path, drawn_faces: Path, paths: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "rows.npz"
    networks = both(tiny_onnx, other, ("", "pooled"))
    agegender("embed", drawn_faces, *networks, "--layer", "pooled(relu1)", "--out", out, "-q")
    expected = EmbeddingExtractor(
        (Backbone.from_onnx(tiny_onnx), Backbone.from_onnx(other, color="bgr", mean=MEAN, scale=SCALE)),
        layer=("pooled(relu1)", "pooled"),
    )
    with np.load(out) as saved:
        np.testing.assert_allclose(saved["embeddings"], expected.transform(paths), atol=1e-6)


def test_a_second_command_computes_the_new_network_alone(
    tiny_onnx: Path, other: Path, drawn_faces: Path, tmp_path: Path
) -> None:
    agegender("embed", drawn_faces, "--backbone", tiny_onnx, "--out", tmp_path / "one.npz")
    said = agegender("embed", drawn_faces, *both(tiny_onnx, other), "--out", tmp_path / "two.npz").stderr
    assert "60 through the network" in said
    extractor = EmbeddingExtractor(
        (Backbone.from_onnx(tiny_onnx), Backbone.from_onnx(other, color="bgr", mean=MEAN, scale=SCALE)),
        layer="embedding",
    )
    extractor.transform([str(path) for path in sorted(drawn_faces.iterdir())])
    assert extractor.report_.n_computed == 0


def test_train_saves_a_model_of_both_networks(
    tiny_onnx: Path, other: Path, drawn_faces: Path, paths: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "model.agegender"
    agegender("train", drawn_faces, *both(tiny_onnx, other), "--folds", 0, "--epochs", 1, "--out", out, "-q")
    model = load_model(out)
    assert [one.name for one in model.extractor_.backbones_] == ["tiny", "other"]
    assert model.extractor_.backbones_[1].mean == MEAN
    assert model.predict(paths[:2]).shape == (2, 2)


def test_inspect_reads_labels_with_both_networks(
    tiny_onnx: Path, other: Path, drawn_faces: Path, tmp_path: Path
) -> None:
    options = ["--detector", "none", "--folds", 2, "--shown", 2, "--near-copy", 0.9999, "-q"]
    agegender("inspect", drawn_faces, *both(tiny_onnx, other), *options, "--out", tmp_path / "report")
    assert len(pd.read_csv(tmp_path / "report" / "labels.csv")) == 60


def test_shards_of_two_networks_are_trained_on_with_both_files(
    tiny_onnx: Path, other: Path, drawn_faces: Path, paths: list[str], tmp_path: Path
) -> None:
    networks = (Backbone.from_onnx(tiny_onnx), Backbone.from_onnx(other, color="bgr", mean=MEAN, scale=SCALE))
    shards = ["embed", drawn_faces, *both(tiny_onnx, other, ("pooled", "pooled")), "--shard", "1/1"]
    agegender(*shards, "--out", tmp_path / "shards", "-q")
    direct = write_shard(
        drawn_faces, tmp_path / "direct", EmbeddingExtractor(networks, layer="pooled", cache=None)
    )
    written = tmp_path / "shards" / direct.path.name
    pd.testing.assert_frame_equal(pd.read_parquet(written), pd.read_parquet(direct.path))
    labels = [Path(path).name.split("_") for path in paths]
    table = pd.DataFrame(
        {
            "path": [Path(path).name for path in paths],
            "age": [int(label[0]) for label in labels],
            "gender": [int(label[1]) for label in labels],
        }
    )
    table.to_csv(tmp_path / "table.csv", index=False)
    out = tmp_path / "model.agegender"
    train = ["train", "--shards", tmp_path / "shards", "--labels", tmp_path / "table.csv", "--folds", 0]
    agegender(*train, *both(tiny_onnx, other), "--epochs", 1, "--out", out, "-q")
    assert load_model(out).predict(paths[:2]).shape == (2, 2)
    refused = agegender(*train, *both(tiny_onnx, other, ("pooled", "pooled")), code=2)
    assert "The layer of --shards is in the files; leave pooled out." in str(refused.exception)


def test_one_network_takes_its_options_as_flags_or_behind_its_name(tiny_onnx: Path) -> None:
    expected = Backbone.from_onnx(tiny_onnx, color="bgr", mean=MEAN, scale=SCALE)
    flags = {"color": "bgr", "mean": "104:117:123", "scale": "1/60"}
    assert networks_of([str(tiny_onnx)], flags, "pooled") == (expected, "pooled")
    text = f"{tiny_onnx},mean=104:117:123,scale=1/60,layer=pooled"
    assert networks_of([text], NO_FLAGS | {"color": "bgr"}, None) == (expected, "pooled")
    assert networks_of(["facenet,layer=pooled", "arcface"], NO_FLAGS, None) == (
        ("facenet", "arcface"),
        ("pooled", "auto"),
    )
    assert networks_of(["facenet", "arcface"], NO_FLAGS, "pooled") == (("facenet", "arcface"), "pooled")
    assert network_of(str(tiny_onnx), flags) == expected


def test_a_file_whose_name_has_commas_is_a_file(tiny_onnx: Path, tmp_path: Path) -> None:
    odd = tmp_path / "a,layer=b.onnx"
    odd.write_bytes(tiny_onnx.read_bytes())
    found, layer = networks_of([f"{odd},mean=0,layer=pooled"], NO_FLAGS, None)
    assert isinstance(found, Backbone)
    assert (found.path, found.mean, layer) == (odd, 0.0, "pooled")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.onnx", "b.onnx", "--mean", "0"], "does not say which of the 2 networks it is for"),
        (["facenet", "arcface", "--color", "bgr"], "--backbone file.onnx,color=bgr"),
        (["TINY,mean=0", "--mean", "127.5"], "--mean 127.5 and mean=0 of"),
        (["facenet,scale=1"], "--scale say what an .onnx file takes; the network 'facenet'"),
        (["a.onnx,colour=bgr"], "'colour' is not one of color, mean, scale, layer. Did you mean 'color'?"),
        (["a.onnx,mean=0,mean=1"], "mean= should stand there once"),
        (["a.onnx,mean="], "mean= should stand there once, with a value"),
        (["facenet,arcface"], "--backbone facenet --backbone arcface"),
        (["TINY,mean=1:2"], "has 2 numbers; it should have one, or one per colour"),
        (["TINY,scale=1/x"], "--scale '1/x' is not a number, a fraction"),
        (["TINY,color=grey"], "--color='grey' is not one of 'rgb', 'bgr'"),
        (["facenet,layer=pooled", "--layer", "embedding"], "every --backbone has one"),
        (["nowhere.onnx,mean=0"], "nowhere.onnx"),
    ],
)
def test_what_is_ambiguous_or_unknown_is_an_error(
    arguments: list[str], message: str, tiny_onnx: Path, drawn_faces: Path, tmp_path: Path
) -> None:
    flags = arguments.index(next((a for a in arguments if a.startswith("--")), arguments[-1]))
    flags += not arguments[flags].startswith("--")
    command: list[object] = ["embed", drawn_faces, "--out", tmp_path / "rows.npz"]
    for text in arguments[:flags]:
        command += ["--backbone", text.replace("TINY", str(tiny_onnx))]
    done = agegender(*command, *arguments[flags:], code=2)
    assert message in str(done.exception)
    assert not (tmp_path / "rows.npz").exists()


def test_a_convolutional_head_with_two_networks_says_what_would_do(
    tiny_onnx: Path, other: Path, drawn_faces: Path
) -> None:
    done = agegender("train", drawn_faces, *both(tiny_onnx, other), "--head", "conv", code=2)
    assert "needs one network" in str(done.exception)


def test_the_two_real_networks_stand_side_by_side(shared: Material, tmp_path: Path) -> None:
    faces = shared / "data/utkface_mini"
    ours, fr = (shared / f"weights/{name}.onnx" for name in ("mobilefacenet_arcface", "hse_faceres"))
    (tmp_path / "some").mkdir()
    some = sorted(faces.glob("*.chip.jpg"))[::60]
    for path in some:
        (tmp_path / "some" / path.name).write_bytes(path.read_bytes())
    terms = "color=bgr,mean=103.939:116.779:123.68,scale=1"
    networks = ["--backbone", f"{ours},mean=0,scale=1", "--backbone", f"{fr},{terms}"]
    agegender("embed", tmp_path / "some", *networks, "--out", tmp_path / "rows.npz", "-q")
    alone = [
        EmbeddingExtractor(Backbone.from_onnx(ours, mean=0, scale=1), layer="embedding"),
        EmbeddingExtractor(
            Backbone.from_onnx(fr, color="bgr", mean=(103.939, 116.779, 123.68), scale=1), layer="embedding"
        ),
    ]
    with np.load(tmp_path / "rows.npz") as saved:
        assert saved["embeddings"].shape == (len(some), 128 + 1024)
        expected = np.hstack([one.transform(some) for one in alone])
        np.testing.assert_allclose(saved["embeddings"], expected, atol=1e-6)
