"""What the teacher, a MobileFaceNet trained to recognise faces, says of every picture; computed once and kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agegender import images
from agegender.backbones import Backbone
from agegender.faces import reframe
from agegender.runtime import open_network

FEATURE_MAP, PENULTIMATE, EMBEDDING = "conv_6sep_relu", "conv_6dw7_7_batchnorm", "fc1"


def teacher_features(
    paths: NDArray[np.object_], weights: Path, kept: Path, n_threads: int
) -> dict[str, NDArray[np.float32]]:
    """Pass every picture and its mirror image through the teacher, in the framing that it was trained with.

    Returns arrays of shape (2, n_pictures, d), the mirror images second: ``penultimate`` (512) and ``embedding``
    (128).
    """
    if kept.is_file():
        with np.load(kept) as stored:
            return {name: stored[name].astype(np.float32) for name in ("penultimate", "embedding")}
    teacher = Backbone.from_onnx(weights, mean=0.0, scale=1.0)
    network = open_network(teacher, FEATURE_MAP, n_threads=n_threads)
    finish = _rest_of(weights)
    found: dict[str, list[NDArray[np.float16]]] = {"penultimate": [], "embedding": []}
    with ThreadPoolExecutor(n_threads) as pool:
        for start in range(0, len(paths), 64):
            crops = np.stack(list(pool.map(_framed, paths[start : start + 64])))
            maps = network(np.concatenate([crops, crops[:, :, ::-1]]))
            for name, rows in zip(found, finish(maps), strict=True):
                found[name].append(rows.reshape(2, len(crops), -1).astype(np.float16))
            if start % 2048 == 0:
                print(f"teacher: {start} of {len(paths)}", flush=True)
    features = {name: np.concatenate(parts, axis=1) for name, parts in found.items()}
    np.savez(kept, **features)
    return {name: rows.astype(np.float32) for name, rows in features.items()}


def _framed(path: str) -> NDArray[np.uint8]:
    return reframe(images.load(path), (112, 112), "utkface")


def _rest_of(weights: Path):  # type: ignore[no-untyped-def]
    """Return what takes the teacher's map on to its penultimate layer and its embedding."""
    import onnx
    import onnxruntime
    from onnx.utils import Extractor

    part = Extractor(onnx.load(weights)).extract_model([FEATURE_MAP], [PENULTIMATE, EMBEDDING])
    session = onnxruntime.InferenceSession(part.SerializeToString(), providers=["CPUExecutionProvider"])

    def finish(maps: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        rows = session.run(None, {FEATURE_MAP: np.ascontiguousarray(maps.transpose(0, 3, 1, 2))})
        return [row.reshape(len(maps), -1) for row in rows]

    return finish
