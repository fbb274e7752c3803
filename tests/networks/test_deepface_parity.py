"""From the JPEG on, numbers are those of deepface's own represent; the .onnx form gives those of the .h5 form."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TOLERANCE = 1e-4
# Our name, deepface's name, and the normalization under which deepface feeds it as we do.
NETWORKS = [
    ("arcface", "ArcFace", "ArcFace"),
    ("facenet", "Facenet", "Facenet2018"),
    ("openface", "OpenFace", "base"),
]
SIZES = {"square": (200, 200), "tall": (260, 150), "wide": (90, 241), "tiny": (41, 40)}
LAYERS = ["embedding", "penultimate", "pooled", "feature_map"]

# The converter copies 137 MB of weights again and again: without its copies for the case of an error, and with
# memory kept instead of returned to the system each time, it takes a third of the time.
FASTER_EXPORT = {
    "TF2ONNX_CATCH_ERRORS": "FALSE",
    "MALLOC_MMAP_THRESHOLD_": "33000000",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    "MALLOC_TOP_PAD_": "200000000",
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What a process of its own measured: deepface changes the environment of whoever imports it."""
    pytest.importorskip("werkzeug", reason="deepface's represent needs werkzeug, which it does not declare")
    folder = tmp_path_factory.mktemp("parity")
    rng = np.random.default_rng(0)
    for name, (height, width) in SIZES.items():
        blocks = rng.integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((width, height)).save(folder / f"{name}.jpg", quality=93)
    environment = os.environ | {"DEEPFACE_HOME": str(folder), "AGEGENDER_OFFLINE": "1"} | FASTER_EXPORT
    environment.pop("TF_USE_LEGACY_KERAS", None)
    command = [sys.executable, __file__, str(folder)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads((folder / "measured.json").read_text())


def test_importing_deepface_s_networks_leaves_keras_as_it_is(measured) -> None:
    assert measured["legacy_keras"] is None
    assert measured["imported_tf_keras"] is False


@pytest.mark.parametrize("picture", SIZES)
@pytest.mark.parametrize("name", [name for name, _, _ in NETWORKS])
def test_embeddings_equal_those_of_deepface_s_represent(measured, name, picture) -> None:
    assert measured["h5"][name][picture] <= TOLERANCE


@pytest.mark.parametrize("name", [name for name, _, _ in NETWORKS])
def test_random_weights_keep_pictures_distinguishable(measured, name) -> None:
    assert measured["spread"][name] >= 0.05


@pytest.mark.parametrize("layer", LAYERS)
def test_the_onnx_form_equals_the_h5_form_at_every_layer(measured, layer) -> None:
    assert (
        measured["onnx"][layer]["shape"]
        == {
            "embedding": [4, 512],
            "penultimate": [4, 25088],
            "pooled": [4, 512],
            "feature_map": [4, 7, 7, 512],
        }[layer]
    )
    assert measured["onnx"][layer]["difference"] <= TOLERANCE


def test_the_onnx_form_goes_first_where_both_are_there(measured) -> None:
    assert measured["formats"] == ["keras", "onnx"]


def test_nothing_in_the_arcface_graph_stops_the_blocked_layout(measured) -> None:
    assert not set(measured["operators"]) & {"PRelu", "Neg"}


def measure(folder: Path) -> dict:
    """Compare with deepface; run in a process of its own."""
    import deepface_networks
    from deepface.modules import representation

    from agegender import images
    from agegender._networks.location import weights_folder
    from agegender._networks.published import PUBLISHED
    from agegender.backbones import Backbone
    from agegender.runtime import open_network

    found: dict = {"h5": {}, "spread": {}, "onnx": {}, "formats": []}
    files = {name: str(folder / f"{name}.jpg") for name in SIZES}
    for name, their_name, normalization in NETWORKS:
        model = deepface_networks.build(name)
        deepface_networks.save(model, weights_folder() / f"{name}_weights.h5")
        PUBLISHED[name].known.clear()  # these weights are random
        backbone = Backbone.load(name)
        batch = np.stack(
            [images.letterbox(images.load(file), backbone.input_size) for file in files.values()]
        )
        rows = open_network(backbone, "embedding")(batch)
        found["spread"][name] = float(np.ptp(rows, axis=0).max() / np.abs(rows).max())
        found["h5"][name] = {
            picture: difference(row, _theirs(representation, file, their_name, normalization))
            for (picture, file), row in zip(files.items(), rows, strict=True)
        }
        if name == "arcface":
            kept = {layer: open_network(backbone, layer)(batch) for layer in LAYERS}
            found["formats"].append(backbone.format)
            found["onnx"], found["operators"] = _as_onnx(model, batch, kept)
            found["formats"].append(Backbone.load(name).format)
    found["legacy_keras"] = os.environ.get("TF_USE_LEGACY_KERAS")
    found["imported_tf_keras"] = "tf_keras" in sys.modules
    return found


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def _theirs(representation, file: str, name: str, normalization: str) -> np.ndarray:
    faces = representation.represent(
        file, model_name=name, detector_backend="skip", enforce_detection=False, normalization=normalization
    )
    return np.array(faces[0]["embedding"])


def _as_onnx(model, batch: np.ndarray, kept: dict) -> tuple[dict, list[str]]:
    import onnx

    from agegender._networks.location import weights_folder
    from agegender._networks.opening import read_network
    from agegender._networks.rewrite import runnable
    from agegender.backbones import Backbone
    from agegender.runtime import open_network

    model.export(weights_folder() / "arcface_weights.onnx", format="onnx", verbose=False)
    backbone = Backbone.load("arcface", engine="onnx")
    found = {}
    for layer, expected in kept.items():
        rows = open_network(backbone, layer)(batch)
        found[layer] = {"shape": list(rows.shape), "difference": difference(rows, expected)}
    graph = read_network(backbone)
    nodes = onnx.load_model_from_string(runnable(graph, graph.layers().embedding)).graph.node
    return found, sorted({node.op_type for node in nodes})


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[1] / "support"))
    where = Path(sys.argv[1])
    (where / "measured.json").write_text(json.dumps(measure(where)))
