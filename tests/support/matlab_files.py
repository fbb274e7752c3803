"""Files in the layout of the published ``imdb.mat`` and ``wiki.mat``, in both of MATLAB's formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.io import savemat

CELLS = ("full_path", "name", "face_location", "celeb_names")
CLASSES = {"U": "char", "f": "double", "i": "int32", "u": "uint16"}


def save_v5(path: Path, name: str, fields: dict[str, Any]) -> Path:
    """Write one struct of rows (1, n) and of cells, compressed, as MATLAB does."""
    columns = {
        field: _cell(value) if field in CELLS else np.reshape(value, (1, -1))
        for field, value in fields.items()
    }
    savemat(path, {name: columns}, do_compression=True)
    return path


def _cell(values: Any) -> np.ndarray:
    cell = np.empty((1, len(values)), dtype=object)
    for i, value in enumerate(values):
        cell[0, i] = value if isinstance(value, str) else np.reshape(value, (1, -1))
    return cell


def save_v73(path: Path, name: str, fields: dict[str, Any]) -> Path:
    """Write one struct as MATLAB's HDF5: transposed rows, cells of references, text as UTF-16 numbers."""
    with h5py.File(path, "w", userblock_size=512) as file:
        references = file.create_group("#refs#")
        struct = file.create_group(name)
        struct.attrs["MATLAB_class"] = np.bytes_("struct")
        for field, value in fields.items():
            if field in CELLS:
                _save_cell(struct, references, field, value)
            else:
                _save_array(struct, field, np.reshape(value, (-1, 1)))
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return path


def _save_cell(struct: h5py.Group, references: h5py.Group, field: str, values: Any) -> None:
    cell = struct.create_dataset(field, (len(values), 1), dtype=h5py.ref_dtype)
    cell.attrs["MATLAB_class"] = np.bytes_("cell")
    for i, value in enumerate(values):
        array = np.array(value) if isinstance(value, str) else np.reshape(np.asarray(value), (-1, 1))
        cell[i, 0] = _save_array(references, f"{field}{i}", array).ref


def _save_array(group: h5py.Group, name: str, array: np.ndarray) -> h5py.Dataset:
    kind = CLASSES[array.dtype.kind]
    if kind == "char":
        array = np.frombuffer(str(array).encode("utf-16-le"), dtype="<u2").reshape(-1, 1)
    if array.size == 0:
        # MATLAB stores the shape of what is empty.
        data = group.create_dataset(name, data=np.zeros(2, dtype=np.uint64))
        data.attrs["MATLAB_empty"] = np.uint8(1)
    else:
        data = group.create_dataset(name, data=array)
    data.attrs["MATLAB_class"] = np.bytes_(kind)
    return data
