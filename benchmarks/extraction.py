r"""Embedding files for the first time, beside the bare network, deepface and an encoder that goes picture by picture.

    pip install tf-keras        # deepface's own functions do not start without it
    python benchmarks/extraction.py --networks arcface facenet
    python benchmarks/extraction.py --networks arcface --weights ~/.deepface/weights
    python benchmarks/extraction.py --beside mobilefacenet.onnx,mean=0,scale=1 \
        hse_faceres.onnx,color=bgr,mean=103.939:116.779:123.68,scale=1

For each network, on 200×200 JPEG files (drawn faces):

- *bare network*: our own session on ready uint8 arrays, no files, no cache: the limit;
- *EmbeddingExtractor*: from the files, into a new cache on disk; once more from the cache (*warm*); from the files
  with the network quantised (*in integers*);
- *deepface*: ``DeepFace.represent(…, detector_backend="skip")``, on all paths in one call (*list*), on one path a
  call (*loop*), in a process of its own, for it turns Keras into its older self;
- *picture by picture*: a transformer in the manner of embetter, which opens a file with Pillow, resizes it and calls
  ONNX Runtime (the network converted by tf2onnx, its defaults) for each.

They take turns; the first turn, which pays for imports and building, is not counted. What is slow sees
fewer pictures; compared are pictures per second, turn by turn. Without ``--weights`` the networks have random
weights, in deepface's own file layout: the time is that of the real ones, the numbers mean nothing.

With ``--beside``, the networks of several files: each one bare on ready arrays, and all of them side by side in one
EmbeddingExtractor, from the files into a new cache. Compared is processor time, turn by turn.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image
from sklearn.base import BaseEstimator, TransformerMixin
from transfer import network

from agegender import Backbone, EmbeddingExtractor
from agegender.datasets import make_faces
from agegender.runtime import open_network

MODELS = {"arcface": "ArcFace", "facenet": "Facenet", "facenet512": "Facenet512"}
FILES = {name: f"{name}_weights.h5" for name in MODELS}
BATCH = 32


class PictureByPicture(TransformerMixin, BaseEstimator):
    """The encoder that everybody writes first."""

    def __init__(self, network: str, size: tuple[int, int], mean: float, scale: float) -> None:
        self.network = network
        self.size = size
        self.mean = mean
        self.scale = scale

    def fit(self, X: list[str], y: object = None) -> PictureByPicture:
        return self

    @functools.cached_property
    def session_(self) -> object:
        import onnxruntime

        return onnxruntime.InferenceSession(self.network)

    def transform(self, X: list[str]) -> np.ndarray:
        name = self.session_.get_inputs()[0].name
        rows = []
        for path in X:
            picture = np.asarray(Image.open(path).convert("RGB").resize(self.size), np.float32)
            picture = (picture - self.mean) * self.scale
            rows.append(self.session_.run(None, {name: picture[None]})[0][0])
        return np.array(rows)


def random_weights(name: str, folder: Path) -> Path:
    """Write a deepface network with random weights as deepface publishes its own."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import deepface_networks

    return deepface_networks.save(deepface_networks.build(name), folder / FILES[name])


def converted(name: str, weights: Path, folder: Path) -> str:
    """Convert deepface's own Keras model to ONNX, as it is."""
    import keras
    import tensorflow as tf
    import tf2onnx

    from agegender._networks.deepface import build_keras
    from agegender._networks.published import PUBLISHED

    model = build_keras(PUBLISHED[name], weights)
    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)]
    function = tf.function(lambda pictures: model(pictures, training=False))
    path = str(folder / f"{name}.onnx")
    tf2onnx.convert.from_function(function, signature, output_path=path)
    keras.backend.clear_session()
    return path


