"""ONNX Runtime sessions; all sessions of the library are opened here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from agegender._machine.devices import CPU
from agegender._machine.fork import never_freed_in_children

__all__ = ["open_session"]


def open_session(
    model: bytes,
    *,
    n_threads: int = 0,
    providers: Sequence[str] = (CPU,),
    memory_pattern: bool = True,
    optimization: Literal["all", "basic", "none"] = "all",
    optimized_path: Path | None = None,
) -> Any:
    """Open an ONNX graph.

    Parameters
    ----------
    model : bytes
        The graph, weights included.
    n_threads : int, default=0
        Threads within an operation; if 0, ONNX Runtime chooses.
    providers : sequence of str
        Execution providers, in order of preference.
    memory_pattern : bool, default=True
        Whether memory plans are stored per batch size. Use False for inputs of many sizes, because plans are
        kept as long as the session.
    optimization : {"all", "basic", "none"}, default="all"
        How much ONNX Runtime may change the graph.
    optimized_path : path, default=None
        File for the changed graph.

    Returns
    -------
    onnxruntime.InferenceSession
        It is never freed in a forked child.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = memory_pattern
    # Spinning threads take cores from the decoding threads, which costs a third of the speed.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = {
        "all": levels.ORT_ENABLE_ALL,
        "basic": levels.ORT_ENABLE_BASIC,
        "none": levels.ORT_DISABLE_ALL,
    }[optimization]
    if optimized_path is not None:
        options.optimized_model_filepath = str(optimized_path)
    session = onnxruntime.InferenceSession(model, options, providers=list(providers))
    return never_freed_in_children(session)
