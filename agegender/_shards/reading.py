"""Read rows of shards in the order of their list, stored on disk, with the labels of a table."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from agegender._shards.files import ShardFolder
from agegender._shards.labels import Joined, join_labels
from agegender._utils.files import write_whole
from agegender._utils.genders import GENDERS
from agegender._utils.progress import progress_bar
from agegender._utils.rows import release
from agegender._utils.spill import reserve
from agegender._utils.urls import public
from agegender.datasets._common import excluded_frame

__all__ = ["read_rows"]

_DESCR = """\
{n:,} rows of {backbone} ({shape}) from {files} shards in {folder}; {excluded:,} pictures left out.

{gender}`made_of` is what the shards' footers say of the network and of what was done with each picture."""


def read_rows(
    folder: ShardFolder, labels: Any, options: dict[str, Any], rows_file: Path | None, verbose: int
) -> Bunch:
    """Return the Bunch of :func:`agegender.shards.open_shards`."""
    joined = join_labels(folder, labels, options)
    excluded = excluded_frame(
        [name for name, _ in joined.excluded], [reason for _, reason in joined.excluded]
    )
    if not len(joined.places):
        raise ValueError(f"No picture of {public(folder.folder)!r} has a row: all of them failed.")
    data = _map(folder, joined.places, rows_file, verbose)
    frame, target, groups = _labelled(joined)
    shape = " × ".join(map(str, folder.made_of["row_shape"]))
    descr = _DESCR.format(
        n=len(data),
        backbone=folder.made_of["backbone"],
        shape=shape,
        files=len(folder.files),
        folder=public(folder.folder),
        excluded=len(excluded),
        gender="" if target is None else "Gender is 0 male, 1 female. ",
    )
    return Bunch(
        data=data,
        target=target,
        groups=groups,
        frame=frame,
        excluded=excluded,
        made_of=folder.made_of,
        target_names=["age", "gender"],
        gender_names=list(GENDERS),
        DESCR=descr,
    )


def _labelled(joined: Joined) -> tuple[Any, NDArray[np.float64] | None, NDArray[np.int64]]:
    import pandas as pd

    if joined.labels is None:
        frame = pd.DataFrame({"path": joined.names, "place": joined.places})
        return frame, None, pd.factorize(frame["path"])[0].astype(np.int64)
    frame = joined.labels.assign(place=joined.places)
    groups = pd.factorize(frame["group"])[0].astype(np.int64)
    return frame, frame[["age", "gender"]].to_numpy(dtype=np.float64), groups


def _map(folder: ShardFolder, places: NDArray[np.int64], rows_file: Path | None, verbose: int) -> Any:
    """Return the rows of some positions of the list, written once to a file, in order."""
    shape = (len(places), *folder.made_of["row_shape"])
    dtype = folder.files[0].dtype
    if rows_file is not None:
        fill = _Fill(folder, places, shape, dtype, verbose)
        write_whole(rows_file, fill.npy)
        return np.load(rows_file, mmap_mode="r")
    # On POSIX it never has a name, so that nothing is left, however the process ends.
    with tempfile.TemporaryFile(prefix="agegender-") as file:
        reserve(file, int(np.prod(shape)) * dtype.itemsize)
        rows: NDArray[Any] = np.memmap(file, dtype=dtype, mode="r+", shape=shape)
        _Fill(folder, places, shape, dtype, verbose)(rows)
    return rows


class _Fill:
    """Writes the rows of shards to their positions among the wanted rows."""

    def __init__(
        self,
        folder: ShardFolder,
        places: NDArray[np.int64],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        verbose: int,
    ) -> None:
        self.folder, self.places, self.shape, self.dtype, self.verbose = folder, places, shape, dtype, verbose

    def npy(self, path: Path) -> None:
        """Write them as a NumPy file."""
        rows = np.lib.format.open_memmap(path, mode="w+", dtype=self.dtype, shape=self.shape)
        self(rows)
        rows.flush()

    def __call__(self, rows: NDArray[Any]) -> None:
        with progress_bar(len(self.folder.files), "shards", self.verbose, unit="shard") as bar:
            for file in self.folder.files:
                indices = file.indices
                for found, values in file.rows():
                    wanted = np.searchsorted(self.places, indices[found])
                    inside = wanted < len(self.places)
                    inside[inside] = self.places[wanted[inside]] == indices[found][inside]
                    rows[wanted[inside]] = values[inside]
                    release(rows)
                bar.update()
