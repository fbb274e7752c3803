"""How a network runs: sessions, threads, and a few networks kept open in a process.

ONNX networks run on ONNX Runtime as graphs of their own: cut at the layer that is wanted, with the normalisation in
front, and rewritten, exactly, into what ONNX Runtime is fast with. deepface's ``.h5`` files are converted to ONNX
once, checked and kept. Other Keras networks run as one compiled function that takes batches of any size.
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
from agegender._utils.validation import check_choice
from agegender.backbones import Backbone
from agegender.exceptions import WeightsError

__all__ = ["Network", "close_networks", "images_passed", "open_network"]

Run: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

OPEN_NETWORKS = 4
"""How many networks stay open in a process; the one used longest ago goes first."""

PICTURES_A_THREAD = 4
"""How many pictures ONNX Runtime is given at once, however large the batch is.

Of more, the activations of the first layers no longer stay in the processor's cache: on two cores, a picture in a
batch of 64 takes a MobileFaceNet half as long again as one in a batch of 8.
"""

PICTURES_ON_A_GPU = 64
"""How many pictures a GPU is given at once."""


class Network:
    """One layer of a network, ready to run. Made by :func:`open_network`.

    Safe to call from several threads at once. After a fork it opens itself anew.

    Parameters
    ----------
    backbone : Backbone
        The network.
    layer : str
        The layer, by any of its names.
    n_threads : int
        Threads that ONNX Runtime uses; TensorFlow has one number of threads for the whole process.
    device : {"auto", "cpu", "cuda"}, default="auto"
        What it runs on.

    Attributes
    ----------
    output_shape : tuple of int
        What it gives for one picture.
    n_images : int
        Pictures that passed through it.
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
        """Pass pictures through the network.

        Parameters
        ----------
        batch : ndarray of shape (n, h, w, 3), uint8
            RGB pictures of the backbone's own size.

        Returns
        -------
        ndarray of shape (n, ...), float32
            Maps channels last; everything else flat. A picture's numbers do not depend on those beside it.

        Raises
        ------
        ValueError
            If the batch has another shape or type.
        """
        size = self.backbone.input_size
        if batch.ndim != 4 or batch.shape[1:] != (*size, 3) or batch.dtype != np.uint8:
            raise ValueError(
                f"{self.backbone.name} takes uint8 pictures of shape (n, {size[0]}, {size[1]}, 3); this batch is "
                f"{batch.dtype} of shape {batch.shape}. images.letterbox brings pictures to size."
            )
        if not len(batch):
            return np.empty((0, *self.output_shape), np.float32)
        rows = self._here()(np.ascontiguousarray(batch))
        if rows.shape != (len(batch), *self.output_shape):
            raise WeightsError(
                f"{self.backbone.name} gave {rows.shape} for {len(batch)} pictures at {self.layer!r}, not "
                f"{(len(batch), *self.output_shape)}: its graph does not keep pictures apart there."
            )
        self._count(len(batch))
        return rows

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.backbone, self.layer, self.n_threads, self.device)

    def __repr__(self) -> str:
        return f"<Network {self.backbone.name}: {self.layer!r} {self.output_shape}>"

    def _here(self) -> Run:
        """Return what runs the network in this process: a forked child cannot use its parent's threads."""
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
    """Return a layer of a network, ready to run; the same object while it stays open.

    Parameters
    ----------
    backbone : Backbone
        The network.
    layer : str
        "embedding", "penultimate", "pooled", "feature_map", "input" or a tensor's name.
    n_threads : int, default=None
        Threads that ONNX Runtime uses; None takes every core that this process may use.
    device : {"auto", "cpu", "cuda"}, default="auto"
        "auto" takes a GPU where ONNX Runtime (or TensorFlow, for a network in Keras form) can use one.

    Returns
    -------
    Network

    Raises
    ------
    ValueError
        If the network has no such layer.
    WeightsError
        If its file is not what it should be, or is gone.
    RuntimeError
        If TensorFlow is needed and cannot run in this process, or a device is asked for that is not there.
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
    """Let go of every open network, and of the memory that they take."""
    with _lock:
        _open_networks.clear()
    forget_network()


def images_passed() -> int:
    """Return how many pictures have passed through networks in this process."""
    return _images_passed


def _reopened(backbone: Backbone, layer: str, n_threads: int, device: str) -> Network:
    return open_network(backbone, layer, n_threads=n_threads, device=device)


def _open(backbone: Backbone, layer: str, n_threads: int, device: str) -> Run:
    if layer == "input":
        return lambda batch: batch.astype(np.float32)
    tensor, pooled = layers_of(backbone).find(layer)
    try:
        if backbone.format == "onnx":
            return _open_onnx(backbone, read_network(backbone), tensor, pooled, n_threads, device)
        form = onnx_form(backbone, tensor) if device != "cuda" or onnx_has_cuda() else None
        if form is not None:
            return _open_onnx(backbone, *form, pooled, n_threads, device)
        return _open_keras(backbone, tensor, pooled, device)
    finally:
        forget_network()


def _open_onnx(
    backbone: Backbone, graph: OnnxGraph, tensor: str, pooled: bool, n_threads: int, device: str
) -> Run:
    from agegender._networks.rewrite import PICTURES, runnable

    def opened(providers: list[str]) -> Any:
        content = runnable(
            graph,
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
        # ONNX Runtime goes on without a GPU that it cannot use, with a line on the screen at most.
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
    except Exception as error:  # onnxruntime's errors have no common class of their own
        raise WeightsError(f"{name} cannot run on ONNX Runtime: {str(error).strip()[:300]}") from error


def _open_keras(backbone: Backbone, tensor: str, pooled: bool, device: str) -> Run:
    from agegender._networks.keras import check_keras, quiet_keras

    check_keras()
    import tensorflow as tf

    place = tensorflow_device(device)
    graph = read_network(backbone)
    with quiet_keras():
        model = graph.cut(tensor)
    mean = tf.constant(backbone.mean, tf.float32)
    scale = tf.constant(backbone.scale, tf.float32)
    one_position = len(layers_of(backbone).shapes[tensor]) == 1

    # One signature for batches of every size: nothing is traced, and kept, again.
    @tf.function(input_signature=[tf.TensorSpec((None, *backbone.input_size, 3), tf.uint8)], autograph=False)
    def run(batch: Any) -> Any:
        pictures = batch[..., ::-1] if backbone.color == "bgr" else batch
        rows = model((tf.cast(pictures, tf.float32) - mean) * scale, training=False)
        if len(rows.shape) == 4 and (pooled or one_position):
            rows = tf.reduce_mean(rows, axis=(1, 2))
        return tf.cast(rows, tf.float32)

    with quiet_keras():
        run.get_concrete_function()

    def run_here(batch: NDArray[np.uint8], held: Any = graph) -> NDArray[np.float32]:
        with tf.device(place):
            return np.asarray(run(tf.constant(batch)))

    return run_here


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
