"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import chromium
from material import Material
from PIL import Image
from sklearn.utils import Bunch

from agegender import Backbone
from agegender.datasets import load_utkface

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--heavy", action="store_true", help="run the tests that take minutes and gigabytes too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--heavy"):
        return
    skipped = pytest.mark.skip(
        reason="takes minutes, and gigabytes of memory and disk: pytest --heavy runs it"
    )
    for item in items:
        if "heavy" in item.keywords:
            item.add_marker(skipped)


@pytest.fixture(scope="session")
def shared() -> Material:
    """Real photographs and real network weights, which are not part of the repository."""
    return Material()


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a cache directory and a deepface folder of its own."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("AGEGENDER_HOME", str(home / "agegender"))
    monkeypatch.setenv("DEEPFACE_HOME", str(home))
    monkeypatch.setenv("INSIGHTFACE_HOME", str(home / "insightface"))
    monkeypatch.setenv("UNIFACE_CACHE_DIR", str(home / "uniface"))
    return home


@pytest.fixture(scope="module")
def launch() -> Iterator[Callable[..., Any]]:
    """What starts a browser with further flags, for one file: while Playwright runs, asyncio.run cannot."""
    with chromium() as start:
        yield start


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real, small convolutional network (seeded weights) as an ONNX file: 24×24 RGB in, 16 numbers out."""
    return write_tiny_onnx(tmp_path_factory.mktemp("networks") / "tiny.onnx")


@pytest.fixture(scope="session")
def drawn_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 60 small JPEGs named as in UTKFace, brighter with age and redder for gender 1."""
    return write_drawn_faces(tmp_path_factory.mktemp("drawn"), 60)


@pytest.fixture(scope="session")
def backbone(tiny_onnx: Path) -> Backbone:
    """The small network, with the common normalisation."""
    return Backbone.from_onnx(tiny_onnx)


@pytest.fixture(scope="session")
def paths(drawn_faces: Path) -> list[str]:
    """The drawn faces, in the order of names."""
    return sorted(str(path) for path in drawn_faces.iterdir())


@pytest.fixture(scope="session")
def faces(drawn_faces: Path) -> Bunch:
    """The drawn faces, as their loader gives them."""
    return load_utkface(drawn_faces)


def write_tiny_onnx(path: Path, seed: int = 0) -> Path:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        fan_in = int(np.prod(shape[1:]))
        return numpy_helper.from_array(rng.normal(0, fan_in**-0.5, shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["data", "w1"], ["conv1"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("PRelu", ["conv1", "slope"], ["relu1"]),
        helper.make_node("Conv", ["relu1", "w2"], ["conv2"], strides=[4, 4], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv2"], ["relu2"]),
        helper.make_node("Conv", ["relu2", "w3"], ["pooled"], group=12),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w4", "b4"], ["embedding"], transB=1),
    ]
    weights = [weight("w1", 8, 3, 3, 3), weight("w2", 12, 8, 3, 3), weight("w3", 12, 1, 3, 3)]
    weights += [weight("w4", 16, 12), weight("b4", 16), weight("slope", 8, 1, 1)]
    picture = helper.make_tensor_value_info("data", TensorProto.FLOAT, ["N", 3, 24, 24])
    output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 16])
    graph = helper.make_graph(nodes, "tiny", [picture], [output], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def write_drawn_faces(folder: Path, n: int, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(n):
        age, gender = int(rng.integers(0, 101)), number % 2
        pixels = np.clip(rng.normal(40 + 1.6 * age, 12, (32, 32, 3)), 0, 255)
        pixels[..., 0] = np.clip(pixels[..., 0] + 60 * gender, 0, 255)
        name = f"{age}_{gender}_0_201701{number:011d}.jpg.chip.jpg"
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name, format="JPEG", quality=92)
    return folder
