"""One server for the tests that leave it as it is, and portraits to send it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
pytest.importorskip("httptools", reason="the extra `serve` is not installed")

from serving import Served, serve

from agegender import load_pretrained
from agegender.datasets import make_faces


@pytest.fixture(scope="session")
def model() -> Any:
    return load_pretrained("compact")


@pytest.fixture(scope="session")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Two drawn faces that MTCNN finds."""
    drawn = make_faces(4, tmp_path_factory.mktemp("portraits"), size=400)
    return [Path(drawn.data[index]).read_bytes() for index in (0, 3)]


@pytest.fixture(scope="module")
def served(model: Any) -> Iterator[Served]:
    with serve(model) as running:
        yield running
