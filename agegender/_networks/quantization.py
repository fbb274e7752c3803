"""Networks in 8-bit integers: calibrated on pictures, convolution by convolution, as far as they stay close."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agegender._networks.graph import OnnxGraph
from agegender._networks.onnx_files import read_graph, state_terms
from agegender._networks.opening import read_network
from agegender._networks.rewrite import rewritten
from agegender._progress import progress_bar
from agegender._threads import resolve_threads
from agegender.exceptions import WeightsError
from agegender.images import letterbox, load

if TYPE_CHECKING:
    from agegender.backbones import Backbone

__all__ = ["LEAST_PICTURES", "Quantized", "quantize_backbone", "quantize_graph"]

LEAST_PICTURES = 16

# Convolutions are nine tenths of the time; what else there is costs more to convert than it saves.
_QUANTIZED = "Conv"
_AT_ONCE = 8
_INTEGER_KINDS = {"QuantizeLinear", "QLinearConv", "ConvInteger", "DynamicQuantizeLinear"}


@dataclass(frozen=True)
class Quantized:
    """A network in integers.

    Attributes
    ----------
    content : bytes
        The ONNX file.
    n_quantized, n_convolutions : int
        Convolutions in integers, and all of them.
    similarity : float
        Mean cosine similarity of its embeddings to the float network's, on pictures that it was not calibrated on.
    """

    content: bytes
    n_quantized: int
    n_convolutions: int
    similarity: float


def quantize_backbone(
    backbone: Backbone, sample: Sequence[Any], *, min_similarity: float, verbose: int
) -> bytes:
    """Return a backbone's network in integers, its normalisation and terms written into it."""
    import onnx

    if not 0 <= min_similarity <= 1:
        raise ValueError(f"min_similarity={min_similarity!r} should be a number from 0 to 1.")
    if len(sample) < LEAST_PICTURES:
        raise ValueError(
            f"{len(sample)} pictures are too few to measure ranges on; give at least {LEAST_PICTURES}, better a "
            "hundred, of the kind that will be embedded."
        )
    graph = read_network(backbone) if backbone.format == "onnx" else _converted(backbone)
    if _is_quantized(graph):
        raise ValueError(f"{backbone.name} is in integers already; quantise the float network.")
    tensor = graph.layers().embedding
    found = quantize_graph(
        graph,
        tensor,
        _network_inputs(backbone, graph, sample),
        min_similarity=min_similarity,
        verbose=verbose,
    )
    model = onnx.load_model_from_string(found.content)
    terms = {name: getattr(backbone, name) for name in ("color", "mean", "scale", "licence")}
    kept = {
        "quantized_from": backbone.sha256,
        "convolutions_in_integers": f"{found.n_quantized} of {found.n_convolutions}",
        "similarity": round(found.similarity, 4),
    }
    used = {node.domain for node in model.graph.node}
    for entry in [entry for entry in model.opset_import if entry.domain not in used]:
        model.opset_import.remove(entry)  # ONNX Runtime's tools name every domain that they know
    state_terms(model, {"name": f"{backbone.name}-int8"} | terms | kept)
    return bytes(model.SerializeToString())


def _network_inputs(backbone: Backbone, graph: OnnxGraph, sample: Sequence[Any]) -> NDArray[np.float32]:
    """Return pictures as the network takes them."""
    pixels = np.stack([letterbox(load(picture), backbone.input_size) for picture in sample])
    if backbone.color == "bgr":
        pixels = pixels[..., ::-1]
    fed = (pixels.astype(np.float32) - np.asarray(backbone.mean, np.float32)) * np.asarray(
        backbone.scale, np.float32
    )
    axes = ["nhwc".index(axis) for axis in graph.layouts[graph.input]]
    return np.ascontiguousarray(fed.transpose(axes))


def _converted(backbone: Backbone) -> OnnxGraph:
    """Return a Keras network as ONNX."""
    from agegender._networks.keras import check_keras, quiet_keras

    check_keras()
    import tensorflow as tf
    import tf2onnx

    model = read_network(backbone).model
    signature = [tf.TensorSpec((None, *backbone.input_size, 3), tf.float32)]
    function = tf.function(lambda pictures: model(pictures, training=False))
    with quiet_keras(), _quiet():
        converted, _ = tf2onnx.convert.from_function(function, signature)
    return read_graph(converted.SerializeToString(), backbone.name)


def _is_quantized(graph: OnnxGraph) -> bool:
    return any(node.op_type in _INTEGER_KINDS for node in graph.model.graph.node)


