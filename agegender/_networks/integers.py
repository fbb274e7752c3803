"""Networks in 8-bit integers: ranges of activations, and operations that stay in float32.

First the graph is rewritten in the same way as before prediction (PReLU as convolutions), and its batch
normalisations are folded. Otherwise a PReLU between integer operations would be computed in float32 and take
three quarters of the time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._machine.sessions import open_session
from agegender._machine.threads import resolve_threads
from agegender._networks.graph import OnnxGraph
from agegender._networks.rewrite import rewritten
from agegender._utils.progress import progress_bar
from agegender.exceptions import WeightsError

__all__ = ["Quantized", "is_quantized", "quantize_graph"]

AT_ONCE = 4
"""Pictures per batch while all activations are measured."""

COVERAGE = 99.995
"""Percentile at which ranges are cut off, because a few values at the borders would make all steps larger."""

_MOST_VALUES = 2**17
_OPSET = 13  # the first with one scale per channel of the weights
_KINDS = [
    "Conv", "Gemm", "MatMul", "Add", "Mul", "Relu", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool",
    "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze",
]  # fmt: skip
_QUANTIZED = frozenset(
    ["QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "ConvInteger"]
)


@dataclass(frozen=True)
class Quantized:
    """A network in 8-bit integers.

    Attributes
    ----------
    model : onnx.ModelProto
    error : float
        Rounding error of the outputs, as a share of their variance over pictures, averaged over their
        columns.
    n_float, n_nodes : int
        Number of quantisable operations that stay in float32, and number of quantisable operations.
    """

    model: Any
    error: float
    n_float: int
    n_nodes: int


def is_quantized(graph: OnnxGraph) -> bool:
    """Return whether a network is already quantised."""
    return any(node.op_type in _QUANTIZED for node in graph.nodes)


def quantize_graph(
    graph: OnnxGraph, pictures: NDArray[np.float32], outputs: Sequence[str], max_error: float, verbose: int
) -> Quantized:
    """Return a network in 8-bit integers: weight scales per channel, activation ranges measured on pictures.

    Parameters
    ----------
    graph : OnnxGraph
    pictures : ndarray of shape (n, ...)
        The inputs of the network. Ranges are measured on every second picture, the error on the others.
    outputs : sequence of str
        The tensors whose error counts.
    max_error : float
        The largest allowed error of each output. As few as possible of the last operations stay in float32;
        they form one block, because each conversion between integers and float32 takes time.
    verbose : int
        If 1, show a progress bar.

    Raises
    ------
    WeightsError
        If no operation would be left in integers.
    """
    model = _folded(rewritten(graph, graph.layers().embedding))
    calibration = _Calibration(model, graph.input, pictures, outputs)
    candidates = [node.name for node in model.graph.node if node.op_type in _KINDS]
    with progress_bar(len(candidates), "quantising", verbose, unit="operation") as bar:
        for n_float in _last(len(candidates)):
            integers = _with_integers(model, calibration.ranges, candidates[: len(candidates) - n_float])
            error = calibration.error(integers)
            bar.set_postfix_str(f"error {error:.3f}", refresh=False)
            bar.update(n_float - bar.n)
            if error <= max_error:
                return Quantized(integers, error, n_float, len(candidates))
    raise WeightsError(
        f"No part of this network can be in 8-bit integers with an error of at most {max_error:g}; even the first "
        "operations have a larger error. Use a larger max_error, or the float network."
    )


def _last(n: int) -> Iterator[int]:
    """Yield the numbers of last operations to try in float32: 0, 2, 4, 6, 8, 12, 16, 24, …."""
    yield 0
    step, n_float = 2, 2
    while n_float < n:
        yield n_float
        if n_float >= 4 * step:
            step *= 2
        n_float += step


class _Calibration:
    """The activations of a network on pictures."""

    def __init__(
        self, model: Any, picture: str, pictures: NDArray[np.float32], outputs: Sequence[str]
    ) -> None:
        self.picture = picture
        self.outputs = list(outputs)
        self._shown, self._held = pictures[::2], pictures[1::2]
        names = [name for node in model.graph.node for name in node.output if name]
        session = _session(model, names)
        self.ranges = self._ranges(session, names)
        self._exact = self._rows(session)

    def _ranges(self, session: Any, names: list[str]) -> dict[str, tuple[np.float32, np.float32]]:
        found: dict[str, list[NDArray[np.float32]]] = {}
        for start in range(0, len(self._shown), AT_ONCE):
            batch = self._shown[start : start + AT_ONCE]
            for name, value in zip(
                (self.picture, *names), (batch, *self._run(session, names, batch)), strict=True
            ):
                if value.dtype == np.float32 and value.size:
                    found.setdefault(name, []).append(_range(value))
        means = {name: np.mean(ranges, axis=0) for name, ranges in found.items()}
        zero = np.float32(0)
        return {name: (min(zero, low), max(zero, high)) for name, (low, high) in means.items()}

    def error(self, integers: Any) -> float:
        """Return the largest error of the outputs."""
        rounded = self._rows(_session(integers, self.outputs))
        return max(_noise(ours, theirs) for ours, theirs in zip(self._exact, rounded, strict=True))

    def _rows(self, session: Any) -> list[NDArray[np.float32]]:
        starts = range(0, len(self._held), AT_ONCE)
        parts = [self._run(session, self.outputs, self._held[start : start + AT_ONCE]) for start in starts]
        return [np.concatenate(output).reshape(len(self._held), -1) for output in zip(*parts, strict=True)]

    def _run(self, session: Any, names: list[str], batch: NDArray[np.float32]) -> list[NDArray[Any]]:
        found: list[NDArray[Any]] = session.run(names, {self.picture: batch})
        return found


def _range(value: NDArray[np.float32]) -> NDArray[np.float32]:
    step = value.size // _MOST_VALUES | 1  # odd, so that not the same columns of every map are used
    return np.percentile(value.ravel()[::step], [100 - COVERAGE, COVERAGE]).astype(np.float32)


def _noise(exact: NDArray[np.float32], rounded: NDArray[np.float32]) -> float:
    """Return the squared difference as a share of the variance over pictures, the mean over columns."""
    difference, variance = np.mean((rounded - exact) ** 2, axis=0), np.var(exact, axis=0)
    # Columns that are constant over pictures carry no information and are ignored.
    varied = variance > 1e-6 * variance.max()
    return float(np.minimum(difference[varied] / variance[varied], 1.0).mean()) if varied.any() else 0.0


def _with_integers(model: Any, ranges: dict[str, Any], nodes: list[str]) -> Any:
    import onnx
    from onnxruntime.quantization import QDQQuantizer, QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {name: TensorData(lowest=low, highest=high) for name, (low, high) in ranges.items()}
    quantizer = QDQQuantizer(
        copy,
        True,  # one scale per channel of the weights
        False,  # 8 bits per weight, not 7
        QuantType.QInt8,
        QuantType.QUInt8,
        TensorsData(CalibrationMethod.MinMax, known),
        nodes,
        [],
        _KINDS,
        {},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    return quantizer.model.model


def _folded(model: Any) -> Any:
    """Let ONNX Runtime fold constants and batch normalisations, and name every operation."""
    import onnx

    opset = next(entry for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset.version < _OPSET:
        model = onnx.version_converter.convert_version(model, _OPSET)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        open_session(model.SerializeToString(), optimization="basic", optimized_path=path)
        folded = onnx.load(path)
    for node in folded.graph.node:
        node.name = f"{node.op_type}:{node.output[0]}"
    return folded


def _session(model: Any, names: Sequence[str]) -> Any:
    """Return a session that outputs all of the tensors."""
    import onnx
    from onnx import helper

    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    there = {output.name for output in shown.graph.output}
    shown.graph.output.extend(
        helper.make_empty_tensor_value_info(name) for name in names if name not in there
    )
    return open_session(shown.SerializeToString(), n_threads=resolve_threads())
