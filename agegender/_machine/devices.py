"""The device on which networks run."""

from __future__ import annotations

__all__ = ["CPU", "DEVICES", "onnx_has_cuda", "onnx_providers", "tensorflow_device"]

DEVICES = ("auto", "cpu", "cuda")
CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"


def onnx_has_cuda() -> bool:
    """Tell whether the installed ONNX Runtime was built for CUDA."""
    import onnxruntime

    return _CUDA in onnxruntime.get_available_providers()


def onnx_providers(device: str) -> list[str]:
    """Return the execution providers for ONNX Runtime, in order of preference.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda"}
        "auto" is CUDA if the installed ONNX Runtime supports it, and the processor otherwise.

    Raises
    ------
    RuntimeError
        If CUDA is requested and the installed ONNX Runtime does not support it.
    """
    import onnxruntime

    there = onnxruntime.get_available_providers()
    if device == "cpu" or (device == "auto" and _CUDA not in there):
        return [CPU]
    if _CUDA not in there:
        raise RuntimeError(
            f"device='cuda', but the installed ONNX Runtime has {', '.join(there)}. The package for CUDA replaces "
            "it: pip uninstall onnxruntime, then pip install onnxruntime-gpu. device='auto' uses "
            "what is available."
        )
    return [_CUDA, CPU]


def tensorflow_device(device: str) -> str | None:
    """Return the device for TensorFlow; None lets TensorFlow choose, which prefers a GPU.

    Raises
    ------
    RuntimeError
        If CUDA is requested and TensorFlow finds no GPU.
    """
    import tensorflow as tf

    if device == "cuda" and not tf.config.list_physical_devices("GPU"):
        raise RuntimeError(
            "device='cuda', but TensorFlow finds no GPU, which it needs for a network in Keras form: "
            "pip install 'tensorflow[and-cuda]', or use the .onnx form of the weights."
        )
    return {"cpu": "/CPU:0", "cuda": "/GPU:0"}.get(device)
