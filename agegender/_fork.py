"""What a fork makes unusable: TensorFlow's threads do not come along, and whoever waits for them hangs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

__all__ = ["after_fork", "check_tensorflow"]

_lost = False


def after_fork(clear: Callable[[], None]) -> None:
    """Have `clear` called in each forked child, before anything else runs in it."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=clear)


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


after_fork(_note)
