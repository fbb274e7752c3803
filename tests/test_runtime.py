"""Networks that run: their numbers, their threads, and how many stay open."""

from __future__ import annotations

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import networks
import numpy as np
import pytest
from networks import plain_run, saved

from agegender import runtime
from agegender.backbones import Backbone
from agegender.runtime import close_networks, images_passed, open_network

LAYERS = ["embedding", "penultimate", "pooled", "feature_map", "input"]


@pytest.fixture
def backbone(tmp_path: Path) -> Backbone:
    return Backbone.from_onnx(saved(networks.plain(), tmp_path / "plain.onnx"))


@pytest.fixture(autouse=True)
def nothing_open() -> None:
    close_networks()


def drawn(backbone: Backbone, n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *backbone.input_size, 3), dtype=np.uint8)


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize(
    ("layer", "tensor"),
    [
        ("embedding", "fc1"),
        ("penultimate", "conv_6dw7_7_batchnorm"),
        ("feature_map", "conv_6sep_relu"),
        ("_plus9", "_plus9"),
    ],
)
def test_a_real_network_gives_the_numbers_of_its_original_graph(shared, layer, tensor) -> None:
    import onnx

    path = shared / "weights/mobilefacenet_arcface.onnx"
    backbone = Backbone.from_onnx(path, mean=0.0, scale=1.0)
    pictures = drawn(backbone, 4)
    rows = open_network(backbone, layer)(pictures)
    model = onnx.load(path)
    model.graph.input[0].name = "picture"
    model.graph.node[0].input[0] = "picture"
    expected = plain_run(model, pictures.transpose(0, 3, 1, 2).astype(np.float32), tensor)
    if layer in ("feature_map", "_plus9"):
        expected = expected.transpose(0, 2, 3, 1)
    assert rows.shape == (4, *backbone.output_shape(layer))
    assert difference(rows, expected.reshape(rows.shape)) <= 1e-5


def test_a_picture_s_numbers_do_not_depend_on_those_beside_it(shared) -> None:
    backbone = Backbone.from_onnx(shared / "weights/mobilefacenet_arcface.onnx", mean=0.0, scale=1.0)
    pictures = drawn(backbone, 9)
    for layer in ("embedding", "penultimate", "feature_map"):
        network = open_network(backbone, layer)
        together = network(pictures)
        for parts in ([1] * 9, [4, 5], [7, 2]):
            split = np.split(pictures, np.cumsum(parts)[:-1])
            assert difference(np.concatenate([network(part) for part in split]), together) <= 1e-6
        assert difference(network(pictures[::-1]), together[::-1]) <= 1e-6


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_comes_out_in_the_promised_shape(backbone, layer) -> None:
    rows = open_network(backbone, layer)(drawn(backbone, 3))
    assert rows.shape == (3, *backbone.output_shape(layer))
    assert rows.dtype == np.float32


def test_the_input_layer_is_the_picture_itself(backbone) -> None:
    pictures = drawn(backbone, 2)
    np.testing.assert_array_equal(open_network(backbone, "input")(pictures), pictures.astype(np.float32))


def test_colours_mean_and_scale_decide_the_numbers(backbone, tmp_path) -> None:
    pictures = drawn(backbone, 2)
    turned = Backbone.from_onnx(backbone.path, color="bgr")
    np.testing.assert_allclose(
        open_network(turned, "embedding")(pictures[..., ::-1]),
        open_network(backbone, "embedding")(pictures),
        rtol=1e-6,
    )
    shifted = Backbone.from_onnx(backbone.path, mean=(0.0, 10.0, 20.0), scale=0.01)
    fed = (pictures - np.float32((0.0, 10.0, 20.0))) * np.float32(0.01)
    expected = plain_run(networks.plain(), np.ascontiguousarray(fed.transpose(0, 3, 1, 2)), "out")
    assert difference(open_network(shifted, "embedding")(pictures), expected) <= 1e-5


def test_a_batch_of_another_size_or_type_is_refused_with_the_right_one(backbone) -> None:
    network = open_network(backbone, "embedding")
    for batch in (
        np.zeros((2, 8, 8, 3), np.uint8),
        np.zeros((2, 16, 16, 3)),
        np.zeros((16, 16, 3), np.uint8),
    ):
        with pytest.raises(ValueError, match=r"\(n, 16, 16, 3\).*letterbox"):
            network(batch)


def test_no_pictures_give_no_rows(backbone) -> None:
    assert open_network(backbone, "feature_map")(drawn(backbone, 0)).shape == (0, 4, 4, 32)


def test_pictures_are_counted_by_network_and_by_process(backbone) -> None:
    before, network = images_passed(), open_network(backbone, "embedding")
    network(drawn(backbone, 3))
    network(drawn(backbone, 2))
    open_network(backbone, "pooled")(drawn(backbone, 4))
    assert network.n_images == 5
    assert images_passed() - before == 9


def test_an_open_network_is_handed_out_again_and_the_oldest_is_let_go(backbone) -> None:
    first = open_network(backbone, "embedding", n_threads=1)
    assert open_network(backbone, "out", n_threads=1) is first
    assert open_network(backbone, "embedding", n_threads=2) is not first
    for layer in LAYERS[1:]:
        open_network(backbone, layer, n_threads=1)
    assert len(runtime._open_networks) == runtime.OPEN_NETWORKS
    assert open_network(backbone, "embedding", n_threads=1) is not first
    assert first(drawn(backbone, 1)).shape == (1, 8)


