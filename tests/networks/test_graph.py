"""Reading, cutting and rewriting ONNX graphs."""

from __future__ import annotations

import contextlib

import networks
import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from networks import NETWORKS, SIDE, Builder, plain_run
from onnx import TensorProto, helper

from agegender._networks.graph import OnnxGraph
from agegender._networks.onnx_files import read_graph
from agegender._networks.rewrite import PICTURES, runnable
from agegender.exceptions import WeightsError


def read(model: onnx.ModelProto, **options) -> OnnxGraph:
    return read_graph(model.SerializeToString(), "network.onnx", **options)


def run(content: bytes, pictures: np.ndarray) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session.run(None, {PICTURES: pictures})[0]


def drawn_pictures(n: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)


def as_input(graph: OnnxGraph, pictures: np.ndarray) -> np.ndarray:
    fed = (pictures.astype(np.float32) - np.float32(127.5)) * np.float32(1 / 128)
    return fed if graph.layouts[graph.input] == "nhwc" else np.ascontiguousarray(fed.transpose(0, 3, 1, 2))


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize(
    ("name", "penultimate", "feature_map"),
    [
        ("plain", ("hidden", (20,)), ("map", (4, 4, 32))),
        ("channels_last", ("flat", (512,)), ("map", (4, 4, 32))),
        ("squeezed", None, ("map", (4, 4, 16))),
        ("unit_length", ("one", (16,)), ("map", (4, 4, 16))),
        ("two_outputs", ("globalaveragepool_2", (16,)), ("map", (4, 4, 16))),
        ("one_at_a_time", ("flat", (256,)), ("map", (4, 4, 16))),
    ],
)
def test_layers_are_found_from_the_structure_alone(name, penultimate, feature_map) -> None:
    layers = read(NETWORKS[name]()).layers()
    assert layers.embedding == "out"
    assert layers.feature_map == feature_map[0]
    assert layers.shapes[feature_map[0]] == feature_map[1]
    assert layers.penultimate == (penultimate and penultimate[0])
    if penultimate:
        assert layers.shapes[penultimate[0]] == penultimate[1]


def test_weights_stored_in_half_precision_are_float32_once_read() -> None:
    plain = read(NETWORKS["plain"]())
    model = plain.model
    casts = []
    for weight in list(model.graph.initializer):
        if weight.data_type == TensorProto.FLOAT and len(weight.dims) > 1:
            half = onnx.numpy_helper.to_array(weight).astype(np.float16)
            casts.append(
                helper.make_node("Cast", [f"{weight.name}.half"], [weight.name], to=TensorProto.FLOAT)
            )
            weight.CopyFrom(onnx.numpy_helper.from_array(half, f"{weight.name}.half"))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])
    stored = model.SerializeToString()
    found = read_graph(stored, "network.onnx")
    assert casts
    assert not any(node.op_type == "Cast" for node in found.nodes)
    assert {weight.data_type for weight in found.weights.values()} <= {TensorProto.FLOAT, TensorProto.INT64}
    pictures = drawn_pictures()
    fed = as_input(found, pictures)
    expected = plain_run(onnx.load_from_string(stored), fed, "out")
    assert difference(plain_run(found.model, fed, "out"), expected) < 1e-6


def test_the_layers_of_a_real_network_are_found(shared) -> None:
    content = (shared / "weights/mobilefacenet_arcface.onnx").read_bytes()
    layers = read_graph(content, "mobilefacenet_arcface.onnx").layers()
    assert (layers.embedding, layers.penultimate) == ("fc1", "conv_6dw7_7_batchnorm")
    assert layers.feature_map == "conv_6sep_relu"
    assert layers.shapes["conv_6dw7_7_batchnorm"] == (512,)
    assert layers.shapes["conv_6sep_relu"] == (7, 7, 512)
    assert layers.shapes["_plus9"] == (14, 14, 128)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_tensor_equals_the_original_network_s(name) -> None:
    model = NETWORKS[name]()
    graph = read(model)
    pictures = drawn_pictures()
    fed = as_input(graph, pictures)
    runs = [fed[i : i + 1] for i in range(3)] if name == "one_at_a_time" else [fed]
    for tensor, shape in graph.layers().shapes.items():
        rows = run(runnable(graph, tensor, mean=127.5, scale=1 / 128), pictures)
        expected = np.concatenate([plain_run(model, part, tensor) for part in runs])
        if graph.layouts.get(tensor) == "nchw":
            expected = expected.transpose(0, 2, 3, 1)
        assert rows.shape == (3, *shape)
        assert difference(rows, expected.reshape(rows.shape)) <= 1e-5


