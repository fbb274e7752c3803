"""Real photographs and real weights, which are not part of the repository; CONTRIBUTING.md says how to get them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VARIABLE = "AGEGENDER_TEST_DATA"
BESIDE_THE_CHECKOUT = Path(__file__).resolve().parents[3] / "shared"


class Material:
    """The folder of test material: ``material / "weights/network.onnx"`` skips the test if that file is missing."""

    def __init__(self) -> None:
        named = os.environ.get(VARIABLE)
        self.folder = Path(named).expanduser() if named else BESIDE_THE_CHECKOUT
        if named and not self.folder.is_dir():
            raise FileNotFoundError(
                f"{VARIABLE}={named!r} is not a folder; CONTRIBUTING.md says what belongs in it."
            )

    def __truediv__(self, name: str) -> Path:
        path = self.folder / name
        if not path.exists():
            pytest.skip(f"needs {name}, which is not in the repository; set {VARIABLE} (CONTRIBUTING.md)")
        return path
