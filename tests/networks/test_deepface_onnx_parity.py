"""From the JPEG on, numbers are those of deepface's represent on ONNX Runtime: ten networks, graphs of the layout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

TOLERANCE = 1e-4
SUPPORT = str(Path(__file__).resolve().parents[1] / "support")
# Our name, deepface's name, and the normalization under which deepface feeds it as we do.
NETWORKS = [
    ("arcface", "ArcFace", "ArcFace"),
    ("facenet", "Facenet", "Facenet2018"),
    ("facenet512", "Facenet512", "Facenet2018"),
    ("openface", "OpenFace", "base"),
    ("vggface", "VGG-Face", "VGGFace"),
    ("ghostfacenet", "GhostFaceNet", "ArcFace"),
    ("sface", "SFace", "base"),
    ("deepid", "DeepID", "base"),
    ("fbdeepface", "DeepFace", "base"),
    ("buffalo_l", "Buffalo_L", "base"),
]
SIZES = {"square": (200, 200), "tall": (260, 150), "wide": (90, 241)}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What a process of its own measured: deepface changes the environment of whoever imports it."""
    pytest.importorskip("werkzeug", reason="deepface's represent needs werkzeug, which it does not declare")
    folder = tmp_path_factory.mktemp("parity")
    rng = np.random.default_rng(0)
    for name, (height, width) in SIZES.items():
        blocks = rng.integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((width, height)).save(folder / f"{name}.jpg", quality=93)
    environment = os.environ | {"DEEPFACE_HOME": str(folder), "AGEGENDER_HOME": str(folder / "agegender")}
    environment |= {"AGEGENDER_OFFLINE": "1", "DEEPFACE_BACKEND_ENGINE": "onnx"}
    environment["PYTHONPATH"] = os.pathsep.join([SUPPORT, environment.get("PYTHONPATH", "")])
    command = [sys.executable, __file__, str(folder)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads((folder / "measured.json").read_text())


@pytest.mark.parametrize("picture", SIZES)
@pytest.mark.parametrize("name", [name for name, _, _ in NETWORKS])
def test_embeddings_equal_those_of_deepface_s_represent(measured, name, picture) -> None:
    if name == "buffalo_l":
        pytest.importorskip("insightface", reason="deepface needs it: pip install --no-deps insightface")
    assert measured["difference"][name][picture] <= TOLERANCE
    assert measured["spread"][name] >= 0.01  # pictures are told apart


def test_no_tensorflow_is_imported(measured) -> None:
    assert measured["imported"] == []


def measure(folder: Path) -> dict:
    """Compare with deepface; run in a process of its own."""
    from deepface.modules import representation

    from agegender import images
    from agegender._networks.published import PUBLISHED
    from agegender.backbones import Backbone
    from agegender.runtime import open_network

    found: dict = {"difference": {}, "spread": {}}
    files = {name: str(folder / f"{name}.jpg") for name in SIZES}
    for name, their_name, normalization in NETWORKS:
        if name == "buffalo_l" and not _has_insightface():
            continue
        published = PUBLISHED[name]
        published.known.clear()  # these weights are random
        published.path(".onnx").parent.mkdir(parents=True, exist_ok=True)
        onnx.save(_graph(name, published.input_size, published.n_numbers), published.path(".onnx"))
        backbone = Backbone.load(name)
        batch = np.stack(
            [images.letterbox(images.load(file), backbone.input_size) for file in files.values()]
        )
        rows = open_network(backbone, "embedding")(batch)
        if name == "vggface":  # deepface divides this one by its length
            rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        found["spread"][name] = float(np.ptp(rows, axis=0).max() / np.abs(rows).max())
        found["difference"][name] = {
            picture: _difference(row, _theirs(representation, file, their_name, normalization))
            for (picture, file), row in zip(files.items(), rows, strict=True)
        }
    found["imported"] = [name for name in ("tensorflow", "keras") if name in sys.modules]
    return found


def _has_insightface() -> bool:
    from importlib.util import find_spec

    return find_spec("insightface") is not None


def _graph(name: str, size: tuple[int, int], n_numbers: int) -> onnx.ModelProto:
    import networks

    b = networks.Builder(seed=len(name))
    if name in ("sface", "buffalo_l"):  # channels first; SFace's graph is made for one picture
        x = "picture"
        if name == "sface":  # fed 0 … 255, it normalises by itself
            x = b.add("Sub", x, b.constant(np.float32(127.5)))
            x = b.add("Mul", x, b.constant(np.float32(1 / 128)))
        picture = [1 if name == "sface" else "N", 3, *size]
    else:
        x, picture = b.add("Transpose", "picture", perm=[0, 3, 1, 2]), ["N", *size, 3]
    if name == "fbdeepface":
        return _locally_connected(b, x, picture, n_numbers)
    x = b.add("Relu", b.conv(x, 3, 8, strides=[4, 4]))
    x = b.add("Relu", b.conv(x, 8, 12, strides=[4, 4]))
    b.dense(b.add("Flatten", b.add("GlobalAveragePool", x)), 12, n_numbers, name="out")
    return b.model({"out": [picture[0], n_numbers]}, picture)


def _locally_connected(b, x: str, picture: list, n_numbers: int) -> onnx.ModelProto:
    """The layers of Facebook's DeepFace, a quarter as wide."""
    x = b.add("Relu", b.conv(x, 3, 4, 11, pads=[0] * 4))
    x = b.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1])
    x = b.add("Relu", b.conv(x, 4, 4, 9, pads=[0] * 4))
    for kernel, stride, side in ((9, 1, 55), (7, 2, 25), (5, 1, 21)):
        # Patches by a convolution with ones, then weights of its own at every position.
        ones = np.eye(4 * kernel**2, dtype=np.float32).reshape(-1, 4, kernel, kernel)
        x = b.add("Conv", x, b.constant(ones), strides=[stride, stride])
        x = b.add("Reshape", x, b.constant(np.array([0, 4 * kernel**2, side**2], np.int64)))
        weight = b.drawn(side**2, 4, 4 * kernel**2, low=-0.15, high=0.15)
        x = b.add("Einsum", x, weight, equation="npl,lfp->nfl")
        x = b.add("Reshape", x, b.constant(np.array([0, 4, side, side], np.int64)))
        x = b.add("Relu", b.add("Add", x, b.drawn(4, side, side, low=-0.1, high=0.1)))
    x = b.dense(b.add("Flatten", x), 4 * 21**2, n_numbers)
    b.add("Relu", x, name="out")
    return b.model({"out": ["N", n_numbers]}, picture)


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def _theirs(representation, file: str, name: str, normalization: str) -> np.ndarray:
    faces = representation.represent(
        file, model_name=name, detector_backend="skip", enforce_detection=False, normalization=normalization
    )
    return np.array(faces[0]["embedding"])


if __name__ == "__main__":
    where = Path(sys.argv[1])
    (where / "measured.json").write_text(json.dumps(measure(where)))
