"""Networks in integers: close to the float network, other networks in cache and files, as careful as asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import SIDE, Builder, saved
from typer.testing import CliRunner

from agegender import AgeGenderClassifier, AgeGenderPipeline, EmbeddingExtractor, load_model, save_model
from agegender.backbones import Backbone
from agegender.cli import app
from agegender.datasets import make_faces
from agegender.exceptions import WeightsError
from agegender.runtime import images_passed


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return make_faces(40, tmp_path_factory.mktemp("faces"), size=96)


@pytest.fixture(scope="module")
def compact_int8(faces) -> Backbone:
    return Backbone.load("compact").quantize(faces.data[:24], max_error=0.3)


def kinds(backbone: Backbone) -> list[str]:
    return [node.op_type for node in onnx.load_model_from_string(backbone.read_bytes()).graph.node]


def rows(backbone: Backbone, pictures, layer: str = "embedding") -> np.ndarray:
    found = EmbeddingExtractor(backbone, layer=layer, cache=None).transform(pictures)
    return found.reshape(len(found), -1)


def similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize("layer", ["embedding", "penultimate", "pooled", "feature_map"])
def test_every_layer_stays_and_stays_close_on_pictures_not_measured_on(compact_int8, faces, layer) -> None:
    compact = Backbone.load("compact")
    assert compact_int8.output_shape(layer) == compact.output_shape(layer)
    new = faces.data[24:]
    found = similarity(rows(compact_int8, new, layer), rows(compact, new, layer))
    assert np.median(found) > 0.95
    assert found.min() > 0.8
    assert not np.array_equal(rows(compact_int8, new, layer), rows(compact, new, layer))


def test_it_is_smaller_and_another_network_with_the_same_terms(compact_int8) -> None:
    compact = Backbone.load("compact")
    assert compact_int8.size < 0.6 * compact.size  # whose weights are stored in half precision
    assert compact_int8.sha256 != compact.sha256
    assert (compact_int8.mean, compact_int8.scale, compact_int8.licence) == (
        compact.mean,
        compact.scale,
        compact.licence,
    )


def test_the_same_sample_gives_the_same_network(compact_int8, faces) -> None:
    assert Backbone.load("compact").quantize(faces.data[:24], max_error=0.3) == compact_int8


def test_its_rows_are_cached_by_themselves(compact_int8, faces, tmp_path) -> None:
    cache = tmp_path / "cache"
    EmbeddingExtractor("compact", layer="embedding", cache=cache).transform(faces.data[:8])
    before = images_passed()
    first = EmbeddingExtractor(compact_int8, layer="embedding", cache=cache).transform(faces.data[:8])
    assert images_passed() - before == 8
    again = EmbeddingExtractor(compact_int8, layer="embedding", cache=cache).transform(faces.data[:8])
    assert images_passed() - before == 8
    assert np.array_equal(first, again)


def test_a_saved_file_opens_with_its_own_normalisation(compact_int8, tmp_path) -> None:
    path = compact_int8.save(tmp_path / "made" / "c.onnx")
    opened = Backbone.load(path)
    assert opened == compact_int8
    assert opened.name == "compact-int8"
    assert opened.scale == pytest.approx(1 / 64)
    assert Backbone.from_onnx(path, mean=0.0, name="other").mean == 0.0
    assert [p.name for p in path.parent.iterdir()] == ["c.onnx"]
    with pytest.raises(ValueError, match=r"should end in \.onnx"):
        compact_int8.save(tmp_path / "c.h5")


@pytest.mark.parametrize("text", ["not json", "[1, 2]", "3"])
def test_metadata_that_we_did_not_write_is_named(compact_int8, tmp_path, text) -> None:
    model = onnx.load_model_from_string(compact_int8.read_bytes())
    next(entry for entry in model.metadata_props if entry.key == "agegender").value = text
    onnx.save(model, tmp_path / "strange.onnx")
    with pytest.raises(WeightsError, match=r"strange\.onnx has metadata under 'agegender'"):
        Backbone.from_onnx(tmp_path / "strange.onnx")


def test_a_model_on_it_is_saved_and_predicts_the_same(compact_int8, faces, tmp_path) -> None:
    model = AgeGenderPipeline(
        EmbeddingExtractor(compact_int8, cache=None), AgeGenderClassifier(epochs=2, random_state=0)
    ).fit(faces.data, faces.target)
    loaded = load_model(save_model(model, tmp_path / "model.agegender"))
    assert np.array_equal(loaded.predict(faces.data[:5]), model.predict(faces.data[:5]))


def fragile_at_the_end(path: Path) -> Backbone:
    """A network whose last map has one channel so large that 8 bits drown the others."""
    b = Builder()
    x = b.add("Relu", b.conv("picture", 3, 16))
    x = b.add("Relu", b.conv(x, 16, 16))
    sizes = np.ones((16, 1, 1), np.float32)
    sizes[0] = 1000
    x = b.add("Div", b.add("Mul", b.conv(x, 16, 16), b.constant(sizes)), b.constant(sizes))
    b.dense(b.add("Flatten", b.add("GlobalAveragePool", x)), 16, 24, name="embedding")
    return Backbone.from_onnx(saved(b.model({"embedding": ["N", 24]}), path))


def test_the_last_operations_stay_in_float_where_integers_would_do_harm(tmp_path) -> None:
    backbone = fragile_at_the_end(tmp_path / "fragile.onnx")
    sample = list(np.random.default_rng(0).integers(0, 256, (32, SIDE, SIDE, 3), dtype=np.uint8))
    careless, careful = backbone.quantize(sample, max_error=1), backbone.quantize(sample, max_error=0.1)
    assert kinds(careless).count("QuantizeLinear") > kinds(careful).count("QuantizeLinear") > 0
    assert noise(careful, backbone, sample) < 0.15 < noise(careless, backbone, sample)


def noise(made: Backbone, original: Backbone, sample) -> float:
    """Return what rounding added, as a share of the embedding's variance over pictures."""
    expected = rows(original, sample)
    return float((((rows(made, sample) - expected) ** 2).mean(axis=0) / expected.var(axis=0)).mean())


