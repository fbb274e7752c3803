"""Reading a struct of columns from MATLAB's two file formats."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Columns = dict[str, NDArray[Any]]


class NoStruct(ValueError):
    """The file can be read, but it does not contain the struct."""


def read_struct(
    path: Path, names: Sequence[str], text: Sequence[str], vectors: Sequence[str]
) -> tuple[str, Columns]:
    """Read the first struct that has one of these names.

    Parameters
    ----------
    path : Path
        A ``.mat`` file of version 5 or 7.3.
    names : sequence of str
        Names of the structs.
    text, vectors : sequence of str
        The fields that are cells of text and cells of four numbers.

    Returns
    -------
    name : str
    columns : dict of str to ndarray
        Numbers and text of shape (n,), text as objects; four numbers of shape (n, 4).
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r} (the current folder is {os.getcwd()!r}).")
    read = _read_hdf5 if _is_hdf5(path) else _read_v5
    try:
        return read(path, names, text, vectors)
    except (NoStruct, MemoryError):
        raise
    except Exception as error:
        # The parsers raise many kinds of errors on damaged files.
        raise ValueError(f"{str(path)!r} cannot be read as a .mat file: {error}") from error


def _is_hdf5(path: Path) -> bool:
    # MATLAB writes 512 bytes before the HDF5 signature.
    with path.open("rb") as file:
        return b"\x89HDF\r\n\x1a\n" in file.read(520)


def _read_v5(
    path: Path, names: Sequence[str], text: Sequence[str], vectors: Sequence[str]
) -> tuple[str, Columns]:
    from scipy.io import loadmat, whosmat

    name = _only([found for found, *_ in whosmat(path)], names, path)
    struct = loadmat(path, variable_names=[name])[name]
    if struct.dtype.names is None or struct.size != 1:
        raise NoStruct(f"{str(path)!r}: {name!r} is not a single struct.")
    fields = {field: struct[field].ravel()[0] for field in struct.dtype.names}
    return name, _columns(fields, text, vectors, _scipy_text, np.asarray)


def _scipy_text(cell: NDArray[Any]) -> str:
    return str(cell.item()) if cell.size == 1 else ""


def _read_hdf5(
    path: Path, names: Sequence[str], text: Sequence[str], vectors: Sequence[str]
) -> tuple[str, Columns]:
    import h5py
    from h5py import h5r, h5s

    with h5py.File(path, "r") as file:
        name = _only(list(file), names, path)

        def value(reference: Any) -> NDArray[Any]:
            # h5py's high-level interface takes three times as long, for a million objects.
            data = h5r.dereference(reference, file.id)
            array = np.empty(data.shape, dtype=data.dtype)
            data.read(h5s.ALL, h5s.ALL, array)
            return array

        def as_text(reference: Any) -> str:
            array = value(reference)
            # An empty array is stored as its shape, in eight bytes each.
            return array.tobytes().decode("utf-16-le", "replace") if array.dtype.itemsize == 2 else ""

        fields = {field: np.asarray(file[name][field]).ravel() for field in file[name]}
        return name, _columns(fields, text, vectors, as_text, value)


def _only(found: Sequence[str], names: Sequence[str], path: Path) -> str:
    for name in names:
        if name in found:
            return name
    raise NoStruct(
        f"{str(path)!r} contains {sorted(f for f in found if not f.startswith('#'))}, but no struct "
        f"{' or '.join(repr(name) for name in names)}."
    )


def _columns(
    fields: dict[str, NDArray[Any]],
    text: Sequence[str],
    vectors: Sequence[str],
    as_text: Callable[[Any], str],
    as_vector: Callable[[Any], NDArray[Any]],
) -> Columns:
    columns: Columns = {}
    for name, field in fields.items():
        cells = np.asarray(field).ravel()
        if name in text:
            columns[name] = np.empty(len(cells), dtype=object)
            columns[name][:] = [as_text(cell) for cell in cells]
        elif name in vectors:
            columns[name] = _four([as_vector(cell) for cell in cells])
        else:
            columns[name] = cells
    return columns


def _four(cells: list[NDArray[Any]]) -> NDArray[np.float64]:
    unknown = np.full(4, np.nan)
    rows = [cell if cell.size == 4 else unknown for cell in cells]
    return np.concatenate([unknown, *rows], axis=None).astype(np.float64).reshape(-1, 4)[1:]
