"""What a bug report is asked for: versions, engines, devices, detectors, networks, the cache and the settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import agegender
from agegender import EmbeddingExtractor, versions
from agegender.cli import app


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask one engine alone, the one that starts at once."""
    monkeypatch.setattr(versions, "_ENGINES", {"OpenCV": versions._ENGINES["OpenCV"]})


def test_every_section_says_what_is_there(quick, own_home: Path, tiny_onnx: Path) -> None:
    EmbeddingExtractor(tiny_onnx).transform(np.zeros((2, 24, 24, 3), np.uint8))
    found = versions.installation()
    assert list(found) == [
        *("System", "Packages", "Engines", "Devices", "Detectors", "Networks", "Cache", "Settings")
    ]
    assert found["System"]["agegender"] == agegender.__version__
    assert found["Packages"]["scikit-learn"] == metadata.version("scikit-learn")
    assert "pytest" not in found["Packages"]
    assert "with YuNet" in found["Engines"]["OpenCV"]
    assert found["Detectors"]["yunet"] == "not on this machine"
    assert found["Networks"]["arcface"] == "not on this machine"
    assert "sha256" in found["Networks"]["compact"]
    assert found["Cache"]["content"].startswith("1 rows")  # two equal pictures are one row
    assert found["Settings"]["AGEGENDER_HOME"] == str(own_home / "agegender")


def test_nothing_is_written(quick, own_home: Path) -> None:
    versions.installation()
    assert list(own_home.rglob("*")) == []


def test_an_engine_that_ends_its_process_is_named_and_the_rest_is_still_told(monkeypatch) -> None:
    scripts = {"raises": "raise ImportError('no libcudart.so.12')", "dies": "import os; os.abort()"}
    monkeypatch.setattr(versions, "_ENGINES", scripts)
    engines = versions.installation()["Engines"]
    assert engines["raises"] == "does not work: ImportError: no libcudart.so.12"
    assert engines["dies"].startswith("does not work: the process ended with -")


def test_neither_names_of_home_folders_nor_passwords_are_printed(
    quick, monkeypatch, tmp_path, capsys
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("AGEGENDER_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("AGEGENDER_MIRROR", "https://anna:secret@mirror.example/weights")
    agegender.show_versions()
    printed = capsys.readouterr().out
    assert str(tmp_path) not in printed
    assert os.path.join("~", "cache", "embeddings.sqlite") in printed
    assert "secret" not in printed
    assert "https://***@mirror.example/weights" in printed


def test_the_command_prints_text_and_json(quick) -> None:
    text = CliRunner().invoke(app, ["versions"]).stdout
    assert f"agegender   {agegender.__version__}" in text
    printed = json.loads(CliRunner().invoke(app, ["versions", "--json"]).stdout)
    assert printed["Packages"]["numpy"] == np.__version__


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "agegender", "versions", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "python -m agegender versions" in done.stdout
