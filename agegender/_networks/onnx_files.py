"""Reading ONNX files that take pictures, and making the batch size free."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._machine.sessions import open_session
from agegender._networks.exported import described, what_it_is
from agegender._networks.graph import CHANNELS_FIRST, OnnxGraph, attribute, dims_of
from agegender.exceptions import WeightsError

__all__ = ["looks_like_html", "read_graph"]

_FIRST_OPSET = 7  # before it, arithmetic of unequal shapes had other rules
_SMALL = 64
_REEXPORT = "Export it again with a dynamic batch dimension."


def looks_like_html(content: bytes) -> bool:
    """Return whether a file is a web page, as failed downloads often are."""
    start = content[:512].lstrip().lower()
    return start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head"))


def read_graph(content: bytes, source: str, *, input_size: tuple[int, int] | None = None) -> OnnxGraph:
    """Read an ONNX network that takes pictures.

    A network with a batch size of one is changed to any batch size, and tested.

    Parameters
    ----------
    content : bytes
        An ONNX file.
    source : str
        Its name in messages.
    input_size : tuple of int, default=None
        Height and width in pixels, if the graph leaves them open.

    Raises
    ------
    WeightsError
        If this is not an ONNX network, or its input is not a picture with three colours.
    """
    model = _parse(content, source)
    picture = _picture_input(model, source)
    dims = dims_of(picture)
    layout = _picture_layout(model, picture.name, dims, source)
    size = _open_sides(picture, layout, input_size, source)
    batch = dims[0]
    if isinstance(batch, int):
        _free_batch(model, picture, batch)
    elif not picture.type.tensor_type.shape.dim[0].dim_param:
        picture.type.tensor_type.shape.dim[0].dim_param = "batch"
    try:
        shapes, types = _infer_shapes(model)
        shapes[picture.name] = (None, *shapes[picture.name][1:])
        graph = OnnxGraph(model, picture.name, layout, size, shapes, types)
    except WeightsError:
        raise
    except Exception as error:  # onnx's own errors have no common class
        raise WeightsError(f"{source} is a damaged ONNX network: {_first_line(error)}") from error
    graph = _measure_shapes(graph, source)
    if isinstance(batch, int):
        _try_batches(graph, source)
    return graph


def _parse(content: bytes, source: str) -> Any:
    import onnx

    if looks_like_html(content):
        raise WeightsError(
            f"{source} is a web page, not an ONNX network: the download failed. Download it again."
        )
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's own errors have no class that is worth importing
        raise WeightsError(
            f"{source} is not an ONNX network, or only a part of one ({_first_line(error)}). Download it again."
        ) from error
    if not model.graph.node:
        raise WeightsError(f"{source} contains no ONNX network: it has no operations. Download it again.")
    if (description := described(model)) is not None:
        raise WeightsError(
            f"{source} {what_it_is(description)}. It cannot be the network of another model: take the one that "
            "it was made from, which the 'networks' in its metadata name."
        )
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    if opset < _FIRST_OPSET:
        raise WeightsError(
            f"{source} is written in ONNX opset {opset}; opset {_FIRST_OPSET} and newer can be read. "
            "onnx.version_converter.convert_version(model, 13) converts it."
        )
    if any(weight.data_location == onnx.TensorProto.EXTERNAL for weight in model.graph.initializer):
        raise WeightsError(
            f"{source} keeps its weights in other files, which its sha256 does not cover; "
            "onnx.save(onnx.load(path), new_path) puts everything into one file."
        )
    return _with_stored_weights_widened(_with_constants_as_weights(_inlined(model)))


def _inlined(model: Any) -> Any:
    if not model.functions:
        return model
    from onnx import inliner

    return inliner.inline_local_functions(model)


def _with_constants_as_weights(model: Any) -> Any:
    """Move the values of Constant nodes to the initialisers, so that all constants are in one place."""
    nodes = []
    for node in model.graph.node:
        value = attribute(node, "value", None) if node.op_type == "Constant" else None
        if value is None:
            nodes.append(node)
            continue
        weight = model.graph.initializer.add()
        weight.CopyFrom(value)
        weight.name = node.output[0]
    if len(nodes) < len(model.graph.node):
        del model.graph.node[:]
        model.graph.node.extend(nodes)
    return model


def _with_stored_weights_widened(model: Any) -> Any:
    """Put float32 weights in the place of weights that are stored in half precision and cast by the graph."""
    from onnx import TensorProto, numpy_helper

    weights = {weight.name: weight for weight in model.graph.initializer}
    half = TensorProto.FLOAT16
    casts = {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if node.op_type == "Cast" and attribute(node, "to", 0) == TensorProto.FLOAT
        if node.input[0] in weights and weights[node.input[0]].data_type == half
    }
    if not casts:
        return model
    nodes = [node for node in model.graph.node if node.output[0] not in casts]
    read = {name for node in nodes for name in node.input} | {value.name for value in model.graph.output}
    kept = [weight for name, weight in weights.items() if name in read]
    kept += [
        numpy_helper.from_array(numpy_helper.to_array(weights[stored]).astype(np.float32), name)
        for name, stored in casts.items()
    ]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(kept)
    return model


def _picture_input(model: Any, source: str) -> Any:
    weights = {weight.name for weight in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise WeightsError(
            f"{source} has {len(inputs)} inputs ({names}); a network that takes pictures has one."
        )
    if len(dims_of(inputs[0])) != 4:
        shape = dims_of(inputs[0])
        raise WeightsError(
            f"{source} takes {inputs[0].name} of shape {shape}; pictures need (n, 3, h, w) or (n, h, w, 3)."
        )
    return inputs[0]


def _picture_layout(model: Any, name: str, dims: list[int | None], source: str) -> str:
    first, last = dims[1], dims[3]
    if first == 3 and last != 3:
        return "nchw"
    if last == 3 and first != 3:
        return "nhwc"
    if first is not None and last is not None and (first, last) != (3, 3):
        raise WeightsError(f"{source} takes {name} of shape {dims}; pictures have 3 channels, first or last.")
    return _layout_by_use(model.graph.node, name)


def _layout_by_use(nodes: Sequence[Any], name: str) -> str:
    """Return the layout of the picture, from the first operation that transposes it or uses it as a map."""
    for node in nodes:
        if name not in node.input:
            continue
        if node.op_type == "Transpose":
            return "nhwc" if list(attribute(node, "perm", [])) == [0, 3, 1, 2] else "nchw"
        if node.op_type in CHANNELS_FIRST:
            return "nchw"
        name = node.output[0]
    return "nchw"


def _open_sides(picture: Any, layout: str, wanted: tuple[int, int] | None, source: str) -> tuple[int, int]:
    """Return height and width; if the graph leaves them open, write the given ones into it."""
    size = []
    for axis, side in zip("hw", wanted or (None, None), strict=True):
        dim = picture.type.tensor_type.shape.dim[layout.index(axis)]
        known = dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
        if known is None and side is None:
            raise WeightsError(f"{source} takes pictures of any size; pass input_size=(height, width).")
        if known is not None and side is not None and known != side:
            raise WeightsError(f"{source} takes pictures of {known} pixels along {axis}, not of {side}.")
        size.append(int(known or side or 0))
        dim.dim_value = size[-1]
    picture.type.tensor_type.shape.dim[layout.index("c")].dim_value = 3
    return size[0], size[1]


def _free_batch(model: Any, picture: Any, fixed: int) -> None:
    """Make the batch size of a graph free."""
    from onnx import numpy_helper

    picture.type.tensor_type.shape.dim[0].dim_param = "batch"
    # They contain the fixed number; all of them are inferred again.
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    weights = {weight.name: weight for weight in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "Reshape" or node.input[1] not in weights or node.input[0] in weights:
            continue
        shape = numpy_helper.to_array(weights[node.input[1]]).copy()
        if shape.size and shape[0] == fixed and not attribute(node, "allowzero", 0):
            shape[0] = 0  # the same number as in the input
            name = f"{node.output[0]}/agegender_shape"
            model.graph.initializer.append(numpy_helper.from_array(shape, name))
            node.input[1] = name


def _try_batches(graph: OnnxGraph, source: str) -> None:
    """Check that the changed graph gives the same numbers for two pictures together and separately."""
    embedding = graph.layers().embedding
    pictures = _some_pictures(graph, 2)
    try:
        session = _session(graph.cut(embedding))
        together = session.run(None, {graph.input: pictures})[0]
        alone = np.concatenate([session.run(None, {graph.input: pictures[i : i + 1]})[0] for i in range(2)])
        same = together.shape == alone.shape and np.allclose(together, alone, rtol=1e-3, atol=1e-5)
    except Exception as error:  # onnxruntime raises errors of many kinds
        raise WeightsError(
            f"{source} is made for one picture at a time: {_first_line(error)}. {_REEXPORT}"
        ) from error
    if not same:
        raise WeightsError(f"{source} is made for one picture at a time and mixes several up. {_REEXPORT}")


def _infer_shapes(model: Any) -> tuple[dict[str, tuple[int | None, ...]], dict[str, int]]:
    """Infer shapes on a copy without the values of the weights, which is fast even for 34 M weights."""
    from onnx import ModelProto, helper, shape_inference

    light = ModelProto(ir_version=max(4, model.ir_version))
    light.opset_import.extend(model.opset_import)
    light.graph.name = "shapes"
    light.graph.node.extend(model.graph.node)
    weights = {weight.name for weight in model.graph.initializer}
    light.graph.input.extend(value for value in model.graph.input if value.name not in weights)
    light.graph.output.extend(model.graph.output)
    light.graph.value_info.extend(model.graph.value_info)
    for weight in model.graph.initializer:
        if math.prod(weight.dims) <= _SMALL:
            light.graph.initializer.append(weight)
        else:
            light.graph.input.append(
                helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims)
            )
    inferred = shape_inference.infer_shapes(light, data_prop=True).graph
    shapes: dict[str, tuple[int | None, ...]] = {}
    types: dict[str, int] = {}
    for value in [*inferred.value_info, *inferred.input, *inferred.output]:
        if value.type.tensor_type.HasField("shape"):
            shapes[value.name] = tuple(dims_of(value))
        types[value.name] = value.type.tensor_type.elem_type
    return shapes, types


def _measure_shapes(graph: OnnxGraph, source: str) -> OnnxGraph:
    """Run the network once to measure shapes that cannot be inferred."""
    from onnx import ModelProto, helper

    names = [name for node in graph.nodes for name in node.output if name]
    unknown = [name for name in names if None in graph.shapes.get(name, (None, None))[1:]]
    if not unknown:
        return graph
    model = ModelProto()
    model.CopyFrom(graph.model)
    del model.graph.output[:]
    try:
        # A damaged file may give tensors names that are no text.
        model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in unknown)
        found = _session(model).run(unknown, {graph.input: _some_pictures(graph, 3)})
    except Exception as error:  # onnxruntime raises errors of many kinds
        raise WeightsError(f"{source} cannot run on ONNX Runtime: {_first_line(error)}.") from error
    shapes, types = dict(graph.shapes), dict(graph.types)
    for name, value in zip(unknown, found, strict=True):
        if isinstance(value, np.ndarray):
            n_first = None if value.ndim and len(value) == 3 else len(np.atleast_1d(value))
            first = (n_first,) if value.ndim else ()
            shapes[name] = (*first, *value.shape[1:])
            types[name] = helper.np_dtype_to_tensor_dtype(value.dtype)
    return OnnxGraph(graph.model, graph.input, graph.layouts[graph.input], graph.input_size, shapes, types)


def _session(model: Any) -> Any:
    return open_session(model.SerializeToString(), optimization="none")


def _some_pictures(graph: OnnxGraph, n: int) -> NDArray[Any]:
    sides = dict(zip("nchw", (n, 3, *graph.input_size), strict=True))
    pictures = np.random.default_rng(0).uniform(0, 255, [sides[axis] for axis in graph.layouts[graph.input]])
    return pictures.astype(_numpy_type(graph.types[graph.input]))


def _numpy_type(elem_type: int) -> Any:
    from onnx import helper

    return helper.tensor_dtype_to_np_dtype(elem_type)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
