"""ONNX Runtime sessions: every one that this library opens is opened here."""

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
        Threads within an operation; 0 is what ONNX Runtime chooses.
    providers : sequence of str
        Execution providers, the first one first.
    memory_pattern : bool, default=True
        Whether a plan of the memory is kept for each batch size. Inputs of many sizes should not: plans are kept
        as long as the session.
    optimization : {"all", "basic", "none"}, default="all"
        How much ONNX Runtime may change the graph.
    optimized_path : path, default=None
        Where the changed graph is written to.

    Returns
    -------
    onnxruntime.InferenceSession
        A forked child may forget it, but will not wait for it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = memory_pattern
    # Waiting threads that spin take the cores from those that decode: a third of the speed, measured.
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
