"""The number of threads for decoding, networks and training."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any

from agegender._machine.cores import count_cores

__all__ = ["is_spread", "limit_tensorflow", "resolve_threads"]

# On one machine, threads are as fast as processes, and the network is loaded only once.
_THIS_MACHINE = ("SequentialBackend", "ThreadingBackend", "LokyBackend", "MultiprocessingBackend")


def resolve_threads(n_jobs: int | None = None) -> int:
    """Return the number of threads to use.

    Parameters
    ----------
    n_jobs : int or None, default=None
        Number of threads. Negative numbers count back from the cores of this process (-1 is all cores, -2 all
        but one). If None, all cores, or as many as ``joblib.parallel_config(n_jobs=…)`` allows, or one if
        joblib runs several calls in threads.

    Returns
    -------
    int
        At least 1.

    Raises
    ------
    ValueError
        If `n_jobs` is 0.
    """
    if n_jobs == 0:
        raise ValueError("n_jobs=0 is not a number of threads; None and -1 use all cores.")
    share = _share()
    if n_jobs is None:
        backend, allowed = _active_backend()
        if allowed is None:
            beside_others = backend is not None and backend.nesting_level and not _told_share()
            return 1 if beside_others else share
        return min(share, _count(allowed, share))
    return _count(n_jobs, share)


def is_spread() -> bool:
    """Return whether joblib's active backend sends work to other machines.

    The backends that come with joblib (loky, multiprocessing, threading) do not, because on one machine
    threads are as fast as processes, and the network is loaded only once. Within a worker, work is not
    distributed again.
    """
    backend, n_jobs = _active_backend()
    kind = type(backend)
    if backend is None:
        return False
    if kind.__module__.partition(".")[0] == "joblib" and kind.__name__ in _THIS_MACHINE:
        return False
    return n_jobs != 1 and not backend.nesting_level and not _dask_tasks()


def limit_tensorflow() -> None:
    """Limit TensorFlow, which would use all cores of the machine, to this process' share.

    TensorFlow's number of threads is fixed at its first operation. It is not changed after that, nor if the
    user has set it.
    """
    import tensorflow as tf

    threading, share = tf.config.threading, _share()
    for kind in ("intra", "inter"):
        chosen = getattr(threading, f"get_{kind}_op_parallelism_threads")()
        if not chosen and f"TF_NUM_{kind.upper()}OP_THREADS" not in os.environ:
            with suppress(RuntimeError):
                getattr(threading, f"set_{kind}_op_parallelism_threads")(share)


def _active_backend() -> tuple[Any, int | None]:
    """Return joblib's active backend and its n_jobs; two times None in a process that has not imported joblib."""
    if "joblib" not in sys.modules:
        return None, None
    from joblib.parallel import get_active_backend

    backend, n_jobs = get_active_backend()
    return backend, n_jobs


def _share() -> int:
    """Return the number of cores for this process, by affinity, control group, OMP_NUM_THREADS and Dask."""
    cores = count_cores()
    return max(1, min(cores, _told_share() or cores // max(1, _dask_tasks())))


def _dask_tasks() -> int:
    """Return the number of parallel tasks of this Dask worker; 0 outside of a Dask worker."""
    workers = sys.modules.get("distributed.worker")
    try:
        return int(workers.get_worker().state.nthreads) if workers is not None else 0
    except ValueError:
        return 0


def _told_share() -> int | None:
    # joblib sets this variable to the share of its worker processes; users of clusters set it too.
    told = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(told) if told.isdigit() else None


def _count(n_jobs: int, share: int) -> int:
    return n_jobs if n_jobs > 0 else max(1, share + 1 + n_jobs)
