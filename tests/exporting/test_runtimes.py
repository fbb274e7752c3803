"""An exported file where nothing of this library is: bare ONNX Runtime in Python, in Node, and as WebAssembly.

Both need a package registry, and are skipped where it cannot be reached.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agegender import AgeGenderPipeline, load_pretrained
from agegender.export import OUTPUTS, export_onnx
from agegender.images import letterbox, load

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "export.md"

PYTHON = """
import importlib.util, json, sys
import numpy as np
import onnxruntime

assert not [name for name in ("agegender", "onnx", "cv2", "sklearn", "PIL") if importlib.util.find_spec(name)]
session = onnxruntime.InferenceSession(sys.argv[1])
names = [output.name for output in session.get_outputs()]
found = session.run(names, {"pictures": np.load(sys.argv[2]), "coverage": np.array([0.8], np.float32)})
print(json.dumps({name: values.tolist() for name, values in zip(names, found)}))
"""

NODE = """
import fs from "node:fs";
const [packageName, model, pixels, n, h, w] = process.argv.slice(2);
const ort = await import(packageName);
if (packageName === "onnxruntime-web") ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(fs.readFileSync(model));
const pictures = new ort.Tensor("uint8", new Uint8Array(fs.readFileSync(pixels)), [+n, +h, +w, 3]);
const coverage = new ort.Tensor("float32", Float32Array.of(0.8), [1]);
const found = await session.run({ pictures, coverage });
console.log(JSON.stringify(Object.fromEntries(Object.entries(found).map(([k, v]) => [k, Array.from(v.data)]))));
"""


@pytest.fixture(scope="module")
def model() -> AgeGenderPipeline:
    return load_pretrained("compact")


@pytest.fixture(scope="module", params=[False, True], ids=["squares", "any size"])
def case(request, shared: Path, model: AgeGenderPipeline, tmp_path_factory: pytest.TempPathFactory):
    """An exported file, real crops for it, and the pipeline's numbers for these."""
    folder = tmp_path_factory.mktemp("exported")
    path = export_onnx(model, folder / "model.onnx", resize=request.param, coverage=None)
    crops = [load(path) for path in sorted((shared / "data" / "utkface_mini").glob("*_*_*_*.jpg"))[::40]]
    pictures = np.stack([crop if request.param else letterbox(crop, (80, 80)) for crop in crops])
    frame = model.predict_frame(list(pictures), faces=None, coverage=0.8)
    age_proba, gender_proba = model.predict_proba(list(pictures), faces=None)
    numbers = {name: frame[name].to_numpy() for name in OUTPUTS[:3]}
    return path, pictures, numbers | {"gender_proba": gender_proba, "age_proba": age_proba}


