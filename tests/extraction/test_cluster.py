"""One transform on many workers: the same rows, one cache, and nothing lost with a worker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from conftest import write_tiny_onnx
from one_face import OneFace
from PIL import Image
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from unreachable import files_again, no_files

from agegender import EmbeddingExtractor
from agegender._extraction import spread as _spread
from agegender._machine.threads import is_spread
from agegender.backbones import Backbone
from agegender.cache import EmbeddingCache
from agegender.exceptions import NoFaceError

dask = pytest.importorskip("dask", reason="needs Dask: pip install 'agegender[dask]'")
distributed = pytest.importorskip("distributed", reason="needs Dask: pip install 'agegender[dask]'")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two worker processes, each of one thread, with a home of their own: no file of the driver's is in it."""
    home = tmp_path_factory.mktemp("workers")
    cluster = distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address="127.0.0.1:0",
        local_directory=home,
        env={"AGEGENDER_HOME": str(home)},
    )
    # On a busy machine a killed worker takes longer to come back than the cluster waits by default.
    patient = dask.config.set({"distributed.deploy.lost-worker-timeout": "300s"})
    with patient, cluster, distributed.Client(cluster) as client:
        yield client


def spread(extractor: EmbeddingExtractor, X: Any, **options: Any) -> np.ndarray:
    with joblib.parallel_config(backend="dask"):
        return extractor.transform(X, **options)


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows the driver writes, transaction by transaction."""
    numbers: list[int] = []
    store = EmbeddingCache.store

    def counted(self, recipe, contents, rows):
        numbers.append(len(contents))
        return store(self, recipe, contents, rows)

    monkeypatch.setattr(EmbeddingCache, "store", counted)
    return numbers


def n_passed(client: Any) -> int:
    """Return how many pictures went through networks on the workers."""
    from agegender.runtime import images_passed

    return sum(client.run(images_passed).values())


def test_rows_are_the_serial_ones_and_the_driver_keeps_them(
    client, backbone, paths, tmp_path, stored
) -> None:
    serial = EmbeddingExtractor(backbone, cache=None, batch_size=4, n_jobs=1).transform(paths)
    extractor = EmbeddingExtractor(backbone, cache=tmp_path / "cache", batch_size=4)
    before = n_passed(client)
    rows = spread(extractor, [*paths, *paths[:7]])
    np.testing.assert_array_equal(rows, np.concatenate([serial, serial[:7]]))
    assert n_passed(client) - before == len(paths)
    assert (extractor.report_.n_unique, extractor.report_.n_computed) == (len(paths), len(paths))
    assert sum(stored) == len(paths)
    assert max(stored) == 4
    again = extractor.transform(paths)
    assert extractor.report_.n_computed == 0
    np.testing.assert_array_equal(again, serial)


def test_what_the_cache_has_never_leaves_the_driver(client, backbone, paths) -> None:
    extractor = EmbeddingExtractor(backbone, batch_size=4)
    extractor.transform(paths[:40])
    before = n_passed(client)
    spread(extractor, paths)
    assert n_passed(client) - before == len(paths) - 40
    assert (extractor.report_.n_cached, extractor.report_.n_computed) == (40, len(paths) - 40)


def test_a_worker_killed_in_the_middle_loses_nothing(client, backbone, paths, tmp_path, stored) -> None:
    alive = set(client.run(os.getpid).values())
    parameters = {"batch_size": 3, "crop": 0.05, "views": 2}
    serial = EmbeddingExtractor(backbone, faces=OneFace(), cache=None, n_jobs=1, **parameters).transform(
        paths
    )
    deadly = OneFace(tmp_path / "killed")
    extractor = EmbeddingExtractor(backbone, faces=deadly, cache=tmp_path / "cache", **parameters)
    rows = spread(extractor, paths)
    assert deadly.deadly.exists()
    np.testing.assert_array_equal(rows, serial)
    client.wait_for_workers(2, timeout=300)
    assert len(alive & set(client.run(os.getpid).values())) == 1
    assert extractor.report_.n_computed == len(paths)
    # A face and two views of each.
    assert sum(stored) == 3 * len(paths)
    again = EmbeddingExtractor(backbone, faces=OneFace(), cache=tmp_path / "cache", **parameters)
    np.testing.assert_array_equal(again.transform(paths), serial)
    assert again.report_.n_computed == 0


def test_faces_found_earlier_are_not_looked_for_again(client, backbone, paths, tmp_path) -> None:
    parameters = {"cache": tmp_path / "cache", "batch_size": 4}
    spread(EmbeddingExtractor(backbone, faces=OneFace(), **parameters), paths)
    # Whoever looked now would be killed.
    deadly = OneFace(tmp_path / "killed")
    spread(EmbeddingExtractor(backbone, faces=deadly, crop=0.1, **parameters), paths)
    assert not deadly.deadly.exists()


def test_the_network_is_brought_to_a_machine_that_lacks_it(client, paths, tmp_path, monkeypatch) -> None:
    file = write_tiny_onnx(tmp_path / "network.onnx", seed=1)
    # As it is in a model that was saved elsewhere: its file is inside, and on no disk.
    backbone = replace(Backbone.from_onnx(file).with_content(), path=None)
    serial = EmbeddingExtractor(backbone, cache=None, batch_size=2, n_jobs=1).transform(paths)
    n_sent: list[int] = []
    network_files = _spread.Spread._network_files
    monkeypatch.setattr(
        _spread.Spread, "_network_files", lambda self: n_sent.append(1) or network_files(self)
    )
    extractor = EmbeddingExtractor(backbone, cache=None, batch_size=2)
    np.testing.assert_array_equal(spread(extractor, paths), serial)
    # Of thirty chunks, the first of each worker at most came back for it.
    assert 1 <= len(n_sent) <= 2
    n_sent.clear()
    np.testing.assert_array_equal(spread(extractor, paths), serial)
    assert not n_sent


def test_pictures_that_workers_cannot_reach_are_sent(client, backbone, paths, tmp_path) -> None:
    serial = EmbeddingExtractor(backbone, cache=None, batch_size=4, n_jobs=1).transform(paths)
    client.run(no_files)
    try:
        rows = spread(EmbeddingExtractor(backbone, cache=None, batch_size=4), paths)
    finally:
        client.run(files_again)
    np.testing.assert_array_equal(rows, serial)
    mixed = [Path(paths[0]).read_bytes(), np.asarray(Image.open(paths[1])), Path(paths[2]), *paths[3:20]]
    rows = spread(EmbeddingExtractor(backbone, cache=None, batch_size=4), mixed)
    np.testing.assert_array_equal(rows, serial[:20])


def test_bad_pictures_are_the_errors_and_reports_of_one_machine(client, backbone, paths, tmp_path) -> None:
    cut, black = tmp_path / "cut.jpg", tmp_path / "black.png"
    cut.write_bytes(Path(paths[0]).read_bytes()[:-200])
    Image.new("RGB", (32, 32)).save(black)
    X = [*paths[:9], black, *paths[9:12], cut, *paths[12:20]]
    parameters = {"faces": OneFace(), "cache": None, "batch_size": 2}
    serial = EmbeddingExtractor(backbone, on_error="nan", n_jobs=1, **parameters)
    extractor = EmbeddingExtractor(backbone, on_error="nan", **parameters)
    np.testing.assert_array_equal(spread(extractor, X), serial.transform(X))
    assert extractor.report_.failures == serial.report_.failures
    assert [failure.index for failure in extractor.report_.failures] == [9, 13]
    with pytest.raises(NoFaceError) as here:
        EmbeddingExtractor(backbone, **parameters).transform(X)
    with pytest.raises(NoFaceError) as there:
        spread(EmbeddingExtractor(backbone, **parameters), X)
    assert str(there.value) == str(here.value)


def test_ctrl_c_keeps_what_has_come_back(client, backbone, paths, monkeypatch) -> None:
    store, calls = EmbeddingCache.store, []

    def stop_at_the_third(self, recipe, contents, rows):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return store(self, recipe, contents, rows)

    extractor = EmbeddingExtractor(backbone, batch_size=2)
    monkeypatch.setattr(EmbeddingCache, "store", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt) as stop:
        spread(extractor, paths)
    assert "4 pictures were computed and are cached" in stop.value.__notes__[0]
    monkeypatch.setattr(EmbeddingCache, "store", store)
    spread(extractor, paths)
    assert (extractor.report_.n_cached, extractor.report_.n_computed) == (4, len(paths) - 4)


def test_few_chunks_are_on_their_way_at_once(client, backbone, paths, monkeypatch) -> None:
    windows: list[int] = []
    answers = _spread._Workers.answers

    def noted(self, calls):
        windows.append(len(calls))
        return answers(self, calls)

    monkeypatch.setattr(_spread._Workers, "answers", noted)
    monkeypatch.setattr(_spread, "_CHUNKS_A_WORKER", 5)
    spread(EmbeddingExtractor(backbone, cache=None, batch_size=2), paths)
    assert windows == [2, 10, 10, 8]
    windows.clear()
    monkeypatch.setattr(_spread, "_WINDOW_BYTES", 2 * 3 * 4 * 12)
    spread(EmbeddingExtractor(backbone, cache=None, batch_size=2), paths)
    assert windows == [2, *[3] * 9, 1]


def test_a_search_runs_on_the_workers_and_does_not_spread_again(client, backbone, paths, tmp_path) -> None:
    model = make_pipeline(EmbeddingExtractor(backbone, cache=tmp_path / "cache", batch_size=4), Ridge())
    ages = [int(Path(path).name.split("_")[0]) for path in paths]
    search = GridSearchCV(model, {"ridge__alpha": [0.1, 10.0]}, cv=2, error_score="raise")
    before = n_passed(client)
    with joblib.parallel_config(backend="dask"):
        assert is_spread()
        assert joblib.Parallel()([joblib.delayed(is_spread)()]) == [False]
        search.fit(paths, ages)
    assert n_passed(client) - before >= len(paths)
    here = GridSearchCV(model, {"ridge__alpha": [0.1, 10.0]}, cv=2).fit(paths, ages)
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"], here.cv_results_["mean_test_score"], rtol=1e-6
    )


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_on_one_machine_threads_of_this_process_do_the_work(backbone, paths, backend, monkeypatch) -> None:
    from agegender.runtime import images_passed

    before = images_passed()
    with joblib.parallel_config(backend=backend, n_jobs=2):
        EmbeddingExtractor(backbone, cache=None, batch_size=4).transform(paths)
    assert images_passed() - before == len(paths)


RAY = """
import sys
import joblib, numpy as np, ray
from ray.util.joblib import register_ray
from agegender import EmbeddingExtractor
from agegender.backbones import Backbone
from agegender.runtime import images_passed
import one_face

network, killed, *paths = sys.argv[1:]
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
register_ray()
options = dict(batch_size=4, cache=None)
backbone = Backbone.from_onnx(network)
serial = EmbeddingExtractor(backbone, n_jobs=1, faces=one_face.OneFace(), **options).transform(paths)
before = images_passed()
deadly = one_face.OneFace(one_face.Path(killed))
with joblib.parallel_config(backend="ray"):
    rows = EmbeddingExtractor(backbone, faces=deadly, **options).transform(paths)
print("same:", np.array_equal(rows, serial), "here:", images_passed() - before, "killed:", deadly.deadly.exists())
"""


def test_ray_gives_the_same_rows_when_a_worker_is_killed(tiny_onnx, paths, tmp_path) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'agegender[ray]'")
    root = Path(__file__).parents[2]
    places = os.pathsep.join([str(root), str(root / "tests" / "support")])
    ran = subprocess.run(
        [sys.executable, "-c", RAY, tiny_onnx, tmp_path / "killed", *paths],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": places},
    )
    assert "same: True here: 0 killed: True" in ran.stdout, ran.stderr[-3000:]
