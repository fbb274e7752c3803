"""What a head has trained of a network, as a network of its own."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import keras
import networks
import numpy as np
import pytest
from networks import NETWORKS
from sklearn.utils import Bunch

from agegender import (
    AgeGenderClassifier,
    AgeGenderPipeline,
    DenseHead,
    EmbeddingExtractor,
    FineTuneHead,
    load_model,
    save_model,
)
from agegender.backbones import Backbone
from agegender.exceptions import LeakageWarning
from agegender.runtime import open_network


def tuned_model(backbone: Backbone, faces: Bunch, layer: str, **head: Any) -> AgeGenderPipeline:
    options = {"units": (8, 4), "dropout": 0.2, "batch_norm": True} | head
    classifier = AgeGenderClassifier(
        FineTuneHead(layer, **options), epochs=3, learning_rate=0.01, random_state=0, validation_fraction=0.0
    )
    return AgeGenderPipeline(EmbeddingExtractor(backbone, cache=None), classifier).fit(
        faces.data, faces.target
    )


def activations(model: AgeGenderPipeline, rows: np.ndarray) -> np.ndarray:
    """What the trained blocks of the head give, by Keras."""

    def inner(layers: list[Any]) -> Any:
        for layer in layers:
            found = layer if layer.name == "tail" else inner(getattr(layer, "layers", []))
            if found is not None:
                return found
        return None

    blocks = inner(model.classifier_.keras_model_.layers)
    return np.asarray(blocks(rows.astype(np.float32))).reshape(len(rows), -1)


def pictures(backbone: Backbone, n: int = 9) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (n, *backbone.input_size, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("name", "layer", "head"),
    [
        ("plain", "map", {}),
        ("plain", "flat", {"units": ()}),
        ("plain", "input", {"units": 8}),
        ("plain", "map", {"reads": "out", "units": ()}),
        ("channels_last", "keras_prelu", {}),
        ("squeezed", "before", {"reads": "feature_map"}),
        ("one_at_a_time", "map", {"reads": "out"}),
    ],
)
def test_its_rows_are_the_activations_of_the_head(name, layer, head, faces, tmp_path: Path) -> None:
    file = networks.saved(NETWORKS[name](), tmp_path / f"{name}.onnx")
    network = Backbone.from_onnx(file, color="bgr", mean=(103.9, 116.8, 123.7), scale=1 / 64)
    model = tuned_model(network, faces, layer, **head)
    tuned, shown = model.to_backbone(), pictures(network)
    expected = activations(model, open_network(network, layer)(shown) if layer != "input" else shown)
    before = open_network(network, head.get("reads", "penultimate"))(shown).reshape(len(shown), -1)
    for word in ("embedding", "penultimate"):
        np.testing.assert_allclose(open_network(tuned, word)(shown), expected, atol=1e-4)
    assert np.abs(expected - before).max() > 1e-3
    assert (tuned.name, tuned.format) == (f"{name}-tuned", "onnx")
    assert tuned.sha256 != network.sha256
    assert EmbeddingExtractor(tuned, cache=None).fit().row_shape() == expected.shape[1:]


def test_a_keras_network_too(faces) -> None:
    inputs = keras.Input((16, 16, 3))
    maps = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="cut")(inputs)
    maps = keras.layers.Conv2D(8, 3, activation="relu", name="last")(maps)
    outputs = keras.layers.Dense(6)(keras.layers.GlobalAveragePooling2D(name="mean")(maps))
    network = Backbone.from_keras(keras.Model(inputs, outputs), color="bgr", name="own")
    model = tuned_model(network, faces, "cut")
    tuned, shown = model.to_backbone("mine"), pictures(network)
    assert (tuned.name, tuned.format, tuned.color) == ("mine", "onnx", "bgr")
    expected = activations(model, open_network(network, "cut")(shown))
    np.testing.assert_allclose(open_network(tuned, "embedding")(shown), expected, atol=1e-4)


def test_it_is_a_network_like_any_other(backbone, faces, tmp_path: Path) -> None:
    tuned = tuned_model(backbone, faces, "relu1").to_backbone()
    others = [
        Path(path).read_bytes() + b" " for path in faces.data
    ]  # other pictures to whoever compares contents
    both = EmbeddingExtractor((backbone, tuned), cache=None)
    model = AgeGenderPipeline(both, AgeGenderClassifier(DenseHead((4,)), epochs=2, random_state=0))
    model.fit(others, faces.target)
    rows = model.extractor_.transform(others)
    np.testing.assert_allclose(
        rows[:, 12:], EmbeddingExtractor(tuned, cache=None).transform(others), atol=1e-5
    )
    loaded = load_model(save_model(model, tmp_path / "both.agegender"))
    np.testing.assert_array_equal(loaded.predict(others), model.predict(others))
    assert Backbone.from_onnx(tuned.save(tmp_path / "tuned.onnx")) == tuned
    integers = tuned.quantize(others[:20], max_error=0.9)
    assert integers.name == "tiny-tuned-int8"
    assert integers.output_shape("penultimate") == tuned.output_shape("embedding")


def test_it_can_be_tuned_further(backbone, faces) -> None:
    first = tuned_model(backbone, faces, "relu1")
    tuned = first.to_backbone()
    with pytest.warns(LeakageWarning, match="'tiny-tuned' itself"):
        again = tuned_model(tuned, faces, "relu1")
    shown = pictures(backbone)
    twice = again.to_backbone()
    expected = activations(again, open_network(tuned, "relu1")(shown))
    np.testing.assert_allclose(open_network(twice, "embedding")(shown), expected, atol=1e-4)
    assert np.abs(expected - open_network(tuned, "embedding")(shown)).max() > 1e-3
    with pytest.warns(LeakageWarning):
        still = tuned_model(tuned, faces, "relu1", backbone_rate=0)
    np.testing.assert_allclose(
        activations(still, open_network(tuned, "relu1")(shown)),
        open_network(tuned, "embedding")(shown),
        atol=1e-4,
    )


def test_it_knows_the_pictures_that_it_was_trained_on(backbone, faces, tmp_path: Path) -> None:
    half = Bunch(data=faces.data[:30], target=faces.target[:30])
    tuned = tuned_model(backbone, half, "relu1").to_backbone()
    read = Backbone.from_onnx(tuned.save(tmp_path / "tuned.onnx"))
    for network in (tuned, read, tuned.quantize(faces.data[:20], max_error=0.9)):
        model = AgeGenderPipeline(
            EmbeddingExtractor(network, cache=None), AgeGenderClassifier(epochs=1, validation_fraction=0.0)
        )
        with pytest.warns(LeakageWarning, match=r"20 of 40 pictures.*cross_val_embed"):
            model.fit(faces.data[10:50], faces.target[10:50])
        with warnings.catch_warnings():
            warnings.simplefilter("error", LeakageWarning)
            model.fit(faces.data[30:], faces.target[30:])
        assert model.seen_in_training(faces.data).all()


def test_a_head_that_leaves_the_network_as_it_is_has_none(backbone, faces) -> None:
    model = AgeGenderPipeline(
        EmbeddingExtractor(backbone, cache=None), AgeGenderClassifier(DenseHead(), epochs=1, random_state=0)
    ).fit(faces.data, faces.target)
    with pytest.raises(ValueError, match=r"DenseHead\(\) leaves the network as it is.*FineTuneHead\(layer\)"):
        model.to_backbone()
    members = AgeGenderPipeline(
        EmbeddingExtractor(backbone, cache=None),
        AgeGenderClassifier(FineTuneHead("relu2", (4,)), epochs=1, ensemble=2, random_state=0),
    ).fit(faces.data, faces.target)
    with pytest.raises(ValueError, match="ensemble=2: it has as many networks"):
        members.to_backbone()
