"""From the JPEG on, numbers are those of deepface's own represent; the converted form gives those of the .h5 form."""

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
SUPPORT = str(Path(__file__).resolve().parents[1] / "support")
# Our name, deepface's name, and the normalization under which deepface feeds it as we do.
NETWORKS = [
    ("arcface", "ArcFace", "ArcFace"),
    ("facenet", "Facenet", "Facenet2018"),
    ("openface", "OpenFace", "base"),
    ("deepid", "DeepID", "base"),
]
LARGE = [("ghostfacenet", "GhostFaceNet", "ArcFace"), ("vggface", "VGG-Face", "VGGFace")]
HEAVY = {"vggface"}
SIZES = {"square": (200, 200), "tall": (260, 150), "wide": (90, 241), "tiny": (41, 40)}
LAYERS = ["embedding", "penultimate", "pooled", "feature_map"]


def run_apart(folder: Path, *names: str) -> dict:
    """Measure in a process of its own: deepface changes the environment of whoever imports it."""
    pytest.importorskip("werkzeug", reason="deepface's represent needs werkzeug, which it does not declare")
    rng = np.random.default_rng(0)
    for name, (height, width) in SIZES.items():
        blocks = rng.integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((width, height)).save(folder / f"{name}.jpg", quality=93)
    environment = os.environ | {"DEEPFACE_HOME": str(folder), "AGEGENDER_HOME": str(folder / "agegender")}
    environment |= {"AGEGENDER_OFFLINE": "1"}
    environment.pop("TF_USE_LEGACY_KERAS", None)
    environment["PYTHONPATH"] = os.pathsep.join([SUPPORT, environment.get("PYTHONPATH", "")])
    command = [sys.executable, __file__, str(folder), *names]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads((folder / "measured.json").read_text())


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return run_apart(tmp_path_factory.mktemp("parity"), *[name for name, _, _ in NETWORKS])


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


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.heavy] * (name in HEAVY)) for name, _, _ in LARGE]
)
def test_embeddings_of_large_networks_equal_those_of_represent(name, tmp_path) -> None:
    found = run_apart(tmp_path, name)
    assert max(found["h5"][name].values()) <= TOLERANCE
    assert found["spread"][name] >= 0.05


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["deepface/age", "deepface/gender"])
def test_the_h5_form_of_deepface_s_own_predictors_gives_their_numbers(name, tmp_path) -> None:
    found = run_apart(tmp_path, name)
    assert max(found["h5"][name].values()) <= TOLERANCE
    assert found["spread"][name] >= 0.01


@pytest.mark.parametrize("layer", LAYERS)
def test_the_converted_form_equals_the_h5_form_at_every_layer(measured, layer) -> None:
    shapes = {
        "embedding": [4, 512],
        "penultimate": [4, 25088],
        "pooled": [4, 512],
        "feature_map": [4, 7, 7, 512],
    }
    assert measured["converted"][layer]["shape"] == shapes[layer]
    assert measured["converted"][layer]["difference"] <= TOLERANCE


def test_the_onnx_form_goes_first_where_both_are_there(measured) -> None:
    assert measured["formats"] == ["keras", "onnx"]


def test_nothing_in_the_arcface_graph_stops_the_blocked_layout(measured) -> None:
    assert not set(measured["operators"]) & {"PRelu", "Neg"}