class DeepFaceProcess:
    """deepface in a process of its own: called with paths and whether in a loop."""

    def __init__(self, name: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        context.Process(target=serve_deepface, args=(there, MODELS[name]), daemon=True).start()

    def __call__(self, paths: list[str], *, loop: bool) -> None:
        self._here.send((paths, loop))
        self._here.recv()


def serve_deepface(connection: Connection, model: str) -> None:
    from deepface import DeepFace

    represent = functools.partial(
        DeepFace.represent, model_name=model, detector_backend="skip", enforce_detection=False
    )
    with contextlib.suppress(EOFError):  # the other end is gone: the measuring is over
        while True:
            paths, loop = connection.recv()
            found = [represent(path) for path in paths] if loop else represent(paths)
            connection.send(len(found))


def contestants(
    name: str, weights: Path, paths: list[str], folder: Path, slow: int
) -> dict[str, tuple[int, Callable[[], object]]]:
    """Return each way with the number of pictures that it is given."""
    backbone = Backbone.load(name, weights=weights)
    integers = backbone.quantize(paths[:64])
    network = open_network(backbone, "embedding")
    rng = np.random.default_rng(0)
    ready = rng.integers(0, 256, (len(paths), *backbone.input_size, 3), np.uint8)
    one_by_one = PictureByPicture(
        converted(name, weights, folder), backbone.input_size[::-1], backbone.mean, backbone.scale
    )
    deepface = DeepFaceProcess(name)
    caches = iter(folder / f"{name}-{turn}.sqlite" for turn in range(10_000))
    filled: list[Path] = []

    def bare() -> None:
        for start in range(0, len(ready), BATCH):
            network(ready[start : start + BATCH])

    def cold() -> None:
        filled[:] = [next(caches)]
        EmbeddingExtractor(backbone, layer="embedding", cache=filled[0], batch_size=BATCH).transform(paths)

    def cold_in_integers() -> None:
        EmbeddingExtractor(integers, layer="embedding", cache=next(caches), batch_size=BATCH).transform(paths)

    def warm() -> None:
        EmbeddingExtractor(backbone, layer="embedding", cache=filled[0]).transform(paths)

    return {
        "bare network, ready arrays": (len(paths), bare),
        "EmbeddingExtractor, cold": (len(paths), cold),
        "EmbeddingExtractor, warm": (len(paths), warm),
        "EmbeddingExtractor in integers, cold": (len(paths), cold_in_integers),
        "deepface, list": (slow, lambda: deepface(paths[:slow], loop=False)),
        "deepface, loop": (slow, lambda: deepface(paths[:slow], loop=True)),
        "picture by picture": (slow, lambda: one_by_one.transform(paths[:slow])),
    }


def table(name: str, ways: dict[str, tuple[int, Callable[[], object]]], turns: int) -> str:
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(turns + 1):
        for way, (n_pictures, run) in ways.items():
            started = time.perf_counter()
            run()
            if turn:
                speeds[way].append(n_pictures / (time.perf_counter() - started))
    cold = speeds["EmbeddingExtractor, cold"]
    lines = [f"| {name} | pictures per second | speed of cold extraction relative to it |", "|---|---|---|"]
    for way, measured in speeds.items():
        ratio = statistics.median(ours / theirs for ours, theirs in zip(cold, measured, strict=True))
        lines.append(f"| {way} | {statistics.median(measured):,.1f} | {ratio:.2f} |")
    return "\n".join(lines)


def beside(networks: list[Backbone], paths: list[str], folder: Path, turns: int) -> str:
    """Return the processor time per picture of each bare network, and of all of them in one cold extraction."""
    rng = np.random.default_rng(0)
    ready = [rng.integers(0, 256, (len(paths), *one.input_size, 3), np.uint8) for one in networks]
    opened = [open_network(one, "embedding") for one in networks]
    caches = iter(folder / f"beside-{turn}.sqlite" for turn in range(10_000))

    def bare(number: int) -> None:
        for start in range(0, len(paths), BATCH):
            opened[number](ready[number][start : start + BATCH])

    def cold() -> None:
        extractor = EmbeddingExtractor(
            tuple(networks), layer="embedding", cache=next(caches), batch_size=BATCH
        )
        extractor.transform(paths)

    ways = {f"bare {one.name}": functools.partial(bare, i) for i, one in enumerate(networks)}
    ways["EmbeddingExtractor of all, cold"] = cold
    spent: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(turns + 1):
        for way, run in ways.items():
            started = time.process_time()
            run()
            if turn:
                spent[way].append(1000 * (time.process_time() - started) / len(paths))
    *bares, together = spent.values()
    ratio = statistics.median(np.array(together) / np.sum(bares, axis=0))
    lines = ["| way | processor time per picture, ms |", "|---|---|"]
    lines += [f"| {way} | {statistics.median(measured):.2f} |" for way, measured in spent.items()]
    return "\n".join([*lines, f"| relative to the sum of the bare networks | {ratio:.3f} |"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=MODELS, default=["arcface", "facenet"])
    parser.add_argument("--beside", nargs="+", type=network, help="files of networks, and what they take")
    parser.add_argument("--weights", type=Path, help="folder of deepface's weights files")
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--slow", type=int, default=32, help="pictures for the slow ways")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        paths = make_faces(options.pictures, folder / "faces").data
        if options.beside:
            print(beside(options.beside, list(paths), folder, options.turns))
            return
        home = folder / "home"
        os.environ["DEEPFACE_HOME"] = str(home)
        kept = home / ".deepface" / "weights"
        kept.mkdir(parents=True)
        for name in options.networks:
            if options.weights:
                (kept / FILES[name]).symlink_to((options.weights / FILES[name]).resolve())
            else:
                random_weights(name, kept)
            ways = contestants(name, kept / FILES[name], list(paths), folder, options.slow)
            print(table(name, ways, options.turns), flush=True)
            print()


if __name__ == "__main__":
    main()
