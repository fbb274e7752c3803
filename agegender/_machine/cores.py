"""The number of cores that this process may use, counted as joblib counts them, without importing joblib."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

__all__ = ["count_cores"]

_MOST_ON_WINDOWS = 61  # more cannot be waited for at once
_GROUP = Path("/sys/fs/cgroup")


def count_cores(group: Path = _GROUP) -> int:
    """Return the number of cores: the smallest of machine, affinity, control group and ``LOKY_MAX_CPU_COUNT``.

    Parameters
    ----------
    group : pathlib.Path
        The folder of the control group.

    Returns
    -------
    int
        At least 1.
    """
    cores = os.cpu_count() or 1
    if sys.platform == "win32":
        cores = min(cores, _MOST_ON_WINDOWS)
    allowed = int(os.environ.get("LOKY_MAX_CPU_COUNT", cores))
    return max(1, min(cores, allowed, _by_affinity(cores), _by_control_group(cores, group)))


def _by_affinity(cores: int) -> int:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, NotImplementedError):  # macOS and Windows have none
        return cores


def _by_control_group(cores: int, group: Path) -> int:
    """Return the share of processor time that a container has, in cores, rounded up."""
    parts = _words(group / "cpu.max")
    if len(parts) != 2:  # the first version of control groups
        parts = _words(group / "cpu" / "cpu.cfs_quota_us") + _words(group / "cpu" / "cpu.cfs_period_us")
    if len(parts) != 2 or parts[0] == "max":
        return cores
    quota, period = map(int, parts)
    return math.ceil(quota / period) if quota > 0 and period > 0 else cores


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
