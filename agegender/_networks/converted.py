"""ONNX forms of Keras networks: made once, stored by sha256 of weights; prediction needs no TensorFlow."""

from __future__ import annotations

import json
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agegender._machine.fork import after_fork
from agegender._networks.layers import Layers
from agegender._utils.files import write_whole
from agegender._utils.validation import home
from agegender.exceptions import WeightsError, WeightsWarning

if TYPE_CHECKING:
    from agegender._networks.graph import OnnxGraph
    from agegender._networks.keras import KerasGraph

__all__ = ["Converted", "kept_conversion", "make_conversion", "place_of"]

_LARGEST = 10.0  # memory of a conversion, in sizes of the weights file; measured: 6 to 8
_LONGEST = 3600.0  # seconds; every conversion is faster
_told: set[Path] = set()
_converting = threading.Lock()


@dataclass(frozen=True)
class Converted:
    """A Keras network in ONNX form.

    Attributes
    ----------
    graph : OnnxGraph
        The graph that is run.
    layers : Layers
        Its available layers, by the names of its Keras layers.
    tensors : dict of str to str
        The tensors of the layers in the ONNX form: those that every network has, and those where branches
        join.
    """

    graph: OnnxGraph
    layers: Layers
    tensors: dict[str, str]


def place_of(sha256: str, name: str) -> Path:
    """Return the path of a network's ONNX form; it contains the name, since HDF5 files hold weights only."""
    return home() / "networks" / "converted" / f"{sha256}-{name.replace('/', '-')}.onnx"


def kept_conversion(sha256: str, name: str, input_size: tuple[int, int]) -> Converted | None:
    """Return the ONNX form that was made and checked earlier, or None."""
    path = place_of(sha256, name)
    if not path.is_file():
        return None
    return _read(path.read_bytes(), path, input_size)


def make_conversion(sha256: str, name: str, graph: KerasGraph, size: int) -> Converted | None:
    """Convert a network and store the result; on failure or other numbers, warn once and return None.

    It returns None without a warning while another process converts the same network.

    Parameters
    ----------
    sha256, name : str
        The sha256 and the name of the network.
    graph : KerasGraph
    size : int
        The size of its weights file, in bytes.
    """
    path = place_of(sha256, name)
    with _converting:
        if (earlier := _earlier_failure(path)) is not None:
            _fall_back(path, name, earlier)
            return None
        try:
            with _alone(path) as alone:
                return _made(path, graph, size) if alone else None
        except Exception as error:  # tf2onnx raises many kinds of errors
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            _note_failure(path, reason)
            _fall_back(path, name, reason)
            return None


def _made(path: Path, graph: KerasGraph, size: int) -> Converted:
    content = _convert(graph, size)
    found = _read(content, path, graph.input_size)
    if found is None:
        raise WeightsError("the ONNX form cannot be read back")
    write_whole(path, lambda arriving: arriving.write_bytes(content))
    return found


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Return whether no other process is converting this network; in the meantime, Keras runs it."""
    mark = path.with_suffix(".converting")
    mark.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        if time.time() - mark.stat().st_mtime > _LONGEST:
            mark.unlink()  # the process that made it was killed
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        yield False
        return
    try:
        yield True
    finally:
        mark.unlink(missing_ok=True)


def _convert(graph: KerasGraph, size: int) -> bytes:
    from agegender._networks.conversion import convert_keras

    if (free := _free_memory()) is not None and free < _LARGEST * size:
        raise MemoryError(
            f"that takes {_LARGEST * size / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free"
        )
    return convert_keras(graph)


def _read(content: bytes, path: Path, input_size: tuple[int, int]) -> Converted | None:
    from agegender._networks.conversion import note_of
    from agegender._networks.onnx_files import read_graph

    try:
        graph = read_graph(content, str(path), input_size=input_size)
        layers, tensors = note_of(graph.model)
    except (WeightsError, LookupError, TypeError, ValueError, StopIteration):
        return None  # damaged: the conversion is repeated
    for tensor in tensors.values():
        if len(graph.shapes.get(tensor, ())) == 4:
            graph.layouts[tensor] = "nhwc"  # as in Keras, whatever operations are around it
    if any(graph.output_shape(tensor) != layers.shapes.get(name) for name, tensor in tensors.items()):
        return None
    return Converted(graph, layers, tensors)


def _fall_back(path: Path, name: str, reason: str) -> None:
    if path not in _told:
        _told.add(path)
        warnings.warn(
            f"{name} runs on Keras, which imports TensorFlow, because its .h5 file could not be converted to ONNX "
            f"({reason}).",
            WeightsWarning,
            stacklevel=6,
        )


def _failure_file(path: Path) -> Path:
    return path.with_suffix(".json")


def _earlier_failure(path: Path) -> str | None:
    """Return why the converter of this version failed earlier, so that it is not tried again."""
    try:
        noted: dict[str, Any] = json.loads(_failure_file(path).read_text(encoding="utf-8"))
        return str(noted["reason"]) if noted["versions"] == _versions() else None
    except (OSError, LookupError, TypeError, ValueError):
        return None


def _note_failure(path: Path, reason: str) -> None:
    if reason.startswith("MemoryError"):
        return  # more may be available the next time
    text = json.dumps({"reason": reason, "versions": _versions()}, indent=1)
    try:
        write_whole(_failure_file(path), lambda arriving: arriving.write_text(text, encoding="utf-8"))
    except OSError:
        return  # a home that cannot be written to: the next process tries and warns again


def _versions() -> dict[str, str]:
    found = {}
    for package in ("agegender", "keras", "tensorflow", "tf2onnx"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = ""
    return found


def _free_memory() -> float | None:
    """Return the available memory in bytes; None if it is unknown."""
    try:
        said = Path("/proc/meminfo").read_text(encoding="ascii")
    except (OSError, ValueError):
        return None
    lines = [line.split() for line in said.splitlines() if line.startswith("MemAvailable:")]
    return float(lines[0][1]) * 1024 if lines else None


def _after_fork() -> None:
    global _converting
    _converting = threading.Lock()  # another thread of the parent may have held it


after_fork(_after_fork)
