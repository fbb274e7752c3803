"""Running networks: sessions, threads, and a few networks that stay open per process.

ONNX networks run on ONNX Runtime. Their graphs are cut at the requested layer, get the normalisation as their
first operations, and are rewritten, without changing the result, into operations that ONNX Runtime runs fast.
deepface's ``.h5`` files are converted to ONNX once, checked and kept. Other Keras networks run as one compiled
function for batches of any size.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from agegender._machine.devices import CPU, DEVICES, onnx_has_cuda, onnx_providers, tensorflow_device
from agegender._machine.fork import after_fork, keep_forever
from agegender._machine.sessions import open_session
from agegender._machine.threads import resolve_threads
from agegender._networks.graph import OnnxGraph
from agegender._networks.opening import forget_network, layers_of, onnx_form, read_network
from agegender._networks.prepared import prepared_graph
from agegender._networks.rewrite import PICTURES, runnable
from agegender._utils.validation import check_choice
from agegender.backbones import Backbone
from agegender.exceptions import WeightsError

__all__ = ["Network", "close_networks", "images_passed", "open_network"]

Run: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

OPEN_NETWORKS = 4
"""How many networks stay open per process; the least recently used one is closed first."""

PICTURES_A_THREAD = 4
"""How many pictures per thread ONNX Runtime gets at a time, even if the batch is larger.

With more, the activations of the first layers no longer fit in the processor's cache: on two cores, a
MobileFaceNet takes 1.5 times as long per picture with batches of 64 as with batches of 8.
"""

PICTURES_ON_A_GPU = 64
"""How many pictures a GPU gets at a time."""


class Network:
    """One layer of a network, ready to run; made by :func:`open_network`.

    Several threads can call it at the same time. After a fork, it is opened again in the child process.

    Parameters
    ----------
    backbone : Backbone
        The network.
    layer : str
        The layer, by any of its names.
    n_threads : int
        Threads that ONNX Runtime uses; for TensorFlow, the number is the same in the whole process.
    device : {"auto", "cpu", "cuda"}, default="auto"
        The device that it runs on.

    Attributes
    ----------
    output_shape : tuple of int
        Shape of the output for one picture.
    n_images : int
        Number of pictures that it was run on.

    See Also
    --------
    agegender.runtime.open_network : Open a layer of a network.
    """

    def __init__(self, backbone: Backbone, layer: str, n_threads: int, device: str = "auto") -> None:
        self.backbone = backbone
        self.layer = backbone.resolve_layer(layer)
        self.n_threads = n_threads
        self.device = device
        self.output_shape = backbone.output_shape(self.layer)
        self.n_images = 0
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._run = _open(backbone, self.layer, n_threads, device)

    def __call__(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the network on pictures.

        Parameters
        ----------
        batch : ndarray of shape (n, h, w, 3), uint8
            RGB pictures of the backbone's input size.

        Returns
        -------
        ndarray of shape (n, ...), float32
            Maps are channels last, everything else is flat. The numbers of a picture do not depend on the
            others in the batch.

        Raises
        ------
        ValueError
            If the batch has another shape or type.
        """
        size = self.backbone.input_size
        if batch.ndim != 4 or batch.shape[1:] != (*size, 3) or batch.dtype != np.uint8:
            raise ValueError(
                f"{self.backbone.name} takes uint8 pictures of shape (n, {size[0]}, {size[1]}, 3); this batch is "
                f"{batch.dtype} of shape {batch.shape}. images.letterbox resizes pictures."
            )
        if not len(batch):
            return np.empty((0, *self.output_shape), np.float32)
        rows = self._here()(np.ascontiguousarray(batch))
        if rows.shape != (len(batch), *self.output_shape):
            raise WeightsError(
                f"{self.backbone.name} gave {rows.shape} for {len(batch)} pictures at {self.layer!r}, not "
                f"{(len(batch), *self.output_shape)}: its graph mixes pictures at this layer."
            )
        self._count(len(batch))
        return rows

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.backbone, self.layer, self.n_threads, self.device)

    def __repr__(self) -> str:
        return f"<Network {self.backbone.name}: {self.layer!r} {self.output_shape}>"

    def _here(self) -> Run:
        """Return the session of this process; a forked child cannot use its parent's threads."""
        if self._process != os.getpid():
            keep_forever(self._run)
            self._lock = threading.Lock()
            self._run = _open(self.backbone, self.layer, self.n_threads, self.device)
            self._process = os.getpid()
        return self._run

    def _count(self, n_images: int) -> None:
        global _images_passed
        with self._lock:
            self.n_images += n_images
        with _count_lock:
            _images_passed += n_images


def open_network(
    backbone: Backbone, layer: str, *, n_threads: int | None = None, device: str = "auto"
) -> Network:
    """Open a layer of a network; while it stays open, the same object is returned.

    Parameters
    ----------
    backbone : Backbone
        The network.
    layer : str
        "embedding", "penultimate", "pooled", "feature_map", "input" or a tensor's name.
    n_threads : int, default=None
        Threads that ONNX Runtime uses. If None, all cores that this process may use.
    device : {"auto", "cpu", "cuda"}, default="auto"
        "auto" uses a GPU if ONNX Runtime (or TensorFlow, for a network in Keras form) can.

    Returns
    -------
    Network

    Raises
    ------
    ValueError
        If the network has no such layer.
    WeightsError
        If its file was not found or has another content.
    RuntimeError
        If TensorFlow is needed and cannot run in this process, or the device is not available.

    See Also
    --------
    agegender.runtime.close_networks : Close all open networks.
    agegender.Backbone : A frozen network.
    """
    check_choice("device", device, DEVICES, "open_network")
    threads = resolve_threads() if n_threads is None else n_threads
    with _lock:
        key = (backbone, backbone.resolve_layer(layer), threads, device)
        if key not in _open_networks:
            _open_networks[key] = Network(*key)
        _open_networks.move_to_end(key)
        while len(_open_networks) > OPEN_NETWORKS:
            _open_networks.popitem(last=False)
        return _open_networks[key]


