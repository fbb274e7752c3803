"""deepface's .h5 networks as ONNX: converted once, checked, kept; and what happens where that fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import deepface_networks
import numpy as np
import pytest

from agegender import (
    AgeGenderClassifier,
    AgeGenderPipeline,
    Backbone,
    DenseHead,
    EmbeddingExtractor,
    runtime,
    save_model,
)
from agegender._networks import conversion, converted, opening
from agegender._networks.converted import place_of
from agegender._networks.location import weights_folder
from agegender._networks.opening import layers_of
from agegender.exceptions import WeightsWarning
from agegender.runtime import close_networks, open_network

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 55, 47, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def deepid(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The quickest of deepface's networks to convert, with random weights."""
    model = deepface_networks.build("deepid")
    return deepface_networks.save(model, tmp_path_factory.mktemp("deepid") / "deepid.h5").read_bytes()


@pytest.fixture
def backbone(deepid: bytes) -> Backbone:
    close_networks()
    file = weights_folder() / "deepid_keras_weights.h5"
    file.parent.mkdir(parents=True)
    file.write_bytes(deepid)
    converted._told.clear()
    return Backbone.load("deepid")


def on_keras(backbone: Backbone, layer: str) -> np.ndarray:
    return runtime._open_keras(backbone, *layers_of(backbone).find(layer), "cpu")(PICTURES)


def kept(backbone: Backbone) -> Path:
    return place_of(backbone.sha256, backbone.name)


def test_it_is_converted_at_its_first_use_and_kept_by_its_sha256(backbone) -> None:
    assert not kept(backbone).exists()
    rows = open_network(backbone, "embedding")(PICTURES)
    assert kept(backbone).is_file()
    assert backbone.sha256 in kept(backbone).name
    np.testing.assert_allclose(rows, on_keras(backbone, "embedding"), rtol=1e-4, atol=1e-5)
    assert np.ptp(rows, axis=0).max() > 0.01


@pytest.mark.parametrize("layer", ["feature_map", "pooled"])
def test_layers_and_their_names_stay_those_of_keras(backbone, layer) -> None:
    names, shape, resolved = backbone.layers, backbone.output_shape(layer), backbone.resolve_layer(layer)
    expected = on_keras(backbone, layer)
    open_network(backbone, "embedding")
    close_networks()
    opening._layers.pop(backbone.structure)
    assert (backbone.layers, backbone.output_shape(layer), backbone.resolve_layer(layer)) == (
        names,
        shape,
        resolved,
    )
    np.testing.assert_allclose(open_network(backbone, layer)(PICTURES), expected, rtol=1e-4, atol=1e-5)


def test_a_layer_that_the_onnx_form_does_not_keep_runs_on_keras(backbone) -> None:
    inner = "Conv2"
    assert inner in backbone.layers
    rows = open_network(backbone, inner)(PICTURES)
    np.testing.assert_allclose(rows, on_keras(backbone, inner), rtol=1e-4, atol=1e-5)


def test_doubtful_numbers_fall_back_on_keras_with_one_sentence(backbone, monkeypatch) -> None:
    monkeypatch.setattr(conversion, "_difference", lambda *arguments: 0.25)
    with pytest.warns(
        WeightsWarning, match=r"deepid runs on Keras, .*differ from Keras' by 2\.5e-01"
    ) as caught:
        rows = open_network(backbone, "embedding")(PICTURES)
    assert len(caught) == 1
    np.testing.assert_allclose(rows, on_keras(backbone, "embedding"), rtol=1e-5, atol=1e-6)
    assert not kept(backbone).exists()
    noted = json.loads(kept(backbone).with_suffix(".json").read_text())
    assert "2.5e-01" in noted["reason"]

    def not_again(*arguments: object) -> None:
        raise AssertionError("it was tried again")

    monkeypatch.setattr(conversion, "convert_keras", not_again)
    close_networks()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # told once in a process
        open_network(backbone, "embedding")
    converted._told.clear()
    close_networks()
    with pytest.warns(WeightsWarning, match=r"2\.5e-01"):
        open_network(backbone, "embedding")


def test_other_versions_of_the_converter_try_again(backbone) -> None:
    note = kept(backbone).with_suffix(".json")
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"reason": "of old", "versions": {"tf2onnx": "0.1"}}))
    open_network(backbone, "embedding")
    assert kept(backbone).is_file()


def test_a_damaged_conversion_is_made_again(backbone) -> None:
    open_network(backbone, "embedding")
    whole = kept(backbone).read_bytes()
    close_networks()
    kept(backbone).write_bytes(whole[: len(whole) // 2])
    open_network(backbone, "embedding")
    assert converted.kept_conversion(backbone.sha256, backbone.name, backbone.input_size) is not None


def test_too_little_memory_falls_back_and_is_tried_again_later(backbone, monkeypatch) -> None:
    monkeypatch.setattr(converted, "_free_memory", lambda: 1e6)
    with pytest.warns(WeightsWarning, match="GB of memory"):
        open_network(backbone, "embedding")
    assert not kept(backbone).with_suffix(".json").exists()


def test_while_another_process_converts_keras_runs_it_without_a_word(backbone) -> None:
    mark = kept(backbone).with_suffix(".converting")
    mark.parent.mkdir(parents=True)
    mark.touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = open_network(backbone, "embedding")(PICTURES)
    np.testing.assert_allclose(rows, on_keras(backbone, "embedding"), rtol=1e-5, atol=1e-6)
    assert not kept(backbone).exists()
    os.utime(mark, (0, 0))  # left by a process that was killed long ago
    close_networks()
    open_network(backbone, "embedding")
    assert kept(backbone).exists()
    assert not mark.exists()


def test_a_home_that_cannot_be_written_to_stops_nothing(backbone, monkeypatch) -> None:
    monkeypatch.setenv("AGEGENDER_HOME", "/dev/null/home")
    with pytest.warns(WeightsWarning, match="runs on Keras"):
        rows = open_network(backbone, "embedding")(PICTURES)
    assert rows.shape == (3, 160)


def test_a_saved_model_predicts_without_tensorflow(backbone, paths, faces, tmp_path, own_home) -> None:
    classifier = AgeGenderClassifier(DenseHead(), epochs=2, random_state=0)
    model = AgeGenderPipeline(EmbeddingExtractor(backbone, layer="pooled", cache=None), classifier)
    model.fit(faces.data, faces.target)
    save_model(model, tmp_path / "model.agegender")
    code = (
        "import sys, json, agegender\n"
        "model = agegender.load_model(sys.argv[1])\n"
        "rows = model.predict(sys.argv[2:])\n"
        "print(json.dumps([rows.tolist(), [name for name in ('tensorflow', 'keras') if name in sys.modules]]))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "model.agegender"), *paths[:3]]
    ran = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=False)
    assert ran.returncode == 0, ran.stderr
    rows, imported = json.loads(ran.stdout)
    assert imported == []
    np.testing.assert_allclose(rows, model.predict(paths[:3]), rtol=1e-5)
