"""Safety after a fork: the child has no copies of threads, and waiting for them hangs."""

from __future__ import annotations

import ctypes
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any

__all__ = ["after_fork", "check_tensorflow", "keep_forever", "never_freed_in_children"]

_lost = False
_sessions: weakref.WeakSet[Any] = weakref.WeakSet()


def after_fork(clear: Callable[[], None]) -> None:
    """Call `clear` in each forked child before anything else."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=clear)


def keep_forever(something: object) -> None:
    """Never free an object, because freeing a session waits for threads that do not exist after a fork."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(something))


def never_freed_in_children(session: Any) -> Any:
    """Return an ONNX Runtime session that is never freed in a forked child, because it would hang."""
    _sessions.add(session)
    return session


def check_tensorflow() -> None:
    """Raise an error if this process was forked from one that had used TensorFlow, because it would hang.

    Raises
    ------
    RuntimeError
    """
    if _lost:
        raise RuntimeError(
            "This process was forked from one that had used TensorFlow, which hangs after a fork. Start processes "
            'with joblib\'s "loky" or with multiprocessing.get_context("spawn"), or use the network in ONNX form.'
        )


def _in_use() -> bool:
    context = sys.modules.get("tensorflow.python.eager.context")
    if context is None:
        return False
    # Importing TensorFlow starts no threads; its first operation does, and creates a context.
    current = getattr(context, "_context", None)
    return current is not None and bool(getattr(current, "_initialized", True))


def _note() -> None:
    global _lost
    _lost = _lost or _in_use()
    for session in list(_sessions):
        keep_forever(session)


# Registered first, so that objects that later handlers clear are not freed.
after_fork(_note)