def run_or_skip(reason: str, *command: object, timeout: float = 240, cwd: Path | None = None) -> None:
    try:
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=timeout, cwd=cwd, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"{reason}: {type(error).__name__}")
    if done.returncode:
        pytest.skip(f"{reason}: {(done.stderr or done.stdout).strip()[-200:]}")


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("bare") / "venv"
    run_or_skip("no virtual environment can be made", sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    run_or_skip(
        "pip cannot install onnxruntime", python, "-m", "pip", "install", "--quiet", "onnxruntime", "numpy"
    )
    yield python
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("Node and npm are not installed")
    folder = tmp_path_factory.mktemp("node")
    (folder / "package.json").write_text('{"private": true}')
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    packages = ["onnxruntime-node", "onnxruntime-web", "sharp"]
    run_or_skip("npm cannot install ONNX Runtime", "npm", "install", *options, *packages, cwd=folder)
    (folder / "run.mjs").write_text(NODE)
    yield folder
    shutil.rmtree(folder)  # half a gigabyte, of which pytest would keep three


def assert_same(printed: str, expected: dict[str, np.ndarray]) -> None:
    found = json.loads(printed)
    assert sorted(found) == sorted(OUTPUTS)
    for name, wanted in expected.items():
        np.testing.assert_allclose(
            np.reshape(found[name], wanted.shape), wanted, rtol=0, atol=1e-4, err_msg=name
        )


def test_in_a_bare_python_of_onnxruntime_and_numpy(bare_python: Path, case, tmp_path: Path) -> None:
    path, pictures, expected = case
    np.save(tmp_path / "pictures.npy", pictures)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [bare_python, "-c", PYTHON, path, tmp_path / "pictures.npy"],
        capture_output=True, text=True, env=environment, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert_same(done.stdout, expected)


@pytest.mark.parametrize("package", ["onnxruntime-node", "onnxruntime-web"])
def test_in_node(node_folder: Path, case, tmp_path: Path, package: str) -> None:
    path, pictures, expected = case
    pixels = tmp_path / "pixels"
    pixels.write_bytes(pictures.tobytes())
    sides = [str(side) for side in pictures.shape[:3]]
    done = subprocess.run(
        ["node", "run.mjs", package, path, pixels, *sides],
        capture_output=True, text=True, cwd=node_folder, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert_same(done.stdout, expected)


@pytest.mark.skipif(not PAGE.is_file(), reason="the documentation is not beside the tests")
def test_the_javascript_of_the_documentation(
    node_folder: Path, model: AgeGenderPipeline, shared: Path
) -> None:
    (code,) = re.findall(r"^```javascript\n(.*?)^```", PAGE.read_text("utf-8"), re.S | re.M)
    face = sorted((shared / "data" / "utkface_mini").glob("3*_*_*_*.jpg"))[0]
    shutil.copy(face, node_folder / "face.jpg")
    (node_folder / "page.mjs").write_text(code)
    export_onnx(model, node_folder / "model.onnx", resize=True)
    done = subprocess.run(
        ["node", "page.mjs"], capture_output=True, text=True, cwd=node_folder, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    frame = model.predict_frame([face], faces=None)
    numbers = [float(word) for word in done.stdout.split()]
    # Another decoder of JPEG files gives a few other pixels.
    np.testing.assert_allclose(numbers[:3], frame[["age", "age_low", "age_high"]].iloc[0], atol=1.0)
    assert max(numbers[3:]) == pytest.approx(frame["gender_proba"][0], abs=0.02)


OPENCV = ["-lopencv_imgcodecs", "-lopencv_imgproc", "-lopencv_core"]


@pytest.mark.skipif(not PAGE.is_file(), reason="the documentation is not beside the tests")
def test_the_cpp_of_the_documentation(model: AgeGenderPipeline, shared: Path, tmp_path: Path) -> None:
    if not (shutil.which("g++") and shutil.which("pkg-config")):
        pytest.skip("g++ and pkg-config are not installed")
    asked = ["pkg-config", "--cflags", "--libs", "libonnxruntime"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False)
    if found.returncode or not Path("/usr/include/opencv4/opencv2/imgcodecs.hpp").is_file():
        pytest.skip(
            "ONNX Runtime or OpenCV for C++ is not installed (libonnxruntime-dev, libopencv-imgcodecs-dev)"
        )
    (code,) = re.findall(r"^```cpp\n(.*?)^```", PAGE.read_text("utf-8"), re.S | re.M)
    face = sorted((shared / "data" / "utkface_mini").glob("3*_*_*_*.jpg"))[0]
    shutil.copy(face, tmp_path / "face.jpg")
    (tmp_path / "face.cpp").write_text(code)
    export_onnx(model, tmp_path / "model.onnx", resize=True)
    options = [*found.stdout.split(), "-I/usr/include/opencv4", *OPENCV]
    subprocess.run(["g++", "-std=c++17", "face.cpp", "-o", "face", *options], check=True, cwd=tmp_path)
    done = subprocess.run(["./face"], capture_output=True, text=True, check=True, cwd=tmp_path)
    frame = model.predict_frame([face], faces=None)
    np.testing.assert_allclose(
        [float(word) for word in done.stdout.split()],
        frame[["age", "age_low", "age_high", "gender_proba"]].iloc[0],
        atol=0.1,
    )
