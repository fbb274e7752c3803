"""The network inside the package, its head, and the terms that go with them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import pickle
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from agegender import AgeGenderClassifier, AgeGenderPipeline, Backbone, EmbeddingExtractor, load_pretrained
from agegender._networks.onnx_files import read_graph
from agegender._networks.prepared import prepared_graph, prepared_layers
from agegender._networks.rewrite import runnable
from agegender._networks.shipped import SHIPPED
from agegender._networks.source import NetworkFile
from agegender._safe.onnx import check_head_graph, head_digest
from agegender.datasets import load_utkface, make_faces
from agegender.exceptions import LeakageWarning, ModelFileError, WeightsError
from agegender.pretrained import kept_out_names
from agegender.runtime import open_network

COMPACT = SHIPPED["compact"]


@pytest.fixture
def drawn(tmp_path) -> list[str]:
    return list(make_faces(3, tmp_path).data)


def test_the_file_is_the_one_on_record_and_small() -> None:
    backbone = Backbone.load("compact")
    assert backbone.sha256 == COMPACT.sha256
    assert COMPACT.path.stat().st_size == backbone.size <= 10_000_000
    assert "non-commercial" in backbone.licence


def test_a_wheel_holds_the_files_and_their_terms(tmp_path) -> None:
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
        (described,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        assert "License-File: agegender/pretrained/LICENSE-compact.txt" in packed.read(described).decode()
        assert hashlib.sha256(packed.read("agegender/pretrained/compact.onnx")).hexdigest() == COMPACT.sha256
    files = {"compact.agegender", "compact_prepared.json", "compact_kept_out.txt", "LICENSE-compact.txt"}
    assert {f"agegender/pretrained/{file}" for file in files} <= names


def test_its_layers_are_those_of_any_network() -> None:
    backbone = Backbone.load("compact")
    shapes = {
        name: backbone.output_shape(name) for name in ("embedding", "penultimate", "pooled", "feature_map")
    }
    assert shapes == {
        "embedding": (128,),
        "penultimate": (1024,),
        "pooled": (1024,),
        "feature_map": (4, 4, 1024),
    }
    picture = np.random.default_rng(0).integers(0, 256, (1, 112, 112, 3), np.uint8)
    rows = {name: open_network(backbone, name, n_threads=1)(picture) for name in shapes}
    np.testing.assert_allclose(rows["pooled"], rows["feature_map"].mean(axis=(1, 2)), rtol=1e-4, atol=1e-5)
    assert {name: row.shape[1:] for name, row in rows.items()} == shapes


def test_the_extractor_knows_it_by_name_and_gives_the_same_each_time(drawn) -> None:
    extractor = EmbeddingExtractor("compact", layer="embedding", cache=None)
    rows = extractor.transform(drawn)
    np.testing.assert_array_equal(rows, extractor.transform(drawn))
    assert not np.allclose(rows[0], rows[1], atol=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"weights": "other.onnx"}, "comes with its weights"), ({"engine": "keras"}, "no Keras form")],
)
def test_what_it_has_not_is_an_error(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        Backbone.load("compact", **options)


def test_a_damaged_installation_says_so(tmp_path, monkeypatch) -> None:
    file = tmp_path / "compact.onnx"
    file.write_bytes(b"\x08 something else")
    monkeypatch.setattr(type(COMPACT), "path", property(lambda self: file))
    with pytest.raises(WeightsError, match="install agegender again"):
        Backbone.load("compact")


def test_a_model_from_another_machine_finds_it_in_this_installation() -> None:
    backbone = Backbone.load("compact")
    elsewhere = NetworkFile(
        "compact", Path("/another/machine/compact.onnx"), backbone.sha256, backbone.size, ".onnx"
    )
    assert elsewhere.find() == COMPACT.path
    assert pickle.loads(pickle.dumps(backbone)) == backbone


def test_the_pretrained_model_predicts_without_tensorflow(drawn) -> None:
    script = (
        "import sys; from agegender import load_pretrained; model = load_pretrained();"
        "model.extractor_.set_params(cache=None); print(model.predict(sys.argv[1:]).tolist());"
        "assert not {'tensorflow', 'keras', 'matplotlib'} & set(sys.modules), 'imported'"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script, *drawn], capture_output=True, text=True, check=True
    )
    model = load_pretrained("compact")
    found = model.predict(drawn)
    np.testing.assert_allclose(found, json.loads(printed.stdout))
    ages, genders = model.predict_proba(drawn)
    np.testing.assert_allclose(ages @ np.arange(101), found[:, 0], rtol=1e-4)
    np.testing.assert_array_equal(genders.argmax(1), found[:, 1])


def test_kept_out_pictures_are_predicted_about_as_the_card_says(shared) -> None:
    faces = load_utkface(shared / "data/utkface_mini")
    honest = [i for i, path in enumerate(faces.data) if Path(path).name in kept_out_names()]
    assert len(honest) >= 20
    predicted = load_pretrained().predict(list(faces.data[honest]))
    # Balanced over the decades, so with more of the old, whose ages are harder, than the card's pictures.
    assert np.abs(predicted[:, 0] - faces.target[honest, 0]).mean() < 9
    assert (predicted[:, 1] == faces.target[honest, 1]).mean() > 0.8


def test_an_unknown_model_is_answered_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="compact"):
        load_pretrained("large")
    with pytest.raises(ValueError, match="compact"):
        kept_out_names("large")


def test_pictures_that_taught_the_network_are_warned_of_in_fit_and_score(shared) -> None:
    faces = load_utkface(shared / "data" / "utkface_mini")
    honest = np.array([Path(path).name in kept_out_names() for path in faces.data])
    pretrained = load_pretrained()
    seen = pretrained.seen_in_training(faces.data)
    assert seen.mean() > 0.8
    assert not (seen & honest).any()
    known, unknown = np.flatnonzero(seen)[:6], np.flatnonzero(honest)[:18]
    with pytest.warns(LeakageWarning, match="6 of 24 pictures"):
        pretrained.score(faces.data[[*known, *unknown]], faces.target[[*known, *unknown]])
    pretrained.score(faces.data[unknown], faces.target[unknown])

    classifier = AgeGenderClassifier(epochs=1, random_state=0)
    model = AgeGenderPipeline(EmbeddingExtractor("compact", framing="utkface"), classifier)
    copies = [Path(path).read_bytes() for path in faces.data[[*known, *unknown]]]
    with pytest.warns(LeakageWarning, match=r"6 of 24 pictures.*train.*'compact'.*kept_out_names"):
        model.fit(copies, faces.target[[*known, *unknown]])
    model.fit(faces.data[unknown], faces.target[unknown])
    with pytest.warns(LeakageWarning, match="6 of 6 pictures"):
        model.score(faces.data[known], faces.target[known])


def test_what_is_recorded_of_the_network_is_what_its_file_gives() -> None:
    shipped = SHIPPED["compact"]
    network = Backbone.load("compact")
    graph = read_graph(shipped.path.read_bytes(), "compact")
    layers = graph.layers()
    assert prepared_layers(network) == layers
    assert list(prepared_layers(network).shapes) == list(layers.shapes)
    tensor, pooled = layers.find(shipped.layer)
    made = runnable(graph, tensor, color=shipped.color, mean=shipped.mean, scale=shipped.scale, pooled=pooled)
    kept = prepared_graph(network, tensor, pooled)
    assert onnx.load_model_from_string(kept) == onnx.load_model_from_string(made)


def test_other_layers_and_other_networks_are_not_taken_from_the_record(tiny_onnx) -> None:
    network, tiny = Backbone.load("compact"), Backbone.from_onnx(tiny_onnx)
    tensor, _ = prepared_layers(network).find("penultimate")
    assert prepared_graph(network, tensor, True) is None
    assert prepared_graph(network, "embedding", False) is None
    assert prepared_graph(replace(network, scale=1.0), tensor, False) is None
    assert prepared_layers(tiny) is None
    assert prepared_graph(tiny, tensor, False) is None


def test_the_head_in_the_package_is_known_by_its_digest() -> None:
    head = load_pretrained().classifier_
    known = head._onnx, head._row_shape, *map(len, head.classes_)
    assert head_digest(*known) == SHIPPED["compact"].head_digest
    with pytest.raises(ModelFileError, match="this model needs"):
        check_head_graph(known[0], "its head", (7,), *known[2:])


def test_the_tool_that_ships_the_model_records_this_digest(tmp_path, monkeypatch) -> None:
    file = Path(__file__).parents[1] / "tools" / "ship_compact.py"
    if not file.is_file():
        pytest.skip("the folder tools is not here")
    spec = importlib.util.spec_from_file_location("ship_compact", file)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    expected = tool.RECORD.read_text("utf-8")
    emptied = tmp_path / "shipped.py"
    emptied.write_text(expected.replace(COMPACT.head_digest, "0"), "utf-8")
    monkeypatch.setattr(tool, "RECORD", emptied)
    tool.record_head(load_pretrained().classifier_.fitted_head())
    assert emptied.read_text("utf-8") == expected
