"""Pictures from stores: the rows of the same files, each fetched once, many at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from faulty_server import FaultyServer, faulty_server

from agegender import EmbeddingExtractor
from agegender._extraction import arrivals
from agegender._utils import stores
from agegender.backbones import Backbone
from agegender.exceptions import PictureError
from agegender.runtime import images_passed


@pytest.fixture
def server(drawn_faces: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    monkeypatch.setattr(stores, "FIRST_WAIT", 0.001)
    with faulty_server() as running:
        running.files = {path.name: path.read_bytes() for path in drawn_faces.iterdir()}
        yield running


def test_rows_are_those_of_the_files_and_each_is_fetched_once(server, backbone, paths, tmp_path) -> None:
    urls = [server.url(f"{Path(path).name}?signature=5ecre7") for path in paths]
    first = EmbeddingExtractor(backbone, cache=tmp_path / "files")
    rows = first.transform(paths)
    server.faults[Path(paths[7]).name] = (2, "503")
    server.latency = 0.02
    np.testing.assert_array_equal(EmbeddingExtractor(backbone, cache=None).transform(urls), rows)
    assert {server.requests[Path(path).name] for path in paths} == {1, 3}
    assert 2 < server.most_at_once <= stores.READS
    before = images_passed()
    np.testing.assert_array_equal(first.transform(urls), rows)  # known by content, wherever it comes from
    assert images_passed() == before
    assert b"5ecre7" not in b"".join(path.read_bytes() for path in (tmp_path / "files").iterdir())


def test_what_does_not_fit_on_the_disk_is_fetched_again(server, backbone, paths, monkeypatch) -> None:
    monkeypatch.setattr(arrivals, "_MOST_BYTES", 5000)
    urls = [server.url(Path(path).name) for path in paths]
    extractor = EmbeddingExtractor(backbone, cache=None)
    np.testing.assert_array_equal(extractor.transform(urls), extractor.transform(paths))
    counts = list(server.requests.values())
    assert counts.count(1) >= 3
    assert counts.count(2) >= 50


def test_a_picture_that_does_not_come_is_a_failure_at_its_place(server, backbone, paths) -> None:
    urls = [server.url(f"{Path(path).name}?signature=5ecre7") for path in paths[:5]]
    server.faults[Path(paths[2]).name] = (10**6, "500")
    extractor = EmbeddingExtractor(backbone, cache=None, on_error="nan")
    rows = extractor.transform(urls)
    assert np.isnan(rows).any(axis=1).tolist() == [False, False, True, False, False]
    (failure,) = extractor.report_.failures
    assert failure.index == 2
    assert "after 6 tries" in failure.reason
    assert "5ecre7" not in repr(failure)
    with pytest.raises(PictureError, match="after 6 tries"):
        extractor.set_params(on_error="raise").transform(urls)


def test_a_spread_call_sends_urls_as_they_are(server, paths, tiny_onnx) -> None:
    import joblib

    urls = [server.url(Path(path).name) for path in paths]
    extractor = EmbeddingExtractor(Backbone.from_onnx(tiny_onnx), cache=None, batch_size=8)
    rows = extractor.transform(paths)
    with joblib.parallel_config(backend="threading", n_jobs=2):
        np.testing.assert_array_equal(extractor.transform(urls), rows)
