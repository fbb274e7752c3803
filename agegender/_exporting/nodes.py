"""Building one ONNX graph from new nodes and from complete networks, whose tensors get unique names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agegender.exceptions import ModelFileError

__all__ = ["HIGHEST_OPSET", "Nodes", "single"]

HIGHEST_OPSET = 18
_LEAST_HALVED = 1024
_IR_VERSION = 8  # the version for opsets 15 to 18
_ONNX_DOMAINS = ("", "ai.onnx")
_SCALES = ("QuantizeLinear", "DequantizeLinear")


def single(numbers: ArrayLike) -> NDArray[np.float32]:
    """Return a number, or several, in single precision."""
    return np.asarray(numbers, np.float32)


class Nodes:
    """Nodes and constants of a graph.

    Parameters
    ----------
    opset : int
        The opset of all nodes.
    float16 : bool, default=False
        Store the large weights of added networks in half precision; arithmetic stays in single precision.
    """

    def __init__(self, opset: int, *, float16: bool = False) -> None:
        self.opset = opset
        self.float16 = float16
        self._nodes: list[Any] = []
        self._weights: dict[str, Any] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def add(self, kind: str, *inputs: str | NDArray[Any], name: str | None = None, **attributes: Any) -> str:
        """Append a node, and return the name of its output; arrays become constants, "" is left out."""
        from onnx import helper

        read = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        output = name or f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, read, [output], **attributes))
        return output

    def constant(self, value: NDArray[Any]) -> str:
        """Return the name of a constant; equal constants are stored once."""
        from onnx import numpy_helper

        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._constants:
            name = self._constants[key] = f"constant_{len(self._constants)}"
            self._weights[name] = numpy_helper.from_array(value, name)
        return self._constants[key]

    def include(self, model: Any, prefix: str, inputs: Sequence[str]) -> list[str]:
        """Add a network that reads the tensors `inputs`, and return the names of its outputs.

        Without a prefix its tensors keep their names.

        Raises
        ------
        ModelFileError
            If it has operators that ONNX does not define, or branches or loops, or cannot be written in this opset.
        """
        from onnx import NodeProto, TensorProto

        model = _at_opset(model, self.opset, prefix)
        weights = {weight.name: weight for weight in model.graph.initializer}
        given = [value.name for value in model.graph.input if value.name not in weights]
        names = dict(zip(given, inputs, strict=True)) | {"": ""}

        def named(name: str) -> str:
            return names.get(name, f"{prefix}/{name}" if prefix else name)

        for weight in weights.values():
            kept = TensorProto()
            kept.CopyFrom(weight)
            kept.name = named(weight.name)
            self._weights[kept.name] = kept
        if self.float16:
            self._halve([named(name) for name in weights if name not in _scales(model)])
        for node in model.graph.node:
            copied = NodeProto()
            copied.CopyFrom(node)
            copied.name = f"{prefix}/{node.name}" if node.name and prefix else node.name
            copied.input[:] = [named(name) for name in node.input]
            copied.output[:] = [named(name) for name in node.output]
            self._nodes.append(copied)
        return [named(value.name) for value in model.graph.output]

    def _halve(self, names: list[str]) -> None:
        """Store large float32 weights in half precision, and convert them back before use."""
        from onnx import TensorProto, numpy_helper

        for name in names:
            weight = self._weights[name]
            if weight.data_type != TensorProto.FLOAT or np.prod(weight.dims) < _LEAST_HALVED:
                continue
            numbers = numpy_helper.to_array(weight)
            if np.abs(numbers).max() > np.finfo(np.float16).max:
                continue
            del self._weights[name]
            half = f"{name}/half"
            self._weights[half] = numpy_helper.from_array(numbers.astype(np.float16), half)
            self.add("Cast", half, name=name, to=TensorProto.FLOAT)

    def model(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        """Return the graph as a model.

        Parameters
        ----------
        name : str
            The name of the graph.
        inputs, outputs : sequence of onnx.ValueInfoProto
        """
        from onnx import helper

        read = {name for node in self._nodes for name in node.input}
        weights = [weight for key, weight in self._weights.items() if key in read]
        for number, node in enumerate(self._nodes):
            # ONNX Runtime 1.21 names what it fuses after the nodes, and refuses a graph with equal names.
            node.name = node.name or f"node_{number}"
        graph = helper.make_graph(self._nodes, name, inputs, outputs, weights)
        opset = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION)


def _scales(model: Any) -> set[str]:
    return {name for node in model.graph.node if node.op_type in _SCALES for name in node.input}


def _at_opset(model: Any, opset: int, source: str) -> Any:
    """Return a network converted to another opset, if it has only operators that ONNX defines."""
    from onnx import ModelProto, version_converter

    for node in model.graph.node:
        if node.domain not in _ONNX_DOMAINS:
            raise ModelFileError(
                f"{source} has the operator {node.op_type} of {node.domain!r}, which only one runtime knows; the "
                "file would not run anywhere else. Export from the network in plain ONNX operators."
            )
        if any(entry.HasField("g") or entry.graphs for entry in node.attribute):
            raise ModelFileError(
                f"{source} has a branch or a loop ({node.op_type}), which not every runtime takes. Export from a "
                "network without it: most converters write none when sizes are fixed."
            )
    plain = ModelProto()
    plain.CopyFrom(model)
    others = [entry for entry in plain.opset_import if entry.domain not in _ONNX_DOMAINS]
    for entry in others:
        plain.opset_import.remove(entry)
    written = max(entry.version for entry in plain.opset_import)
    if written == opset:
        return plain
    try:
        return version_converter.convert_version(plain, opset)
    except Exception as error:  # the converter's errors have no common class
        raise ModelFileError(
            f"{source} is written in opset {written}, and onnx cannot write it in opset {opset}: "
            f"{str(error).strip()[:200]}"
        ) from error
