"""What the two teachers say of every picture; computed once and kept.

One teacher is InsightFace's MobileFaceNet, trained to recognise faces, the other HSE's FaceRes, a MobileNet trained
to recognise faces and, in its own heads, to read ages and genders of IMDB-WIKI. Each sees the framing that it knows.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from agegender import images
from agegender._utils.files import write_whole
from agegender.backbones import Backbone
from agegender.faces import reframe
from agegender.runtime import open_network

FACERES_MEAN = (103.939, 116.779, 123.68)


@dataclass(frozen=True)
class Teacher:
    """A network, the layer it is run to, what is read off from there on, and the picture that it sees."""

    backbone: Backbone
    layer: str
    answers: dict[str, str]
    framed: Callable[[str], NDArray[np.uint8]]


def mobilefacenet(weights: Path) -> Teacher:
    """Return InsightFace's MobileFaceNet, which sees faces aligned to its template."""
    return Teacher(
        Backbone.from_onnx(weights, mean=0.0, scale=1.0),
        "conv_6sep_relu",
        {"penultimate": "conv_6dw7_7_batchnorm", "embedding": "fc1"},
        lambda path: reframe(images.load(path), (112, 112), "utkface"),
    )


def faceres(weights: Path) -> Teacher:
    """Return HSE's FaceRes, which sees the crops as they are."""
    return Teacher(
        Backbone.from_onnx(weights, color="bgr", mean=FACERES_MEAN, scale=1.0),
        "embedding",
        {"pooled": "embedding", "imdb_ages": "age_1_to_100", "imdb_male": "p_male"},
        lambda path: cv2.resize(images.load(path), (224, 224), interpolation=cv2.INTER_LINEAR),
    )


def teacher_features(
    teacher: Teacher, paths: NDArray[np.object_], kept: Path, n_threads: int
) -> dict[str, NDArray[np.float32]]:
    """Pass every picture and its mirror image through a teacher.

    Returns an array of shape (2, n_pictures, d) for each of the teacher's answers, the mirror images second.
    """
    if kept.is_file():
        with np.load(kept) as stored:
            return {name: stored[name].astype(np.float32) for name in teacher.answers}
    network = open_network(teacher.backbone, teacher.layer, n_threads=n_threads)
    finish = _rest_of(teacher)
    found: dict[str, list[NDArray[np.float16]]] = {name: [] for name in teacher.answers}
    with ThreadPoolExecutor(n_threads) as pool:
        for start in range(0, len(paths), 64):
            crops = np.stack(list(pool.map(teacher.framed, paths[start : start + 64])))
            reached = network(np.concatenate([crops, crops[:, :, ::-1]]))
            for name, rows in zip(found, finish(reached), strict=True):
                found[name].append(rows.reshape(2, len(crops), -1).astype(np.float16))
            if start % 2048 == 0:
                print(f"{kept.stem}: {start} of {len(paths)}", flush=True)
    features = {name: np.concatenate(parts, axis=1) for name, parts in found.items()}
    write_whole(kept, lambda temporary: _save(temporary, features))
    return {name: rows.astype(np.float32) for name, rows in features.items()}


def _save(path: Path, features: dict[str, NDArray[np.float16]]) -> None:
    with path.open("wb") as file:
        np.savez(file, **features)


def _rest_of(teacher: Teacher) -> Callable[[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Return what takes the layer that the network is run to on to the teacher's answers."""
    import onnx
    import onnxruntime
    from onnx.utils import Extractor

    wanted = [name for name in teacher.answers.values() if name != teacher.layer]
    part = Extractor(onnx.load(teacher.backbone.path)).extract_model([teacher.layer], wanted)
    session = onnxruntime.InferenceSession(part.SerializeToString(), providers=["CPUExecutionProvider"])

    def finish(reached: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        maps = reached.transpose(0, 3, 1, 2) if reached.ndim == 4 else reached
        known = dict(
            zip(wanted, session.run(wanted, {teacher.layer: np.ascontiguousarray(maps)}), strict=True)
        )
        known[teacher.layer] = reached
        return [known[name].reshape(len(reached), -1) for name in teacher.answers.values()]

    return finish
