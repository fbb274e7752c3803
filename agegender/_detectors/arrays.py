"""Reading arrays that joblib wrote with LZ4, without importing joblib, which takes longer than finding a face."""

from __future__ import annotations

import io
import pickle
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_arrays"]


def read_arrays(content: bytes) -> list[NDArray[np.float32]]:
    """Return the arrays in a file of ``joblib.dump(arrays, "….lz4")``.

    Raises
    ------
    pickle.UnpicklingError
        If it holds anything but arrays.
    """
    import lz4.frame

    arrays: list[NDArray[np.float32]] = _Reader(io.BytesIO(lz4.frame.decompress(content))).load()
    return arrays


class _Wrapper:
    """What joblib pickles in place of an array; its bytes follow in the stream."""

    shape: tuple[int, ...]
    order: Any
    dtype: np.dtype[Any]

    def read(self, file: Any) -> NDArray[Any]:
        """Read the bytes, which are aligned by a number of others."""
        file.read(file.read(1)[0])
        size = int(np.prod(self.shape)) * self.dtype.itemsize
        return np.frombuffer(file.read(size), self.dtype).reshape(self.shape, order=self.order).copy()


_ALLOWED: dict[tuple[str, str], Any] = {
    ("joblib.numpy_pickle", "NumpyArrayWrapper"): _Wrapper,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _Reader(pickle._Unpickler):  # the one in C cannot be told where an array begins
    """An unpickler of lists of arrays, and of nothing else."""

    dispatch: ClassVar[Any] = pickle._Unpickler.dispatch.copy()

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._file = file

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the three classes that such a file needs."""
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it contains {module}.{name}, not only arrays")
        return _ALLOWED[module, name]

    def load_build(self) -> None:
        """Replace a wrapper that is complete by its array."""
        pickle._Unpickler.load_build(self)  # type: ignore[attr-defined]
        if isinstance(self.stack[-1], _Wrapper):  # type: ignore[attr-defined]
            self.append(self.stack.pop().read(self._file))  # type: ignore[attr-defined]

    dispatch[pickle.BUILD[0]] = load_build