def test_an_average_over_positions_is_that_of_the_map() -> None:
    for name in ("plain", "channels_last"):
        graph = read(NETWORKS[name]())
        maps = run(runnable(graph, "map"), drawn_pictures())
        pooled = run(runnable(graph, "map", pooled=True), drawn_pictures())
        np.testing.assert_allclose(pooled, maps.mean(axis=(1, 2)), rtol=1e-5, atol=1e-6)


def test_colours_are_turned_round_and_normalised_each_by_its_own_numbers() -> None:
    graph = read(networks.plain())
    pictures, mean, scale = drawn_pictures(), (100.0, 110.0, 120.0), (0.01, 0.02, 0.03)
    rows = run(runnable(graph, "out", color="bgr", mean=mean, scale=scale), pictures)
    fed = (pictures[..., ::-1].astype(np.float32) - np.float32(mean)) * np.float32(scale)
    expected = plain_run(networks.plain(), np.ascontiguousarray(fed.transpose(0, 3, 1, 2)), "out")
    assert difference(rows, expected) <= 1e-5


def operators(content: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_model_from_string(content).graph.node]


@pytest.mark.parametrize("name", ["plain", "channels_last"])
def test_prelu_is_rewritten_in_both_forms_into_two_convolutions(name) -> None:
    graph = read(NETWORKS[name]())
    before, after = (operators(runnable(graph, "map", rewrite=rewrite)) for rewrite in (False, True))
    assert {"PRelu", "Neg"} & set(before)
    assert not {"PRelu", "Neg"} & set(after)
    assert after.count("Conv") >= before.count("Conv") + 2


@settings(max_examples=25, deadline=None)
@given(
    slopes=st.lists(st.floats(-3, 3, width=32), min_size=16, max_size=16),
    one_slope=st.booleans(),
    seed=st.integers(0, 100),
)
def test_rewritten_prelu_is_exact_for_any_slopes(slopes, one_slope, seed) -> None:
    b = Builder(seed)
    x = b.conv("picture", 3, 16, strides=[2, 2])
    slope = np.float32(slopes[:1]) if one_slope else np.float32(slopes).reshape(16, 1, 1)
    x = b.add("PRelu", x, b.constant(slope), name="prelu")
    b.add("Flatten", b.add("GlobalAveragePool", x), name="out")
    model = b.model({"out": ["N", 16]})
    graph, pictures = read(model), drawn_pictures(2, seed)
    rewritten = runnable(graph, "prelu", mean=127.5, scale=1 / 128)
    assert "PRelu" not in operators(rewritten)
    expected = plain_run(model, as_input(graph, pictures), "prelu").transpose(0, 2, 3, 1)
    np.testing.assert_allclose(run(rewritten, pictures), expected, rtol=1e-5, atol=1e-6)


def test_a_slope_for_each_position_is_left_as_it_is() -> None:
    b = Builder()
    x = b.add("PRelu", b.conv("picture", 3, 16, strides=[4, 4]), b.drawn(16, 4, 4), name="prelu")
    b.add("Flatten", b.add("GlobalAveragePool", x), name="out")
    assert "PRelu" in operators(runnable(read(b.model({"out": ["N", 16]})), "out"))


def test_a_cut_graph_holds_nothing_that_comes_after(shared) -> None:
    content = (shared / "weights/mobilefacenet_arcface.onnx").read_bytes()
    graph = read_graph(content, "network")
    cut = graph.cut("_plus9")
    assert cut.graph.node[-1].output[0] == "_plus9"
    assert len(cut.graph.node) < len(graph.nodes)
    kept = sum(np.prod(weight.dims) for weight in cut.graph.initializer)
    assert kept < 0.6 * sum(np.prod(weight.dims) for weight in graph.model.graph.initializer)


