"""Who may use how many cores: by itself, in joblib's context, in worker processes, after a fork."""

from __future__ import annotations

import subprocess
import sys

import joblib
import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config
from sklearn.model_selection import GridSearchCV

from agegender import AgeGenderClassifier, AgeGenderPipeline, DenseHead, EmbeddingExtractor
from agegender._machine import threads
from agegender._machine.cores import count_cores
from agegender._machine.threads import resolve_threads
from agegender.backbones import Backbone
from agegender.datasets import load_utkface
from agegender.model_selection import AgeGenderKFold


@pytest.fixture(autouse=True)
def sixteen_cores(monkeypatch, request) -> None:
    """Count as on a machine of sixteen cores, with nothing said about how many to use."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if "real_cores" not in request.keywords:
        monkeypatch.setattr(threads, "count_cores", lambda: 16)


@pytest.mark.parametrize(("n_jobs", "threads"), [(None, 16), (-1, 16), (-2, 15), (-40, 1), (1, 1), (20, 20)])
def test_n_jobs_counts_as_in_scikit_learn_and_none_is_every_core(n_jobs, threads) -> None:
    assert resolve_threads(n_jobs) == threads


def test_no_threads_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="n_jobs=0"):
        resolve_threads(0)


@pytest.mark.parametrize(("told", "threads"), [("4", 4), ("4,2", 4), ("64", 16), ("0", 16), ("many", 16)])
def test_what_the_environment_allows_is_the_most(monkeypatch, told, threads) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert resolve_threads() == resolve_threads(-1) == threads
    assert resolve_threads(6) == 6


def test_joblibs_context_decides_where_n_jobs_is_none() -> None:
    with parallel_config(n_jobs=3):
        assert resolve_threads() == 3
        assert resolve_threads(5) == 5
    with parallel_config(n_jobs=-2):
        assert resolve_threads() == 15
    with parallel_config(n_jobs=500):
        assert resolve_threads() == 16


def test_calls_that_joblib_runs_beside_each_other_in_threads_take_one_each(monkeypatch) -> None:
    def ask():
        return Parallel(n_jobs=2, backend="threading")(delayed(resolve_threads)() for _ in range(2))

    assert ask() == [1, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert ask() == [4, 4]
    assert Parallel(n_jobs=1)([delayed(resolve_threads)()]) == [4]


def test_the_cores_of_a_control_group_are_counted_not_those_of_the_machine() -> None:
    script = (
        "import joblib; print(joblib.cpu_count()); "
        "from agegender._machine.threads import *; print(resolve_threads())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"LOKY_MAX_CPU_COUNT": "1", "PATH": "/usr/bin"},
    )
    assert ran.stdout.split() == ["1", "1"]


@pytest.mark.real_cores
def test_cores_are_counted_as_joblib_counts_them(monkeypatch) -> None:
    assert count_cores() == joblib.cpu_count()
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert count_cores() == joblib.cpu_count() == 1


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "max 100000"}, 64),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
        ({}, 64),
    ],
)
def test_a_control_group_limits_the_cores(files, cores, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.delenv("LOKY_MAX_CPU_COUNT", raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert count_cores(tmp_path) == cores


def test_a_process_without_joblib_has_no_context_of_it() -> None:
    script = (
        "import sys; from agegender._machine.threads import is_spread, resolve_threads\n"
        "print(resolve_threads(2), is_spread(), 'joblib' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["2", "False", "False"]


@pytest.mark.slow
@pytest.mark.real_cores
def test_workers_of_a_search_share_the_cores_among_them(tiny_onnx, drawn_faces) -> None:
    def told(model, X, y):
        """Return what the engines in this worker process were told, as if they were scores."""
        import tensorflow as tf

        from agegender import runtime
        from agegender._fitting import onnx_head

        model.predict(X)
        head = onnx_head._session(model.classifier_._onnx).get_session_options()
        networks = [network.n_threads for network in runtime._open_networks.values()]
        return {
            "network": max(networks),
            "head": head.intra_op_num_threads,
            "training": tf.config.threading.get_intra_op_parallelism_threads(),
            "training_apart": tf.config.threading.get_inter_op_parallelism_threads(),
        }

    faces = load_utkface(drawn_faces)
    model = AgeGenderPipeline(
        EmbeddingExtractor(Backbone.from_onnx(tiny_onnx)),
        AgeGenderClassifier(DenseHead(), epochs=1, random_state=0),
    )
    search = GridSearchCV(
        model,
        {"classifier__learning_rate": [1e-2, 1e-3]},
        cv=AgeGenderKFold(2),
        scoring=told,
        refit=False,
        n_jobs=2,
        error_score="raise",
    )
    with parallel_config(backend="loky"):
        search.fit(faces.data, faces.target)
    share = max(1, joblib.cpu_count() // 2)
    for engine in ("network", "head", "training", "training_apart"):
        for fold in (0, 1):
            np.testing.assert_array_equal(search.cv_results_[f"split{fold}_test_{engine}"], share)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="nothing forks there")
def test_after_a_fork_fit_is_an_error_instead_of_a_hang_and_predict_works() -> None:
    script = """
import multiprocessing
import numpy as np
from agegender import AgeGenderClassifier, DenseHead

rng = np.random.default_rng(0)
X, y = rng.normal(size=(40, 3)), np.column_stack([rng.integers(0, 90, 40), np.arange(40) % 2])
model = AgeGenderClassifier(DenseHead(), epochs=1, random_state=0).fit(X, y)

def fit(_):
    try:
        return str(AgeGenderClassifier(DenseHead(), epochs=1).fit(X, y))
    except RuntimeError as error:
        return str(error)

expected = model.predict(X)
with multiprocessing.get_context("fork").Pool(1) as pool:
    print(pool.apply_async(fit, [0]).get(timeout=60))
    print("same:", (pool.apply_async(model.predict, [X]).get(timeout=60) == expected).all())
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False
    )
    assert "forked from one that had used TensorFlow" in ran.stdout, ran.stderr[-2000:]
    assert "same: True" in ran.stdout, ran.stderr[-2000:]