def close_networks() -> None:
    """Close all open networks and free their memory.

    See Also
    --------
    agegender.runtime.open_network : Open a layer of a network.
    """
    with _lock:
        _open_networks.clear()
    forget_network()


def images_passed() -> int:
    """Return how many pictures networks were run on in this process.

    See Also
    --------
    agegender.runtime.open_network : Open a layer of a network.
    """
    return _images_passed


def _reopened(backbone: Backbone, layer: str, n_threads: int, device: str) -> Network:
    return open_network(backbone, layer, n_threads=n_threads, device=device)


def _open(backbone: Backbone, layer: str, n_threads: int, device: str) -> Run:
    if layer == "input":
        return lambda batch: batch.astype(np.float32)
    tensor, pooled = layers_of(backbone).find(layer)
    try:
        if backbone.format == "onnx":
            return _open_onnx(backbone, None, tensor, pooled, n_threads, device)
        form = onnx_form(backbone, tensor) if device != "cuda" or onnx_has_cuda() else None
        if form is not None:
            return _open_onnx(backbone, *form, pooled, n_threads, device)
        return _open_keras(backbone, tensor, pooled, device)
    finally:
        forget_network()


def _open_onnx(
    backbone: Backbone, graph: OnnxGraph | None, tensor: str, pooled: bool, n_threads: int, device: str
) -> Run:
    def opened(providers: list[str]) -> Any:
        content = prepared_graph(backbone, tensor, pooled) if graph is None and providers == [CPU] else None
        if content is None:
            content = runnable(
                graph or read_network(backbone),
                tensor,
                color=backbone.color,
                mean=backbone.mean,
                scale=backbone.scale,
                pooled=pooled,
                rewrite=providers == [CPU],
            )
        return _session(content, n_threads, backbone.name, providers)

    providers = onnx_providers(device)
    session = opened(providers)
    if session.get_providers()[0] != providers[0]:
        # If ONNX Runtime cannot use a GPU, it continues on the processor and prints at most one line.
        if device == "cuda":
            raise RuntimeError(
                "device='cuda', but ONNX Runtime cannot use a GPU here, although it was built for one: no GPU is "
                "visible, or the CUDA and cuDNN libraries are missing or of another version. device='auto' uses the "
                "processor then."
            )
        providers = [CPU]
        session = opened(providers)
    on_processor = providers == [CPU]
    at_once = PICTURES_A_THREAD * n_threads if on_processor else PICTURES_ON_A_GPU

    def run(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        parts = range(0, len(batch), at_once)
        rows = [session.run(None, {PICTURES: batch[start : start + at_once]})[0] for start in parts]
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    return run


def _session(content: bytes, n_threads: int, name: str, providers: list[str]) -> Any:
    try:
        return open_session(content, n_threads=n_threads, providers=providers, memory_pattern=False)
    except Exception as error:  # onnxruntime's errors have no common base class
        raise WeightsError(f"{name} cannot run on ONNX Runtime: {str(error).strip()[:300]}") from error


def _open_keras(backbone: Backbone, tensor: str, pooled: bool, device: str) -> Run:
    from agegender._networks.keras import check_keras, quiet_keras

    check_keras()
    import tensorflow as tf

    place = tensorflow_device(device)
    graph = read_network(backbone)
    run = keras_function(backbone, tensor, pooled)
    with quiet_keras():
        run.get_concrete_function()

    def run_here(batch: NDArray[np.uint8], held: Any = graph) -> NDArray[np.float32]:
        with tf.device(place):
            return np.asarray(run(tf.constant(batch)))

    return run_here


def keras_function(backbone: Backbone, tensor: str, pooled: bool) -> Any:
    """Return a TensorFlow function from uint8 RGB pictures to the rows of one tensor of a Keras network."""
    import tensorflow as tf

    from agegender._networks.keras import quiet_keras

    with quiet_keras():
        model = read_network(backbone).cut(tensor)
    # Not tensors: those that a function captures become inputs of its ONNX form.
    mean, scale = np.asarray(backbone.mean, np.float32), np.asarray(backbone.scale, np.float32)
    one_position = len(layers_of(backbone).shapes[tensor]) == 1

    # One signature for batches of any size, so that nothing is traced again.
    @tf.function(input_signature=[tf.TensorSpec((None, *backbone.input_size, 3), tf.uint8)], autograph=False)
    def run(batch: Any) -> Any:
        pictures = batch[..., ::-1] if backbone.color == "bgr" else batch
        rows = model((tf.cast(pictures, tf.float32) - mean) * scale, training=False)
        if len(rows.shape) == 4 and (pooled or one_position):
            rows = tf.reduce_mean(rows, axis=(1, 2))
        return tf.cast(rows, tf.float32)

    return run


def _after_fork() -> None:
    global _lock, _count_lock
    _lock, _count_lock = threading.RLock(), threading.Lock()
    for network in _open_networks.values():
        keep_forever(network)
    _open_networks.clear()


_open_networks: OrderedDict[tuple[Backbone, str, int, str], Network] = OrderedDict()
_lock = threading.RLock()
_images_passed = 0
_count_lock = threading.Lock()
after_fork(_after_fork)