def test_a_batch_dimension_of_one_is_made_free() -> None:
    graph = read(networks.one_at_a_time())
    pictures = drawn_pictures(5)
    rows = run(runnable(graph, "out"), pictures)
    alone = np.concatenate([run(runnable(graph, "out"), pictures[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(rows, alone, rtol=1e-5, atol=1e-6)


def test_a_network_that_mixes_pictures_up_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"one picture at a time.*dynamic batch"):
        read(networks.mixes_pictures())


def test_open_sides_are_asked_for_and_taken() -> None:
    model = networks.squeezed()
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"side_{axis}"
    with pytest.raises(WeightsError, match="input_size"):
        read(model)
    graph = read(model, input_size=(24, 32))
    assert graph.input_size == (24, 32)
    assert graph.layers().shapes["map"] == (6, 8, 16)


def test_half_precision_networks_are_fed_and_read_as_float32() -> None:
    b = Builder()
    weight = b.constant(b.rng.normal(0, 0.2, (16, 3, 3, 3)).astype(np.float16))
    x = b.add("Relu", b.add("Conv", "picture", weight, strides=[4, 4]), name="map")
    b.add("Flatten", b.add("GlobalAveragePool", x), name="out")
    graph = read(b.model({"out": ["N", 16]}, elem=TensorProto.FLOAT16))
    assert run(runnable(graph, "out", scale=1 / 255), drawn_pictures()).dtype == np.float32


def test_old_graphs_that_list_weights_among_inputs_are_read() -> None:
    model = networks.plain()
    for weight in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims))
    model.ir_version = 3
    graph = read(model)
    assert graph.input == "picture"
    assert run(runnable(graph, "out"), drawn_pictures()).shape == (3, 8)


def two_inputs() -> bytes:
    b = Builder()
    b.add("Flatten", b.add("Add", b.conv("picture", 3, 8), "other"), name="out")
    model = b.model({"out": ["N", 8 * SIDE * SIDE]})
    model.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, ["N", 8, SIDE, SIDE]))
    return model.SerializeToString()


def grey() -> bytes:
    b = Builder()
    b.add("Flatten", b.conv("picture", 1, 8), name="out")
    return b.model({"out": ["N", 8 * SIDE * SIDE]}, ["N", 1, SIDE, SIDE]).SerializeToString()


def maps_only() -> bytes:
    b = Builder()
    b.conv("picture", 3, 8, name="out")
    return b.model({"out": ["N", 8, SIDE, SIDE]}).SerializeToString()


def weights_elsewhere() -> bytes:
    model = networks.plain()
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "contains no ONNX network"),
        (b"\n<!DOCTYPE html><html>404</html>", "web page"),
        (networks.plain().SerializeToString()[:3000], "not an ONNX network|contains no ONNX|damaged"),
        (np.random.default_rng(0).bytes(4000), "not an ONNX network|contains no ONNX"),
        (two_inputs(), "2 inputs"),
        (grey(), "3 channels"),
        (weights_elsewhere(), "other files"),
        (Builder().model({}, opset=6).SerializeToString(), "contains no ONNX"),
    ],
    ids=["empty", "html", "truncated", "noise", "two inputs", "grey", "external weights", "no nodes"],
)
def test_what_is_no_picture_network_is_refused_by_name(content, message) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        read_graph(content, "network.onnx")
    assert "network.onnx" in str(caught.value)


def test_a_network_without_an_embedding_is_refused() -> None:
    with pytest.raises(WeightsError, match="no output of shape"):
        read_graph(maps_only(), "network.onnx").layers()


@settings(max_examples=60, deadline=None)
@given(
    cut=st.integers(0, 100), flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4)
)
@example(cut=100, flips=[(10, 0), (140, 128)])
def test_damaged_files_raise_the_package_s_own_error_or_none(cut, flips) -> None:
    content = bytearray(networks.plain().SerializeToString())
    for place, value in flips:
        content[place % len(content)] = value
    with contextlib.suppress(WeightsError):
        read_graph(bytes(content[: len(content) * cut // 100]), "network.onnx").layers()