def quantize_graph(
    graph: OnnxGraph, tensor: str, pictures: NDArray[np.float32], *, min_similarity: float, verbose: int = 0
) -> Quantized:
    """Quantise a network's convolutions: weights to int8 a channel, what they read and give to uint8 a tensor.

    Ranges are measured on three quarters of the pictures. On the last quarter the embeddings are compared with the
    float network's; while they are too far off, the convolutions that do most harm by themselves stay in float.

    Parameters
    ----------
    graph : OnnxGraph
    tensor : str
        The network's output.
    pictures : ndarray of shape (n, ...), float32
        As the network takes them, normalised.
    min_similarity : float
        Mean cosine similarity that the embeddings keep to the float network's.
    verbose : int
        With 1, a progress bar over the convolutions that are tried by themselves.

    Raises
    ------
    WeightsError
        If the network has no convolutions, or ONNX Runtime cannot quantise it.
    ValueError
        If not one convolution can be in integers at this similarity.
    """
    with tempfile.TemporaryDirectory(prefix="agegender-") as folder, _quiet():
        try:
            trial = _Trial(graph, tensor, pictures, Path(folder))
        except Exception as error:  # ONNX Runtime's tools raise whatever their own code trips over
            raise WeightsError(f"ONNX Runtime cannot quantise this network: {error}") from error
        chosen = trial.choose(min_similarity, verbose)
        if not chosen:
            raise ValueError(
                f"Not one convolution can be in integers at min_similarity={min_similarity:g}; a lower one, such as "
                "0.98, lets more be."
            )
        return Quantized(
            content=trial.model(chosen).read_bytes(),
            n_quantized=len(chosen),
            n_convolutions=len(trial.convolutions),
            similarity=trial.similarity(chosen),
        )


class _Trial:
    """A network with its measured ranges, from which models with some convolutions in integers are made."""

    def __init__(self, graph: OnnxGraph, tensor: str, pictures: NDArray[np.float32], folder: Path) -> None:
        import onnx
        from onnxruntime.quantization.shape_inference import quant_pre_process

        self.input = graph.input
        self.folder = folder
        self.prepared = folder / "prepared.onnx"
        plain = folder / "float.onnx"
        onnx.save(rewritten(graph, tensor), plain)
        quant_pre_process(str(plain), str(self.prepared), skip_symbolic_shape=True)
        model = onnx.load(self.prepared)
        for number, node in enumerate(model.graph.node):
            node.name = f"agegender/{number}"  # many networks' nodes have no names to tell them by
        onnx.save(model, self.prepared)
        self.convolutions = [node.name for node in model.graph.node if node.op_type == _QUANTIZED]
        if not self.convolutions:
            raise WeightsError("there is no convolution in it")
        kept_apart = max(1, len(pictures) // 4)
        self.compared = pictures[:kept_apart]
        self.ranges = self._measure(pictures[kept_apart:])
        self.expected = self._run(self.prepared)

    def _measure(self, pictures: NDArray[np.float32]) -> Any:
        """Return the range of every tensor that a convolution reads or gives."""
        from onnxruntime.quantization import CalibrationMethod, create_calibrator

        calibrator = create_calibrator(
            self.prepared,
            [_QUANTIZED],
            augmented_model_path=str(self.folder / "measured.onnx"),
            calibrate_method=CalibrationMethod.MinMax,
        )
        calibrator.collect_data(_Batches(self.input, pictures))
        return calibrator.compute_data()

    def model(self, convolutions: Sequence[str]) -> Path:
        """Write the network with these convolutions in integers."""
        import onnx
        from onnxruntime.quantization import QDQQuantizer, QuantType

        quantizer = QDQQuantizer(
            onnx.load(self.prepared),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self.ranges,
            nodes_to_quantize=list(convolutions),
            nodes_to_exclude=[],
            op_types_to_quantize=[_QUANTIZED],
            extra_options={},
        )
        quantizer.quantize_model()
        path = self.folder / "integers.onnx"
        quantizer.model.save_model_to_file(str(path), False)
        return path

    def similarity(self, convolutions: Sequence[str]) -> float:
        """Return how like the float network's embeddings are, with these convolutions in integers."""
        if not convolutions:
            return 1.0
        found = self._run(self.model(convolutions))
        norms = np.linalg.norm(found, axis=1) * np.linalg.norm(self.expected, axis=1)
        return float(((found * self.expected).sum(axis=1) / np.maximum(norms, 1e-12)).mean())

    def choose(self, least: float, verbose: int) -> list[str]:
        """Return as many convolutions as can be in integers, the most harmful left out first."""
        if self.similarity(self.convolutions) >= least:
            return self.convolutions
        alone = {}
        with progress_bar(len(self.convolutions), "quantising", verbose, unit="convolution") as bar:
            for name in self.convolutions:
                alone[name] = self.similarity([name])
                bar.update()
        harmless_first = sorted(self.convolutions, key=lambda name: -alone[name])
        low, high = 0, len(harmless_first) - 1
        while low < high:
            middle = (low + high + 1) // 2
            close = self.similarity(harmless_first[:middle]) >= least
            low, high = (middle, high) if close else (low, middle - 1)
        return harmless_first[:low]

    def _run(self, model: Path) -> NDArray[np.float32]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = resolve_threads()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        parts = range(0, len(self.compared), _AT_ONCE)
        rows = [session.run(None, {self.input: self.compared[i : i + _AT_ONCE]})[0] for i in parts]
        return np.concatenate(rows).reshape(len(self.compared), -1)


class _Batches:
    """Pictures as ONNX Runtime's calibration asks for them."""

    def __init__(self, name: str, pictures: NDArray[np.float32]) -> None:
        self._batches: Iterator[dict[str, NDArray[np.float32]]] = (
            {name: pictures[start : start + _AT_ONCE]} for start in range(0, len(pictures), _AT_ONCE)
        )

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._batches, None)

    def __len__(self) -> int:
        return 1

    def set_range(self, start_index: int, end_index: int) -> None:
        """Asked of readers that can skip; all pictures fit in memory here."""


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep ONNX Runtime's tools from logging advice that is not the user's to follow."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.root.setLevel(level)