def test_eight_threads_share_one_network_and_get_the_right_rows(backbone) -> None:
    batches = [drawn(backbone, 1 + seed % 3, seed) for seed in range(24)]
    expected = [open_network(backbone, "embedding")(batch) for batch in batches]
    close_networks()
    before = images_passed()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda batch: open_network(backbone, "embedding")(batch), batches))
    for rows, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(rows, right, rtol=1e-5, atol=1e-6)
    assert images_passed() - before == sum(map(len, batches))
    assert len(runtime._open_networks) == 1


def test_a_network_pickles_without_its_session(backbone) -> None:
    network, pictures = open_network(backbone, "pooled", n_threads=1), drawn(backbone, 2)
    pickled = pickle.dumps(network)
    assert len(pickled) < 2000
    np.testing.assert_array_equal(pickle.loads(pickled)(pictures), network(pictures))


@pytest.mark.skipif(sys.platform == "win32", reason="nothing forks there")
def test_a_forked_child_opens_its_networks_anew(backbone) -> None:
    # In a process of its own: this one may hold TensorFlow's threads by now.
    script = """
import multiprocessing, sys
import numpy as np
from agegender import runtime
from agegender.backbones import Backbone

backbone = Backbone.from_onnx(sys.argv[1])
network = runtime.open_network(backbone, "embedding")
pictures = np.random.default_rng(0).integers(0, 256, (2, *backbone.input_size, 3), dtype=np.uint8)
right = network(pictures)

def rows():
    return network(pictures), runtime.open_network(backbone, "embedding")(pictures), len(runtime._open_networks)

with multiprocessing.get_context("fork").Pool(1) as pool:
    held, opened, n_open = pool.apply_async(rows).get(timeout=60)
print((held == right).all(), (opened == right).all(), n_open)
"""
    ran = subprocess.run(
        [sys.executable, "-c", script, str(backbone.path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.stdout.split() == ["True", "True", "1"], ran.stderr[-2000:]


@pytest.mark.skipif(sys.platform == "win32", reason="nothing forks there")
def test_a_keras_network_after_a_fork_is_an_error_and_no_hang(tmp_path) -> None:
    script = """
import multiprocessing, sys
import keras, numpy as np
from agegender.backbones import Backbone
from agegender.runtime import open_network

layers = [keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D()]
network = open_network(Backbone.from_keras(keras.Sequential(layers)), "embedding")
pictures = np.zeros((1, 16, 16, 3), np.uint8)
network(pictures)

def ask(held):
    try:
        return str((network if held else open_network(network.backbone, "embedding"))(pictures))
    except RuntimeError as error:
        return str(error)

with multiprocessing.get_context("fork").Pool(1) as pool:
    for held in (True, False):
        print(pool.apply_async(ask, [held]).get(timeout=60))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.stdout.count("forked from one that had used TensorFlow") == 2, ran.stderr[-2000:]


@pytest.fixture(scope="module")
def keras_model():
    import keras

    @keras.saving.register_keras_serializable("tests")
    class Counting(keras.layers.Layer):
        calls = 0

        def call(self, x):
            Counting.calls += 1
            return x

    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((16, 16, 3)),
        keras.layers.Conv2D(8, 3, strides=4, name="conv"),
        keras.layers.PReLU(shared_axes=[1, 2], alpha_initializer="random_normal", name="map"),
        Counting(name="counting"),
        keras.layers.Flatten(name="flat"),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(5, name="dense"),
        keras.layers.BatchNormalization(name="out"),
    ]
    return keras.Sequential(layers), Counting


def test_a_keras_network_gives_the_numbers_of_the_model(keras_model) -> None:
    model, _ = keras_model
    backbone = Backbone.from_keras(model, color="bgr", mean=(1.0, 2.0, 3.0), scale=1 / 64)
    pictures = drawn(backbone, 3)
    fed = (pictures[..., ::-1].astype(np.float32) - np.float32((1.0, 2.0, 3.0))) / np.float32(64)
    assert difference(open_network(backbone, "embedding")(pictures), np.asarray(model(fed))) <= 1e-5
    maps = open_network(backbone, "feature_map")(pictures)
    assert maps.shape == (3, 4, 4, 8)
    np.testing.assert_array_equal(open_network(backbone, "penultimate")(pictures), maps.reshape(3, -1))
    np.testing.assert_allclose(
        open_network(backbone, "pooled")(pictures), maps.mean((1, 2)), rtol=1e-5, atol=1e-6
    )


def test_a_keras_network_is_traced_once_for_batches_of_every_size(keras_model) -> None:
    model, counting = keras_model
    backbone = Backbone.from_keras(model)
    network = open_network(backbone, "embedding")
    traced = counting.calls
    together = network(drawn(backbone, 7))
    for n in (1, 2, 3, 5):
        assert difference(network(drawn(backbone, 7)[:n]), together[:n]) <= 1e-6
    assert counting.calls == traced
