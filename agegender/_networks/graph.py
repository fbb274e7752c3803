"""ONNX graphs: shapes, layouts, named layers, and cutting a graph at a tensor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._networks.layers import Layers, bottlenecks
from agegender._networks.terms import ENDS_BEFORE_DENSE, digests_of_text, stated_terms
from agegender.exceptions import WeightsError

__all__ = ["CHANNELS_FIRST", "OnnxGraph", "ancestors", "attribute", "dims_of", "node_inputs"]

# Operators whose input and output are always (n, c, h, w).
CHANNELS_FIRST = frozenset((
    "AveragePool", "BatchNormalization", "Conv", "ConvInteger", "ConvTranspose", "DepthToSpace",
    "GlobalAveragePool", "GlobalMaxPool", "InstanceNormalization", "LRN", "LpPool", "MaxPool",
    "QLinearConv", "SpaceToDepth", "Upsample",
))  # fmt: skip
# Operators whose output has other axes than their input.
_NEW_AXES = frozenset(["Einsum", "Expand", "Flatten", "Gather", "MatMul", "Reshape", "Squeeze", "Unsqueeze"])
# The output of these depends only on the number of pictures, not on the pixels.
_SIZES = frozenset(["Shape", "Size"])
# The same numbers under another name.
_PASSES_ON = frozenset(["Cast", "Dropout", "Identity"])
_FLATTENS = frozenset(["Flatten", "Reshape", "Squeeze"])


class OnnxGraph:
    """An ONNX network that takes pictures.

    Made by :func:`agegender._networks.onnx_files.read_graph`.

    Attributes
    ----------
    model : onnx.ModelProto
        The network, with a free batch size and all constants among the initialisers.
    input : str
        The tensor that takes the pictures.
    input_size : tuple of int
        Height and width of the pictures, in pixels.
    shapes : dict of str to tuple of (int or None)
        Shapes of tensors; None for a dimension that is not known (the batch size never is).
    types : dict of str to int
        Element types of tensors, in ONNX's numbering.
    layouts : dict of str to str
        The order of the axes of rank-4 tensors: ``"nchw"``, ``"nhwc"``, …
    weights : dict of str to onnx.TensorProto
        The initialisers.
    """

    def __init__(
        self,
        model: Any,
        picture: str,
        layout: str,
        input_size: tuple[int, int],
        shapes: dict[str, tuple[int | None, ...]],
        types: dict[str, int],
    ) -> None:
        self.model = model
        self.input = picture
        self.input_size = input_size
        self.nodes = list(model.graph.node)
        self.weights = {weight.name: weight for weight in model.graph.initializer}
        self.shapes = shapes
        self.types = types
        self._made_by = {name: node for node in self.nodes for name in node.output if name}
        self._pictured = self._from_pictures()
        self.layouts = self._find_layouts(layout)

    def constant(self, name: str) -> NDArray[Any] | None:
        """Return a constant tensor as an array; None if it is not an initialiser."""
        while name not in self.weights:
            node = self._made_by.get(name)
            if node is None or node.op_type not in _PASSES_ON:
                return None
            name = node.input[0]
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(self.weights[name]))

    def cut(self, tensor: str) -> Any:
        """Return a model that computes only `tensor` and what it depends on."""
        from onnx import helper

        nodes = ancestors(self.nodes, [tensor])
        read = {name for node in nodes for name in node_inputs(node)}
        output = helper.make_tensor_value_info(tensor, self.types[tensor], None)
        graph = helper.make_graph(
            nodes,
            self.model.graph.name or "network",
            [value for value in self.model.graph.input if value.name == self.input],
            [output],
            [weight for name, weight in self.weights.items() if name in read],
        )
        model = helper.make_model(
            graph, opset_imports=self.model.opset_import, ir_version=max(4, self.model.ir_version)
        )
        return model

    def layers(self) -> Layers:
        """Find the named layers from the structure of the graph."""
        shapes = {name: shape for name in self._pictured if (shape := self.output_shape(name)) is not None}
        embedding = self._embedding()
        path = bottlenecks(self._steps(), self.input, embedding)
        maps = [name for name in path if self._is_map(name) and name in shapes]
        dense = [node for name in path if self._is_dense(node := self._made_by[name])]
        penultimate = self._source(self._pixels_into(dense[-1])[0], flat=True) if dense else None
        if stated_terms(self.model, "This network").get(ENDS_BEFORE_DENSE):
            penultimate = embedding
        return Layers(
            shapes=shapes,
            embedding=embedding,
            penultimate=penultimate,
            feature_map=self._source(maps[-1]) if maps else None,
        )

    def trained_on(self) -> NDArray[np.uint64]:
        """Return the short digests of the pictures that it was fine-tuned on, as stated in its file.

        Raises
        ------
        WeightsError
            If they are not in the form that this library writes.
        """
        stated = stated_terms(self.model, "This network").get("trained_on", "")
        try:
            return digests_of_text(stated)
        except (TypeError, ValueError) as error:
            raise WeightsError(f"This network's training pictures are no digests ({error}).") from None

    def output_shape(self, name: str) -> tuple[int, ...] | None:
        """Return the shape of a tensor for one picture, or None if it is unknown or not numeric."""
        shape = self.shapes.get(name)
        if name == self.input or not shape or len(shape) < 2 or shape[0] is not None:
            return None
        if not _is_float(self.types.get(name)) or any(side is None for side in shape[1:]):
            return None
        sides = dict(zip(self.layouts.get(name, ""), shape, strict=False))
        rest = (
            tuple(int(sides[axis] or 0) for axis in "hwc") if sides else tuple(int(s or 0) for s in shape[1:])
        )
        return rest[-1:] if sides and rest[:2] == (1, 1) else rest

    def _embedding(self) -> str:
        outputs = [value.name for value in self.model.graph.output if value.name in self._pictured]
        flat = [name for name in outputs if len(self.output_shape(name) or ()) == 1]
        if not flat:
            found = (
                ", ".join(f"{name} {self.shapes.get(name)}" for name in outputs)
                or "none that reads the picture"
            )
            raise WeightsError(
                f"This network has no output of shape (n, d) for the embedding, only: {found}."
            )
        # A two-dimensional output is preferred to a map of one position.
        return min(flat, key=lambda name: len(self.shapes[name]) != 2)

    def _from_pictures(self) -> dict[str, None]:
        """Return the names of the tensors that depend on the pixels, in the order of computation."""
        found = {self.input: None}
        for node in self.nodes:
            if node.op_type not in _SIZES and any(name in found for name in node_inputs(node)):
                found.update(dict.fromkeys(name for name in node.output if name))
        return found

    def _pixels_into(self, node: Any) -> list[str]:
        return [name for name in node_inputs(node) if name in self._pictured]

    def _steps(self) -> list[tuple[list[str], list[str]]]:
        steps = ((self._pixels_into(node), node) for node in self.nodes)
        return [(read, [o for o in node.output if o in self._pictured]) for read, node in steps if read]

    def _find_layouts(self, picture_layout: str) -> dict[str, str]:
        found = {self.input: picture_layout}
        for node in self.nodes:
            layout = self._layout_after(node, found)
            for name in node.output:
                if layout and self._rank(name) == 4 and name in self._pictured:
                    found[name] = layout
        for node in reversed(self.nodes):
            layout = self._layout_before(node, found)
            for name in self._pixels_into(node):
                if layout and self._rank(name) == 4:
                    found.setdefault(name, layout)
        return found

    def _layout_after(self, node: Any, found: dict[str, str]) -> str | None:
        if node.op_type in CHANNELS_FIRST:
            return "nchw"
        known = [found[name] for name in node.input if name in found]
        if not known or node.op_type in _NEW_AXES:
            return None
        if node.op_type == "Transpose":
            return "".join(known[0][axis] for axis in attribute(node, "perm", [3, 2, 1, 0]))
        return known[0]

    def _layout_before(self, node: Any, found: dict[str, str]) -> str | None:
        if node.op_type in CHANNELS_FIRST:
            return "nchw"
        known = [found[name] for name in node.output if name in found]
        if not known or node.op_type in _NEW_AXES:
            return None
        if node.op_type == "Transpose":
            perm = attribute(node, "perm", [3, 2, 1, 0])
            return "".join(known[0][perm.index(axis)] for axis in range(4))
        return known[0]

    def _rank(self, name: str) -> int | None:
        shape = self.shapes.get(name)
        return None if shape is None else len(shape)

    def _is_map(self, name: str) -> bool:
        shape = self.output_shape(name)
        return name in self.layouts and shape is not None and len(shape) == 3

    def _is_dense(self, node: Any) -> bool:
        read = self._pixels_into(node)
        if len(read) != 1 or node.input[0] != read[0] or self.output_shape(read[0]) is None:
            return False
        if node.op_type in ("Gemm", "MatMul"):
            return self._rank(read[0]) == 2
        one_position = len(self.output_shape(read[0]) or ()) == 1
        return node.op_type == "Conv" and one_position and attribute(node, "group", 1) == 1

    def _source(self, name: str, *, flat: bool = False) -> str:
        """Follow a tensor back to the operation that computed its numbers."""
        while (node := self._made_by.get(name)) is not None:
            before = node.input[0] if node.input else ""
            shape = self.output_shape(before)
            reshaped = flat and node.op_type in _FLATTENS and shape is not None and len(shape) == 1
            if shape != self.output_shape(name) or not (node.op_type in _PASSES_ON or reshaped):
                break
            name = before
        return name


def ancestors(nodes: Sequence[Any], ends: Iterable[str]) -> list[Any]:
    """Return the nodes that the tensors `ends` depend on, in order."""
    needed, kept = set(ends), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node_inputs(node))
    return kept[::-1]


def attribute(node: Any, name: str, default: Any) -> Any:
    """Return a node's attribute as a Python value."""
    from onnx import helper

    for entry in node.attribute:
        if entry.name == name:
            return helper.get_attribute_value(entry)
    return default


def node_inputs(node: Any) -> list[str]:
    """Return the inputs of a node, including those of its branches and loops."""
    read = [name for name in node.input if name]
    for entry in node.attribute:
        for inner in [entry.g, *entry.graphs]:
            own = {name for child in inner.node for name in child.output}
            read += [name for child in inner.node for name in node_inputs(child) if name not in own]
    return read


def dims_of(value: Any) -> list[int | None]:
    """Return the dimensions of a declared tensor; None for an open dimension."""
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in dims]


def _is_float(elem_type: int | None) -> bool:
    from onnx import TensorProto

    return elem_type in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
