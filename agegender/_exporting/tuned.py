"""A network fine-tuned by a head, as one ONNX graph: the blocks before the cut, and the trained blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agegender._exporting.nodes import HIGHEST_OPSET, Nodes
from agegender._machine.sessions import open_session
from agegender._machine.threads import resolve_threads
from agegender._networks.graph import ancestors, attribute
from agegender._networks.opening import forget_network, layers_of, pictures_of_training, read_network
from agegender._networks.rewrite import handed_out
from agegender._networks.terms import ENDS_BEFORE_DENSE, digests_as_text, state_terms
from agegender.exceptions import ModelFileError
from agegender.runtime import open_network

if TYPE_CHECKING:
    from agegender.backbones import Backbone

__all__ = ["TOLERANCE", "check_same", "tuned_network"]

TOLERANCE = 1e-4
"""Allowed difference from the head's activations, as a share of the largest one if that is above 1."""

_TRIED = 4
_DENSE = ("Gemm", "MatMul")


def tuned_network(
    backbone: Backbone, layer: str, head: bytes, n_hidden: int, *, name: str, trained_on: NDArray[np.uint64]
) -> tuple[bytes, dict[str, Any]]:
    """Return a network whose last blocks are those that a head has trained, and its input and licence.

    Parameters
    ----------
    backbone : Backbone
        The network that the head fine-tuned.
    layer : str
        The layer at which the head begins.
    head : bytes
        The trained head as ONNX: blocks, hidden dense layers, two outputs.
    n_hidden : int
        The number of its hidden dense layers, which are left out.
    name : str
        The name of the new network.
    trained_on : ndarray of uint64
        Short digests of the pictures that the head was trained on.

    Returns
    -------
    content : bytes
        An ONNX file whose output is the flat input of the head's first dense layer.
    terms : dict
        name, color, mean, scale and licence.

    Raises
    ------
    ModelFileError
        If the network has operators that only one runtime supports, or its numbers differ from the head's.
    """
    import onnx

    blocks = onnx.load_model_from_string(head)
    _, width = _end_before_dense(blocks, n_hidden)
    terms: dict[str, Any] = {"name": name, "color": "rgb", "mean": 0.0, "scale": 1.0}
    if layer == "input":
        made = _joined([blocks], name, width)
    else:
        made = _joined([_frozen(backbone, layer), blocks], name, width)
        terms |= {key: getattr(backbone, key) for key in ("color", "mean", "scale")}
    terms["licence"] = backbone.licence
    known = np.union1d(pictures_of_training(backbone), trained_on)
    training = {
        "fine_tuned_from": backbone.sha256,
        "fine_tuned_at": layer,
        ENDS_BEFORE_DENSE: True,
        "trained_on": digests_as_text(known),
    }
    state_terms(made, terms | training)
    forget_network()
    return made.SerializeToString(), terms


def check_same(tuned: Backbone, backbone: Backbone, layer: str, head: bytes, n_hidden: int) -> None:
    """Compare a fine-tuned network with the head from which it was made, on random pictures.

    Raises
    ------
    ModelFileError
        If their numbers differ.
    """
    import onnx

    blocks = onnx.load_model_from_string(head)
    end, _ = _end_before_dense(blocks, n_hidden)
    pictures = np.random.default_rng(0).integers(0, 256, (_TRIED, *backbone.input_size, 3), dtype=np.uint8)
    rows = open_network(backbone, layer)(pictures) if layer != "input" else pictures
    session = open_session(blocks.SerializeToString(), n_threads=resolve_threads())
    (expected,) = session.run([end], {session.get_inputs()[0].name: rows.astype(np.float32)})
    found = open_network(tuned, "embedding")(pictures)
    difference = float(np.abs(found - expected).max()) / max(1.0, float(np.abs(expected).max()))
    if not difference <= TOLERANCE:
        raise ModelFileError(
            f"{tuned.name} would not give the activations of the head that it is made of: they differ by "
            f"{difference:.1e}. Please report this with the network."
        )


def _end_before_dense(model: Any, n_hidden: int) -> tuple[str, int]:
    """Cut a head before its dense layers, and return the input tensor of the first one, and its width."""
    from onnx import TensorProto, helper

    nodes = list(model.graph.node)
    constants = {weight.name: weight.dims for weight in model.graph.initializer}
    end, width = model.graph.output[0].name, 0
    for _ in range(n_hidden + 1):
        # They are in order, so that the last one before a tensor is the nearest one.
        dense = [node for node in ancestors(nodes, [end]) if node.op_type in _DENSE]
        if not dense or dense[-1].input[1] not in constants:
            raise ModelFileError("The dense layers of this head are not where they should be.")
        end = dense[-1].input[0]
        width = constants[dense[-1].input[1]][attribute(dense[-1], "transB", 0)]
    kept = ancestors(nodes, [end])
    del model.graph.node[:], model.graph.output[:]
    model.graph.node.extend(kept)
    model.graph.output.append(helper.make_tensor_value_info(end, TensorProto.FLOAT, None))
    return str(end), int(width)


def _frozen(backbone: Backbone, layer: str) -> Any:
    """Return the blocks before the cut, from the network's input to the head's input."""
    tensor, _ = layers_of(backbone).find(backbone.resolve_layer(layer))
    if backbone.format == "onnx":
        return handed_out(read_network(backbone), tensor)
    return _converted(backbone, layer, tensor)


def _converted(backbone: Backbone, layer: str, tensor: str) -> Any:
    """Return the blocks before the cut of a Keras network as ONNX."""
    from agegender._networks.keras import check_keras, quiet_keras
    from agegender._networks.quantization import quiet_converter

    check_keras()
    import tensorflow as tf
    import tf2onnx

    shape = backbone.output_shape(layer)
    with quiet_keras(), quiet_converter():
        model = read_network(backbone).cut(tensor)
        signature = [tf.TensorSpec((None, *backbone.input_size, 3), tf.float32, name="pictures")]
        function = tf.function(
            lambda pictures: tf.reshape(model(pictures, training=False), (-1, *shape)), autograph=False
        )
        converted, _ = tf2onnx.convert.from_function(function, signature, opset=17)
    return converted


def _joined(models: Sequence[Any], name: str, width: int) -> Any:
    """Join networks in sequence to one network; the tensors of the first one keep their names."""
    from onnx import TensorProto, helper

    nodes = Nodes(min(HIGHEST_OPSET, max(_opset(model) for model in models)))
    weights = {weight.name for weight in models[0].graph.initializer}
    (picture,) = [value for value in models[0].graph.input if value.name not in weights]
    taken = {node_output for node in models[0].graph.node for node_output in node.output}
    prefix = "tuned"
    while any(tensor.split("/")[0] == prefix for tensor in taken):
        prefix += "_again"
    end = picture.name
    for number, model in enumerate(models):
        (end,) = nodes.include(model, prefix if number == len(models) - 1 else "", [end])
    end = nodes.add("Identity", end, name=prefix)
    output = helper.make_tensor_value_info(end, TensorProto.FLOAT, ["N", width])
    return nodes.model(name, [picture], [output])


def _opset(model: Any) -> int:
    return max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
