"""How many threads decoding, networks and training use: decided here and nowhere else."""

from __future__ import annotations

import os
from contextlib import suppress

import joblib
from joblib.parallel import get_active_backend

__all__ = ["limit_tensorflow", "resolve_threads"]


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
    return max(1, min(cores, _told_share() or cores))


def _told_share() -> int | None:
    # joblib hands its worker processes their share of the cores in this variable, and people on clusters set it.
    told = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(told) if told.isdigit() else None


def _count(n_jobs: int, share: int) -> int:
    return n_jobs if n_jobs > 0 else max(1, share + 1 + n_jobs)
