"""How many threads decoding and the networks use: decided here and nowhere else."""

from __future__ import annotations

import os

import joblib

__all__ = ["resolve_threads"]


def resolve_threads(n_jobs: int | None = None) -> int:
    """Return the number of threads to use.

    Parameters
    ----------
    n_jobs : int or None, default=None
        As in scikit-learn (-1 is every core). None takes every core that this process may use: the
        cgroup's and the affinity mask's, and in a joblib worker the share that joblib gives it.

    Returns
    -------
    int
        At least 1.
    """
    if n_jobs is not None:
        return max(1, int(joblib.effective_n_jobs(n_jobs)))
    share = os.environ.get("OMP_NUM_THREADS", "")
    cores = int(joblib.cpu_count())
    # joblib hands a worker its share of the cores through this variable, and people on clusters set it.
    return max(1, min(cores, int(share))) if share.isdigit() else cores