def measure(folder: Path, names: list[str]) -> dict:
    """Compare with deepface; run in a process of its own."""
    import deepface_networks
    from deepface.modules import representation

    from agegender import images
    from agegender._networks.published import PUBLISHED
    from agegender.backbones import Backbone

    found: dict = {"h5": {}, "spread": {}, "converted": {}, "formats": []}
    files = {name: str(folder / f"{name}.jpg") for name in SIZES}
    for name, their_name, normalization in [*NETWORKS, *LARGE]:
        if name not in names:
            continue
        model = deepface_networks.build(name)
        PUBLISHED[name].known.clear()  # these weights are random
        deepface_networks.save(model, PUBLISHED[name].path(".h5"))
        backbone = Backbone.load(name)
        batch = np.stack(
            [images.letterbox(images.load(file), backbone.input_size) for file in files.values()]
        )
        rows = _on_keras(backbone, "embedding", batch)
        if name == "vggface":  # deepface divides this one by its length
            rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        found["spread"][name] = float(np.ptp(rows, axis=0).max() / np.abs(rows).max())
        found["h5"][name] = {
            picture: difference(row, _theirs(representation, file, their_name, normalization))
            for (picture, file), row in zip(files.items(), rows, strict=True)
        }
        if name == "arcface":
            found |= _converted(backbone, batch)
    for name in ("deepface/age", "deepface/gender"):
        if name in names:
            _measure_predictor(name, files, found)
    found["legacy_keras"] = os.environ.get("TF_USE_LEGACY_KERAS")
    found["imported_tf_keras"] = "tf_keras" in sys.modules
    return found


def _measure_predictor(name: str, files: dict[str, str], found: dict) -> None:
    """Compare the probabilities of deepface's age or gender model with its own client's, on the same squares."""
    import importlib

    import deepface_networks

    from agegender import images
    from agegender._networks.published import PUBLISHED
    from agegender.backbones import Backbone

    PUBLISHED[name].known.clear()
    model = deepface_networks.build(name)
    kernel = model.get_layer("predictions").kernel
    kernel.assign(300 * kernel)  # drawn weights alone leave every probability the same
    deepface_networks.save(model, PUBLISHED[name].path(".h5"))
    backbone = Backbone.load(name)
    batch = np.stack([images.letterbox(images.load(file), backbone.input_size) for file in files.values()])
    rows = _on_keras(backbone, "embedding", batch)
    module = importlib.import_module(f"deepface.models.{PUBLISHED[name].module}")
    client = module.ApparentAgeClient() if name.endswith("age") else module.GenderClient()
    theirs = client._predict_internal((batch[..., ::-1] / 255).astype(np.float32))
    found["spread"][name] = float(np.ptp(rows, axis=0).max() / np.abs(rows).max())
    found["h5"][name] = {
        picture: difference(row, their) for picture, row, their in zip(files, rows, theirs, strict=True)
    }


def _on_keras(backbone, layer: str, batch: np.ndarray) -> np.ndarray:
    from agegender import runtime
    from agegender._networks.opening import layers_of

    return runtime._open_keras(backbone, *layers_of(backbone).find(layer), "cpu")(batch)


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def _theirs(representation, file: str, name: str, normalization: str) -> np.ndarray:
    faces = representation.represent(
        file, model_name=name, detector_backend="skip", enforce_detection=False, normalization=normalization
    )
    return np.array(faces[0]["embedding"])


def _converted(backbone, batch: np.ndarray) -> dict:
    """Compare the ONNX form that is made of an .h5 file with Keras, and put it where deepface's own would lie."""
    import onnx

    from agegender._networks.converted import place_of
    from agegender._networks.opening import onnx_form
    from agegender._networks.published import PUBLISHED
    from agegender._networks.rewrite import runnable
    from agegender.backbones import Backbone
    from agegender.runtime import open_network

    layers = {}
    for layer in LAYERS:
        rows = open_network(backbone, layer)(batch)
        expected = _on_keras(backbone, layer, batch)
        layers[layer] = {"shape": list(rows.shape), "difference": difference(rows, expected)}
    form = onnx_form(backbone, backbone.resolve_layer("embedding"))
    nodes = onnx.load_model_from_string(runnable(*form)).graph.node
    kept = place_of(backbone.sha256, backbone.name).read_bytes()
    PUBLISHED["arcface"].path(".onnx").write_bytes(kept)
    formats = [backbone.format, Backbone.load("arcface").format]
    return {"converted": layers, "formats": formats, "operators": sorted({node.op_type for node in nodes})}


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[1] / "support"))
    where = Path(sys.argv[1])
    (where / "measured.json").write_text(json.dumps(measure(where, sys.argv[2:])))
