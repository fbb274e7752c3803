"""What a user without root's powers meets, for tests that run as root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def not_root() -> Iterator[None]:
    """Give up root's power to read and write everything, for a while; change nothing for anybody else."""
    if not hasattr(os, "getuid"):
        pytest.skip("needs POSIX permissions")
    if os.getuid() != 0:
        yield
        return
    if not hasattr(os, "setresuid"):
        pytest.skip("runs as root, and the system has no setresuid to come back by")
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
