"""Exact conversion of plain values to JSON and back: numbers, text, lists, tuples, dicts, arrays, paths."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender.exceptions import ModelFileError

__all__ = ["Members", "Values"]

_ARRAY_KINDS = "biufU"


class Members:
    """Binary members next to the JSON, in the order in which they were added, without duplicates."""

    def __init__(self, contents: Mapping[str, bytes] | None = None) -> None:
        self.contents = dict(contents or {})
        self.taken: set[str] = set()

    def put(self, stem: str, suffix: str, content: bytes) -> str:
        """Store bytes and return their name."""
        for name, kept in self.contents.items():
            if kept == content and name.endswith(suffix):
                return name
        name = f"{stem}-{len(self.contents)}{suffix}"
        self.contents[name] = content
        return name

    def take(self, name: Any, suffixes: tuple[str, ...]) -> bytes:
        """Return the bytes stored under a name that ends in one of the suffixes."""
        if not isinstance(name, str) or name not in self.contents or not name.endswith(suffixes):
            raise ModelFileError(f"there is no member {str(name)[:80]!r} of the kind {' or '.join(suffixes)}")
        self.taken.add(name)
        return self.contents[name]


class Values:
    """Converts values to JSON and back; subclasses add objects.

    Parameters
    ----------
    members : Members
        The members in which arrays are stored.
    """

    def __init__(self, members: Members) -> None:
        self.members = members

    def encode(self, value: Any) -> Any:
        """Return a value as JSON.

        Raises
        ------
        TypeError
            If it is not a plain value.
        """
        if isinstance(value, np.ndarray | np.generic):
            return self._encode_array(
                np.asarray(value), "scalar" if isinstance(value, np.generic) else "array"
            )
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, list):
            return [self.encode(item) for item in value]
        if isinstance(value, tuple):
            return {"tuple": [self.encode(item) for item in value]}
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return {"dict": {key: self.encode(item) for key, item in value.items()}}
        if isinstance(value, PurePath):
            return {"path": str(value)}
        if isinstance(value, np.random.RandomState):
            return {"random_state": self.encode(value.get_state(legacy=True))}
        raise TypeError(type(value).__name__)

    def decode(self, entry: Any) -> Any:
        """Return the value that was passed to `encode`.

        Raises
        ------
        ModelFileError
            If `entry` is not in the form that `encode` returns.
        """
        if entry is None or isinstance(entry, bool | int | float | str):
            return entry
        if isinstance(entry, list):
            return [self.decode(item) for item in entry]
        if isinstance(entry, dict) and len(entry) == 1:
            ((kind, value),) = entry.items()
            if kind in _DECODERS:
                return _DECODERS[kind](self, value)
        raise ModelFileError(f"{str(entry)[:80]} is no value that such a file has")

    def _encode_array(self, array: NDArray[Any], kind: str) -> Any:
        if array.dtype == object and all(isinstance(item, str) for item in array.ravel()):
            return {"texts": array.tolist()}
        if array.dtype.kind not in _ARRAY_KINDS:
            raise TypeError(f"an array of {array.dtype}")
        content = io.BytesIO()
        np.lib.format.write_array(content, array, allow_pickle=False)
        return {kind: self.members.put("array", ".npy", content.getvalue())}

    def _float(self, value: Any) -> float:
        if value not in ("nan", "inf", "-inf"):
            raise ModelFileError(f"{str(value)[:80]} is no number")
        return float(value)

    def _tuple(self, value: Any) -> tuple[Any, ...]:
        return tuple(self.decode(item) for item in _expect(list, value))

    def _dict(self, value: Any) -> dict[str, Any]:
        return {key: self.decode(item) for key, item in _expect(dict, value).items()}

    def _path(self, value: Any) -> Path:
        return Path(_expect(str, value))

    def _texts(self, value: Any) -> NDArray[Any]:
        if not all(isinstance(item, str) for item in _expect(list, value)):
            raise ModelFileError("an array of texts holds something else")
        return np.array(value, dtype=object)

    def _random_state(self, value: Any) -> Any:
        state = np.random.RandomState()
        state.set_state(self.decode(value))
        return state

    def _scalar(self, value: Any) -> Any:
        return self._array(value)[()]

    def _array(self, value: Any) -> NDArray[Any]:
        """Read an ``.npy`` member: first its header, then the numbers if all of them are present."""
        content = io.BytesIO(self.members.take(value, (".npy",)))
        version = np.lib.format.read_magic(content)
        if version != (1, 0):
            raise ModelFileError(f"{value} is an array in version {version} of NumPy's format")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(content)
        size = len(content.getbuffer()) - content.tell()
        if dtype.hasobject or dtype.kind not in _ARRAY_KINDS:
            raise ModelFileError(f"{value} holds {dtype}, not numbers or text")
        if math.prod(shape) * dtype.itemsize != size or any(side < 0 for side in shape):
            raise ModelFileError(f"{value} says that it has the shape {shape}, but holds {size:,} bytes")
        numbers = np.frombuffer(content.getvalue(), dtype, offset=content.tell())
        return numbers.reshape(shape, order="F" if fortran else "C").copy()


def _expect(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise ModelFileError(f"{str(value)[:80]} is no {kind.__name__}")
    return value


_DECODERS: dict[str, Callable[[Values, Any], Any]] = {
    "float": Values._float,
    "tuple": Values._tuple,
    "dict": Values._dict,
    "path": Values._path,
    "texts": Values._texts,
    "random_state": Values._random_state,
    "scalar": Values._scalar,
    "array": Values._array,
}
