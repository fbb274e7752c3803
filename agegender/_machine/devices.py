"""Which device networks run on: decided here and nowhere else."""

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
    """Return the execution providers that ONNX Runtime is to use, the first one first.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda"}
        "auto" is CUDA where the installed ONNX Runtime has it, else the processor.

    Raises
    ------
    RuntimeError
        If CUDA is asked for and the installed ONNX Runtime lacks it.
    """
    import onnxruntime

    there = onnxruntime.get_available_providers()
    if device == "cpu" or (device == "auto" and _CUDA not in there):
        return [CPU]
    if _CUDA not in there:
        raise RuntimeError(
            f"device='cuda', but the installed ONNX Runtime has {', '.join(there)}. The package for CUDA takes the "
            "place of the other: pip uninstall onnxruntime, then pip install onnxruntime-gpu. device='auto' takes "
            "what there is."
        )
    return [_CUDA, CPU]


def tensorflow_device(device: str) -> str | None:
    """Return where TensorFlow is to run a network; None leaves it to TensorFlow, which prefers a GPU.

    Raises
    ------
    RuntimeError
        If CUDA is asked for and TensorFlow sees no GPU.
    """
    import tensorflow as tf

    if device == "cuda" and not tf.config.list_physical_devices("GPU"):
        raise RuntimeError(
            "device='cuda', but TensorFlow sees no GPU, which it would need for a network in Keras form: "
            "pip install 'tensorflow[and-cuda]', or take the .onnx form of the weights."
        )
    return {"cpu": "/CPU:0", "cuda": "/GPU:0"}.get(device)
