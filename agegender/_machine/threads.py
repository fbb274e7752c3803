"""How many threads decoding, networks and training use: decided here and nowhere else."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import joblib
from joblib.parallel import get_active_backend

__all__ = ["is_spread", "limit_tensorflow", "resolve_threads"]

# On this machine, threads of one process do all that processes would, and load the network once.
_THIS_MACHINE = ("SequentialBackend", "ThreadingBackend", "LokyBackend", "MultiprocessingBackend")


def resolve_threads(n_jobs: int | None = None) -> int:
    """Return the number of threads to use.

    Parameters
    ----------
    n_jobs : int or None, default=None
        A number of threads; negative counts back from the cores that this process may use (-1 is all, -2 all
        but one). None takes them all, or as many as ``joblib.parallel_config(n_jobs=…)`` allows, and one where
        joblib runs several calls in threads beside each other.

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
        raise ValueError("n_jobs=0 is no number of threads; None and -1 take every core.")
    share = _share()
    if n_jobs is None:
        backend, allowed = get_active_backend()
        if allowed is None:
            beside_others = backend.nesting_level and not _told_share()
            return 1 if beside_others else share
        return min(share, _count(allowed, share))
    return _count(n_jobs, share)


def is_spread() -> bool:
    """Return whether joblib's context sends work to other machines.

    Its own backends (loky, multiprocessing, threading) do not: on one machine the threads of one process do what
    several processes would, and the network is there once. Work that runs on a worker is not spread again.
    """
    backend, n_jobs = get_active_backend()
    kind = type(backend)
    if kind.__module__.partition(".")[0] == "joblib" and kind.__name__ in _THIS_MACHINE:
        return False
    return n_jobs != 1 and not backend.nesting_level and not _dask_tasks()


def limit_tensorflow() -> None:
    """Give TensorFlow, which would take every core of the machine, this process' share of them.

    It has one number of threads a process, fixed at its first operation: nothing is changed after that, nor
    where somebody has chosen already.
    """
    import tensorflow as tf

    threading, share = tf.config.threading, _share()
    for kind in ("intra", "inter"):
        chosen = getattr(threading, f"get_{kind}_op_parallelism_threads")()
        if not chosen and f"TF_NUM_{kind.upper()}OP_THREADS" not in os.environ:
            with suppress(RuntimeError):
                getattr(threading, f"set_{kind}_op_parallelism_threads")(share)


def _share() -> int:
    """Return the cores that this process may use, by affinity, control group and what it was told."""
    cores = int(joblib.cpu_count())
    return max(1, min(cores, _told_share() or cores // max(1, _dask_tasks())))


def _dask_tasks() -> int:
    """Return how many tasks run beside each other in this Dask worker; 0 in a process or thread that is none."""
    workers = sys.modules.get("distributed.worker")
    try:
        return int(workers.get_worker().state.nthreads) if workers is not None else 0
    except ValueError:
        return 0


def _told_share() -> int | None:
    # joblib hands its worker processes their share of the cores in this variable, and people on clusters set it.
    told = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(told) if told.isdigit() else None


def _count(n_jobs: int, share: int) -> int:
    return n_jobs if n_jobs > 0 else max(1, share + 1 + n_jobs)
