"""Does memory grow while one process predicts picture by picture, and what do damaged model files do?

Used by `reliability.py`, on a small drawn network: what it predicts does not matter here.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agegender import (
    AgeGenderClassifier,
    AgeGenderPipeline,
    Backbone,
    DenseHead,
    EmbeddingExtractor,
    load_model,
    save_model,
)
from agegender.exceptions import ModelFileError

SIDE = 32


def fit(folder: Path) -> AgeGenderPipeline:
    """Return a model fitted on noise."""
    rng = np.random.default_rng(0)
    extractor = EmbeddingExtractor(Backbone.from_onnx(write_network(folder / "small.onnx")), cache=None)
    model = AgeGenderPipeline(extractor, AgeGenderClassifier(DenseHead(), epochs=1, random_state=0))
    return model.fit(noise(rng, 40), np.column_stack([rng.integers(10, 70, 40), np.arange(40) % 2]))


def noise(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)


def predict_in_a_loop(model: AgeGenderPipeline, n_predictions: int) -> list[float]:
    """Predict single pictures, each another; return the resident megabytes after each tenth of them (Linux)."""
    rng = np.random.default_rng(1)
    megabytes = []
    for number in range(1, n_predictions + 1):
        model.predict(noise(rng, 1))
        if number % (n_predictions // 10) == 0:
            megabytes.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6)
    return megabytes


@dataclass
class Damaged:
    """What became of damaged model files."""

    n_refused: int = 0
    n_same: int = 0
    n_other: int = 0


def damage_models(model: AgeGenderPipeline, folder: Path, n_files: int, seed: int) -> Damaged:
    """Change or cut a saved model anywhere, and load it; any error but `ModelFileError` goes on."""
    rng, counts = random.Random(seed), Damaged()
    pictures = noise(np.random.default_rng(2), 4)
    path, expected = save_model(model, folder / "model.agegender"), model.predict(pictures).tobytes()
    sound = path.read_bytes()
    for _ in range(n_files):
        content = bytearray(sound)
        if rng.random() < 0.2:
            del content[rng.randrange(len(content)) :]
        for _ in range(rng.choice([1, 1, 10, 200]) if content else 0):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)
        try:
            loaded = load_model(path)
        except ModelFileError:
            counts.n_refused += 1
        else:
            same = loaded.predict(pictures).tobytes() == expected
            counts.n_same += same
            counts.n_other += not same
    return counts


def write_network(path: Path) -> Path:
    """Write a network of one convolution and one dense layer."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
        for name, shape in (("w1", (8, 3, 3, 3)), ("w2", (16, 8)))
    ]
    nodes = [
        helper.make_node("Conv", ["data", "w1"], ["map"], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["map"], ["average"]),
        helper.make_node("Flatten", ["average"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w2"], ["embedding"], transB=1),
    ]
    data = helper.make_tensor_value_info("data", TensorProto.FLOAT, ["n", 3, 24, 24])
    out = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 16])
    graph = helper.make_graph(nodes, "small", [data], [out], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path
