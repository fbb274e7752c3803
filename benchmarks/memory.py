"""Train on more activations than memory holds, and print how much memory that took.

    python benchmarks/memory.py                     # 100,000 pictures' 7×7×512 maps: 5 GB in half precision
    python benchmarks/memory.py --rows 20000        # 1 GB, for a first look

Pictures are drawn by the row's number, pass through a network of one convolution and are never all in memory; the
maps go to a temporary file (in TMPDIR) by way of ``AgeGenderPipeline(memory_limit=…)``. The peak is that of the whole
process: TensorFlow, ONNX Runtime and the pages of the file that are mapped at the time included.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from agegender import AgeGenderClassifier, AgeGenderPipeline, EmbeddingExtractor
from agegender.backbones import Backbone

SIDE = 28


class Faces(Sequence):
    """Pictures that exist only while they are looked at: brighter with age, redder for gender 1."""

    def __init__(self, n: int) -> None:
        rng = np.random.default_rng(0)
        self.target = np.column_stack([rng.integers(0, 101, n), rng.integers(0, 2, n)])

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, row: int) -> np.ndarray:
        age, gender = self.target[row]
        noise = np.random.Generator(np.random.SFC64(row)).integers(0, 40, (SIDE, SIDE, 3))
        return (noise + 1.5 * age + np.array([60 * gender, 0, 0])).astype(np.uint8)


def write_network(path: Path) -> Path:
    """Write a network whose feature map is 7×7×512."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.normal(0, 0.1, (512, 3, 4, 4)).astype(np.float32), "w1"),
        numpy_helper.from_array(rng.normal(0, 0.1, (64, 512)).astype(np.float32), "w2"),
    ]
    nodes = [
        helper.make_node("Conv", ["data", "w1"], ["conv"], strides=[4, 4]),
        helper.make_node("Relu", ["conv"], ["maps"]),
        helper.make_node("GlobalAveragePool", ["maps"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w2"], ["embedding"], transB=1),
    ]
    picture = helper.make_tensor_value_info("data", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])
    output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 64])
    graph = helper.make_graph(nodes, "wide", [picture], [output], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def peak_gb() -> float:
    """Return the most memory that this process has had, in GB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--dtype", choices=["float16", "float32"], default="float16")
    parser.add_argument("--memory-limit", default="500MB")
    options = parser.parse_args()
    faces = Faces(options.rows)
    with tempfile.TemporaryDirectory() as folder:
        network = Backbone.from_onnx(write_network(Path(folder) / "wide.onnx"), mean=127.5, scale=1 / 128)
        model = AgeGenderPipeline(
            EmbeddingExtractor(network, cache=None, dtype=options.dtype),
            AgeGenderClassifier("conv", epochs=options.epochs, random_state=0),
            memory_limit=options.memory_limit,
        )
        gigabytes = options.rows * 7 * 7 * 512 * np.dtype(options.dtype).itemsize / 1e9
        print(
            f"{options.rows:,} maps of 7×7×512, {options.dtype}: {gigabytes:.2f} GB; at the start {peak_gb():.2f} GB"
        )
        started = time.perf_counter()
        model.fit(faces, faces.target)
        print(f"fit      {time.perf_counter() - started:6.0f} s   peak {peak_gb():.2f} GB")
        started = time.perf_counter()
        error = -model.score(faces, faces.target)
        print(
            f"predict  {time.perf_counter() - started:6.0f} s   peak {peak_gb():.2f} GB   age MAE {error:.2f}"
        )


if __name__ == "__main__":
    main()
