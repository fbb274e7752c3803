"""What a fork makes unusable: threads do not come along, and whoever waits for them hangs."""

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
    """Have `clear` called in each forked child, before anything else runs in it."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=clear)


def keep_forever(something: object) -> None:
    """Never free this: a session waits, when it is freed, for threads that a fork has left behind."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(something))


def never_freed_in_children(session: Any) -> Any:
    """Return an ONNX Runtime session that a forked child may forget, but will not wait for."""
    _sessions.add(session)
    return session


def check_tensorflow() -> None:
    """Raise an error in a process forked from one that had used TensorFlow: it would hang there.

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
    # Importing TensorFlow starts no thread; its first operation does, and makes a context.
    current = getattr(context, "_context", None)
    return current is not None and bool(getattr(current, "_initialized", True))


def _note() -> None:
    global _lost
    _lost = _lost or _in_use()
    for session in list(_sessions):
        keep_forever(session)


# The first of all to be called in a child: what others clear then is not freed.
after_fork(_note)
