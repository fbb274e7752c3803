"""Networks taken into one graph: opsets, names, several side by side, and what is refused."""

from __future__ import annotations

from pathlib import Path

import networks
import numpy as np
import onnx
import pytest
from conftest import write_tiny_onnx
from onnx import TensorProto, helper, numpy_helper

from agegender import Backbone
from agegender._exporting.nodes import Nodes
from agegender._exporting.parts import NetworkPart, rows
from agegender._machine.sessions import open_session
from agegender.exceptions import ModelFileError
from agegender.runtime import open_network

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), dtype=np.uint8)


def run(nodes: Nodes, output: str, pictures: np.ndarray = PICTURES) -> np.ndarray:
    nodes.add("Identity", output, name="rows")
    given = helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["n", *pictures.shape[1:]])
    found = helper.make_tensor_value_info("rows", TensorProto.FLOAT, None)
    model = nodes.model("rows", [given], [found])
    return open_session(model.SerializeToString()).run(None, {"pictures": pictures})[0]


def part(backbone: Backbone, layer: str) -> NetworkPart:
    return NetworkPart(backbone, backbone.resolve_layer(layer))


@pytest.mark.parametrize("layer", ["embedding", "pooled", "feature_map", "input"])
def test_one_network_gives_the_rows_of_the_library(backbone: Backbone, layer: str) -> None:
    nodes = Nodes(17)
    found = run(nodes, rows(nodes, [part(backbone, layer)], ["pictures"], "float32"))
    np.testing.assert_allclose(found, open_network(backbone, layer)(PICTURES), atol=1e-5)


def test_several_networks_lie_side_by_side(backbone: Backbone, tmp_path: Path) -> None:
    other = Backbone.from_onnx(write_tiny_onnx(tmp_path / "other.onnx", seed=1), color="bgr")
    nodes = Nodes(17)
    both = [part(backbone, "embedding"), part(other, "feature_map")]
    found = run(nodes, rows(nodes, both, ["pictures", "pictures"], "float32"))
    expected = [open_network(p.backbone, p.layer)(PICTURES).reshape(3, -1) for p in both]
    np.testing.assert_allclose(found, np.hstack(expected), atol=1e-5)


def test_rows_in_half_precision_are_rounded_as_the_head_was_shown_them(backbone: Backbone) -> None:
    nodes = Nodes(17)
    found = run(nodes, rows(nodes, [part(backbone, "embedding")], ["pictures"], "float16"))
    assert (found == found.astype(np.float16)).all()


@pytest.mark.parametrize("opset", [9, 11, 13])
def test_older_opsets_are_written_anew(opset: int, tmp_path: Path) -> None:
    b = networks.Builder()
    x = b.add("Relu", b.conv("picture", 3, 16, strides=[4, 4]))
    x = b.add("Flatten", b.add("GlobalAveragePool", x))
    b.add("Identity", x, name="out")
    path = networks.saved(b.model({"out": ["N", 16]}, opset=opset), tmp_path / "old.onnx")
    backbone, nodes = Backbone.from_onnx(path), Nodes(18)
    pictures = PICTURES[:, :16, :16]
    found = run(nodes, rows(nodes, [part(backbone, "embedding")], ["pictures"], "float32"), pictures)
    np.testing.assert_allclose(found, open_network(backbone, "embedding")(pictures), atol=1e-5)


def model_with(node: onnx.NodeProto, domain: str = "") -> onnx.ModelProto:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(helper.make_graph([node], "g", value[:1], value[1:]), opset_imports=opsets)


def test_operators_of_one_runtime_and_branches_are_refused() -> None:
    strange = helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")
    with pytest.raises(ModelFileError, match=r"network1 has the operator Gelu of 'com.microsoft'"):
        Nodes(17).include(model_with(strange, "com.microsoft"), "network1", ["pictures"])
    inner = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["z"])],
        "inner",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1])],
    )
    branch = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    with pytest.raises(ModelFileError, match=r"has a branch or a loop \(If\)"):
        Nodes(17).include(model_with(branch), "network1", ["pictures"])


def test_only_large_weights_that_half_precision_holds_are_halved() -> None:
    weights = [
        numpy_helper.from_array(np.full((64, 64), value, np.float32), name)
        for name, value in (("a", 1.5), ("b", 1e6))
    ]
    steps = [helper.make_node("MatMul", ["x", "a"], ["h"]), helper.make_node("MatMul", ["h", "b"], ["y"])]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 64]) for name in ("x", "y")]
    model = helper.make_model(
        helper.make_graph(steps, "g", value[:1], value[1:], weights),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    nodes = Nodes(17, float16=True)
    nodes.include(model, "n", ["pictures"])
    made = nodes.model("g", [], [])
    kinds = {weight.name: weight.data_type for weight in made.graph.initializer}
    assert kinds == {"n/a/half": TensorProto.FLOAT16, "n/b": TensorProto.FLOAT}