def test_a_keras_network_becomes_an_onnx_network_in_integers() -> None:
    import keras

    keras.utils.set_random_seed(0)
    picture = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(8, 3, use_bias=False)(picture)
    x = keras.layers.PReLU(shared_axes=[1, 2])(keras.layers.BatchNormalization()(x))
    x = keras.layers.Conv2D(16, 3, strides=2, activation="relu")(x)
    x = keras.layers.Dense(12)(keras.layers.GlobalAveragePooling2D()(x))
    backbone = Backbone.from_keras(keras.Model(picture, x), name="small", color="bgr")
    sample = list(np.random.default_rng(0).integers(0, 256, (24, SIDE, SIDE, 3), dtype=np.uint8))
    made = backbone.quantize(sample)
    assert (made.format, made.color, made.name) == ("onnx", "bgr", "small-int8")
    assert similarity(rows(made, sample), rows(backbone, sample)).min() > 0.98


@pytest.mark.parametrize(
    ("pictures", "options", "message"),
    [
        (3, {}, "3 pictures are too few"),
        (20, {"max_error": 1.5}, r"max_error=1\.5 should be a number above 0"),
        (20, {"max_error": 0}, "max_error=0 should be a number above 0"),
    ],
)
def test_bad_arguments_are_named(faces, pictures, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        Backbone.load("compact").quantize(faces.data[:pictures], **options)


def test_an_error_that_no_integer_keeps_to_is_refused(faces) -> None:
    with pytest.raises(WeightsError, match=r"compact cannot be quantised.*Use a larger max_error"):
        Backbone.load("compact").quantize(faces.data[:16], max_error=1e-9)


def test_integers_are_not_quantised_again(compact_int8, faces) -> None:
    with pytest.raises(ValueError, match="compact-int8 is already quantised"):
        compact_int8.quantize(faces.data[:16])


def test_the_command_writes_a_file_that_other_commands_take(faces, tmp_path) -> None:
    folder = Path(faces.data[0]).parent
    out = tmp_path / "c8.onnx"
    done = CliRunner().invoke(
        app,
        ["quantize", "compact", str(folder), "--out", str(out), "--n-pictures", "20", "--max-error", "0.3"],
    )
    assert done.exit_code == 0, done.output
    arguments = ["embed", str(folder), "--backbone", str(out), "--out", str(tmp_path / "e.npz")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    with np.load(tmp_path / "e.npz") as saved_rows:
        assert np.allclose(saved_rows["embeddings"], rows(Backbone.load(out), saved_rows["paths"].tolist()))


def test_the_command_refuses_another_suffix(faces, tmp_path) -> None:
    arguments = ["quantize", "compact", str(Path(faces.data[0]).parent), "--out", str(tmp_path / "c.h5")]
    assert "should end in .onnx" in str(CliRunner().invoke(app, arguments).exception)
