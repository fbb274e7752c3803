"""Checks of ONNX networks before loading: known operators, and complete, finite weights."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._networks.graph import dims_of
from agegender._networks.shipped import SHIPPED
from agegender.exceptions import ModelFileError

__all__ = ["check_head_graph", "check_network", "head_digest"]

_DOMAINS = frozenset(["", "ai.onnx", "ai.onnx.ml", "com.microsoft"])
# Loops might never end.
_LOOPS = frozenset(["Loop", "Scan", "SequenceMap"])
_SPARSE = (11, 12)  # AttributeProto.SPARSE_TENSOR and SPARSE_TENSORS
MOST_NUMBERS = 2**28
"""The largest number of elements of one tensor for one picture: a gigabyte."""


def check_network(content: bytes, source: str) -> Any:
    """Return an ONNX network, or raise an error if it is not valid, complete and plain.

    The network is not run.

    Raises
    ------
    ModelFileError
        If it is damaged, stores weights in other files, or has operators that ONNX does not define, loops,
        tensors of absurd size, or weights that are NaN or infinite.
    """
    import onnx

    try:
        model = onnx.load_model_from_string(content)
        _check_operators(model, source)
        _check_tensors(model.graph, source)
        onnx.checker.check_model(content)
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except ModelFileError:
        raise
    except Exception as error:  # protobuf's and onnx's errors have no common class
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ModelFileError(f"{source} is no valid ONNX network ({reason})") from error
    graph = inferred.graph
    for value in (*graph.value_info, *graph.input, *graph.output):
        if math.prod(side or 1 for side in dims_of(value)) > MOST_NUMBERS:
            raise ModelFileError(f"{source} makes a tensor of {dims_of(value)} numbers, {value.name[:80]!r}")
    return inferred


def check_head_graph(
    content: bytes, source: str, row_shape: tuple[int, ...], n_ages: int, n_genders: int
) -> None:
    """Raise an error unless a network takes rows of this shape and outputs the two distributions.

    The head in the package is known by its digest and not checked again, which would import onnx.

    Raises
    ------
    ModelFileError
        If it has other inputs or outputs, or in the cases of `check_network`.
    """
    digest = head_digest(content, row_shape, n_ages, n_genders)
    if any(digest == shipped.head_digest for shipped in SHIPPED.values()):
        return
    graph = check_network(content, source).graph
    weights = {weight.name for weight in graph.initializer}
    inputs = [_shape(value) for value in graph.input if value.name not in weights]
    outputs = [_shape(value) for value in graph.output]
    if inputs != [row_shape] or outputs != [(n_ages,), (n_genders,)]:
        raise ModelFileError(
            f"{source} takes rows of {inputs} and gives {outputs}; this model needs {[row_shape]} and "
            f"{[(n_ages,), (n_genders,)]}"
        )


def head_digest(content: bytes, row_shape: tuple[int, ...], n_ages: int, n_genders: int) -> str:
    """Return the sha256 of a head's network together with the shapes that it is declared to have."""
    return hashlib.sha256(content + repr((row_shape, n_ages, n_genders)).encode()).hexdigest()


def _shape(value: Any) -> tuple[int | None, ...] | None:
    """Return the shape of one row of a float32 tensor with a free first axis, or None for other tensors."""
    from onnx import TensorProto

    dims = dims_of(value)
    if value.type.tensor_type.elem_type != TensorProto.FLOAT or not dims or dims[0] is not None:
        return None
    return tuple(dims[1:])


def _check_operators(model: Any, source: str) -> None:
    if model.functions:
        raise ModelFileError(
            f"{source} defines functions of its own; onnx.inliner.inline_local_functions writes them out"
        )
    domains = {entry.domain for entry in model.opset_import}
    for graph in _graphs(model.graph):
        domains |= {node.domain for node in graph.node}
        if graph.sparse_initializer or any(a.type in _SPARSE for node in graph.node for a in node.attribute):
            raise ModelFileError(f"{source} has sparse weights, which could stand for any size")
        if loops := sorted({node.op_type for node in graph.node} & _LOOPS):
            raise ModelFileError(f"{source} has a {loops[0]} in it, which may never end")
    if strange := sorted(domains - _DOMAINS):
        raise ModelFileError(f"{source} has operators of {strange[0][:80]!r}, which ONNX does not define")


def _check_tensors(graph: Any, source: str) -> None:
    """Check that every constant is in the file, has the declared size, and is finite."""
    import onnx

    for tensor in _tensors(graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ModelFileError(f"{source} keeps weights in other files")
        if math.prod(tensor.dims) > max(1, tensor.ByteSize()) * 2:
            raise ModelFileError(f"{source} claims weights of shape {list(tensor.dims)} that are not in it")
        if tensor.data_type == onnx.TensorProto.STRING:
            continue
        if not _are_numbers(onnx.numpy_helper.to_array(tensor)):
            raise ModelFileError(f"{source} has weights that are no numbers, in {tensor.name[:80]!r}")


def _are_numbers(values: NDArray[Any]) -> bool:
    if values.dtype.kind in "biu":
        return True
    numbers = values if values.dtype.kind == "f" else values.astype(np.float32)  # bfloat16 and smaller
    # A single infinite number may be a bound or a mask, but a weight must be finite.
    return bool((~np.isnan(numbers) if numbers.size == 1 else np.isfinite(numbers)).all())


def _graphs(graph: Any) -> Iterator[Any]:
    """Yield a graph and the graphs inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from _graphs(inner)


def _tensors(graph: Any) -> Iterator[Any]:
    for part in _graphs(graph):
        yield from part.initializer
        for node in part.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
