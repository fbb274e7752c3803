"""What an import costs, and what an installation must be."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import agegender
from agegender._machine import installation
from agegender.exceptions import EnvironmentWarning

CITATION = Path(__file__).parents[2] / "CITATION.cff"
HEAVY = {
    "tensorflow",
    "keras",
    "matplotlib",
    "deepface",
    "cv2",
    "onnxruntime",
    "onnx",
    "pandas",
    "scipy",
    "sklearn",
}


def modules_after(statement: str) -> set[str]:
    script = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    return set(
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout.split()
    )


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert not modules_after("import agegender") & HEAVY


def test_the_estimators_are_there_without_tensorflow() -> None:
    statement = "from agegender import AgeGenderPipeline, AgeGenderClassifier, EmbeddingExtractor, ConvHead"
    assert not modules_after(statement) & {"tensorflow", "keras", "matplotlib", "deepface"}


def test_every_public_name_can_be_had() -> None:
    for name in agegender.__all__:
        assert getattr(agegender, name) is not None
    assert set(agegender.__all__) <= set(dir(agegender))
    with pytest.raises(AttributeError, match="Pipelin"):
        _ = agegender.AgeGenderPipelin


def test_the_version_is_that_of_the_distribution() -> None:
    assert agegender.__version__ == metadata.version("agegender")


@pytest.mark.skipif(not CITATION.is_file(), reason="CITATION.cff is not beside the tests")
def test_the_citation_names_this_release_or_the_last_one() -> None:
    cited = re.search(r"^version: (\d+)\.(\d+)\.(\d+)$", CITATION.read_text("utf-8"), re.M)
    release, _, development = agegender.__version__.partition(".dev")
    this = tuple(map(int, release.split(".")))
    assert cited
    assert (
        (tuple(map(int, cited.groups())) < this) if development else (tuple(map(int, cited.groups())) == this)
    )


def test_one_opencv_wheel_is_installed_and_works() -> None:
    import cv2

    assert installation.opencv_wheels() == ["opencv-contrib-python-headless"]
    assert cv2.resize is not None


def test_two_opencv_wheels_earn_a_warning_with_the_commands_that_mend_it(monkeypatch) -> None:
    monkeypatch.setattr(installation.metadata, "version", lambda name: "5.0")
    installation.check_opencv.cache_clear()
    with pytest.warns(
        EnvironmentWarning, match="pip uninstall -y opencv-contrib-python-headless opencv-contrib"
    ):
        installation.check_opencv()
    installation.check_opencv.cache_clear()


def test_deepfaces_model_modules_import_without_their_undeclared_needs() -> None:
    from deepface.models.facial_recognition.tf import ArcFace

    assert ArcFace.WEIGHTS_URL


def test_contributing_tells_the_layers_that_are_checked() -> None:
    root = Path(__file__).parents[2]
    (layers,) = [
        contract["layers"]
        for contract in tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"][
            "contracts"
        ]
        if contract["type"] == "layers"
    ]
    assert "\n".join(["```", *layers, "```"]) in (root / "CONTRIBUTING.md").read_text(encoding="utf-8")
